//! Thinking about recipes: text → lines → headers → spec, and lint. Pure: no file is opened here.

mod bash;
pub mod finding;
pub mod headers;
pub mod lint;
pub mod scan;
pub mod shell;
pub mod spec;
pub mod values;

pub use finding::{Finding, Rule, Severity};
pub use spec::Spec;

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

/// Reads a recipe. `file` is the name to use in messages, `bytes` its content; never fails, findings say what is wrong.
pub fn parse(file: &str, bytes: &[u8]) -> Parsed {
    let mut findings = Vec::new();
    let Some(text) = scan::decode(file, bytes, &mut findings) else {
        return Parsed { spec: None, findings };
    };
    let scan = scan::scan(file, &text, &mut findings);
    let script = shell::read(file, &text);
    let mut spec = headers::read(&scan, &mut findings);
    spec.read_body(&script, &mut findings);
    lint::check(&scan, &script, &spec, &mut findings);
    lint::allow(&text, &mut findings);
    findings.sort_by(|a, b| (&a.loc, a.rule.id()).cmp(&(&b.loc, b.rule.id())));
    findings.dedup();
    Parsed { spec: Some(spec), findings }
}
