//! `#OVL:` and `#CNT:` lines: options of `ovl exec`, split into words with their places.

use std::sync::Arc;

use super::Wrong;
use crate::model::loc::Loc;
use crate::recipe::values::split_words;

/// One line of options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it begins.
    pub loc: Loc,
    /// `OVL` or `CNT`.
    pub marker: &'static str,
    /// Its words with their places, quotes removed.
    pub words: Vec<(Loc, String)>,
}

/// The lines above the first line of code (`code`, from 1), and what is wrong with some. The colon may be left out, as
/// CondaTainer has it.
pub fn lines(file: &Arc<str>, text: &str, code: usize) -> (Vec<Line>, Vec<Wrong>) {
    let (mut lines, mut wrong) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate().take(code.saturating_sub(1)) {
        let Some((marker, rest)) = marker(line) else { continue };
        let loc = Loc::new(file.clone(), index + 1, 1);
        // The format of recipes.
        if marker == "OVL" && rest.trim() == "1" {
            continue;
        }
        let skipped = line.chars().count() - rest.chars().count();
        let places: Vec<(Loc, char)> =
            rest.chars().enumerate().map(|(at, c)| (Loc { col: skipped + at + 1, ..loc.clone() }, c)).collect();
        let (words, open) = split_words(&places, true);
        if let Some(at) = open {
            wrong.push(Wrong::new(&at, "the quote opened here is not closed"));
        } else if words.is_empty() {
            wrong.push(
                Wrong::new(&loc, format!("#{marker}: says nothing"))
                    .hint("it takes options of ovl exec, as in -o name/version"),
            );
        } else {
            lines.push(Line { loc, marker, words });
        }
    }
    (lines, wrong)
}

fn marker(line: &str) -> Option<(&'static str, &str)> {
    for (marker, start) in [("OVL", "#OVL"), ("CNT", "#CNT")] {
        if let Some(rest) = line.strip_prefix(start) {
            if let Some(rest) = rest.strip_prefix(':') {
                return Some((marker, rest));
            }
            // `#OVL says …` is prose; options begin with a dash.
            if rest.starts_with([' ', '\t']) && rest.trim_start().starts_with('-') {
                return Some((marker, rest));
            }
        }
    }
    None
}
