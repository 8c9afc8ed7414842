//! How far one long piece of work is, for work that belongs to no build: a line that is drawn anew on a terminal, a line
//! now and then elsewhere. Work of less than a second says nothing.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Ui;
use crate::model::units::show_size;
use crate::sys::term;

/// Before this nothing is shown.
const FIRST: Duration = Duration::from_secs(1);
/// How often it is drawn, and how often a line comes where nothing can be drawn.
const DRAWN: Duration = Duration::from_millis(120);
const LINES: Duration = Duration::from_secs(15);

/// Shows an amount of bytes.
pub struct Meter {
    ui: Ui,
    how: How,
    state: Mutex<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Drawn,
    Lines,
    Json,
    Silent,
}

struct State {
    what: String,
    next: Instant,
    bar: Option<ProgressBar>,
}

impl Meter {
    /// For `what` ("packing env.img"); `progress` is as in the configuration: auto, bars, plain, json or none.
    pub fn new(ui: Ui, progress: &str, what: &str) -> Meter {
        let how = match progress {
            "json" => How::Json,
            "none" => How::Silent,
            _ if ui.verbosity < 0 => How::Silent,
            "plain" => How::Lines,
            _ if term::stderr_is_terminal() => How::Drawn,
            _ => How::Lines,
        };
        Meter { ui, how, state: Mutex::new(State { what: what.to_owned(), next: Instant::now() + FIRST, bar: None }) }
    }

    /// What follows is about something else.
    pub fn turn_to(&self, what: &str) {
        if let Ok(mut state) = self.state.lock() {
            state.what = what.to_owned();
        }
    }

    /// So many bytes are done. Cheap; called from any thread.
    pub fn tell(&self, done: u64, total: Option<u64>) {
        let Ok(mut state) = self.state.try_lock() else { return };
        let now = Instant::now();
        if self.how == How::Silent || now < state.next {
            return;
        }
        state.next = now + if self.how == How::Drawn { DRAWN } else { LINES };
        let of = total.map(|total| format!(" of {}", show_size(total))).unwrap_or_default();
        let line = format!("{}: {}{of}", state.what, show_size(done));
        match self.how {
            How::Drawn => {
                let bar = state.bar.get_or_insert_with(|| {
                    let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
                    style.map_or_else(
                        |_| ProgressBar::new_spinner(),
                        |style| ProgressBar::new_spinner().with_style(style),
                    )
                });
                bar.set_message(line);
                bar.tick();
            }
            How::Lines => self.ui.say(&line),
            How::Json => {
                let value = serde_json::json!({ "event": "amount", "what": state.what, "done": done, "total": total });
                super::tell(&value.to_string());
            }
            How::Silent => {}
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Ok(state) = self.state.lock()
            && let Some(bar) = &state.bar
        {
            bar.finish_and_clear();
        }
    }
}
