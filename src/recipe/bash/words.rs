//! The words of bash: quotes, substitutions, redirections and here-documents.

use super::super::shell::{Script, Word};
use super::{Building, DEEPEST, Reader};
use crate::model::loc::Loc;

/// How many quotes and substitutions may be open at once before the rest counts as plain characters.
const NESTED: usize = 100;

impl Reader<'_> {
    /// Reads `<`, `>>`, `<<EOF`, `2>&1` and the like.
    pub(super) fn redirection(&mut self, now: &mut Building) {
        let loc = self.loc();
        let mut operator = String::new();
        while let Some(c) = self.peek(0).filter(|c| matches!(c, '<' | '>' | '&' | '|')) {
            operator.push(c);
            self.bump();
        }
        // The digit of `2>` has been taken for a word.
        if now.words.last().is_some_and(|w| {
            w.raw.bytes().all(|b| b.is_ascii_digit()) && w.loc.line == loc.line && w.loc.col + w.raw.len() == loc.col
        }) {
            now.words.pop();
        }
        if operator == "<<" {
            let tabs = self.peek(0) == Some('-');
            if tabs {
                self.bump();
            }
            while matches!(self.peek(0), Some(' ' | '\t')) {
                self.bump();
            }
            let mut end = String::new();
            while let Some(c) = self.peek(0).filter(|c| !c.is_whitespace() && !";&|<>()".contains(*c)) {
                if !matches!(c, '"' | '\'' | '\\') {
                    end.push(c);
                }
                self.bump();
            }
            self.heredocs.push((end, tabs, loc));
        } else {
            now.target = true;
        }
    }

    /// Skips the bodies of here-documents after their line.
    pub(super) fn skip_heredocs(&mut self, out: &mut Script) {
        for (end, tabs, loc) in std::mem::take(&mut self.heredocs) {
            loop {
                if self.peek(0).is_none() {
                    out.unfinished.get_or_insert((loc, "here-document"));
                    return;
                }
                let mut line = String::new();
                while let Some(c) = self.bump().filter(|c| *c != '\n') {
                    line.push(c);
                }
                if (if tabs { line.trim_start_matches('\t') } else { line.as_str() }) == end {
                    break;
                }
            }
        }
    }

    /// Reads one word; always takes at least one character.
    pub(super) fn word(&mut self, function: &Option<String>, out: &mut Script) -> Word {
        let loc = self.loc();
        let from = self.pos;
        while let Some(c) = self.peek(0) {
            match c {
                '\\' => {
                    self.bump();
                    self.bump();
                }
                '\'' => self.quoted(out),
                '"' => self.double(function, out),
                '`' => self.substitution('`', function, out),
                '$' if self.peek(1) == Some('(') => {
                    self.bump();
                    self.substitution('(', function, out);
                }
                '$' if self.peek(1) == Some('{') => {
                    self.bump();
                    self.skip_balanced('{', '}', out);
                }
                '<' | '>' if self.pos == from && self.peek(1) == Some('(') => {
                    self.bump();
                    self.substitution('(', function, out);
                }
                // An array: a=( … )
                '(' if self.pos > from && self.chars.get(self.pos - 1) == Some(&'=') => {
                    self.skip_balanced('(', ')', out)
                }
                c if c.is_whitespace() || ";&|()<>".contains(c) => break,
                _ => drop(self.bump()),
            }
        }
        if self.pos == from {
            self.bump();
        }
        Word { loc, raw: self.chars.get(from..self.pos).unwrap_or_default().iter().collect() }
    }

    fn quoted(&mut self, out: &mut Script) {
        let loc = self.loc();
        let escapes = self.pos > 0 && self.chars.get(self.pos - 1) == Some(&'$');
        self.bump();
        loop {
            match self.bump() {
                Some('\'') => return,
                Some('\\') if escapes => drop(self.bump()),
                Some(_) => {}
                None => {
                    out.unfinished.get_or_insert((loc, "quote"));
                    return;
                }
            }
        }
    }

    fn double(&mut self, function: &Option<String>, out: &mut Script) {
        let loc = self.loc();
        self.bump();
        if self.nest > NESTED {
            return;
        }
        self.nest += 1;
        self.double_body(function, out, loc);
        self.nest -= 1;
    }

    fn double_body(&mut self, function: &Option<String>, out: &mut Script, loc: Loc) {
        loop {
            match self.peek(0) {
                Some('"') => {
                    self.bump();
                    return;
                }
                Some('\\') => {
                    self.bump();
                    self.bump();
                }
                Some('`') => self.substitution('`', function, out),
                Some('$') if self.peek(1) == Some('(') => {
                    self.bump();
                    self.substitution('(', function, out);
                }
                Some('$') if self.peek(1) == Some('{') => {
                    self.bump();
                    self.skip_balanced('{', '}', out);
                }
                Some(_) => drop(self.bump()),
                None => {
                    out.unfinished.get_or_insert((loc, "quote"));
                    return;
                }
            }
        }
    }

    /// Skips a substitution and reads the commands in it.
    fn substitution(&mut self, open: char, function: &Option<String>, out: &mut Script) {
        let arithmetic = open == '(' && self.peek(1) == Some('(');
        let (line, col, from) = (self.line, self.col + 1, self.pos + 1);
        if open == '`' {
            let loc = self.loc();
            self.bump();
            loop {
                match self.bump() {
                    Some('`') => break,
                    Some('\\') => drop(self.bump()),
                    Some(_) => {}
                    None => {
                        out.unfinished.get_or_insert((loc, "quote"));
                        break;
                    }
                }
            }
        } else {
            self.skip_balanced('(', ')', out);
        }
        let inner = self.chars.get(from..self.pos.saturating_sub(1)).unwrap_or_default();
        if !arithmetic && self.depth < DEEPEST {
            let mut reader = Reader::new(self.file, inner, line, col, self.depth + 1);
            reader.nest = self.nest + 1;
            reader.run(function.clone(), out);
        }
    }

    /// Skips from `open` to its `close`, minding quotes and nesting.
    pub(super) fn skip_balanced(&mut self, open: char, close: char, out: &mut Script) {
        let loc = self.loc();
        let mut depth = 0_usize;
        while let Some(c) = self.peek(0) {
            match c {
                '\\' => drop(self.bump()),
                '#' if close == ')'
                    && self.pos > 0
                    && self.chars.get(self.pos - 1).is_some_and(|c| c.is_whitespace()) =>
                {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.bump();
                    }
                    continue;
                }
                '\'' if close == ')' => {
                    self.quoted(out);
                    continue;
                }
                '"' => {
                    // Substitutions within are skipped, not read: the caller reads the whole again.
                    let deep = std::mem::replace(&mut self.depth, DEEPEST);
                    self.double(&None, out);
                    self.depth = deep;
                    continue;
                }
                _ if c == open => depth += 1,
                _ if c == close => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.bump();
                        return;
                    }
                }
                _ => {}
            }
            self.bump();
        }
        out.unfinished.get_or_insert((loc, "group"));
    }
}
