//! Speaking to people and programs: data on stdout, everything else on stderr; plain lines, bars or JSON.

mod bars;
mod json;
mod meter;
mod plain;
mod style;
pub mod table;
mod tally;
mod text;

use std::io::Write;

use crate::model::event::Listener;
use crate::sys::{env, term};

pub use meter::Meter;
pub use style::Style;

/// How the program speaks.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    style: Style,
    /// More detail (-v), or -1 for less (-q).
    pub verbosity: i8,
}

impl Ui {
    /// `color` is auto, always or never.
    pub fn new(color: &str, verbosity: i8) -> Ui {
        let on = match color {
            "always" => true,
            "never" => false,
            _ => {
                term::stderr_is_terminal()
                    && env::var_os("NO_COLOR").is_none()
                    && env::var("TERM").as_deref() != Some("dumb")
            }
        };
        Ui { style: Style { on }, verbosity }
    }

    /// A line of data, on stdout. A reader that has gone away ends the program quietly (SIGPIPE).
    pub fn out(&self, line: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    /// Raw data, on stdout.
    pub fn out_bytes(&self, bytes: &[u8]) {
        let _ = std::io::stdout().lock().write_all(bytes);
    }

    /// Something worth knowing, on stderr; silent with -q.
    pub fn say(&self, line: &str) {
        if self.verbosity >= 0 {
            tell(line);
        }
    }

    /// A warning, on stderr.
    pub fn warn(&self, line: &str) {
        tell(&format!("{} {line}", self.style.yellow("warning:")));
    }

    /// An error with what to do next, on stderr.
    pub fn error(&self, message: &str, hints: &[String]) {
        tell(&format!("{} {message}", self.style.red("error:")));
        hints.iter().for_each(|hint| self.hint(hint));
    }

    /// What to do next, on stderr.
    pub fn hint(&self, hint: &str) {
        tell(&format!("{} {hint}", self.style.cyan("hint:")));
    }

    /// A question without an end of line, on stderr.
    pub fn ask(&self, question: &str) {
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{question} ").and_then(|()| stderr.flush());
    }

    /// The colours in use.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Somebody who tells what builds do: auto, bars, plain, json or none.
    pub fn listener(&self, progress: &str) -> Box<dyn Listener> {
        match progress {
            "json" => Box::new(json::Json),
            "none" => Box::new(plain::Plain::new(self.style, -1)),
            // What is drawn where there is no terminal is lost, warnings included.
            "bars" if term::stderr_is_terminal() => Box::new(bars::Bars::new(self.style, self.verbosity)),
            "auto" if term::stderr_is_terminal() && self.verbosity == 0 => {
                Box::new(bars::Bars::new(self.style, self.verbosity))
            }
            _ => Box::new(plain::Plain::new(self.style, self.verbosity)),
        }
    }
}

/// A line on stderr. Nobody there to read it (`2>&1 | head`, a closed terminal) is no reason to end a build.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
