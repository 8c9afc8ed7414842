//! `config.yaml.example`: every key with its default, its meaning and its variable.

use super::schema::{KEYS, Kind};

/// The whole example file: every key with its default, its meaning and its variable.
pub fn example() -> String {
    let mut text = String::from(
        "# Configuration of ovl. Every key is shown with its default; a line that begins with `# key:` is unset by default.\n\
         # Read from, strongest first: flags, OVL_* variables, ~/.config/ovl/config.yaml, config.yaml in the group's and the\n\
         # site's layer, /etc/ovl/config.yaml. `ovl config show` tells where each value comes from.\n",
    );
    let mut open: Vec<&str> = Vec::new();
    for key in KEYS {
        let parts: Vec<&str> = key.name.split('.').collect();
        let Some((leaf, sections)) = parts.split_last() else { continue };
        let same = open.iter().zip(sections).take_while(|(a, b)| a == b).count();
        open.truncate(same);
        for section in &sections[same..] {
            text.push_str(&format!(
                "{}{}{section}:\n",
                if open.is_empty() { "\n" } else { "" },
                "  ".repeat(open.len())
            ));
            open.push(section);
        }
        let indent = "  ".repeat(open.len());
        text.push_str(&format!("{indent}# {} ({})\n", key.doc, key.variable()));
        match (key.default, key.kind) {
            ("", Kind::Paths | Kind::Texts) => text.push_str(&format!("{indent}{leaf}: []\n")),
            ("", _) => text.push_str(&format!("{indent}# {leaf}:\n")),
            (value, _) => text.push_str(&format!("{indent}{leaf}: {value}\n")),
        }
    }
    text
}
