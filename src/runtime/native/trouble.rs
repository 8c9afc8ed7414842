//! What a machine lacks, said so that its user or administrator can help it.

use std::path::Path;

use crate::runtime::error::RuntimeError;
use crate::sys::fs::{self, PathError};
use crate::sys::userns::Refusal;

/// Error numbers of Linux.
mod errno {
    pub const PERM: i32 = 1;
    pub const NODEV: i32 = 19;
    pub const INVAL: i32 = 22;
    pub const NOSPC: i32 = 28;
    pub const NOSYS: i32 = 38;
    pub const USERS: i32 = 87;
    pub const ACCES: i32 = 13;
}

/// Why there is no user namespace.
pub fn namespaces(refusal: Refusal) -> RuntimeError {
    let setting = |name: &str| {
        let text = fs::read(Path::new("/proc/sys").join(name).as_path()).unwrap_or_default();
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let (why, hint) = match refusal.errno() {
        errno::NOSPC | errno::USERS if setting("user/max_user_namespaces") == "0" => (
            "user namespaces are switched off (user.max_user_namespaces = 0)".to_owned(),
            "ask your administrator for: sysctl -w user.max_user_namespaces=15000",
        ),
        errno::NOSPC | errno::USERS => (
            "too many user namespaces exist already".to_owned(),
            "ask your administrator to raise user.max_user_namespaces",
        ),
        errno::PERM | errno::ACCES if setting("kernel/unprivileged_userns_clone") == "0" => (
            "user namespaces are for root only (kernel.unprivileged_userns_clone = 0)".to_owned(),
            "ask your administrator for: sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        errno::PERM | errno::ACCES if setting("kernel/apparmor_restrict_unprivileged_userns") == "1" => (
            "AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns = 1)".to_owned(),
            "ask your administrator for an AppArmor profile with 'userns,' for ovl, or for: \
             sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        errno::PERM | errno::ACCES => (
            format!("user namespaces are forbidden here, perhaps by the container this runs in ({refusal})"),
            "a container needs a seccomp profile that allows unshare and mount; or use --runtime apptainer",
        ),
        errno::INVAL | errno::NOSYS => (
            format!("this kernel has no user namespaces ({refusal})"),
            "a kernel with CONFIG_USER_NS=y is needed; or use --runtime apptainer",
        ),
        _ => return refusal.into(),
    };
    RuntimeError::Missing { what: why, hint: hint.into() }
}

/// Why /dev/fuse cannot be opened.
pub fn device(error: PathError) -> RuntimeError {
    let (what, hint) = match error.source.raw_os_error() {
        Some(errno::PERM | errno::ACCES) => {
            ("/dev/fuse may not be opened by you".to_owned(), "ask your administrator for: chmod 666 /dev/fuse")
        }
        _ if error.is_not_found() || error.source.raw_os_error() == Some(errno::NODEV) => (
            "there is no /dev/fuse on this machine".to_owned(),
            "ask your administrator for: modprobe fuse (in a container: pass the device /dev/fuse on)",
        ),
        _ => return error.into(),
    };
    RuntimeError::Missing { what, hint: hint.into() }
}

/// Why FUSE cannot be mounted.
pub fn fuse(refusal: Refusal) -> RuntimeError {
    match refusal.errno() {
        errno::PERM | errno::ACCES => RuntimeError::Missing {
            what: "FUSE cannot be mounted in a user namespace".into(),
            hint: "Linux 4.18 or newer and a container profile that allows mount are needed; \
                   or use --runtime apptainer"
                .into(),
        },
        errno::NODEV => RuntimeError::Missing {
            what: "this kernel has no FUSE".into(),
            hint: "ask your administrator for: modprobe fuse".into(),
        },
        _ => refusal.into(),
    }
}

/// Why directories cannot be united.
pub fn overlay(refusal: Refusal, target: &Path) -> RuntimeError {
    let target = target.display();
    if refusal.errno() == errno::INVAL {
        // The kernel does not let a user namespace look behind what is mounted below a directory.
        return RuntimeError::Missing {
            what: format!(
                "both the base and an overlay have {target}, and other file systems are mounted below the base's"
            ),
            hint: format!("leave {target} out of the overlay; or put the base into an image"),
        };
    }
    RuntimeError::Missing {
        what: format!("both the base and an overlay have {target}, and they cannot be united here: {refusal}"),
        hint: "Linux 5.11 or newer with overlayfs is needed for that; or put the base into an image".into(),
    }
}
