//! What an installed Apptainer or Singularity understands, told by what `exec --help` prints. The rules come from the
//! sources of SingularityCE 3.3 to 4.5 and Apptainer 1.0 to 1.5 (`cmd/internal/cli/action_flags.go`,
//! `internal/pkg/util/env`, `process_linux.go` of the engine); only Apptainer 1.4 has been run.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What the installed program understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Apptainer, perhaps by its old name `singularity`; else Singularity or SingularityCE.
    pub apptainer: bool,
    /// What becomes of values.
    pub values: Values,
    /// It can be told to leave out what its configuration mounts: Singularity 3.7.
    pub no_mount: bool,
    /// That includes the binds of its configuration: SingularityCE 3.11, Apptainer 1.2.
    pub no_bind_paths: bool,
    /// It can bring NVIDIA's driver in.
    pub nv: bool,
    /// It can bring AMD's in: Singularity 3.5.
    pub rocm: bool,
    /// It can show the user as root: Singularity 3.3.
    pub fakeroot: bool,
}

/// What becomes of a value behind `APPTAINERENV_` or `SINGULARITYENV_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// It is taken as it is because of `--no-eval`: SingularityCE 3.10, Apptainer 1.1.
    Literal,
    /// A shell evaluates it between double quotes, `"` escaped: Singularity 3.9, Apptainer 1.0.
    Evaluated,
    /// Go quotes it (`%q`) before the shell evaluates it, so that no `$` can be escaped: Singularity 3.6. From 3.8.1 on
    /// it is as in 3.9, but what is safe before is safe then.
    Quoted,
    /// It is put into the environment as it is, but a PATH only images of that time understand: Singularity 3.5.
    Direct,
}

impl Dialect {
    /// Reads what `PROGRAM exec --help` prints.
    pub fn of_help(help: &str) -> Dialect {
        let flags: BTreeSet<&str> = help.lines().filter_map(flag).collect();
        let has = |flag: &str| flags.contains(flag);
        let values = if has("--no-eval") {
            Values::Literal
        } else if has("--mount") {
            Values::Evaluated
        } else if has("--env-file") {
            Values::Quoted
        } else {
            Values::Direct
        };
        Dialect {
            apptainer: help.contains("apptainer exec"),
            values,
            no_mount: has("--no-mount"),
            no_bind_paths: help.contains("bind-paths"),
            nv: has("--nv"),
            rocm: has("--rocm"),
            fakeroot: has("--fakeroot"),
        }
    }

    /// What precedes the names of its variables.
    pub fn prefix(self) -> &'static str {
        if self.apptainer { "APPTAINER" } else { "SINGULARITY" }
    }

    /// For messages.
    pub fn name(self) -> &'static str {
        if self.apptainer { "apptainer" } else { "singularity" }
    }

    /// A variable's value as it has to be passed behind the prefix so that it arrives as it is. None: it would not.
    pub fn passed(self, name: &str, value: &OsStr) -> Option<OsString> {
        let bytes = value.as_bytes();
        match self.values {
            Values::Literal => Some(value.to_owned()),
            Values::Direct => (name != "PATH").then(|| value.to_owned()),
            Values::Evaluated => {
                let mut out = Vec::with_capacity(bytes.len());
                for &byte in bytes {
                    // It escapes `"` itself, but not in this one.
                    if matches!(byte, b'\\' | b'$' | b'`') || byte == b'"' && name == "LD_LIBRARY_PATH" {
                        out.push(b'\\');
                    }
                    out.push(byte);
                }
                Some(OsString::from_vec(out))
            }
            Values::Quoted => {
                let safe = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'\\' | b'$' | b'`' | b'"');
                bytes.iter().all(safe).then(|| value.to_owned())
            }
        }
    }
}

/// The long flag that a line of the help is about: `  -f, --fakeroot    run …`.
fn flag(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = match line.as_bytes() {
        [b'-', _, b',', b' ', ..] => line.get(4..)?,
        _ => line,
    };
    line.starts_with("--").then(|| line.split([' ', '=', '\t']).next()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_where_they_stand_and_not_where_they_are_mentioned() {
        assert_eq!(flag("  -f, --fakeroot      run as"), Some("--fakeroot"));
        assert_eq!(flag("      --no-eval   do"), Some("--no-eval"));
        assert_eq!(flag("                 Infers --no-eval"), None);
        assert_eq!(flag("-é, --x"), None);
        let compat = "  --compat  settings\n    --containall, --no-init, --no-eval.\n";
        assert_eq!(Dialect::of_help(compat).values, Values::Direct);
    }

    #[test]
    fn values_arrive_or_are_said_not_to() {
        let of = |values| Dialect { values, ..Dialect::of_help("") };
        let odd = OsStr::new("$(x) `y` \\ \"q\",z\nn");
        assert_eq!(of(Values::Literal).passed("A", odd).unwrap(), odd);
        assert_eq!(of(Values::Direct).passed("A", odd).unwrap(), odd);
        assert_eq!(of(Values::Direct).passed("PATH", odd), None);
        assert_eq!(of(Values::Evaluated).passed("A", odd).unwrap(), "\\$(x) \\`y\\` \\\\ \"q\",z\nn");
        assert_eq!(of(Values::Evaluated).passed("LD_LIBRARY_PATH", OsStr::new("a\"b")).unwrap(), "a\\\"b");
        assert_eq!(of(Values::Quoted).passed("A", odd), None);
        for bad in ["$", "`", "\\", "\"", "\n", "\u{e9}", "\u{7f}"] {
            assert_eq!(of(Values::Quoted).passed("A", OsStr::new(bad)), None, "{bad:?}");
        }
        assert_eq!(of(Values::Quoted).passed("A", OsStr::new("a b,c:'d'")).unwrap(), "a b,c:'d'");
    }
}
