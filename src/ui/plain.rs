//! Progress as plain lines, for logs and pipes: `Step 3/6 (50.0%): hello/1.0: install`. With several builds at once
//! every line begins with the name of its overlay, so that they can be told apart again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::style::Style;

use crate::model::event::{Event, Listener};
use crate::model::units;

/// Writes a line per event.
pub struct Plain {
    style: Style,
    verbosity: i8,
    /// Whether lines of several builds may interleave.
    several: AtomicBool,
}

impl Plain {
    /// With -v the builds' own output is shown too, with -q only warnings.
    pub fn new(style: Style, verbosity: i8) -> Plain {
        Plain { style, verbosity, several: AtomicBool::new(false) }
    }

    /// The line for an event, if this mode tells it.
    pub fn line(&self, event: &Event) -> Option<String> {
        match event {
            Event::Warning { name, text } => {
                let about = name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
                Some(format!("{} {about}{text}", self.style.yellow("warning:")))
            }
            _ if self.verbosity < 0 => None,
            Event::Plan { total } => {
                self.several.store(*total > 1, Ordering::Relaxed);
                None
            }
            Event::Progress { name, step, steps, percent, current, detail } => {
                let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
                let at = format!("Step {step}/{steps} ({percent:.1}%)");
                Some(match self.several.load(Ordering::Relaxed) {
                    true => format!("{name}: {at}: {}{detail}", current.as_str()),
                    false => format!("{at}: {name}: {}{detail}", current.as_str()),
                })
            }
            Event::Waiting { name, reason } => Some(format!("{name}: waiting for {reason}")),
            Event::Output { name, line } if self.verbosity > 0 => Some(format!("{name} | {line}")),
            Event::Finished { name, outcome, detail, seconds } => {
                let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
                Some(format!("{name}: {outcome}{}{detail}", took(*seconds)))
            }
            Event::Failed { name, text, seconds } => {
                Some(format!("{name}: {}{}: {text}", self.style.red("failed"), took(*seconds)))
            }
            Event::Skipped { name, because } => Some(format!("{name}: {}: {because}", self.style.yellow("skipped"))),
            Event::Output { .. } | Event::Amount { .. } | Event::Logging { .. } => None,
        }
    }
}

fn took(seconds: f64) -> String {
    if seconds < 0.05 || !seconds.is_finite() {
        return String::new();
    }
    format!(" in {}", units::show_time(Duration::from_secs_f64(seconds.min(1e9))))
}

impl Listener for Plain {
    fn hear(&self, event: &Event) {
        if let Some(line) = self.line(event) {
            super::tell(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Phase;

    #[test]
    fn a_step_line_has_the_known_shape() {
        let plain = Plain::new(Style { on: false }, 0);
        let event = Event::Progress {
            name: "hello/1.0".parse().unwrap(),
            step: 1,
            steps: 9,
            percent: 100.0 / 9.0,
            current: Phase::Install,
            detail: String::new(),
        };
        assert_eq!(plain.line(&event).unwrap(), "Step 1/9 (11.1%): hello/1.0: install");
    }

    #[test]
    fn lines_of_several_builds_begin_with_their_names() {
        let (quiet, plain) = (Plain::new(Style { on: false }, -1), Plain::new(Style { on: false }, 1));
        let name = || "hello/1.0".parse().unwrap();
        assert_eq!(plain.line(&Event::Plan { total: 3 }), None);
        let events = [
            Event::Progress {
                name: name(),
                step: 2,
                steps: 4,
                percent: 50.0,
                current: Phase::Pack,
                detail: "zstd".into(),
            },
            Event::Output { name: name(), line: "make all".into() },
            Event::Waiting { name: name(), reason: "the build of ann on n1".into() },
            Event::Finished { name: name(), outcome: "built".into(), detail: "4 KiB".into(), seconds: 61.0 },
            Event::Failed { name: name(), text: "install() ended with 1".into(), seconds: f64::NAN },
            Event::Skipped { name: name(), because: "it needs zlib/1.3, which failed".into() },
        ];
        let lines: Vec<String> = events.iter().filter_map(|event| plain.line(event)).collect();
        assert_eq!(
            lines,
            [
                "hello/1.0: Step 2/4 (50.0%): pack (zstd)",
                "hello/1.0 | make all",
                "hello/1.0: waiting for the build of ann on n1",
                &format!("hello/1.0: built in {} (4 KiB)", units::show_time(Duration::from_secs(61))),
                "hello/1.0: failed: install() ended with 1",
                "hello/1.0: skipped: it needs zlib/1.3, which failed",
            ]
        );
        assert!(events.iter().all(|event| quiet.line(event).is_none()), "-q tells warnings only");
    }
}
