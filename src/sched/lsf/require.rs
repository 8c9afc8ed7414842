//! Resource requirement strings of LSF: `select[…] rusage[…] span[…]`, split and put together again.

/// A section; without a name what stands outside of brackets, which LSF takes for a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `rusage`, `span`, …
    pub name: String,
    /// What is between its brackets.
    pub inside: String,
}

/// The sections of a requirement; None where brackets do not match. Compound ones (`2*{…}`) are one section without a
/// name.
pub fn sections(text: &str) -> Option<Vec<Section>> {
    if text.contains(['{', '}']) {
        return Some(vec![Section { name: String::new(), inside: text.to_owned() }]);
    }
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let Some(open) = rest.find('[') else {
            if rest.contains(']') {
                return None;
            }
            found.push(Section { name: String::new(), inside: rest.to_owned() });
            break;
        };
        let (before, inside) = (rest.get(..open)?, rest.get(open + 1..)?);
        let close = inside.find(']')?;
        let (bare, name) = match before.trim_end().rsplit_once(char::is_whitespace) {
            Some((bare, name)) => (bare.trim(), name),
            None => ("", before.trim()),
        };
        if name.is_empty() || before.contains(']') || inside.get(..close)?.contains('[') {
            return None;
        }
        if !bare.is_empty() {
            found.push(Section { name: String::new(), inside: bare.to_owned() });
        }
        found.push(Section { name: name.to_owned(), inside: inside.get(..close)?.trim().to_owned() });
        rest = inside.get(close + 1..)?.trim_start();
    }
    Some(found)
}

/// One requirement from sections: one `rusage`, the others as they are, selections first.
pub fn join(sections: &[Section]) -> String {
    let mut words: Vec<String> = Vec::new();
    let of = |wanted: fn(&str) -> bool| sections.iter().filter(move |section| wanted(&section.name));
    words.extend(of(str::is_empty).map(|section| section.inside.clone()));
    let selections: Vec<&str> = of(|name| name == "select").map(|section| section.inside.as_str()).collect();
    match selections.as_slice() {
        [] => {}
        [one] => words.push(format!("select[{one}]")),
        several => words
            .push(format!("select[{}]", several.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" && "))),
    }
    words.extend(
        of(|name| !matches!(name, "" | "select" | "rusage" | "span"))
            .map(|section| format!("{}[{}]", section.name, section.inside)),
    );
    for name in ["span", "rusage"] {
        let items: Vec<&str> =
            sections.iter().filter(|section| section.name == name).map(|section| section.inside.as_str()).collect();
        // All take `:` between resources, only IBM's also `,`; but what follows a duration must stand behind a comma.
        let timed = items.iter().any(|item| item.contains("duration=") || item.contains("decay="));
        let between = if name == "rusage" && !timed { ":" } else { "," };
        if !items.is_empty() {
            words.push(format!("{name}[{}]", items.join(between)));
        }
    }
    words.join(" ")
}
