//! Thinking about recipes: text → lines → headers → spec, and lint. Pure: no file is opened here.

mod bash;
pub mod conda;
pub mod def;
pub mod finding;
pub mod form;
pub mod headers;
pub mod lint;
pub mod scan;
pub mod shell;
pub mod spec;
pub mod template;
pub mod values;

pub use def::Arguments;
pub use finding::{Finding, Rule, Severity};
pub use form::Form;
pub use spec::{Content, Spec};
pub use template::{Binding, Template};

/// Runs one phase: `bash driver.sh fetch|install|check RECIPE`, with [`HELPERS`] beside it as `helpers.sh`.
///
/// Standard input goes to the recipe. Exit status: the recipe's own; 86: it ended before its function was called;
/// 87: it has no function for the phase; 64: usage.
pub const DRIVER: &str = include_str!("driver.sh");

/// Functions every recipe may call; its own of the same name win.
pub const HELPERS: &str = include_str!("helpers.sh");

/// What a recipe's text says, and everything there is to say about it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The recipe as far as it could be understood; None where the bytes are no text at all.
    ///
    /// Only [`Parsed::ready`] says whether it may be built.
    pub spec: Option<Spec>,
    /// All findings, in the order of the text.
    pub findings: Vec<Finding>,
}

impl Parsed {
    /// The recipe with its warnings and hints, or all findings when one of them is an error.
    pub fn ready(self) -> Result<(Spec, Vec<Finding>), Vec<Finding>> {
        match self.spec {
            Some(spec) if !self.findings.iter().any(Finding::is_error) => Ok((spec, self.findings)),
            _ => Err(self.findings),
        }
    }
}

/// Reads a recipe. `file` is the name to use in messages, and its ending tells the [`Form`]; `bytes` is its content. Never
/// fails, findings say what is wrong.
///
/// A template is read as one of the recipes it makes; findings tell their places in the template.
pub fn parse(file: &str, bytes: &[u8]) -> Parsed {
    parse_with(file, bytes, &Arguments::new())
}

/// [`parse`] with arguments for a definition file.
pub fn parse_with(file: &str, bytes: &[u8], given: &Arguments) -> Parsed {
    let mut findings = Vec::new();
    let Some(text) = scan::decode(file, bytes, &mut findings) else {
        return Parsed { spec: None, findings };
    };
    let mut of_lines = Vec::new();
    let scan = scan::scan(file, &text, &mut of_lines);
    let spec = if template::is_meant(&scan) {
        template(file, &text, &scan, of_lines, given, &mut findings)
    } else {
        findings.append(&mut of_lines);
        ordinary(file, &text, &scan, given, &mut findings)
    };
    lint::allow(&text, &mut findings);
    findings.sort_by(|a, b| (&a.loc, a.rule.id()).cmp(&(&b.loc, b.rule.id())));
    findings.dedup();
    Parsed { spec: Some(spec), findings }
}

fn ordinary(file: &str, text: &str, scan: &scan::Scan, given: &Arguments, findings: &mut Vec<Finding>) -> Spec {
    let mut spec = headers::read(scan, findings);
    match Form::of(file, text) {
        Form::Shell => {
            let script = shell::read(file, text);
            spec.read_body(&script, findings);
            lint::check(scan, &script, &spec, findings);
        }
        Form::Conda => {
            spec.content = Content::Conda(conda::read(file, text, findings));
            lint::late_lines(scan, text, findings);
        }
        Form::Def => {
            spec.content = Content::Def(def::read(file, text, given, findings));
            lint::late_lines(scan, text, findings);
            lint::check_headers(scan, &spec, findings);
        }
    }
    spec
}

fn template(
    file: &str,
    text: &str,
    scan: &scan::Scan,
    mut of_lines: Vec<Finding>,
    given: &Arguments,
    findings: &mut Vec<Finding>,
) -> Spec {
    let lines: Vec<&str> = text.split('\n').collect();
    let line = |finding: &Finding| lines.get(finding.loc.line.wrapping_sub(1)).copied().unwrap_or("");
    let mut of_headers = Vec::new();
    let raw = headers::read(scan, &mut of_headers);
    let own = |finding: &Finding| line(finding).starts_with("#PL:") || line(finding).starts_with("#TARGET:");
    of_headers.retain(own);
    let Some(template) = template::read(scan, &raw, &mut of_headers).filter(|_| of_headers.is_empty()) else {
        // What cannot be filled in is not to be judged by its tokens.
        let mut others = Vec::new();
        let spec = ordinary(file, text, scan, given, &mut others);
        others.retain(|finding| finding.rule != Rule::BadValue || !line(finding).contains('{'));
        findings.append(&mut of_lines);
        findings.append(&mut others);
        findings.append(&mut of_headers);
        return spec;
    };
    let sample = template.sample();
    let filled = String::from_utf8(template.fill(text.as_bytes(), &sample)).unwrap_or_default();
    let mut all = Vec::new();
    let scan = scan::scan(file, &filled, &mut all);
    let mut spec = ordinary(file, &filled, &scan, given, &mut all);
    for finding in &mut all {
        finding.loc.col = template.column(line(finding), &sample, finding.loc.col);
    }
    // `of_lines` is dropped: the same was said again about what was filled in.
    findings.append(&mut all);
    (spec.placeholders, spec.target, spec.template) = (raw.placeholders, raw.target, Some(template));
    spec
}

/// The template that a recipe is, without judging the rest of it; None for ordinary and for broken ones.
pub fn template_of(file: &str, bytes: &[u8]) -> Option<Template> {
    let mut findings = Vec::new();
    let text = scan::decode(file, bytes, &mut findings)?;
    let scan = scan::scan(file, &text, &mut findings);
    if !template::is_meant(&scan) {
        return None;
    }
    template::read(&scan, &headers::read(&scan, &mut Vec::new()), &mut Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_below_the_recipe_itself_are_told() {
        for (label, text) in
            [("x.def", "Bootstrap: scratch\n#NET:none\n"), ("x.yml", "dependencies:\n  - a\n#SBATCH -c 4\n")]
        {
            let parsed = parse(label, text.as_bytes());
            let late = parsed.findings.iter().filter(|finding| finding.rule == Rule::LateHeader).count();
            assert_eq!(late, 1, "{label}: {:?}", parsed.findings);
        }
        assert!(parse("x.def", b"#NET:none\nBootstrap: scratch\n").findings.iter().all(|f| f.rule != Rule::LateHeader));
    }
}
