//! The reader behind `shell`: words, quotes, here-documents, functions and groups of bash, no more than lint needs.
//!
//! It follows the grammar of the bash manual ("Shell Syntax"); whatever it does not know becomes words.

mod words;

use std::sync::Arc;

use super::shell::{Command, Script, Word};
use crate::model::loc::Loc;

/// How deep substitutions may nest before they are no longer looked into.
const DEEPEST: usize = 12;

/// Reads `text` into `out`.
pub(super) fn read(file: &Arc<str>, text: &str, out: &mut Script) {
    let chars: Vec<char> = text.chars().collect();
    Reader::new(file, &chars, 1, 1, 0).run(None, out);
}

struct Reader<'a> {
    file: &'a Arc<str>,
    chars: &'a [char],
    pos: usize,
    line: usize,
    col: usize,
    /// How many substitutions this text stands in.
    depth: usize,
    /// How many quotes and substitutions are open here, all in all.
    nest: usize,
    heredocs: Vec<(String, bool, Loc)>,
}

/// What the reader is within.
enum Group {
    Brace { outer: Option<String> },
    Paren { outer: Option<String> },
    Case { patterns: bool },
}

/// The command being read.
#[derive(Default)]
struct Building {
    words: Vec<Word>,
    redirects: Vec<Word>,
    /// The next word belongs to a redirection.
    target: bool,
    /// Within `[[ … ]]`.
    test: bool,
    /// An assignment stood before it.
    assigned: bool,
}

impl<'a> Reader<'a> {
    fn new(file: &'a Arc<str>, chars: &'a [char], line: usize, col: usize, depth: usize) -> Reader<'a> {
        Reader { file, chars, pos: 0, line, col, depth, nest: 0, heredocs: Vec::new() }
    }

    fn loc(&self) -> Loc {
        Loc::new(self.file.clone(), self.line, self.col)
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.pos.checked_add(ahead)?).copied()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.pos += 1;
        if c == '\n' {
            self.line += 1;
            self.col = 1;
        } else {
            self.col += 1;
        }
        Some(c)
    }

    fn run(mut self, function: Option<String>, out: &mut Script) {
        let mut function = function;
        let mut groups: Vec<Group> = Vec::new();
        let mut opened: Vec<Loc> = Vec::new();
        let mut now = Building::default();
        // A function's head has been read, its body has not begun.
        let mut head: Option<String> = None;
        while let Some(c) = self.peek(0) {
            let patterns = matches!(groups.last(), Some(Group::Case { patterns: true }));
            match c {
                ' ' | '\t' | '\r' => drop(self.bump()),
                '\\' if self.peek(1) == Some('\n') => {
                    self.bump();
                    self.bump();
                }
                '#' => {
                    let loc = self.loc();
                    let mut raw = String::new();
                    while let Some(c) = self.peek(0).filter(|c| *c != '\n') {
                        raw.push(c);
                        self.bump();
                    }
                    out.comments.push(Word { loc, raw });
                }
                '\n' => {
                    now.finish(&function, out);
                    self.bump();
                    self.skip_heredocs(out);
                }
                '(' if now.is_empty() && self.peek(1) == Some('(') && !patterns => {
                    self.skip_balanced('(', ')', out);
                }
                ')' if patterns => {
                    self.bump();
                    now = Building::default();
                    if let Some(Group::Case { patterns }) = groups.last_mut() {
                        *patterns = false;
                    }
                }
                '|' | '(' if patterns => drop(self.bump()),
                ';' | '&' | '|' | '(' | ')' | '<' | '>' if now.test => {
                    let loc = self.loc();
                    self.bump();
                    now.words.push(Word { loc, raw: c.to_string() });
                }
                '<' | '>' if self.peek(1) == Some('(') => {
                    let word = self.word(&function, out);
                    now.add(word);
                }
                '<' | '>' => self.redirection(&mut now),
                '&' if self.peek(1) == Some('>') => {
                    self.bump();
                    self.redirection(&mut now);
                }
                '(' if now.words.len() == 1 && !now.assigned => {
                    let defined = now.words.first().map(|word| (word.plain(), word.loc.clone()));
                    self.bump();
                    while self.peek(0).is_some_and(|c| c == ' ' || c == '\t') {
                        self.bump();
                    }
                    if let (Some(')'), Some((name, loc))) = (self.peek(0), defined) {
                        self.bump();
                        out.functions.push((name.clone(), loc));
                        head = Some(name);
                    }
                    now = Building::default();
                }
                '(' => {
                    now.finish(&function, out);
                    opened.push(self.loc());
                    self.bump();
                    groups.push(Group::Paren { outer: function.clone() });
                    if let Some(name) = head.take() {
                        function = Some(name);
                    }
                }
                ')' => {
                    now.finish(&function, out);
                    self.bump();
                    if matches!(groups.last(), Some(Group::Paren { .. }))
                        && let Some(Group::Paren { outer }) = groups.pop()
                    {
                        opened.pop();
                        function = outer;
                    }
                }
                ';' | '&' | '|' => {
                    now.finish(&function, out);
                    self.bump();
                    if c == ';'
                        && matches!(self.peek(0), Some(';' | '&'))
                        && let Some(Group::Case { patterns }) = groups.last_mut()
                    {
                        *patterns = true;
                        while matches!(self.peek(0), Some(';' | '&')) {
                            self.bump();
                        }
                    }
                }
                _ => {
                    let word = self.word(&function, out);
                    if patterns {
                        if word.raw == "esac" {
                            groups.pop();
                            opened.pop();
                        }
                        continue;
                    }
                    if now.is_empty() && !now.target {
                        match word.raw.as_str() {
                            "{" => {
                                opened.push(word.loc);
                                groups.push(Group::Brace { outer: function.clone() });
                                if let Some(name) = head.take() {
                                    function = Some(name);
                                }
                                continue;
                            }
                            "}" => {
                                if matches!(groups.last(), Some(Group::Brace { .. }))
                                    && let Some(Group::Brace { outer }) = groups.pop()
                                {
                                    opened.pop();
                                    function = outer;
                                }
                                continue;
                            }
                            "esac" if matches!(groups.last(), Some(Group::Case { .. })) => {
                                groups.pop();
                                opened.pop();
                                continue;
                            }
                            "if" | "then" | "elif" | "else" | "fi" | "do" | "done" | "while" | "until" | "!"
                            | "time" | "coproc" => continue,
                            "function" => {
                                while matches!(self.peek(0), Some(' ' | '\t')) {
                                    self.bump();
                                }
                                let name = self.word(&function, out);
                                out.functions.push((name.plain(), name.loc));
                                head = out.functions.last().map(|(name, _)| name.clone());
                                while matches!(self.peek(0), Some(' ' | '\t' | '(' | ')')) {
                                    let paren = self.bump() == Some('(');
                                    if paren && self.peek(0) != Some(')') {
                                        break;
                                    }
                                }
                                continue;
                            }
                            _ => {}
                        }
                    }
                    let ends_head = word.raw == "in" && now.words.len() == 2;
                    now.add(word);
                    if ends_head && now.words.first().is_some_and(|word| word.raw == "case") {
                        opened.push(now.words.first().map_or_else(|| self.loc(), |word| word.loc.clone()));
                        groups.push(Group::Case { patterns: true });
                        now = Building::default();
                    }
                }
            }
        }
        now.finish(&function, out);
        if let Some((_, _, loc)) = self.heredocs.first() {
            out.unfinished.get_or_insert((loc.clone(), "here-document"));
        }
        if let Some(loc) = opened.first() {
            out.unfinished.get_or_insert((loc.clone(), "group"));
        }
    }
}

impl Building {
    fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    fn add(&mut self, word: Word) {
        if std::mem::take(&mut self.target) {
            self.redirects.push(word);
            return;
        }
        if self.words.is_empty() && is_assignment(&word.raw) {
            self.assigned = true;
            return;
        }
        self.test |= self.words.is_empty() && word.raw == "[[";
        self.test &= word.raw != "]]";
        self.words.push(word);
    }

    fn finish(&mut self, function: &Option<String>, out: &mut Script) {
        let done = std::mem::take(self);
        if !done.words.is_empty() || !done.redirects.is_empty() {
            out.commands.push(Command { words: done.words, redirects: done.redirects, function: function.clone() });
        }
    }
}

/// `NAME=…` or `NAME[…]=…` or `NAME+=…`.
fn is_assignment(raw: &str) -> bool {
    let Some((name, _)) = raw.split_once('=') else { return false };
    let name = name.strip_suffix('+').unwrap_or(name);
    let name = name.split('[').next().unwrap_or("");
    super::values::is_variable(name)
}
