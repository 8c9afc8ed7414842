//! Runs a command over images with the native runtime:
//!
//!     native [--base DIR|IMAGE] [--layer IMAGE]… [--bind SRC:DST[:rw]]… [--tmpfs DIR]… [--read-only] [--processes]
//!            [--no-network] [--cwd DIR] -- COMMAND [ARGUMENT]…
//!     native --probe

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use std::path::PathBuf;

use ovl::exec::{Base, Invocation, Mount, Network};

fn main() {
    let mut args = std::env::args_os().skip(1);
    let mut invocation = Invocation {
        scratch: std::env::temp_dir(),
        cwd: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        env: std::env::vars_os().collect(),
        ..Invocation::default()
    };
    while let Some(flag) = args.next() {
        let mut value = || PathBuf::from(args.next().unwrap_or_default());
        match flag.to_str() {
            Some("internal") => {
                let numbers: Vec<i64> = args.filter_map(|arg| arg.to_str()?.parse().ok()).collect();
                let error =
                    ovl::runtime::sandbox_main(numbers[0] as i32, numbers[1] as u32, &|text| eprintln!("{text}"));
                eprintln!("{error}");
                std::process::exit(error.exit_code().into());
            }
            Some("--probe") => {
                let found = ovl::runtime::probe();
                println!("{}", if found.is_usable() { "usable" } else { "not usable" });
                for finding in found.findings {
                    println!("{} {}: {}", if finding.works { "ok " } else { "no " }, finding.what, finding.text);
                    finding.hint.iter().for_each(|hint| println!("    hint: {hint}"));
                }
                return;
            }
            Some("--base") => {
                let base = value();
                invocation.base = if base.is_dir() { Base::Dir(base) } else { Base::Image(base) };
            }
            Some("--layer") => invocation.layers.push(value()),
            Some("--bind") => {
                let text = value().into_os_string().into_string().unwrap_or_default();
                let parts: Vec<&str> = text.split(':').collect();
                let (source, target) = (parts[0].into(), parts[1].into());
                invocation.mounts.push(Mount::Bind { source, target, writable: parts.len() > 2 });
            }
            Some("--tmpfs") => invocation.mounts.push(Mount::Tmpfs { target: value(), mode: 0o755, writable: true }),
            Some("--read-only") => invocation.isolation.read_only = true,
            Some("--processes") => invocation.isolation.processes = true,
            Some("--no-network") => invocation.isolation.network = Network::None,
            Some("--cwd") => invocation.cwd = value(),
            Some("--spawn") => {
                // Through a child of its own, as builds do.
                invocation.argv = args.collect();
                let mut sandboxed =
                    ovl::runtime::command_for(&invocation, None).expect("the invocation can be passed on");
                let status = sandboxed.command.status().expect("this program can be started again");
                println!("{status}");
                return;
            }
            _ => {
                invocation.argv = args.collect();
                break;
            }
        }
    }
    let Err(error) = ovl::runtime::exec(&invocation, &|text| eprintln!("{text}"));
    eprintln!("native: {error}");
    error.hint().iter().for_each(|hint| eprintln!("hint: {hint}"));
    std::process::exit(error.exit_code().into());
}
