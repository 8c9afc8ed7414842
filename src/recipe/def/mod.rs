//! Definition files of Apptainer: stages with their headers and sections. Everything that is wrong becomes a finding with
//! its place. The rules are those of Apptainer 1.4's parser; text in, values out.

mod arguments;
mod check;
mod read;
#[cfg(test)]
mod tests;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use crate::model::loc::Loc;

/// Arguments by their names: `--build-arg NAME=VALUE`, or the defaults of `%arguments`.
pub type Arguments = BTreeMap<String, String>;

/// A definition file, understood; its arguments are filled in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Definition {
    /// The stages, in order; the last one is the image.
    pub stages: Vec<Stage>,
    /// The text with its arguments filled in, as it is kept in the image.
    pub text: String,
    /// Names of arguments that the text uses.
    pub used: BTreeSet<String>,
}

/// One stage: from one `Bootstrap:` to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Where its files come from.
    pub agent: Agent,
    /// Where `Bootstrap:` stands.
    pub loc: Loc,
    /// All headers, keys in lower case, in order.
    pub headers: Vec<Key>,
    /// All sections, in order.
    pub sections: Vec<Section>,
}

/// A header: `Key: value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// In lower case.
    pub name: String,
    /// Without comments and surrounding blanks.
    pub value: String,
    /// Where it stands.
    pub loc: Loc,
}

/// A section: `%name [app] [arguments]` and the lines below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// In lower case, without `%`.
    pub name: String,
    /// The app of an `%app…` section.
    pub app: Option<String>,
    /// What follows the name in its line, without a comment.
    pub args: String,
    /// The lines.
    pub body: String,
    /// Where its `%` stands.
    pub loc: Loc,
}

/// A script with its arguments: sections of the same name follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Script {
    /// The lines.
    pub text: String,
    /// What follows the section's name.
    pub args: String,
}

/// A line of `%files`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Transfer {
    /// What is copied; may be a pattern.
    pub source: String,
    /// Where to; empty: to the same path.
    pub target: String,
    /// The stage it is copied from; None: the host.
    pub stage: Option<String>,
    /// The line in the file.
    pub line: usize,
}

macro_rules! agents {
    ($($variant:ident $word:literal $native:literal;)*) => {
        /// Where the files of a stage come from.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Agent { $(#[doc = $word] $variant,)* }

        impl Agent {
            /// All of them.
            pub const ALL: &[Agent] = &[$(Agent::$variant),*];

            /// The word after `Bootstrap:`.
            pub fn word(self) -> &'static str {
                match self { $(Agent::$variant => $word),* }
            }

            /// Whether ovl's own engine has it.
            pub fn is_native(self) -> bool {
                match self { $(Agent::$variant => $native),* }
            }
        }
    };
}

agents! {
    LocalImage "localimage" true;
    Scratch "scratch" true;
    OciArchive "oci-archive" true;
    DockerArchive "docker-archive" true;
    Oci "oci" true;
    Docker "docker" true;
    Debootstrap "debootstrap" true;
    Mmdebstrap "mmdebstrap" true;
    DockerDaemon "docker-daemon" false;
    Library "library" false;
    Oras "oras" false;
    Shub "shub" false;
    Yum "yum" false;
    Dnf "dnf" false;
    Zypper "zypper" false;
    Arch "arch" false;
    Busybox "busybox" false;
    Dockerfile "dockerfile" false;
}

impl Agent {
    /// The agent of a word, in whatever case.
    pub fn of(word: &str) -> Option<Agent> {
        Agent::ALL.iter().copied().find(|agent| agent.word().eq_ignore_ascii_case(word))
    }

    /// What to use instead where only ovl's own engine is at hand.
    pub fn instead(self) -> &'static str {
        match self {
            Agent::Library | Agent::Shub | Agent::Oras => {
                "pull it to a SIF file where Apptainer is installed, then: Bootstrap: localimage, From: FILE.sif"
            }
            Agent::Yum | Agent::Dnf | Agent::Zypper | Agent::Arch | Agent::Busybox => {
                "start from a container image of that system: Bootstrap: docker, From: NAME:TAG"
            }
            Agent::DockerDaemon => "save the image with: docker save NAME -o FILE.tar, then: Bootstrap: docker-archive",
            Agent::Dockerfile => {
                "build the image elsewhere and start from it: Bootstrap: docker-archive, From: FILE.tar"
            }
            _ => "install Apptainer",
        }
    }
}

/// Reads a definition file; `given` are arguments from the command line. Never fails: findings say what is wrong, all at
/// once.
pub fn read(file: &str, text: &str, given: &Arguments, findings: &mut Vec<Finding>) -> Definition {
    let definition = read::definition(file, text, given, findings);
    check::check(file, &definition, findings);
    definition
}

impl Stage {
    /// The value of a header; of the last one where it is given twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().rev().find(|key| key.name == name).map(|key| key.value.as_str())
    }

    /// The place of a header, or of the stage.
    pub fn place(&self, name: &str) -> &Loc {
        self.headers.iter().rev().find(|key| key.name == name).map_or(&self.loc, |key| &key.loc)
    }

    /// A section's script; None where there is no such section, or an empty one.
    pub fn script(&self, name: &str) -> Option<Script> {
        self.joined(name, None)
    }

    /// An app's section.
    pub fn app_script(&self, app: &str, name: &str) -> Option<Script> {
        self.joined(name, Some(app))
    }

    fn joined(&self, name: &str, app: Option<&str>) -> Option<Script> {
        let mut script = Script::default();
        for section in self.sections.iter().filter(|section| section.name == name && section.app.as_deref() == app) {
            script.text.push_str(&section.body);
            if !section.args.is_empty() {
                script.args.clone_from(&section.args);
            }
        }
        (!script.text.trim().is_empty()).then_some(script)
    }

    /// The names of its apps, in order.
    pub fn apps(&self) -> Vec<&str> {
        let mut apps: Vec<&str> = Vec::new();
        for app in self.sections.iter().filter_map(|section| section.app.as_deref()) {
            if !apps.contains(&app) {
                apps.push(app);
            }
        }
        apps
    }

    /// What `%files` copies, in order.
    pub fn files(&self) -> Vec<Transfer> {
        let mut all = Vec::new();
        for section in self.sections.iter().filter(|section| section.name == "files") {
            let stage = match section.args.split_whitespace().collect::<Vec<_>>().as_slice() {
                [_, stage] => Some((*stage).to_owned()),
                _ => None,
            };
            for (index, line) in section.body.lines().enumerate() {
                let mut words = words::split(line).into_iter();
                if let Some(source) = words.next() {
                    let target = words.next().unwrap_or_default();
                    let line = section.loc.line + 1 + index;
                    all.push(Transfer { source, target, stage: stage.clone(), line });
                }
            }
        }
        all
    }

    /// `%labels`, by name.
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.script("labels").map(|script| words::labels(&script.text)).unwrap_or_default()
    }
}
