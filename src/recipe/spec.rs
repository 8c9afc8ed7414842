//! What a recipe says, as typed values, each with its place.

use std::sync::Arc;
use std::time::Duration;

use super::finding::{Finding, Rule};
use super::scan::{Directive, Header};
use super::shell::Script;
use super::template::Template;
use crate::model::loc::Loc;
use crate::model::name::Name;
use crate::model::need::Need;
use crate::model::version::Version;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// Where.
    pub loc: Loc,
    /// What.
    pub value: T,
}

/// What an overlay holds; decides block sizes and where it is built (row C05).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Programs: many small files.
    App,
    /// Reference data: few large files.
    Data,
}

/// Which network `install()` sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Net {
    /// None at all (the default).
    #[default]
    None,
    /// The host's.
    Host,
}

/// `#ENV:NAME=value`; `$app_root` and `$VAR` in the value are expanded when the overlay is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// The variable.
    pub name: String,
    /// Its value, symbolic.
    pub value: String,
    /// Where.
    pub loc: Loc,
}

/// `#ENVNOTE:text`, about the `#ENV` before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The variable it is about, if any stands before it.
    pub name: Option<String>,
    /// The text.
    pub text: String,
    /// Where.
    pub loc: Loc,
}

/// `#INTERACTIVE:prompt`: a question; the answers reach the recipe's standard input in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The question, `\n` already turned into newlines.
    pub text: String,
    /// Whether it asks for something secret: do not echo, do not record.
    pub secret: bool,
    /// Where.
    pub loc: Loc,
}

/// `#SRC:url [sha256=…] [as=name] [mirror=url]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What to download.
    pub url: String,
    /// Its digest, lower case hexadecimal.
    pub sha256: Option<String>,
    /// Other places that have the same file, in the order in which they are tried.
    pub mirrors: Vec<String>,
    /// What it is called in `$src_dir`: as it says, else the last part of the address.
    pub name: String,
}

/// `#NEEDS:command>=version [provided-by=host|name/version]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// The command.
    pub command: String,
    /// The oldest version that will do.
    pub min: Option<Version>,
    /// Where to take it from.
    pub provided_by: Vec<String>,
}

/// `#VERIFY:path[ sha256]`: a file that must be there after the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// Relative to the overlay's root (`$target_dir`).
    pub path: String,
    /// Its digest, lower case hexadecimal.
    pub sha256: Option<String>,
}

/// One value of a `#PL` list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This text.
    One(String),
    /// The numbers from the first to the last, both included, written with at least so many digits.
    Range {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
        /// Digits; 0 unless the author wrote leading zeros.
        width: usize,
    },
    /// Anything: the list is open.
    Any,
}

/// `#PL:name:values`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceholderSpec {
    /// The word between the braces.
    pub name: String,
    /// Its values, as written.
    pub choices: Vec<Choice>,
    /// Whether newer values go first (`,` between them) or the author's order counts (`|`).
    pub sorted: bool,
    /// The values as text.
    pub form: String,
}

/// Which functions a recipe defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Functions {
    /// `install()`
    pub install: bool,
    /// `install_app()`
    pub install_app: bool,
    /// `fetch()`
    pub fetch: bool,
    /// `check()`
    pub check: bool,
}

/// What a recipe builds from, in its own form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Content {
    /// The functions of a shell script.
    #[default]
    Shell,
    /// A conda environment.
    Conda(super::conda::Environment),
    /// A definition file.
    Def(super::def::Definition),
}

/// A recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its name in messages.
    pub file: Arc<str>,
    /// `#DEP`: mounted at build and at run, in this order.
    pub deps: Vec<At<Need>>,
    /// `#BUILDDEP`: mounted at build only.
    pub builddeps: Vec<At<Need>>,
    /// `#ENV`, in order.
    pub env: Vec<EnvVar>,
    /// `#ENVNOTE`.
    pub notes: Vec<Note>,
    /// `#INTERACTIVE`, in order.
    pub prompts: Vec<Prompt>,
    /// `#WHATIS`.
    pub whatis: Option<At<String>>,
    /// `#URL`.
    pub url: Option<At<String>>,
    /// `#TYPE`; see [`Spec::kind`].
    pub declared_kind: Option<At<Kind>>,
    /// `#NET`.
    pub net: Option<Net>,
    /// `#TEST`, in order.
    pub tests: Vec<At<String>>,
    /// `#LABEL`, key and value.
    pub labels: Vec<At<(String, String)>>,
    /// `#TAG`.
    pub tags: Vec<At<String>>,
    /// `#NEEDS`.
    pub needs: Vec<At<Tool>>,
    /// `#TIMEOUT`.
    pub timeout: Option<At<Duration>>,
    /// `#VERIFY`.
    pub verify: Vec<At<Verify>>,
    /// `#AUTOUPDATE`, kept as text.
    pub autoupdate: Vec<At<String>>,
    /// `#OVL`: the version of the format, 1 unless given.
    pub format: u32,
    /// `#SBATCH`, `#PBS`, `#BSUB`, in order.
    pub directives: Vec<Directive>,
    /// `#SRC`.
    pub sources: Vec<At<Source>>,
    /// `#GIT`: address and revision.
    pub gits: Vec<At<(String, String)>>,
    /// `#SRCDIR`: name, and whether it is required.
    pub srcdirs: Vec<At<(String, bool)>>,
    /// `#SECRET`: id, and whether it is optional.
    pub secrets: Vec<At<(String, bool)>>,
    /// `#ARG`: name and default.
    pub args: Vec<At<(String, String)>>,
    /// `#STAGE`: name, and what it starts from.
    pub stages: Vec<At<(String, Option<String>)>>,
    /// `#PL`: placeholders and their values.
    pub placeholders: Vec<At<PlaceholderSpec>>,
    /// `#TARGET`: the pattern of names.
    pub target: Option<At<String>>,
    /// What `#PL` and `#TARGET` together make; everything else here is then read with [`Template::sample`] filled in.
    pub template: Option<Template>,
    /// Headers kept as text: SSH, PLATFORM, CACHE, CASE, HOST, OWNER, COPY.
    pub others: Vec<Header>,
    /// What it builds from.
    pub content: Content,
    /// Functions it defines.
    pub functions: Functions,
    /// Whether its own code calls `install` or `install_app` when it is run.
    pub calls_install: bool,
    /// Whether it tests if `$target_dir` exists: then the directory must not be made before.
    pub tests_target_dir: bool,
    pub(super) refused: Vec<(Loc, String)>,
}

impl Spec {
    /// A recipe that says nothing yet.
    pub(super) fn empty(file: Arc<str>) -> Spec {
        Spec {
            file,
            deps: Vec::new(),
            builddeps: Vec::new(),
            env: Vec::new(),
            notes: Vec::new(),
            prompts: Vec::new(),
            whatis: None,
            url: None,
            declared_kind: None,
            net: None,
            tests: Vec::new(),
            labels: Vec::new(),
            tags: Vec::new(),
            needs: Vec::new(),
            timeout: None,
            verify: Vec::new(),
            autoupdate: Vec::new(),
            format: 1,
            directives: Vec::new(),
            sources: Vec::new(),
            gits: Vec::new(),
            srcdirs: Vec::new(),
            secrets: Vec::new(),
            args: Vec::new(),
            stages: Vec::new(),
            placeholders: Vec::new(),
            target: None,
            template: None,
            others: Vec::new(),
            content: Content::default(),
            functions: Functions::default(),
            calls_install: false,
            tests_target_dir: false,
            refused: Vec::new(),
        }
    }

    /// The definition, if it is one.
    pub fn definition(&self) -> Option<&super::def::Definition> {
        match &self.content {
            Content::Def(definition) => Some(definition),
            _ => None,
        }
    }

    /// What the overlay holds: as `#TYPE` says, else by the name (row C05).
    pub fn kind(&self, name: &Name) -> Kind {
        match &self.declared_kind {
            Some(kind) => kind.value,
            None if name.looks_like_data() => Kind::Data,
            None => Kind::App,
        }
    }

    /// Headers that are understood but cannot be carried out yet, with their places: refuse the build, naming them.
    pub fn unsupported(&self) -> &[(Loc, String)] {
        &self.refused
    }

    /// Adds what the code says, as far as it can be told without running it.
    pub(super) fn read_body(&mut self, script: &Script, findings: &mut Vec<Finding>) {
        let has = |name: &str| script.defines(name);
        self.functions = Functions {
            install: has("install"),
            install_app: has("install_app"),
            fetch: has("fetch"),
            check: has("check"),
        };
        self.calls_install = script.calls(&["install", "install_app"]);
        self.tests_target_dir = script.tests_directory("target_dir");
        if !self.functions.install && !self.functions.install_app {
            let loc = Loc::new(self.file.clone(), 1, 1);
            let message = format!("{} defines neither install() nor install_app()", self.file);
            let hint = "put the commands that fill \"$target_dir\" into install() { … }";
            findings.push(Finding::new(Rule::NoInstall, &loc, message).hint(hint));
        }
    }
}
