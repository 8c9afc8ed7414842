//! A command as a value: argv, never a line for a shell.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

/// A program with its arguments and surroundings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cmd {
    /// The program: a path, or a name to look up in PATH.
    pub program: OsString,
    /// Its arguments, without the program itself.
    pub args: Vec<OsString>,
    /// Variables to set on top of the inherited ones.
    pub env: BTreeMap<OsString, OsString>,
    /// Its whole environment is `env`; nothing is inherited.
    pub bare: bool,
    /// Where it runs; None: here.
    pub cwd: Option<PathBuf>,
    /// What it reads; None: nothing.
    pub stdin: Option<Vec<u8>>,
}

impl Cmd {
    /// `program` without arguments.
    pub fn new(program: impl Into<OsString>) -> Cmd {
        Cmd { program: program.into(), ..Cmd::default() }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Cmd {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, args: I) -> Cmd {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Program and arguments as text, for JSON.
    pub fn words(&self) -> Vec<String> {
        std::iter::once(&self.program).chain(&self.args).map(|word| word.to_string_lossy().into_owned()).collect()
    }
}

/// The command as a line that can be pasted into a shell.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(&self.program))?;
        for arg in &self.args {
            write!(f, " {}", quote(arg))?;
        }
        Ok(())
    }
}

/// One word quoted for a POSIX shell, only where it needs it.
pub fn quote(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_prints_as_a_line_to_paste() {
        let cmd = Cmd::new("ovl").arg("build").args(["a b", "it's", "", "x=1"]);
        assert_eq!(cmd.to_string(), r"ovl build 'a b' 'it'\''s' '' x=1");
    }
}
