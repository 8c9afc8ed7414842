//! A modulefile as Environment Modules reads it (modules.readthedocs.io, "modulefile").

use super::{Change, MARK, Module};

/// The whole file.
pub fn text(module: &Module) -> String {
    let mut text = format!("#%Module1.0\n# {MARK} from {}\n", module.name);
    let mut line = |words: &[&str], args: &[&str]| {
        let args: String = args.iter().map(|arg| format!(" {}", quoted(arg))).collect();
        text.push_str(&format!("{}{args}\n", words.join(" ")));
    };
    line(&["proc ModulesHelp {} {"], &[]);
    line(&["    puts stderr"], &[&module.help()]);
    line(&["}"], &[]);
    line(&["module-whatis"], &[&module.whatis.clone().unwrap_or_else(|| module.name.to_string())]);
    if let Some(url) = &module.url {
        line(&["module-whatis"], &[&format!("URL: {url}")]);
    }
    // Of one name only one version.
    line(&["conflict"], &[&module.name.stem()]);
    for need in &module.needs {
        let need = need.to_string();
        let word = quoted(&need);
        line(&[&format!("if {{![is-loaded {word}]}} {{ module load {word} }}")], &[]);
        line(&["prereq"], &[&need]);
    }
    for change in &module.changes {
        match change {
            Change::Set(name, value) => line(&["setenv", name], &[value]),
            Change::Prepend(name, value) => line(&["prepend-path", name], &[value]),
            Change::Append(name, value) => line(&["append-path", name], &[value]),
        }
    }
    if let Some(dir) = &module.wrappers {
        line(&["prepend-path", "PATH"], &[dir]);
    }
    text
}

/// A word of Tcl between double quotes (Tcl(n), rules 4 and 7 to 9). Braces too are escaped, as they count where the
/// word stands in a body; what is not printable ASCII is written by its number, which no encoding changes.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' | '$' | '[' | ']' | '{' | '}' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            ' '..='~' => out.push(c),
            '\0'..='\u{ffff}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            // Tcl 8 has no number for these.
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}
