//! Any bytes as a recipe: no panic, no place outside the text, no recipe both ready and refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ovl::model::version::Version;
use ovl::recipe::{Finding, parse};

fuzz_target!(|bytes: &[u8]| {
    let parsed = parse("r", bytes);
    let lines: Vec<usize> = match std::str::from_utf8(bytes) {
        Ok(text) => text.split('\n').map(|line| line.chars().count()).collect(),
        Err(_) => Vec::new(),
    };
    for finding in &parsed.findings {
        assert!(finding.loc.line >= 1 && finding.loc.col >= 1);
        if !lines.is_empty() {
            let length = lines.get(finding.loc.line - 1).copied();
            assert!(length.is_some_and(|length| finding.loc.col <= length + 1), "{finding}");
        }
    }
    let errors = parsed.findings.iter().any(Finding::is_error);
    assert_eq!(parsed.ready().is_err(), errors);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some((left, right)) = text.split_once('\n')
    {
        let (left, right) = (Version::new(left), Version::new(right));
        assert_eq!(left.cmp(&right), right.cmp(&left).reverse());
    }
});
