//! Being root of one id only: a seccomp filter under which giving files and processes to other ids, and making device
//! nodes, seems to succeed and does nothing. Package managers then run where only one id is mapped.

#![allow(unsafe_code)]

use std::io;

use nix::libc;

use super::userns::Refusal;

/// What is to seem to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tolerate {
    /// Making device nodes: no user namespace may do that, whatever ids it has.
    Devices,
    /// That, and changes of owners, and of the ids of processes.
    Owners,
}

/// AUDIT_ARCH_* of <linux/audit.h>: the ELF machine, 64 bits, little endian.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;
/// Elsewhere there is no filter.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCH: u32 = 0;

#[cfg(target_arch = "x86_64")]
const OLD: &[libc::c_long] = &[libc::SYS_chown, libc::SYS_lchown];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[libc::c_long] = &[];

const OWNERS: &[libc::c_long] = &[
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
];

/// Offsets in `struct seccomp_data`; of arguments the lower half.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const ARGUMENTS: u32 = 16;

fn load(offset: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn jump_if(value: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: yes, jf: no, k: value }
}

fn keep_bits(mask: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16, jt: 0, jf: 0, k: mask }
}

fn end(verdict: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: verdict }
}

/// The program: after each comparison that holds, the verdict follows at once.
fn program(what: Tolerate) -> Vec<libc::sock_filter> {
    let (allow, fake) = (end(libc::SECCOMP_RET_ALLOW), end(libc::SECCOMP_RET_ERRNO));
    let mut program = vec![load(MACHINE), jump_if(ARCH, 1, 0), allow, load(NUMBER)];
    if what == Tolerate::Owners {
        for number in OLD.iter().chain(OWNERS) {
            program.extend([jump_if(*number as u32, 0, 1), fake]);
        }
    }
    // mknod(path, mode, dev) where it exists, mknodat(dir, path, mode, dev).
    let mut nodes = vec![(libc::SYS_mknodat, 2)];
    #[cfg(target_arch = "x86_64")]
    nodes.push((libc::SYS_mknod, 1));
    for (number, argument) in nodes {
        program.extend([
            jump_if(number as u32, 0, 6),
            load(ARGUMENTS + 8 * argument),
            keep_bits(libc::S_IFMT),
            jump_if(libc::S_IFCHR, 1, 0),
            jump_if(libc::S_IFBLK, 0, 1),
            fake,
            allow,
        ]);
    }
    program.push(allow);
    program
}

/// From now on, for this process and all it starts. The caller has CAP_SYS_ADMIN in its user namespace.
pub fn tolerate(what: Tolerate) -> Result<(), Refusal> {
    if ARCH == 0 {
        return Ok(());
    }
    let mut filter = program(what);
    let length = u16::try_from(filter.len()).unwrap_or(u16::MAX);
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    let mode = libc::SECCOMP_MODE_FILTER as libc::c_ulong;
    // SAFETY: the structure and the instructions it points to live until the call returns; the kernel only reads them.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0, 0) };
    if result < 0 {
        return Err(Refusal::new("tolerate changes of owners")(io::Error::last_os_error()));
    }
    Ok(())
}
