//! Files of environments (`environment.yml`), and lock files, which are YAML too.

use serde_yaml::Value;
use url::Url;

use super::{Content, Environment, check_wish, platform_of};
use crate::model::loc::Loc;
use crate::recipe::finding::{Finding, Rule};
use crate::recipe::spec::At;

/// Reads a file of an environment.
pub fn read(file: &str, text: &str, findings: &mut Vec<Finding>) -> Environment {
    let value: Value = match serde_yaml::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            let (line, col) = error.location().map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
            // The library tells the place as well; once is enough.
            let why = error.to_string();
            let why = why.split(" at line ").next().unwrap_or_default().to_owned();
            // A key twice is told at the beginning of what holds it.
            let twice = why.strip_prefix("duplicate entry with key \"").and_then(|rest| rest.strip_suffix('"'));
            let line = twice.and_then(|key| Places::new(file, text).nth_key(key, 1)).unwrap_or(line);
            let col = if twice.is_some() { 1 } else { col };
            findings.push(shape(&Loc::new(file, line, col), format!("this is no YAML: {why}")));
            return Environment::empty(Content::Wishes(Vec::new()));
        }
    };
    let Some(map) = value.as_mapping() else {
        findings.push(shape(&Loc::new(file, 1, 1), "a file of an environment has keys, as in dependencies:".into()));
        return Environment::empty(Content::Wishes(Vec::new()));
    };
    if map.contains_key("version") && (map.contains_key("packages") || map.contains_key("package")) {
        return Environment::empty(Content::Lock);
    }
    let mut reading = Reading {
        places: Places::new(file, text),
        findings,
        environment: Environment::empty(Content::Wishes(Vec::new())),
        wishes: Vec::new(),
    };
    for (key, value) in map {
        reading.key(key, value);
    }
    reading.selectors(file, text);
    let Reading { mut environment, wishes, .. } = reading;
    environment.content = Content::Wishes(wishes);
    environment.platform = platform_of(file, text, findings);
    environment
}

fn shape(loc: &Loc, message: String) -> Finding {
    let hint = "a file of an environment has name:, channels:, dependencies: and variables:";
    Finding::new(Rule::BadEnvironment, loc, message).hint(hint)
}

struct Reading<'a> {
    places: Places<'a>,
    findings: &'a mut Vec<Finding>,
    environment: Environment,
    wishes: Vec<At<String>>,
}

impl Reading<'_> {
    fn key(&mut self, key: &Value, value: &Value) {
        let key = shown(key);
        let loc = self.places.key(&key);
        match key.as_str() {
            "name" => {}
            "channels" => self.list(&loc, &key, value, Reading::channel),
            "dependencies" => self.list(&loc, &key, value, Reading::dependency),
            "variables" => self.variables(&loc, value),
            "prefix" => {
                let message = "prefix: is left out: the overlay's name says where everything lies";
                self.findings.push(Finding::new(Rule::LeftOut, &loc, message));
            }
            _ => {
                let message = format!("{key}: is no key of environments that ovl knows");
                let hint = "known are name, channels, dependencies and variables";
                self.findings.push(Finding::new(Rule::LeftOut, &loc, message).hint(hint));
            }
        }
    }

    fn list(&mut self, loc: &Loc, key: &str, value: &Value, each: fn(&mut Self, &Value)) {
        match value {
            Value::Null => {}
            Value::Sequence(items) => {
                self.places.go_to(loc);
                items.iter().for_each(|item| each(self, item));
            }
            _ => self.findings.push(shape(loc, format!("{key}: is to be a list"))),
        }
    }

    fn channel(&mut self, item: &Value) {
        let Some((loc, name)) = self.word(item) else { return };
        if Url::parse(&name).is_ok_and(|url| super::is_secret(&url)) {
            let message = "a password in the address of a channel";
            let hint = "leave it out, and put it into ~/.netrc";
            self.findings.push(Finding::new(Rule::SecretDefault, &loc, message).hint(hint));
        } else if name == "nodefaults" {
            // Nothing is asked that is not named, anyway.
        } else if name == "defaults" {
            let message = "'defaults' is left out: it stands for channels of one vendor, with conditions of their own";
            let hint = "name the channel itself if you may use it";
            self.findings.push(Finding::new(Rule::LeftOut, &loc, message).hint(hint));
        } else {
            self.environment.channels.push(At { loc, value: name });
        }
    }

    fn dependency(&mut self, item: &Value) {
        let Value::Mapping(map) = item else {
            let Some((loc, wish)) = self.word(item) else { return };
            if check_wish(&loc, &wish, self.findings) {
                self.wishes.push(At { loc, value: wish });
            }
            return;
        };
        for (key, value) in map {
            let key = shown(key);
            let loc = self.places.word(&key);
            if key != "pip" {
                let message = format!("'{key}:' is not understood: besides packages there is only pip:");
                let hint = "for packages of one platform only, write a file for each platform";
                self.findings.push(Finding::new(Rule::BadEnvironment, &loc, message).hint(hint));
                continue;
            }
            self.list(&loc, "pip", value, |reading, item| {
                if let Some((loc, value)) = reading.word(item)
                    && super::check_pip(&loc, &value, reading.findings)
                {
                    reading.environment.pip.push(At { loc, value });
                }
            });
            let has_pip = |at: &At<String>| super::wish(&at.value).is_ok_and(|spec| spec.name.to_string() == "pip");
            if !self.wishes.iter().any(has_pip) && !self.environment.pip.is_empty() {
                let message = "pip: without pip itself among the packages: it is added";
                self.findings.push(Finding::new(Rule::PipWithoutPip, &loc, message).hint("list pip before pip:"));
                self.wishes.push(At { loc, value: "pip".into() });
            }
        }
    }

    fn variables(&mut self, loc: &Loc, value: &Value) {
        let map = match value {
            Value::Null => return,
            Value::Mapping(map) => map,
            _ => return self.findings.push(shape(loc, "variables: is to be a list of NAME: value".into())),
        };
        self.places.go_to(loc);
        for (name, value) in map {
            let name = shown(name);
            let loc = self.places.word(&name);
            if !crate::recipe::values::is_variable(&name) {
                self.findings.push(shape(&loc, format!("'{name}' cannot be a variable's name")));
            } else if matches!(value, Value::Mapping(_) | Value::Sequence(_)) {
                self.findings.push(shape(&loc, format!("{name} is to be a text")));
            } else {
                self.environment.variables.push((name, shown(value)));
            }
        }
    }

    /// A text of a list with its place; anything else is told.
    fn word(&mut self, item: &Value) -> Option<(Loc, String)> {
        let text = shown(item);
        let loc = self.places.word(&text);
        match item {
            Value::String(_) => return Some((loc, text.trim().to_owned())),
            Value::Number(_) => {
                self.findings.push(shape(&loc, format!("{text} is a number, where a name is to be")));
            }
            _ => self.findings.push(shape(&loc, format!("'{text}' is no name"))),
        }
        None
    }

    /// `# [linux]` is a selector of recipes for conda-build; in environments it is a comment to everybody.
    fn selectors(&mut self, file: &str, text: &str) {
        for (number, line) in text.lines().enumerate() {
            let Some(at) = line.find("# [").filter(|at| line[*at..].trim_end().ends_with(']')) else { continue };
            if line[..at].trim().is_empty() {
                continue;
            }
            let loc = Loc::new(file, number + 1, line[..at].chars().count() + 1);
            let message = format!("'{}' is only a comment here: the line counts on every platform", line[at..].trim());
            self.findings.push(Finding::new(Rule::Selector, &loc, message));
        }
    }
}

/// A scalar as it is written.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "null".into(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => number.to_string(),
        _ => "a list".into(),
    }
}

/// Finds words again in the text: the library that reads YAML does not tell where they stand.
struct Places<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    /// Where the search goes on: line from 0, and byte in it.
    at: (usize, usize),
}

impl<'a> Places<'a> {
    fn new(file: &'a str, text: &'a str) -> Places<'a> {
        Places { file, lines: text.lines().collect(), at: (0, 0) }
    }

    fn go_to(&mut self, loc: &Loc) {
        let line = loc.line.saturating_sub(1);
        let start = self.lines.get(line).and_then(|text| text.find(':')).map_or(0, |at| at + 1);
        self.at = (line, start);
    }

    /// The line, from 1, that has a key of the outermost level for the (n+1)th time.
    fn nth_key(&self, key: &str, n: usize) -> Option<usize> {
        let is_key = |line: &&str| {
            let word = line.trim_start_matches(['"', '\'', '{', ' ']);
            line.starts_with(['"', '\'', '{']) | line.starts_with(key)
                && word.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', '\'']).starts_with(':'))
        };
        self.lines.iter().enumerate().filter(|(_, line)| is_key(line)).nth(n).map(|(number, _)| number + 1)
    }

    fn key(&self, key: &str) -> Loc {
        Loc::new(self.file, self.nth_key(key, 0).unwrap_or(1), 1)
    }

    /// The next place of a word, comments left out; the next ones are searched from there.
    fn word(&mut self, word: &str) -> Loc {
        // A folded text is found by its first line.
        let first = word.lines().next().unwrap_or(word).trim();
        let (line, start) = self.at;
        for (number, text) in self.lines.iter().enumerate().skip(line) {
            let from = if number == line { start.min(text.len()) } else { 0 };
            let code = text.find(" #").unwrap_or(text.len());
            let Some(rest) = text.get(from..code.max(from)) else { continue };
            if let Some(found) = rest.find(first).filter(|_| !first.is_empty() && !rest.trim_start().starts_with('#')) {
                let at = from + found;
                self.at = (number, at + first.len());
                return Loc::new(self.file, number + 1, text[..at].chars().count() + 1);
            }
        }
        Loc::new(self.file, line + 1, 1)
    }
}
