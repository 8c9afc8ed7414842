//! Reads enough of bash to know which commands a recipe has, in which function: for lint, never for running it.

use std::sync::Arc;

use super::bash;
use crate::model::loc::Loc;

/// A word of a command as written, quotes included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Where it begins.
    pub loc: Loc,
    /// As written.
    pub raw: String,
}

impl Word {
    /// The word without quotes and backslashes.
    pub fn plain(&self) -> String {
        self.raw.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect()
    }
}

/// A simple command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its words; assignments before the command are not among them.
    pub words: Vec<Word>,
    /// Where its redirections lead.
    pub redirects: Vec<Word>,
    /// The function it stands in.
    pub function: Option<String>,
}

impl Command {
    /// The command's name, without quotes.
    pub fn name(&self) -> String {
        self.words.first().map(Word::plain).unwrap_or_default()
    }
}

/// A script in its commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// All simple commands, those in substitutions included, in order.
    pub commands: Vec<Command>,
    /// Functions and where they are defined.
    pub functions: Vec<(String, Loc)>,
    /// Comments with the places of their `#`.
    pub comments: Vec<Word>,
    /// Where something begins that never ends.
    pub unfinished: Option<(Loc, &'static str)>,
}

impl Script {
    /// Whether the function `name` is defined.
    pub fn defines(&self, name: &str) -> bool {
        self.functions.iter().any(|(defined, _)| defined == name)
    }

    /// Whether running the script calls one of `wanted`, directly or through other functions.
    pub fn calls(&self, wanted: &[&str]) -> bool {
        let reached = self.reach(&[None]);
        reached.iter().flatten().any(|function| wanted.contains(&function.as_str()))
    }

    /// The functions that run when `from` do (None: the text outside of functions), `from` included.
    pub fn reach(&self, from: &[Option<&str>]) -> Vec<Option<String>> {
        let mut seen: Vec<Option<String>> = from.iter().map(|name| name.map(str::to_owned)).collect();
        let mut next = 0;
        while let Some(function) = seen.get(next).cloned() {
            next += 1;
            for command in self.commands.iter().filter(|command| command.function == function) {
                let name = Some(command.name());
                if !seen.contains(&name) && name.as_deref().is_some_and(|name| self.defines(name)) {
                    seen.push(name);
                }
            }
        }
        seen
    }

    /// Whether some command tests if the directory in `$variable` exists.
    pub fn tests_directory(&self, variable: &str) -> bool {
        let (short, long) = (format!("${variable}"), format!("${{{variable}}}"));
        self.commands.iter().any(|command| {
            matches!(command.name().as_str(), "[" | "[[" | "test")
                && command.words.windows(2).any(|pair| match pair {
                    [flag, what] => {
                        matches!(flag.raw.as_str(), "-e" | "-d" | "-a" | "-x" | "-r" | "-w")
                            && [&short, &long].contains(&&what.plain())
                    }
                    _ => false,
                })
        })
    }
}

/// Reads a script; never fails.
pub fn read(file: &str, text: &str) -> Script {
    let mut script = Script { commands: Vec::new(), functions: Vec::new(), comments: Vec::new(), unfinished: None };
    let file: Arc<str> = Arc::from(file);
    bash::read(&file, text, &mut script);
    if script.unfinished.is_some() {
        // Lost on the way: a definition that plainly stands at the start of a line must not be missed for it.
        for (index, line) in text.lines().enumerate() {
            let line = line.strip_prefix("function ").unwrap_or(line);
            let name = line.split(['(', ' ', '{']).next().unwrap_or("");
            let head = line.strip_prefix(name).map(str::trim_start).is_some_and(|rest| rest.starts_with("()"));
            if head && super::values::is_variable(name) && !script.defines(name) {
                script.functions.push((name.to_owned(), Loc::new(file.clone(), index + 1, 1)));
            }
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(text: &str) -> Vec<String> {
        let show = |c: &Command| {
            let words: Vec<&str> = c.words.iter().map(|word| word.raw.as_str()).collect();
            format!("{}:{}", c.function.clone().unwrap_or_default(), words.join(" "))
        };
        read("r", text).commands.iter().map(show).collect()
    }

    #[test]
    fn commands_are_found_where_they_run() {
        let text = "set -e\ninstall() {\n  X=1 make -j 4 && cp \"a b\" $target_dir # done\n  [[ -d $target_dir && ! -e x ]] || { exit 1; }\n}\n\
                    function other { ls | wc -l; }\nif true; then install; fi\n";
        assert_eq!(
            commands(text),
            [
                ":set -e",
                "install:make -j 4",
                "install:cp \"a b\" $target_dir",
                "install:[[ -d $target_dir & & ! -e x ]]",
                "install:exit 1",
                "other:ls",
                "other:wc -l",
                ":true",
                ":install"
            ]
        );
        let script = read("r", text);
        assert!(script.calls(&["install"]) && script.tests_directory("target_dir"));
        assert_eq!(script.comments[0].loc, Loc::new("r", 3, 41));
        assert_eq!(script.unfinished, None);
    }

    #[test]
    fn quotes_heredocs_and_case_do_not_confuse_it() {
        let text = "f() {\n cat > x <<'EOF'\ninstall() { it's }\n}\nEOF\n case \"$1\" in\n  a|b) echo $(date +\"%F\") ;;\n  (c) ;;\n  *) v=`ls -l`;;\n esac\n \
                    echo ${x#y} $((1 + 2)) ${x:-\"}\"} 'a\nb' 2>&1\n (( i++ ))\n a=(1 2)\n}\ninstall\n";
        assert_eq!(
            commands(text),
            [
                "f:cat",
                "f:date +\"%F\"",
                "f:echo $(date +\"%F\")",
                "f:ls -l",
                "f:echo ${x#y} $((1 + 2)) ${x:-\"}\"} 'a\nb'",
                ":install"
            ]
        );
        let script = read("r", text);
        assert_eq!(script.functions, [("f".to_owned(), Loc::new("r", 1, 1))]);
        assert_eq!(script.unfinished, None);
        assert!(!script.calls(&["install"]), "no function of that name: it is the command");
    }

    #[test]
    fn calls_are_followed_through_functions() {
        for (tail, called) in [
            ("install \"$@\"", true),
            ("main() { install || exit 1; }\nmain", true),
            ("main() { install; }", false),
            ("echo install", false),
            ("a() { b; }\nb() { a; }\na", false),
            ("if install; then :; fi", true),
            ("x=$(install)", true),
        ] {
            assert_eq!(read("r", &format!("install() {{ :; }}\n{tail}\n")).calls(&["install"]), called, "{tail}");
        }
        assert!(read("r", "install()\n{\n :\n}\nfunction check\n{\n:\n}").defines("check"));
    }

    #[test]
    fn what_never_ends_is_named_and_depth_is_bounded() {
        assert_eq!(read("r", "a\n echo \"x").unfinished, Some((Loc::new("r", 2, 7), "quote")));
        assert_eq!(read("r", "cat <<EOF\nx").unfinished, Some((Loc::new("r", 1, 5), "here-document")));
        assert_eq!(read("r", "f() {\n").unfinished, Some((Loc::new("r", 1, 5), "group")));
        assert!(read("r", "x=$(case y in z) echo \";; esac)\ninstall() {\n:\n}\n").defines("install"));
        for piece in ["\"$(", "$(", "`", "${", "(", "{ ", "((", "case x in ", "<("] {
            let _ = read("r", &piece.repeat(20_000));
        }
    }
}
