//! Progress as plain lines, for logs and pipes: `Step 3/6 (50.0%): hello/1.0: install`.

use std::time::Duration;

use super::style::Style;

use crate::model::event::{Event, Listener};
use crate::model::units;

/// Writes a line per event.
pub struct Plain {
    style: Style,
    verbosity: i8,
}

impl Plain {
    /// With -v the builds' own output is shown too, with -q only warnings.
    pub fn new(style: Style, verbosity: i8) -> Plain {
        Plain { style, verbosity }
    }

    /// The line for an event, if this mode tells it.
    pub fn line(&self, event: &Event) -> Option<String> {
        match event {
            Event::Warning { name, text } => {
                let about = name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
                Some(format!("{} {about}{text}", self.style.yellow("warning:")))
            }
            _ if self.verbosity < 0 => None,
            Event::Progress { name, step, steps, percent, current, detail } => {
                let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
                Some(format!("Step {step}/{steps} ({percent:.1}%): {name}: {}{detail}", current.as_str()))
            }
            Event::Waiting { name, reason } => Some(format!("{name}: waiting for {reason}")),
            Event::Output { name, line } if self.verbosity > 0 => Some(format!("{name} | {line}")),
            Event::Finished { name, outcome, detail, seconds } => {
                let time = if *seconds < 0.05 {
                    String::new()
                } else {
                    format!(" in {}", units::show_time(Duration::from_secs_f64(*seconds)))
                };
                let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
                Some(format!("{name}: {outcome}{time}{detail}"))
            }
            Event::Output { .. } | Event::Amount { .. } => None,
        }
    }
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
}
