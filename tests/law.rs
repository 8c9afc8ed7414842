//! The law of the house: who may import whom, small files, each opening with what it is for.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms in the order in which they may build on each other; a room imports only rooms that stand before it.
const ROOMS: &[&[&str]] = &[
    &["model"],
    &["recipe", "graph", "exec"],
    &["sched"],
    &["plan", "script"],
    &["sys"],
    &["image", "net"],
    &["config"],
    &["store", "runtime"],
    &["conda", "registry"],
    &["container"],
    &["build"],
    &["run"],
    &["ui"],
    &["cli"],
];

/// Pure rooms: no file system, no process, no clock, no print.
const PURE: &[&str] = &["model", "recipe", "sched", "graph", "plan", "script", "exec"];

const CEILING: usize = 400;

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

fn all() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    paths.sort();
    assert!(paths.len() > 20, "the law found only {} files", paths.len());
    paths
        .iter()
        .map(|path| {
            (path.strip_prefix(&src).unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn room(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|level| level.contains(&room))
}

/// The part of a file before its unit tests: a module for tests in a file of its own ends nothing.
fn code(text: &str) -> &str {
    let begins = |(at, _): &(usize, &str)| {
        let next = text[*at..].lines().nth(1).unwrap_or_default();
        next.starts_with("mod ") && next.trim_end().ends_with('{')
    };
    text.match_indices("\n#[cfg(test)]").map(|(at, _)| (at + 1, "")).find(begins).map_or(text, |(at, _)| &text[..at])
}

#[test]
fn imports_go_downwards_only() {
    let mut broken = Vec::new();
    for (file, text) in all() {
        let Some(own) = rank(room(&file)) else { continue };
        for (number, line) in code(&text).lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for piece in line.split("crate::").skip(1) {
                let names: Vec<&str> = match piece.strip_prefix('{') {
                    Some(list) => list.split(['{', '}', ',']).map(str::trim).collect(),
                    None => vec![piece],
                };
                for name in names {
                    let target = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
                    if target == room(&file) {
                        continue;
                    }
                    match rank(target) {
                        Some(theirs) if theirs < own => {}
                        Some(_) => {
                            broken.push(format!("src/{file}:{}: {} may not import {target}", number + 1, room(&file)))
                        }
                        None => {}
                    }
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn pure_rooms_do_nothing() {
    let mut broken = Vec::new();
    for (file, text) in all() {
        if !PURE.contains(&room(&file)) {
            continue;
        }
        for word in [
            "std::fs",
            "std::process",
            "std::env",
            "std::net",
            "SystemTime",
            "Instant::now",
            "println!",
            "nix::",
            "std::io::",
        ] {
            // As a whole word: `std::os::unix::ffi` is text only.
            let found = code(&text)
                .match_indices(word)
                .any(|(at, _)| !text[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '_'));
            if found {
                broken.push(format!("src/{file} uses {word}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_room_is_in_the_table() {
    for (file, _) in all() {
        let room = room(&file);
        assert!(
            matches!(room, "lib" | "main") || rank(room).is_some(),
            "src/{file}: the room '{room}' is not in tests/law.rs"
        );
    }
}

#[test]
fn files_are_small_and_say_what_they_are_for() {
    let mut broken = Vec::new();
    for (file, text) in all() {
        let lines = code(&text).lines().count();
        if lines > CEILING {
            broken
                .push(format!("src/{file} has {lines} lines (at most {CEILING} before its tests): a room is missing"));
        }
        let intro = text.lines().take_while(|line| line.starts_with("//!")).count();
        let most = if file == "lib.rs" { 8 } else { 5 };
        if !(1..=most).contains(&intro) {
            broken.push(format!("src/{file} opens with {intro} `//!` lines (1 to {most})"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn unsafe_lives_in_sys_and_image_only() {
    for (file, text) in all() {
        let uses = code(&text).lines().any(|line| {
            let line = line.trim_start();
            !line.starts_with("//")
                && (line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl"))
        });
        assert!(!uses || matches!(room(&file), "sys" | "image"), "src/{file} has unsafe code");
    }
}
