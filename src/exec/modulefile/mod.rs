//! Modulefiles of overlays: what one has to say as a value ([`Module`]), and that in the words of Lmod (`lua`) and of
//! Environment Modules (`tcl`). Whatever an overlay's metadata holds stays text in both.

mod lua;
mod tcl;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::model::env::{EnvVar, expand, is_name};
use crate::model::name::Name;

/// Which program reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lmod's.
    Lua,
    /// Environment Modules'; Lmod reads it too.
    Tcl,
}

/// Everything in a modulefile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// The overlay.
    pub name: Name,
    /// What it is.
    pub whatis: Option<String>,
    /// Where it comes from.
    pub url: Option<String>,
    /// Modules that have to be loaded with it.
    pub needs: Vec<Name>,
    /// What is done to variables, in order.
    pub changes: Vec<Change>,
    /// Directory of its wrappers, for PATH.
    pub wrappers: Option<String>,
}

/// What is done to a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is set.
    Set(String, String),
    /// Something is put in front of a list.
    Prepend(String, String),
    /// Something is put behind a list.
    Append(String, String),
}

/// What every modulefile of ours says in one of its first lines.
pub const MARK: &str = "made by ovl module";

/// Variables that mean something inside only, where ovl sets them: outside they would break other programs.
const INSIDE: [&str; 4] = ["PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "HOME"];

impl Module {
    /// What an overlay's variables do, `$app_root` and its own earlier ones resolved. `text:$NAME` and `$NAME:text` put
    /// text in front of or behind what the variable holds; any other variable of the host is taken for empty.
    pub fn changes(root: &str, vars: &[EnvVar]) -> Vec<Change> {
        let mut known: BTreeMap<String, String> = [("app_root".to_owned(), root.to_owned())].into();
        let mut changes = Vec::new();
        for EnvVar { name, value, .. } in vars.iter().filter(|var| is_name(&var.name)) {
            if INSIDE.contains(&name.as_str()) {
                continue;
            }
            let own = [format!("${name}"), format!("${{{name}}}")];
            let list = own.iter().find_map(|own| {
                if let Some(text) = value.strip_suffix(own.as_str()).and_then(|text| text.strip_suffix(':')) {
                    return Some((true, text));
                }
                value.strip_prefix(own.as_str()).and_then(|text| text.strip_prefix(':')).map(|text| (false, text))
            });
            changes.push(match list.filter(|_| !known.contains_key(name)) {
                Some((true, text)) => Change::Prepend(name.clone(), expand(text, &known)),
                Some((false, text)) => Change::Append(name.clone(), expand(text, &known)),
                None => {
                    let value = expand(value, &known);
                    known.insert(name.clone(), value.clone());
                    Change::Set(name.clone(), value)
                }
            });
        }
        changes
    }

    /// The whole modulefile.
    pub fn text(&self, format: Format) -> String {
        match format {
            Format::Lua => lua::text(self),
            Format::Tcl => tcl::text(self),
        }
    }

    /// Lines for who asks for help.
    fn help(&self) -> String {
        let mut lines = vec![format!("{}, an overlay run by ovl", self.name)];
        lines.extend(self.whatis.clone());
        lines.extend(self.url.clone());
        lines.join("\n")
    }
}

impl Format {
    /// The name of a modulefile below the directory of modulefiles.
    pub fn file(self, name: &Name) -> String {
        match self {
            Format::Lua => format!("{name}.lua"),
            Format::Tcl => name.to_string(),
        }
    }
}
