//! A web server for tests: a directory on a free loopback port, with ranges, a list of what was asked for, and a
//! password if one is wanted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A running server; it ends when this is dropped.
pub struct Web {
    pub url: String,
    state: Arc<State>,
    port: u16,
}

struct State {
    dir: PathBuf,
    asked: Mutex<Vec<String>>,
    password: Mutex<Option<String>>,
    over: AtomicBool,
}

impl Web {
    /// Serves a directory.
    pub fn serve(dir: &Path) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            dir: dir.to_owned(),
            asked: Mutex::default(),
            password: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                let state = shared.clone();
                std::thread::spawn(move || while answer(&stream, &state).is_some() {});
            }
        });
        Web { url: format!("http://127.0.0.1:{port}"), state, port }
    }

    /// What was asked for so far, as `GET /path`.
    pub fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }

    /// From now on an `Authorization` header of exactly this value is needed.
    pub fn protect(&self, authorization: &str) {
        *self.state.password.lock().unwrap() = Some(authorization.into());
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Answers one request; None when the connection is over.
fn answer(stream: &TcpStream, state: &State) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut range, mut authorization, mut length) = (None, None, 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        let value = value.trim().to_owned();
        match name.to_ascii_lowercase().as_str() {
            "range" => range = value.strip_prefix("bytes=").and_then(|from| from.split('-').next()?.parse().ok()),
            "authorization" => authorization = Some(value),
            "content-length" => length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;
    let path = target.split(['?', '#']).next()?.to_owned();
    state.asked.lock().unwrap().push(format!("{method} {path}"));
    let wanted = state.password.lock().unwrap().clone();
    if wanted.is_some() && wanted != authorization {
        return send(stream, "401 Unauthorized", "", b"", &method);
    }
    let file = state.dir.join(path.trim_start_matches('/'));
    let inside = !path.split('/').any(|part| part == "..");
    match std::fs::read(&file).ok().filter(|_| inside) {
        None => send(stream, "404 Not Found", "", b"", &method),
        Some(bytes) => match range {
            Some(from) if from < bytes.len() => {
                let header = format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
                send(stream, "206 Partial Content", &header, &bytes[from..], &method)
            }
            Some(_) => send(stream, "416 Range Not Satisfiable", "", b"", &method),
            None => send(stream, "200 OK", "Accept-Ranges: bytes\r\n", &bytes, &method),
        },
    }
}

fn send(mut stream: &TcpStream, status: &str, headers: &str, body: &[u8], method: &str) -> Option<()> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    if method != "HEAD" {
        stream.write_all(body).ok()?;
    }
    stream.flush().ok()
}
