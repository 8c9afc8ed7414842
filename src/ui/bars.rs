//! Progress as live lines on a terminal: one per build, its last line of output beside it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::plain::Plain;
use super::style::Style;
use crate::model::event::{Event, Listener};
use crate::model::name::Name;
use crate::model::units::show_size;

/// Draws a line per running build.
pub struct Bars {
    plain: Plain,
    area: MultiProgress,
    lines: Mutex<BTreeMap<Name, Line>>,
}

struct Line {
    bar: ProgressBar,
    head: String,
}

impl Bars {
    /// Draws on stderr.
    pub fn new(style: Style, verbosity: i8) -> Bars {
        Bars { plain: Plain::new(style, verbosity), area: MultiProgress::new(), lines: Mutex::new(BTreeMap::new()) }
    }

    fn update(&self, name: &Name, head: Option<String>, tail: &str) {
        let Ok(mut lines) = self.lines.lock() else { return };
        let line = lines.entry(name.clone()).or_insert_with(|| {
            let bar = self.area.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(std::time::Duration::from_millis(120));
            Line { bar, head: String::new() }
        });
        if let Some(head) = head {
            line.head = head;
        }
        line.bar.set_message(format!("{} {tail}", line.head));
    }
}

impl Listener for Bars {
    fn hear(&self, event: &Event) {
        match event {
            Event::Progress { name, step, steps, current, detail, .. } => {
                self.update(name, Some(format!("[{step}/{steps}] {name}: {}", current.as_str())), detail);
            }
            Event::Amount { name, done, total } => {
                let of = total.map(|total| format!(" of {}", show_size(total))).unwrap_or_default();
                self.update(name, None, &format!("{}{of}", show_size(*done)));
            }
            Event::Output { name, line } => {
                // What a build prints must not move the cursor of the drawing.
                let shown: String = line.chars().filter(|c| !c.is_control()).take(120).collect();
                self.update(name, None, &format!("| {shown}"));
            }
            Event::Waiting { name, reason } => self.update(name, None, &format!("waiting for {reason}")),
            Event::Finished { name, .. } => {
                if let Some(line) = self.lines.lock().ok().and_then(|mut lines| lines.remove(name)) {
                    line.bar.finish_and_clear();
                }
                self.print(event);
            }
            Event::Warning { .. } => self.print(event),
        }
    }
}

impl Bars {
    fn print(&self, event: &Event) {
        if let Some(text) = self.plain.line(event) {
            let _ = self.area.println(text);
        }
    }
}
