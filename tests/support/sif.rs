//! SIF files made by hand, and the real Apptainer where one is installed in a root directory of its own.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Labels, a definition file, a signature and the like: their numbers in the format.
pub const LABELS: u32 = 0x4003;
pub const PARTITION: u32 = 0x4004;
pub const SIGNATURE: u32 = 0x4005;

/// An object: type, its bytes, and of partitions (file system, role, architecture).
pub type Object = (u32, Vec<u8>, Option<(u32, u32, [u8; 3])>);

/// This machine's architecture as SIF writes it.
pub fn here() -> [u8; 3] {
    match std::env::consts::ARCH {
        "aarch64" => *b"04\0",
        "powerpc64" => *b"06\0",
        "s390x" => *b"11\0",
        "riscv64" => *b"12\0",
        _ => *b"02\0",
    }
}

/// A partition from an image file.
pub fn partition(image: &Path, fs: u32, role: u32) -> Object {
    (PARTITION, std::fs::read(image).unwrap(), Some((fs, role, here())))
}

/// The bytes of a SIF file with these objects, all in group 1.
pub fn bytes(objects: &[Object]) -> Vec<u8> {
    const TABLE: usize = 4096;
    const DESCRIPTOR: usize = 585;
    let mut file = vec![0; TABLE + 48 * DESCRIPTOR];
    let put = |file: &mut Vec<u8>, at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(&mut file, 0, b"#!/usr/bin/env run-singularity\n");
    put(&mut file, 32, b"SIF_MAGIC\x0001\0");
    put(&mut file, 45, &here());
    put(&mut file, 88, &48i64.to_le_bytes());
    put(&mut file, 96, &(TABLE as i64).to_le_bytes());
    for (number, (kind, content, partition)) in objects.iter().enumerate() {
        let start = file.len().next_multiple_of(4096);
        file.resize(start, 0);
        file.extend_from_slice(content);
        let at = TABLE + number * DESCRIPTOR;
        put(&mut file, at, &kind.to_le_bytes());
        put(&mut file, at + 4, &[1]);
        put(&mut file, at + 5, &(number as u32 + 1).to_le_bytes());
        put(&mut file, at + 9, &0xF000_0001u32.to_le_bytes());
        put(&mut file, at + 17, &(start as i64).to_le_bytes());
        put(&mut file, at + 25, &(content.len() as i64).to_le_bytes());
        put(&mut file, at + 73, format!("object-{number}").as_bytes());
        if let Some((fs, role, arch)) = partition {
            put(&mut file, at + 201, &fs.to_le_bytes());
            put(&mut file, at + 205, &role.to_le_bytes());
            put(&mut file, at + 209, arch);
        }
    }
    file
}

/// The root directory of the real Apptainer: `OVL_APPTAINER_DIR`, else `/tmp/ovl-apptainer`. None, with the reason
/// printed, where there is none; it is never one of the things that tests may count on.
pub fn real_apptainer() -> Option<PathBuf> {
    let dir = std::env::var_os("OVL_APPTAINER_DIR").map_or_else(|| "/tmp/ovl-apptainer".into(), PathBuf::from);
    if !dir.join("usr/bin/apptainer").exists() {
        println!("skipped: no Apptainer in {} (OVL_APPTAINER_DIR)", dir.display());
        return None;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can enter {}", dir.display());
        return None;
    }
    Some(dir)
}

/// Runs a line of shell in that root directory as the owner of `shared`, which it sees as /mnt.
#[track_caller]
pub fn in_apptainer(root: &Path, shared: &Path, line: &str) -> String {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-ec"]);
    // Apptainer refuses to run in a mere chroot.
    command.arg(
        r#"mount --make-rprivate /; mount --bind "$1" "$1"; cd "$1"
        mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev; mount -t tmpfs -o mode=1777 tmpfs tmp
        mkdir -p .old; mount --bind "$2" mnt; pivot_root . .old; cd /; umount -l /.old
        exec setpriv --reuid "$4" --regid "$5" --clear-groups env -i HOME=/tmp PATH=/usr/bin:/usr/sbin LANG=C.UTF-8 \
        APPTAINER_CACHEDIR=/tmp/cache sh -ec "cd /mnt; $3""#,
    );
    let owner = std::fs::metadata(shared).unwrap();
    command.arg("sh").arg(root).arg(shared).arg(line).arg(owner.uid().to_string()).arg(owner.gid().to_string());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
