//! Answers to the questions of recipes and templates.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::args::Build;
use super::failure::Failure;
use crate::recipe::spec::Prompt;
use crate::sys::{fs, term};
use crate::ui::Ui;

/// Answers to questions: --answer N=…, then --answer and --answers-file in order, then the terminal or standard input.
pub struct Answers {
    numbered: Vec<(usize, String)>,
    ordered: std::collections::VecDeque<String>,
    asked: usize,
    /// What was answered, by who asked, the question, and the how-manieth time.
    given: BTreeMap<(String, String, usize), Option<String>>,
    times: BTreeMap<(String, String), usize>,
    ui: Ui,
}

impl Answers {
    /// From the flags.
    pub fn new(args: &Build, ui: Ui) -> Result<Answers, Failure> {
        let mut answers = Answers {
            numbered: Vec::new(),
            ordered: Default::default(),
            asked: 0,
            given: BTreeMap::new(),
            times: BTreeMap::new(),
            ui,
        };
        for text in &args.answer {
            match text.split_once('=').and_then(|(number, text)| Some((number.parse().ok()?, text))) {
                Some((number, text)) => answers.numbered.push((number, text.to_owned())),
                None => answers.ordered.push_back(text.clone()),
            }
        }
        if let Some(path) = &args.answers_file {
            let text =
                String::from_utf8(fs::read(path).map_err(|error| Failure::usage(format!("--answers-file: {error}")))?)
                    .map_err(|_| Failure::usage(format!("{}: not UTF-8", path.display())))?;
            answers.ordered.extend(text.lines().map(str::to_owned));
        }
        Ok(answers)
    }

    /// The same questions may come again, and have been answered.
    pub fn again(&mut self) {
        self.times.clear();
    }

    /// The answer to the next question; None when nobody can say.
    pub fn next(&mut self, label: &dyn Display, prompt: &Prompt) -> Option<String> {
        let (who, text) = (label.to_string(), prompt.text.clone());
        let times = self.times.entry((who.clone(), text.clone())).or_default();
        *times += 1;
        let key = (who, text, *times);
        if let Some(given) = self.given.get(&key) {
            return given.clone();
        }
        let answer = self.ask(label, prompt);
        self.given.insert(key, answer.clone());
        answer
    }

    fn ask(&mut self, label: &dyn Display, prompt: &Prompt) -> Option<String> {
        self.asked += 1;
        if let Some((_, text)) = self.numbered.iter().find(|(number, _)| *number == self.asked) {
            return Some(text.clone());
        }
        if let Some(text) = self.ordered.pop_front() {
            return Some(text);
        }
        if term::stdin_is_terminal() {
            self.ui.ask(&format!("{label}: {}\n>", prompt.text));
        }
        let line = term::read_line(prompt.secret).ok().flatten();
        if prompt.secret && term::stdin_is_terminal() {
            self.ui.say("");
        }
        line
    }
}
