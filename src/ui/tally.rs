//! How far several builds are together, counted from their events: `3/12 built, 2 running, 1 failed, 4 queued`.

use std::collections::BTreeSet;

use crate::model::event::Event;
use crate::model::name::Name;

/// The count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    total: usize,
    running: BTreeSet<Name>,
    well: usize,
    failed: usize,
    skipped: usize,
}

impl Tally {
    /// Counts an event; says whether that changed anything.
    pub fn hear(&mut self, event: &Event) -> bool {
        match event {
            Event::Plan { total } => *self = Tally { total: *total, ..Tally::default() },
            Event::Progress { name, .. } | Event::Waiting { name, .. } => return self.running.insert(name.clone()),
            Event::Finished { name, .. } => {
                self.running.remove(name);
                self.well += 1;
            }
            Event::Failed { name, .. } => {
                self.running.remove(name);
                self.failed += 1;
            }
            Event::Skipped { name, .. } => {
                self.running.remove(name);
                self.skipped += 1;
            }
            Event::Amount { .. } | Event::Output { .. } | Event::Logging { .. } | Event::Warning { .. } => {
                return false;
            }
        }
        true
    }

    /// Whether there is more to tell than a single build's own line does.
    pub fn is_worth_telling(&self) -> bool {
        self.total > 1
    }

    /// The line. "built" counts all that ended well; what is zero is left out, "built" excepted.
    pub fn line(&self) -> String {
        let over = self.running.len() + self.well + self.failed + self.skipped;
        let mut line = format!("{}/{} built", self.well, self.total.max(over));
        let parts = [
            (self.running.len(), "running"),
            (self.failed, "failed"),
            (self.skipped, "skipped"),
            (self.total.saturating_sub(over), "queued"),
        ];
        for (count, word) in parts.into_iter().filter(|(count, _)| *count > 0) {
            line.push_str(&format!(", {count} {word}"));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Phase;

    fn name(number: usize) -> Name {
        format!("n{number}/1").parse().unwrap()
    }

    fn begins(number: usize) -> Event {
        let (step, steps, percent) = (1, 4, 25.0);
        Event::Progress { name: name(number), step, steps, percent, current: Phase::Stage, detail: String::new() }
    }

    fn ends(number: usize) -> Event {
        Event::Finished { name: name(number), outcome: "built".into(), detail: String::new(), seconds: 1.0 }
    }

    #[test]
    fn everything_is_counted_once() {
        let mut tally = Tally::default();
        assert!(!tally.is_worth_telling());
        tally.hear(&Event::Plan { total: 12 });
        assert!(tally.is_worth_telling());
        assert_eq!(tally.line(), "0/12 built, 12 queued");
        for number in 0..6 {
            assert!(tally.hear(&begins(number)));
            assert!(!tally.hear(&begins(number)), "another phase is no news");
        }
        (0..3).for_each(|number| assert!(tally.hear(&ends(number))));
        tally.hear(&Event::Failed { name: name(3), text: String::new(), seconds: 0.0 });
        tally.hear(&Event::Skipped { name: name(9), because: String::new() });
        tally.hear(&Event::Skipped { name: name(10), because: String::new() });
        assert_eq!(tally.line(), "3/12 built, 2 running, 1 failed, 2 skipped, 4 queued");
        assert!(!tally.hear(&Event::Output { name: name(4), line: "x".into() }));
    }

    #[test]
    fn more_than_was_planned_is_no_trouble() {
        let mut tally = Tally::default();
        tally.hear(&Event::Plan { total: 1 });
        for number in 0..3 {
            tally.hear(&ends(number));
        }
        assert_eq!(tally.line(), "3/3 built");
    }
}
