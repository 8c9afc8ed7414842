//! Every error of the program as a message, hints and an exit code, in one place.

use crate::build::BuildError;
use crate::build::base::PrebuiltError;
use crate::conda::CondaError;
use crate::conda::cache::FetchError;
use crate::config::ConfigError;
use crate::model::name::BadName;
use crate::net::{NetError, Trouble};
use crate::recipe::Finding;
use crate::recipe::template::Mismatch;
use crate::registry::RegistryError;
use crate::run::RunError;
use crate::runtime::RuntimeError;
use crate::store::layers::LayerError;
use crate::store::overlays::OverlayError;
use crate::store::recipes::RecipeError;
use crate::store::remotes::RemoteError;
use crate::sys::fs::PathError;

/// Exit codes (docs/exit-codes in the README).
pub mod code {
    /// Internal or runtime error.
    pub const ERROR: u8 = 1;
    /// A build failed.
    pub const BUILD: u8 = 2;
    /// Jobs were submitted and not waited for.
    pub const SUBMITTED: u8 = 3;
    /// Usage, recipe, lint or configuration error.
    pub const USAGE: u8 = 4;
    /// A gate failed: check, verify.
    pub const GATE: u8 = 5;
    /// Busy or locked.
    pub const BUSY: u8 = 6;
    /// The environment is unfit.
    pub const UNFIT: u8 = 7;
    /// The time limit was reached.
    pub const TIMEOUT: u8 = 124;
    /// Interrupted.
    pub const INTERRUPTED: u8 = 130;
}

/// Why a command ended badly.
#[derive(Debug)]
pub struct Failure {
    /// The sentence after `error:`.
    pub message: String,
    /// What to do next, each with the command to type where there is one.
    pub hints: Vec<String>,
    /// Exit code.
    pub code: u8,
}

/// Result of a command: its exit code.
pub type Outcome = Result<u8, Failure>;

impl Failure {
    /// A failure with this code.
    pub fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure { message: message.into(), hints: Vec::new(), code }
    }

    /// A usage error.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(code::USAGE, message)
    }

    /// A failure with the last lines of a script below its sentence.
    pub fn with_tail(code: u8, text: &str, tail: &[String]) -> Failure {
        let shown: Vec<String> = tail.iter().map(|line| format!("  | {}", printable(line))).collect();
        Failure::new(code, if shown.is_empty() { text.to_owned() } else { format!("{text}\n{}", shown.join("\n")) })
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }
}

impl From<PathError> for Failure {
    fn from(error: PathError) -> Failure {
        let full = error.is_full();
        let failure = Failure::new(code::ERROR, error.to_string());
        if full { failure.hint(FULL) } else { failure }
    }
}

const FULL: &str =
    "the file system or your quota is full: free space, or use another place (--scratch DIR, --layer LAYER)";

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::usage(error.to_string()).hint("see every key and where it comes from with: ovl config show")
    }
}

impl From<BadName> for Failure {
    fn from(error: BadName) -> Failure {
        Failure::usage(error.to_string()).hint("see what can be built with: ovl avail")
    }
}

impl From<LayerError> for Failure {
    fn from(error: LayerError) -> Failure {
        let code = if matches!(error, LayerError::Unknown { .. }) { code::USAGE } else { code::UNFIT };
        Failure::new(code, error.to_string()).hint("see where layers come from with: ovl config show")
    }
}

impl From<OverlayError> for Failure {
    fn from(error: OverlayError) -> Failure {
        Failure::new(code::ERROR, error.to_string())
    }
}

impl From<RecipeError> for Failure {
    fn from(error: RecipeError) -> Failure {
        let failure = Failure::usage(error.to_string());
        match error {
            RecipeError::Unfilled { example, .. } => failure.hint(format!("fill it in, as in: ovl build {example}")),
            RecipeError::Mismatch(error) => failure.hint(match *error {
                Mismatch::Outside { pattern, .. } => format!("see its names with: ovl avail --expand '{pattern}'"),
                Mismatch::Ambiguous { .. } => {
                    "only the recipe can tell its values apart: with another text between them in #TARGET:".to_owned()
                }
            }),
            RecipeError::Remote(error) => (*error).into(),
            RecipeError::TwoTemplates { .. } => failure.hint("narrow the #PL: of one of them"),
            RecipeError::Io(_) | RecipeError::NotAFile { .. } | RecipeError::TooLarge { .. } => failure,
        }
    }
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Failure {
        let code = match &error.trouble {
            Trouble::Digest { .. } => code::GATE,
            Trouble::Offline => code::UNFIT,
            Trouble::Interrupted => code::INTERRUPTED,
            _ => code::ERROR,
        };
        let failure = Failure::new(code, error.to_string());
        match (error.is_full(), error.hint()) {
            (true, _) => failure.hint(FULL),
            (false, hint) if hint.is_empty() => failure,
            (false, hint) => failure.hint(hint),
        }
    }
}

impl From<PrebuiltError> for Failure {
    fn from(error: PrebuiltError) -> Failure {
        let text = error.to_string();
        match error {
            PrebuiltError::List(_) => {
                Failure::usage(text).hint("see every key and where it comes from with: ovl config show")
            }
            PrebuiltError::Odd { .. } => Failure::new(code::ERROR, text),
            PrebuiltError::Net(error) => error.into(),
            PrebuiltError::Registry(error) => error.into(),
            PrebuiltError::Io(error) => error.into(),
        }
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Failure {
        let text = error.to_string();
        match error {
            RemoteError::Name { .. } => Failure::usage(text),
            RemoteError::Unknown { .. } => Failure::usage(text).hint("add it with: ovl recipes add NAME URL"),
            RemoteError::Taken { name, .. } => {
                Failure::usage(text).hint(format!("bring it up to date with: ovl recipes update {name}"))
            }
            RemoteError::Tampered { .. } => Failure::new(code::GATE, text)
                .hint("look at what has changed before you take it over with: ovl recipes update"),
            RemoteError::Offline(_) => {
                Failure::new(code::UNFIT, text).hint("leave --offline out, or run it once where there is a network")
            }
            RemoteError::Odd { .. } | RemoteError::Git(_) => Failure::new(code::ERROR, text)
                .hint("a remote is a directory with metadata/build-scripts.json.gz, or git+URL; see docs/remotes.md"),
            RemoteError::Net(error) => error.into(),
            RemoteError::Io(error) => error.into(),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        let text = error.to_string();
        match error {
            RunError::NoState(_) => Failure::new(code::UNFIT, text).hint(
                "runs and logs are kept below dirs.state: choose another place with OVL_DIRS_STATE or config.yaml",
            ),
            RunError::Io(error) => error.into(),
            RunError::Config(error) => error.into(),
            RunError::Locked { .. } => Failure::new(code::BUSY, text).hint("see what goes on with: ovl status"),
            RunError::Unknown { .. } | RunError::Ambiguous { .. } => {
                Failure::usage(text).hint("list what there is with: ovl history")
            }
            RunError::Odd { .. } => Failure::new(code::ERROR, text),
        }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Failure {
        let text = error.to_string();
        let code = match &error {
            RegistryError::Reference(_) => code::USAGE,
            RegistryError::Busy { .. } => code::BUSY,
            RegistryError::Interrupted => code::INTERRUPTED,
            RegistryError::Layer(_) => code::UNFIT,
            RegistryError::Net(error) if matches!(error.trouble, crate::net::Trouble::Interrupted) => code::INTERRUPTED,
            _ => code::ERROR,
        };
        let failure = Failure::new(code, text);
        match error.hint() {
            _ if error.is_full() => failure.hint(FULL),
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Failure {
        let failure = Failure::new(error.exit_code(), error.to_string());
        match error.hint() {
            Some(hint) if failure.code == code::BUSY => failure.hint(hint),
            Some(hint) => failure.hint(hint).hint("see everything this machine can and cannot do with: ovl doctor"),
            None => failure,
        }
    }
}

impl From<CondaError> for Failure {
    fn from(error: CondaError) -> Failure {
        let code = match &error {
            CondaError::Setting { .. } | CondaError::NoPackage { .. } | CondaError::Lock { .. } => code::USAGE,
            CondaError::Channel { .. } | CondaError::Net(_) => code::UNFIT,
            CondaError::Unsolvable { .. } => code::BUILD,
            CondaError::Interrupted => code::INTERRUPTED,
        };
        let failure = Failure::new(code, error.to_string());
        let hint = error.hint();
        if hint.is_empty() { failure } else { failure.hint(hint) }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Failure {
        let text = error.to_string();
        match error {
            BuildError::Script { tail, log, phase, .. } => {
                let mut failure = Failure::with_tail(code::BUILD, &text, &tail);
                failure.hints = super::hints::of_output(&tail, phase);
                failure.hint(format!("the whole log is in {}", log.display()))
            }
            BuildError::Check { tail, log, .. } => {
                Failure::with_tail(code::GATE, &text, &tail).hint(format!("the whole log is in {}", log.display()))
            }
            BuildError::Empty { .. } => {
                Failure::new(code::BUILD, text).hint("install() has to put its files into $target_dir")
            }
            BuildError::Unfulfilled { .. } => Failure::new(code::GATE, text),
            BuildError::Sources { failed, .. } => {
                let wrong = failed.iter().any(|(_, error)| matches!(error.trouble, Trouble::Digest { .. }));
                let full = failed.iter().any(|(_, error)| error.is_full());
                let mut failure = Failure::new(if wrong { code::GATE } else { code::BUILD }, text);
                for hint in failed.iter().map(|(_, error)| error.hint()).filter(|hint| !hint.is_empty()) {
                    if !failure.hints.contains(&hint) {
                        failure.hints.push(hint);
                    }
                }
                if full { failure.hint(FULL) } else { failure }
            }
            BuildError::Offline { .. } => {
                Failure::new(code::UNFIT, text).hint("run the same once without --offline where there is a network")
            }
            BuildError::Recipe { label, findings } => of_findings(&label, &findings),
            BuildError::Directive(error) => {
                let failure = Failure::usage(text);
                let failure = match error.hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                };
                failure.hint("hand the directives to their own scheduler as they are with --passthrough")
            }
            BuildError::NoParent { name, .. } => {
                Failure::new(code::ERROR, text).hint(format!("build it with: ovl build {name}"))
            }
            BuildError::Graph(_) => Failure::usage(text).hint("see what can be built with: ovl avail"),
            BuildError::NoRecipe { near, .. } => {
                let failure = Failure::usage(text);
                let failure = if near.is_empty() {
                    failure
                } else {
                    failure.hint(format!("did you mean {}?", near.join(" or ")))
                };
                failure.hint("see what can be built with: ovl avail")
            }
            BuildError::Conda { source, .. } => Failure { message: text, ..Failure::from(*source) },
            BuildError::Registry { source, .. } => Failure { message: text, ..Failure::from(*source) },
            BuildError::Busy { hint, .. } => Failure::new(code::BUSY, text).hint(hint),
            BuildError::Unanswered { name, .. } => {
                Failure::usage(text).hint(format!("answer with: ovl build {name} --answer TEXT"))
            }
            BuildError::Full { .. } => Failure::new(code::BUILD, text).hint(FULL),
            BuildError::Unfit { hint, .. } => Failure::new(code::UNFIT, text).hint(hint),
            BuildError::Verify { .. } => Failure::new(code::BUILD, text)
                .hint("the disk or its file server may be failing; nothing was published"),
            BuildError::Packages { source, .. } => match *source {
                FetchError::Missing { .. } => {
                    Failure::new(code::UNFIT, text).hint("leave --offline out, or build once where there is a network")
                }
                FetchError::Net(error) if !error.hint().is_empty() => {
                    Failure::new(code::UNFIT, text).hint(error.hint())
                }
                FetchError::Damaged(_) | FetchError::Gone(_) => {
                    let hint = "the channel's list and its files do not fit: whoever keeps it makes them anew with \
                                conda index; remove a damaged copy of yours";
                    Failure::new(code::UNFIT, text).hint(hint)
                }
                FetchError::Credentials(error) => Failure::new(code::UNFIT, text).hint(error.hint()),
                _ => Failure::new(code::UNFIT, text),
            },
            BuildError::Pack { source, .. } => {
                let full =
                    matches!(&source, crate::image::ImageError::Io { source, .. } if crate::sys::fs::is_full(source));
                let failure = Failure::new(code::BUILD, text);
                if full { failure.hint(FULL) } else { failure }
            }
            BuildError::Interrupted { .. } => Failure::new(code::INTERRUPTED, text),
            BuildError::TimedOut { .. } => {
                Failure::new(code::TIMEOUT, text).hint("allow more with --timeout, or #TIMEOUT: in the recipe")
            }
            // The sandbox's programs (bash) are this machine's; 126 and 127 would be taken for a command's own.
            BuildError::Runtime(error) => {
                let mut failure = Failure::from(error);
                failure.code = if failure.code == code::ERROR { code::ERROR } else { code::UNFIT };
                failure
            }
            BuildError::ReadRecipe(error) => error.into(),
            BuildError::Layer(error) => error.into(),
            BuildError::Overlay(error) => error.into(),
            BuildError::Config(error) => error.into(),
            BuildError::Io(error) if error.is_full() => Failure { code: code::BUILD, ..error.into() },
            BuildError::Io(error) => error.into(),
        }
    }
}

/// What scripts print may hold escape sequences; a message must not carry them on.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '·' } else { c }).collect()
}

/// All findings of a recipe as one failure.
fn of_findings(label: &str, findings: &[Finding]) -> Failure {
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    let lines: Vec<String> = findings.iter().map(|finding| format!("  {finding}")).collect();
    let noun = if errors == 1 { "error" } else { "errors" };
    Failure::usage(format!("{label}: {errors} {noun} in the recipe\n{}", lines.join("\n")))
}
