//! Is an image in use? Three answers, against real locks and against a file system that has none.

use std::os::fd::AsFd;
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::support::house::{House, finish, program};

/// Takes an OFD lock on a byte range, as Apptainer does on ext3 images and partitions.
fn lock(file: &std::fs::File, kind: i32, start: i64, length: i64) {
    let range =
        libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: start, l_len: length, l_pid: 0 };
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&range)).unwrap();
}

#[test]
fn locks_of_others_are_seen_and_free_means_free() {
    let house = House::new();
    house.ovl(&["build", "hello/1.0"]).ok();
    let image = house.image("hello/1.0");
    for (kind, start, length) in [(libc::F_RDLCK, 0, 0), (libc::F_WRLCK, 0, 0), (libc::F_WRLCK, 1 << 20, 4096)] {
        let file = std::fs::File::options().read(true).write(true).open(&image).unwrap();
        lock(&file, kind, start, length);
        house.ovl(&["info", "hello/1.0"]).ok().prints("in use        yes");
        house.ovl(&["rm", "-y", "hello/1.0"]).code(6).says("cannot remove hello/1.0: it is in use by");
        house.ovl(&["build", "-u", "hello/1.0"]).code(6).says("cannot update hello/1.0: it is in use by");
        drop(file);
    }
    house.ovl(&["info", "hello/1.0"]).ok().prints("in use        no");
    house.ovl(&["rm", "-y", "hello/1.0"]).ok();
}

/// The kernel's answers of a file system without locks, put in by strace.
fn without_locks(house: &House, args: &[&str]) -> Command {
    let mut command = house.command("strace");
    command
        .args(["-f", "-o", "/dev/null", "-e", "trace=fcntl", "-e", "inject=fcntl:error=ENOLCK"])
        .arg(program())
        .args(args);
    command
}

#[test]
fn without_locks_the_answer_is_unknown_and_said() {
    let house = House::new();
    house.ovl(&["build", "hello/1.0"]).ok();
    finish(without_locks(&house, &["info", "hello/1.0"])).ok().prints("in use        unknown: no file locks here");
    finish(without_locks(&house, &["doctor"]))
        .prints("has no file locks: whether an overlay is in use cannot be told there; claims still work");
    finish(without_locks(&house, &["rm", "-y", "hello/1.0"]))
        .ok()
        .says("no file locks here; whether it is in use cannot be told")
        .says("removed hello/1.0");
}
