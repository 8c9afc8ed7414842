//! A modulefile as Lmod reads it (lmod.readthedocs.io, "Lua Modulefile Functions").

use super::{Change, MARK, Module};

/// The whole file.
pub fn text(module: &Module) -> String {
    let mut text = format!("-- -*- lua -*-\n-- {MARK} from {}\n", module.name);
    let mut call = |name: &str, args: &[&str]| {
        let args: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
        text.push_str(&format!("{name}({})\n", args.join(", ")));
    };
    call("help", &[&module.help()]);
    call("whatis", &[&format!("Name: {}", module.name.stem())]);
    call("whatis", &[&format!("Version: {}", module.name.version())]);
    for (key, value) in [("Description", &module.whatis), ("URL", &module.url)] {
        if let Some(value) = value {
            call("whatis", &[&format!("{key}: {value}")]);
        }
    }
    // Of one name only one version.
    call("family", &[&module.name.stem()]);
    for need in &module.needs {
        call("depends_on", &[&need.to_string()]);
    }
    for change in &module.changes {
        match change {
            Change::Set(name, value) => call("setenv", &[name, value]),
            Change::Prepend(name, value) => call("prepend_path", &[name, value]),
            Change::Append(name, value) => call("append_path", &[name, value]),
        }
    }
    if let Some(dir) = &module.wrappers {
        call("prepend_path", &["PATH", dir]);
    }
    text
}

/// A string of Lua (reference manual, 3.1). What is not printable ASCII is written as bytes.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b'\n' => out.push_str("\\n"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:03}")),
        }
    }
    out.push('"');
    out
}
