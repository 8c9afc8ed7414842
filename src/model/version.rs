//! Versions ordered as conda orders them: by the rules documented for its `VersionOrder`
//! (<https://docs.conda.io/projects/conda/en/stable/user-guide/concepts/pkg-specs.html>).

use std::cmp::Ordering;
use std::fmt;

/// A version. Every text is one; [`Version::strict`] also says whether conda would take it.
///
/// Equality is conda's: `1.1` equals `1.1.0`, `1.0A` equals `1.0a`. `Display` gives back the text as written.
#[derive(Debug, Clone)]
pub struct Version {
    text: String,
    epoch: Number,
    release: Vec<Vec<Run>>,
    local: Vec<Vec<Run>>,
}

/// A version conda would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a version: {why}")]
pub struct BadVersion {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A whole number of any length: its digits without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Number(String);

impl Number {
    fn new(digits: &str) -> Number {
        Number(digits.trim_start_matches('0').to_owned())
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A run of digits or of other characters. The order of the variants is conda's order:
/// `*` and what sorts before letters, then dev, other text, numbers, post.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Run {
    Star(usize),
    Dev,
    Text(String),
    Number(Number),
    Post,
}

impl Version {
    /// Reads any text; what conda would refuse still gets a place in the order.
    pub fn new(text: &str) -> Version {
        let lower = dashes(&text.trim().to_lowercase());
        let (epoch, rest) = match lower.split_once('!') {
            Some((epoch, rest)) if !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit()) => (epoch, rest),
            _ => ("", lower.as_str()),
        };
        let (release, local) = rest.split_once('+').unwrap_or((rest, ""));
        let local = if local.is_empty() { Vec::new() } else { local.split(['.', '_']).map(runs).collect() };
        Version { text: text.to_owned(), epoch: Number::new(epoch), release: components(release), local }
    }

    /// Reads a version and refuses what conda refuses.
    pub fn strict(text: &str) -> Result<Version, BadVersion> {
        let bad = |why| Err(BadVersion { text: text.to_owned(), why });
        let lower = dashes(&text.trim().to_lowercase());
        if lower.is_empty() {
            return bad("it is empty");
        }
        if lower.chars().any(|c| !c.is_ascii_digit() && !c.is_ascii_lowercase() && !"*.+!_".contains(c)) {
            return bad("it has a character other than letters, digits and . _ + ! * (or - without any _)");
        }
        let rest = match lower.split('!').collect::<Vec<_>>()[..] {
            [rest] => rest.to_owned(),
            [epoch, rest] if !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit()) => rest.to_owned(),
            [_, _] => return bad("its epoch, before '!', is not a number"),
            _ => return bad("it has more than one '!'"),
        };
        let (release, local) = match rest.split('+').collect::<Vec<_>>()[..] {
            [release] => (release, None),
            [release, local] => (release, Some(local)),
            _ => return bad("it has more than one '+'"),
        };
        if release.is_empty() {
            return bad("nothing stands before the local part");
        }
        let local = local.iter().flat_map(|local| local.split(['.', '_']));
        if pieces(release).iter().any(String::is_empty) || local.into_iter().any(str::is_empty) {
            return bad("one of its parts is empty");
        }
        Ok(Version::new(text))
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Dashes count as underscores unless underscores occur as well.
fn dashes(text: &str) -> String {
    if text.contains('_') { text.to_owned() } else { text.replace('-', "_") }
}

/// Splits at dots and underscores; a trailing underscore stays, it is openssl's way to sort `1.0.1_` before `1.0.1a`.
fn pieces(release: &str) -> Vec<String> {
    let (main, tail) = match release.strip_suffix('_') {
        Some(main) => (main, "_"),
        None => (release, ""),
    };
    let mut pieces: Vec<String> = main.split(['.', '_']).map(str::to_owned).collect();
    if let Some(last) = pieces.last_mut() {
        last.push_str(tail);
    }
    pieces
}

fn components(release: &str) -> Vec<Vec<Run>> {
    pieces(release).iter().map(|piece| runs(piece)).collect()
}

/// Splits a component into runs; one that does not begin with a digit gets a 0 to keep numbers and text in phase.
fn runs(part: &str) -> Vec<Run> {
    let kind = |c: char| match c {
        '0'..='9' => 0,
        '*' => 1,
        _ => 2,
    };
    let mut out = Vec::new();
    if !part.starts_with(|c: char| c.is_ascii_digit()) {
        out.push(Run::Number(Number::new("0")));
    }
    let mut rest = part;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| kind(c) != kind(first)).unwrap_or(rest.len());
        let (run, tail) = rest.split_at(end);
        out.push(match (kind(first), run) {
            (0, _) => Run::Number(Number::new(run)),
            (1, _) => Run::Star(run.len()),
            (_, "dev") => Run::Dev,
            (_, "post") => Run::Post,
            _ => Run::Text(run.to_owned()),
        });
        rest = tail;
    }
    out
}

/// Compares two lists; what is missing on one side counts as the number 0.
fn compare(left: &[Vec<Run>], right: &[Vec<Run>]) -> Ordering {
    let zero = Run::Number(Number(String::new()));
    for index in 0..left.len().max(right.len()) {
        let (a, b) = (left.get(index).map_or(&[][..], Vec::as_slice), right.get(index).map_or(&[][..], Vec::as_slice));
        for place in 0..a.len().max(b.len()) {
            let order = a.get(place).unwrap_or(&zero).cmp(b.get(place).unwrap_or(&zero));
            if order != Ordering::Equal {
                return order;
            }
        }
    }
    Ordering::Equal
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| compare(&self.release, &other.release))
            .then_with(|| compare(&self.local, &other.local))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Version) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v(text: &str) -> Version {
        Version::new(text)
    }

    /// The order conda documents; texts on one line are equal.
    const DOCUMENTED: &[&[&str]] = &[
        &["0.4", "0.4.0"],
        &["0.4.1.rc", "0.4.1.RC"],
        &["0.4.1"],
        &["0.5a1"],
        &["0.5b3"],
        &["0.5C1"],
        &["0.5"],
        &["0.9.6"],
        &["0.960923"],
        &["1.0"],
        &["1.1dev1"],
        &["1.1_"],
        &["1.1a1"],
        &["1.1.0dev1", "1.1.dev1"],
        &["1.1.a1"],
        &["1.1.0rc1"],
        &["1.1.0", "1.1"],
        &["1.1.0post1", "1.1.post1"],
        &["1.1post1"],
        &["1996.07.12"],
        &["1!0.4.1"],
        &["1!3.1.1.6"],
        &["2!0.4.1"],
    ];

    #[test]
    fn the_order_is_the_documented_one() {
        for (i, left) in DOCUMENTED.iter().enumerate() {
            for (j, right) in DOCUMENTED.iter().enumerate() {
                for (a, b) in left.iter().flat_map(|a| right.iter().map(move |b| (a, b))) {
                    assert_eq!(v(a).cmp(&v(b)), i.cmp(&j), "{a} {b}");
                    assert!(Version::strict(a).is_ok(), "{a}");
                }
            }
        }
    }

    #[test]
    fn versions_seen_in_recipes_sort_as_people_expect() {
        for (low, high) in [
            ("2.7.2c", "2.7.11b"),
            ("2.7.0b", "2.7.11b"),
            ("2020-A", "2024-A"),
            ("2024-A", "2024-B"),
            ("1.9", "1.10"),
            ("1.0", "1.0+1"),
            ("1.0+1", "1.0+1.1"),
            ("1.0.1_", "1.0.1a"),
            ("9.0.1", "10"),
            ("99999999999999999999998", "99999999999999999999999"),
            ("1.*", "1.a"),
        ] {
            assert!(v(low) < v(high), "{low} {high}");
        }
        assert_eq!(v("1-2"), v("1_2"));
        assert_eq!(v("01.002"), v("1.2"));
    }

    #[test]
    fn what_conda_refuses_is_refused_only_by_strict() {
        for text in ["", " ", "3.5&1", "5.5++", "5.5..mw", "!", "a!1", "1!2!3", "1-2_3", "1.", "_1", "+1", "1+", "ü"] {
            assert!(Version::strict(text).is_err(), "{text:?}");
            assert_eq!(v(text).cmp(&v(text)), Ordering::Equal);
        }
        assert_eq!(
            Version::strict("5.5..mw").unwrap_err().to_string(),
            "'5.5..mw' is not a version: one of its parts is empty"
        );
    }

    fn any_version() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9]{1,3}(\\.[0-9]{1,2}){0,2}(a|b|rc|dev|post|_|-)?[0-9]?(\\+[0-9a-c]{1,2})?",
            "[0-9ab.!+_*-]{0,6}",
            "(dev|post|\\*|a|_|0|1|\\.){0,5}",
            "\\PC{0,6}",
        ]
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in any_version(), b in any_version(), c in any_version()) {
            let (x, y, z) = (v(&a), v(&b), v(&c));
            prop_assert_eq!(x.cmp(&y), y.cmp(&x).reverse());
            prop_assert_eq!(x.cmp(&x), Ordering::Equal);
            if x <= y && y <= z {
                prop_assert!(x <= z);
            }
            if x == y {
                prop_assert_eq!(x.cmp(&z), y.cmp(&z));
            }
            let strict = Version::strict(&a).is_ok();
            prop_assert!(!strict || !a.trim().is_empty());
        }
    }
}
