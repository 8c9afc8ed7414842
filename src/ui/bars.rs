//! Progress as live lines on a terminal: one per running build with its last line of output, and one for all of them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::plain::Plain;
use super::style::Style;
use super::tally::Tally;
use super::text::shown;
use crate::model::event::{Event, Listener};
use crate::model::name::Name;
use crate::model::units::show_size;

/// How often the time that has passed is drawn anew.
const TICK: Duration = Duration::from_millis(120);

/// Draws a line per running build.
pub struct Bars {
    plain: Plain,
    area: MultiProgress,
    drawn: Mutex<Drawn>,
}

#[derive(Default)]
struct Drawn {
    lines: BTreeMap<Name, Line>,
    tally: Tally,
    /// The line for all, always the lowest.
    overall: Option<ProgressBar>,
}

/// One build's line: where it is, and what it did last.
struct Line {
    bar: ProgressBar,
    head: String,
}

/// What an event changes in its build's line: the beginning, if that, and the rest. None: nothing.
fn change(event: &Event) -> Option<(Option<String>, String)> {
    Some(match event {
        Event::Progress { name, step, steps, current, detail, .. } => {
            (Some(format!("[{step}/{steps}] {name}: {}", current.as_str())), shown(detail))
        }
        Event::Amount { done, total, .. } => {
            let of = total.map(|total| format!(" of {}", show_size(total))).unwrap_or_default();
            (None, format!("{}{of}", show_size(*done)))
        }
        Event::Output { line, .. } => match shown(line) {
            // An empty line says less than the one before it.
            line if line.is_empty() => return None,
            line => (None, format!("| {line}")),
        },
        Event::Waiting { reason, .. } => (None, format!("waiting for {}", shown(reason))),
        _ => return None,
    })
}

impl Bars {
    /// Draws on stderr.
    pub fn new(style: Style, verbosity: i8) -> Bars {
        Bars {
            plain: Plain::new(style, verbosity.min(0)),
            area: MultiProgress::new(),
            drawn: Mutex::new(Drawn::default()),
        }
    }

    fn bar(&self, template: &str, above: Option<&ProgressBar>) -> ProgressBar {
        let bar = ProgressBar::new_spinner();
        let bar = match above {
            Some(below) => self.area.insert_before(below, bar),
            None => self.area.add(bar),
        };
        // The style cuts the message to the terminal's width.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        bar
    }

    fn draw(&self, drawn: &mut Drawn, event: &Event) {
        if drawn.tally.hear(event) && drawn.tally.is_worth_telling() {
            let overall = drawn.overall.get_or_insert_with(|| self.bar("{wide_msg} {elapsed}", None));
            overall.set_message(drawn.tally.line());
        }
        let Some(name) = event.name() else { return };
        if let Some((head, tail)) = change(event) {
            let line = drawn.lines.entry(name.clone()).or_insert_with(|| Line {
                bar: self.bar("{spinner} {wide_msg} {elapsed}", drawn.overall.as_ref()),
                head: name.to_string(),
            });
            line.head = head.unwrap_or_else(|| std::mem::take(&mut line.head));
            line.bar.set_message(format!("{} {tail}", line.head));
        }
        let over = matches!(event, Event::Finished { .. } | Event::Failed { .. } | Event::Skipped { .. });
        if over && let Some(line) = drawn.lines.remove(name) {
            line.bar.finish_and_clear();
            self.area.remove(&line.bar);
        }
    }
}

impl Listener for Bars {
    fn hear(&self, event: &Event) {
        // One event at a time: the count and the lines belong together.
        let Ok(mut drawn) = self.drawn.lock() else { return };
        self.draw(&mut drawn, event);
        let lasting = matches!(
            event,
            Event::Warning { .. } | Event::Finished { .. } | Event::Failed { .. } | Event::Skipped { .. }
        );
        if let Some(text) = self.plain.line(event).filter(|_| lasting) {
            let _ = self.area.println(text);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // Nothing that still spins is left on the screen, below it stands what the command has to say.
        let _ = self.area.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Phase;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_line_tells_phase_and_last_output() {
        let event = Event::Progress {
            name: name("zlib/1.3"),
            step: 3,
            steps: 5,
            percent: 60.0,
            current: Phase::Install,
            detail: String::new(),
        };
        assert_eq!(change(&event), Some((Some("[3/5] zlib/1.3: install".into()), String::new())));
        let output = |line: &str| Event::Output { name: name("zlib/1.3"), line: line.into() };
        assert_eq!(change(&output("\x1b[32mok\x1b[0m 1\r")), Some((None, "| ok 1".into())));
        assert_eq!(change(&output("\x1b[0m\r")), None);
        assert_eq!(change(&Event::Plan { total: 2 }), None);
    }

    #[test]
    fn lines_come_and_go_with_their_builds() {
        let bars = Bars::new(Style { on: false }, 0);
        bars.area.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        bars.hear(&Event::Plan { total: 3 });
        for text in ["a/1", "b/1"] {
            bars.hear(&Event::Output { name: name(text), line: format!("{text} prints") });
            bars.hear(&Event::Waiting { name: name(text), reason: "nobody".into() });
        }
        bars.hear(&Event::Output { name: name("a/1"), line: "last words".into() });
        {
            let drawn = bars.drawn.lock().unwrap();
            assert_eq!(drawn.lines[&name("a/1")].bar.message(), "a/1 | last words");
            assert_eq!(drawn.lines[&name("b/1")].bar.message(), "b/1 waiting for nobody");
            assert_eq!(drawn.overall.as_ref().unwrap().message(), "0/3 built, 2 running, 1 queued");
        }
        bars.hear(&Event::Failed { name: name("a/1"), text: "no".into(), seconds: 0.0 });
        bars.hear(&Event::Skipped { name: name("c/1"), because: "it needs a/1".into() });
        let drawn = bars.drawn.lock().unwrap();
        assert_eq!(drawn.lines.keys().collect::<Vec<_>>(), [&name("b/1")]);
        assert_eq!(drawn.overall.as_ref().unwrap().message(), "0/3 built, 1 running, 1 failed, 1 skipped");
    }
}
