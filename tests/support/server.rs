//! A web server in the test's own process, on loopback: what it answers is told by a closure, what it was asked is kept.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// As it stands in the request: with the host when the client takes this server for a proxy.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// How many requests came before it.
    pub number: usize,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub cut: Option<usize>,
    /// Before anything is sent.
    pub pause: Duration,
    /// Instead of the body's own length.
    pub length: Option<usize>,
    /// Pause between pieces of 64 KiB.
    pub drip: Duration,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: body.into(),
            cut: None,
            pause: Duration::ZERO,
            length: None,
            drip: Duration::ZERO,
        }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn cut(mut self, bytes: usize) -> Reply {
        self.cut = Some(bytes);
        self
    }

    /// What a server says that knows ranges and tags.
    pub fn file(asked: &Asked, content: &[u8], tag: &str) -> Reply {
        let fits = asked.headers.get("if-range").is_none_or(|wanted| wanted == tag);
        let range = asked.headers.get("range").filter(|_| fits).and_then(|range| range.strip_prefix("bytes="));
        let from: Option<usize> = range.and_then(|range| range.split('-').next()?.parse().ok());
        let reply = match from {
            Some(from) if from < content.len() => Reply::new(206, &content[from..])
                .with("Content-Range", format!("bytes {from}-{}/{}", content.len() - 1, content.len())),
            Some(_) => Reply::new(416, "").with("Content-Range", format!("bytes */{}", content.len())),
            None => Reply::new(200, content),
        };
        reply.with("ETag", tag).with("Accept-Ranges", "bytes")
    }
}

/// The server.
#[derive(Clone)]
pub struct Web {
    pub port: u16,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Web {
    /// Starts it; it ends with the process.
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let web = Web { port: listener.local_addr().unwrap().port(), log: Arc::default() };
        let (log, answer) = (web.log.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        web
    }

    /// One that serves a directory's files.
    pub fn of_files(files: Vec<(String, Vec<u8>)>) -> Web {
        Web::start(move |asked| {
            let path = asked.path.split('?').next().unwrap().trim_start_matches('/');
            match files.iter().find(|(name, _)| name == path) {
                Some((_, content)) => Reply::file(asked, content, "\"one\""),
                None => Reply::new(404, "not here"),
            }
        })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// How many requests have come.
    pub fn count(&self) -> usize {
        self.log.lock().unwrap().len()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Reply) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = || {
        let mut line = String::new();
        matches!(reader.read_line(&mut line), Ok(1..)).then(|| line.trim_end().to_owned())
    };
    while let Some(first) = line() {
        let mut words = first.split(' ');
        let Some(path) = words.nth(1) else { return };
        let mut headers = BTreeMap::new();
        while let Some(header) = line().filter(|line| !line.is_empty()) {
            if let Some((name, value)) = header.split_once(':') {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        let asked = {
            let mut log = log.lock().unwrap();
            let asked = Asked { path: path.to_owned(), headers, number: log.len() };
            log.push(asked.clone());
            asked
        };
        let reply = answer(&asked);
        std::thread::sleep(reply.pause);
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", reply.length.unwrap_or(reply.body.len())));
        let body = &reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())];
        if stream.write_all(head.as_bytes()).is_err() {
            return;
        }
        for piece in body.chunks(64 << 10) {
            if stream.write_all(piece).is_err() {
                return;
            }
            std::thread::sleep(reply.drip);
        }
        if reply.cut.is_some() || reply.length.is_some_and(|length| length != reply.body.len()) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}
