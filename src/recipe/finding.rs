//! Findings about recipes: each has a rule, a place, a message and a hint.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use crate::model::loc::Loc;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The recipe is refused.
    Error,
    /// The recipe is built, but likely not as meant.
    Warning,
    /// Could be better.
    Hint,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Hint => "hint",
        })
    }
}

macro_rules! rules {
    ($($variant:ident $id:literal $severity:ident $title:literal;)*) => {
        /// The rules, described one by one in `docs/lint.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $title] $variant,)*
        }

        impl Rule {
            /// All rules, in the order of their ids.
            pub const ALL: &[Rule] = &[$(Rule::$variant),*];

            /// The id, for example `OVL012`; never reused for another rule.
            pub fn id(self) -> &'static str {
                match self { $(Rule::$variant => $id),* }
            }

            /// How bad a breach is.
            pub fn severity(self) -> Severity {
                match self { $(Rule::$variant => Severity::$severity),* }
            }

            /// The rule in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Rule::$variant => $title),* }
            }
        }
    };
}

rules! {
    Empty "OVL001" Error "the recipe is empty";
    NotText "OVL002" Error "the recipe is not UTF-8 text";
    NulByte "OVL003" Error "a NUL byte in the text";
    CrLf "OVL004" Error "lines end in CRLF";
    LongLine "OVL005" Error "a line too long to be meant";
    ByteOrderMark "OVL006" Error "the text begins with a byte order mark";
    NoInstall "OVL007" Error "neither install nor install_app is defined";
    NoColon "OVL010" Error "a header without its colon";
    Indented "OVL011" Error "a header that does not begin its line";
    UnknownHeader "OVL012" Warning "a header ovl does not know";
    LateHeader "OVL013" Warning "a header after the first line of code";
    BadValue "OVL014" Error "a header's value cannot be understood";
    Repeated "OVL015" Error "a header given twice";
    DuplicateDep "OVL016" Error "the same dependency twice";
    OddSpelling "OVL017" Warning "a comment that looks like a header";
    BadVersion "OVL018" Warning "a version conda would refuse";
    BadDirective "OVL020" Error "a scheduler directive that cannot be understood";
    LateDirective "OVL021" Warning "a scheduler directive after the first line of code";
    MixedDirectives "OVL022" Warning "directives of more than one scheduler";
    NoteWithoutEnv "OVL030" Warning "ENVNOTE without an ENV before it";
    PathLost "OVL031" Warning "PATH set without $PATH in it";
    ShellInEnv "OVL032" Warning "shell syntax in an ENV value stays text";
    SecretDefault "OVL033" Error "a secret in the text of the recipe";
    NoDigest "OVL034" Warning "a download without sha256";
    NoWhatis "OVL040" Hint "WHATIS is missing";
    HalfTemplate "OVL045" Error "PL without TARGET, or TARGET without PL";
    UndeclaredToken "OVL046" Error "a token in TARGET that no PL declares";
    UnusedPlaceholder "OVL047" Error "a PL that TARGET does not use";
    PlaceholderTwice "OVL048" Error "the same placeholder declared twice";
    Recursion "OVL050" Error "install inside a function called install";
    Sudo "OVL051" Warning "root or the system's package manager is used";
    WritesHome "OVL052" Warning "the home directory is written to";
    UnquotedRemove "OVL053" Warning "rm -r with an unquoted variable";
    NetworkInInstall "OVL054" Warning "a download in install()";
    ExitBeforeInstall "OVL055" Warning "exit before install is called";
    Unfinished "OVL056" Warning "a quote, here-document or group is not closed";
    BadEnvironment "OVL060" Error "an environment file of the wrong shape";
    BadPackage "OVL061" Error "a package that cannot be understood";
    NoPackages "OVL062" Error "an environment without packages";
    LeftOut "OVL063" Warning "something in an environment file that is left out";
    Selector "OVL064" Warning "a selector in an environment file is only a comment";
    PipWithoutPip "OVL065" Warning "pip: without pip among the packages";
    DefHeader "OVL080" Error "a header of a definition that cannot be understood";
    DefSection "OVL081" Error "a section that definitions do not have";
    DefAgent "OVL082" Error "an agent that does not exist";
    DefStage "OVL083" Error "a stage that is not defined before";
    DefArgument "OVL084" Error "an argument without a value";
    DefFiles "OVL085" Error "a line of %files that cannot be understood";
    DefOwn "OVL086" Hint "a definition that Apptainer cannot build";
}

impl Rule {
    /// Whether `# ovl:allow` may silence it: rules of style and guesses, not what makes the text unreadable.
    pub fn can_be_allowed(self) -> bool {
        self.severity() != Severity::Error || matches!(self, Rule::SecretDefault | Rule::Recursion)
    }
}

/// One thing to say about a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule speaks.
    pub rule: Rule,
    /// Where.
    pub loc: Loc,
    /// What is wrong, in lower case.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Finding {
    /// A finding without a hint.
    pub fn new(rule: Rule, loc: &Loc, message: impl Into<String>) -> Finding {
        Finding { rule, loc: loc.clone(), message: message.into(), hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Finding {
        self.hint = Some(hint.into());
        self
    }

    /// Whether it makes ovl refuse the recipe.
    pub fn is_error(&self) -> bool {
        self.rule.severity() == Severity::Error
    }
}

/// `FILE:LINE:COL: severity[ID]: message`, and the hint on a second line.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}[{}]: {}", self.loc, self.rule.severity(), self.rule.id(), self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// As an object: `id`, `severity`, `file`, `line`, `col`, `message`, `hint` (null where there is none).
impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Finding", 7)?;
        object.serialize_field("id", self.rule.id())?;
        object.serialize_field("severity", &self.rule.severity().to_string())?;
        object.serialize_field("file", &*self.loc.file)?;
        object.serialize_field("line", &self.loc.line)?;
        object.serialize_field("col", &self.loc.col)?;
        object.serialize_field("message", &self.message)?;
        object.serialize_field("hint", &self.hint)?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_for_people_and_an_object_for_programs() {
        let finding = Finding::new(Rule::NoColon, &Loc::new("r", 2, 1), "no colon").hint("add it");
        assert_eq!(finding.to_string(), "r:2:1: error[OVL010]: no colon\n  hint: add it");
        assert_eq!(
            serde_json::to_string(&finding).unwrap(),
            r#"{"id":"OVL010","severity":"error","file":"r","line":2,"col":1,"message":"no colon","hint":"add it"}"#
        );
    }
}
