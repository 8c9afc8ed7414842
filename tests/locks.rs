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

/// The rules for images that are written to (docs/running.md, "Locks"), against locks that this process holds as
/// Apptainer would.
#[test]
fn an_image_is_read_by_many_or_written_by_one() {
    let house = House::new();
    house.ovl(&["overlay", "create", "env.img", "-s", "32M"]).ok();
    let image = house.path("work/env.img");
    let open = || std::fs::File::options().read(true).write(true).open(&image).unwrap();
    let read = |code| house.ovl(&["exec", "-o", "env.img", "true"]).code(code);
    let write = |code| house.ovl(&["exec", "-w", "env.img", "true"]).code(code);
    // Free; a reader; a writer; a writer of a part of it that begins behind its first byte.
    for (kind, start, length, reads, writes, told) in [
        (libc::F_UNLCK, 0, 0, 0, 0, "no"),
        (libc::F_RDLCK, 0, 0, 0, 6, "yes, read"),
        (libc::F_RDLCK, 8192, 4096, 0, 6, "yes, read"),
        (libc::F_WRLCK, 0, 0, 6, 6, "yes, written to"),
        (libc::F_WRLCK, 1 << 20, 4096, 6, 6, "yes, written to"),
    ] {
        let file = open();
        if kind != libc::F_UNLCK {
            lock(&file, kind, start, length);
        }
        let run = read(reads);
        assert!(reads == 0 || run.stderr.contains("somebody is writing to it"), "{run:?}");
        let run = write(writes);
        assert!(writes == 0 || run.stderr.contains("it is in use"), "{run:?}");
        house.ovl(&["overlay", "check", "env.img"]).code(writes);
        house.ovl(&["overlay", "info", "env.img"]).ok().prints(&format!("in use      {told}\n"));
        drop(file);
        house.settle();
    }
    // flock(2) says nothing about any of these.
    let file = open();
    assert_eq!(ovl::sys::lock::try_flock(&file).unwrap(), ovl::sys::lock::Taken::Held);
    read(0);
    write(0);
    house.settle();
}

#[test]
fn a_partition_locked_inside_a_sif_is_in_use() {
    let house = House::new();
    // Apptainer locks [offset, offset + size) of an ext3 partition in a SIF file.
    let path = house.write("work/some.sif", vec![0; 1 << 16]);
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    lock(&file, libc::F_WRLCK, 40960, 8192);
    assert_eq!(ovl::sys::lock::probe(&path).unwrap(), ovl::sys::lock::Use::Writer);
    lock(&file, libc::F_UNLCK, 40960, 8192);
    lock(&file, libc::F_RDLCK, 40960, 8192);
    assert_eq!(ovl::sys::lock::probe(&path).unwrap(), ovl::sys::lock::Use::Readers);
    drop(file);
    assert_eq!(ovl::sys::lock::probe(&path).unwrap(), ovl::sys::lock::Use::Free);
}

#[test]
fn an_image_without_locks_is_of_unknown_use() {
    let house = House::new();
    house.ovl(&["overlay", "create", "env.img", "-s", "32M"]).ok();
    finish(without_locks(&house, &["overlay", "info", "env.img"])).ok().prints("unknown: no file locks here");
}
