//! Wrappers: tiny shell scripts on PATH that run one program of one overlay. Written, and read back to know ours.

use std::ffi::OsStr;

use crate::model::cmd::quote;

/// What a wrapper runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapper {
    /// The overlay, by its exact name or by its absolute path.
    pub overlay: String,
    /// The program, by its path inside.
    pub program: String,
}

/// What the second line of every wrapper begins with; the overlay and the program follow as JSON strings.
const MARK: &str = "# made by ovl wrap: ";

impl Wrapper {
    /// The whole script; `ovl` is the absolute path of the program that it runs.
    pub fn text(&self, ovl: &str) -> String {
        let mark = serde_json::json!([self.overlay, self.program]);
        let [ovl, overlay, program] = [ovl, &self.overlay, &self.program].map(|word| quote(OsStr::new(word)));
        format!("#!/bin/sh\n{MARK}{mark}\nexec {ovl} exec -o {overlay} -- {program} \"$@\"\n")
    }

    /// The wrapper in a file; None when it is none of ours.
    pub fn read(content: &[u8]) -> Option<Wrapper> {
        let text = std::str::from_utf8(content).ok()?;
        let mark = text.strip_prefix("#!/bin/sh\n")?.lines().next()?.strip_prefix(MARK)?;
        let (overlay, program) = serde_json::from_str(mark).ok()?;
        Some(Wrapper { overlay, program })
    }

    /// Whether it is of the overlay that `text` names: the whole name, the name without its version, or a path.
    pub fn is_of(&self, text: &str) -> bool {
        self.overlay == text
            || !self.overlay.starts_with('/') && self.overlay.rsplit_once('/').is_some_and(|(stem, _)| stem == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wrapper(overlay: &str, program: &str) -> Wrapper {
        Wrapper { overlay: overlay.into(), program: program.into() }
    }

    #[test]
    fn a_wrapper_is_a_line_of_shell() {
        let text = wrapper("samtools/1.22", "/cnt/samtools/1.22/bin/samtools").text("/opt/o'vl/ovl");
        assert_eq!(
            text,
            "#!/bin/sh\n# made by ovl wrap: [\"samtools/1.22\",\"/cnt/samtools/1.22/bin/samtools\"]\n\
             exec '/opt/o'\\''vl/ovl' exec -o samtools/1.22 -- /cnt/samtools/1.22/bin/samtools \"$@\"\n"
        );
    }

    #[test]
    fn ours_are_known() {
        assert_eq!(Wrapper::read(b"#!/bin/sh\nexec samtools\n"), None);
        assert_eq!(Wrapper::read(b"\xff\xfe"), None);
        assert_eq!(Wrapper::read(b"#!/bin/sh\n# made by ovl wrap: [1]\n"), None);
        let one = wrapper("samtools/1.22", "/x");
        assert!(one.is_of("samtools/1.22") && one.is_of("samtools"));
        assert!(!one.is_of("sam") && !one.is_of("1.22") && !wrapper("/a/b.sqf", "/x").is_of("/a"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_and_stays_in_its_line(overlay in "\\PC*|[\\x00-\\x7f]*", program in "[\\x01-\\x7f]*") {
            let one = wrapper(&overlay, &program);
            let text = one.text("/ovl");
            prop_assert_eq!(Wrapper::read(text.as_bytes()), Some(one));
            prop_assert!(text.lines().nth(2).is_some_and(|line| line.starts_with("exec /ovl exec -o ")));
        }
    }
}
