//! The only door to the machine: files, locks, processes, signals, namespaces, the clock.
//! Everything above calls these instead of `std::fs`, `Command` and `std::env`.

pub mod cgroup;
pub mod clock;
pub mod copy;
pub mod cpus;
pub mod digest;
pub mod dirfd;
pub mod env;
pub mod erase;
pub mod fork;
pub mod fs;
pub mod host;
pub mod lend;
pub mod lock;
pub mod loopdev;
pub mod making;
pub mod meet;
pub mod mount;
pub mod own;
pub mod owner;
pub mod pass;
pub mod process;
pub mod signal;
pub mod subids;
pub mod term;
pub mod tolerate;
pub mod userns;
pub mod watch;
pub mod workdir;
