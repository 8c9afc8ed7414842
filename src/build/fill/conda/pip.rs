//! The pip section of an environment: everything is fetched (and made into wheels) while there is a network, and installed
//! without. Lines with `--hash` are only fetched, so that pip can hold what it installs against them.

use std::ffi::OsString;

use super::Ready;
use super::scripts::command;
use crate::build::error::BuildError;
use crate::build::sandbox::{CONTROL, SOURCES};
use crate::build::stage::Staged;
use crate::exec::Network;
use crate::model::event::Phase;
use crate::sys::{env, fs};

/// Where wheels are kept, in the directory of sources.
const WHEELS: &str = "pip";
/// Settings of pip that say where packages are.
const SETTINGS: [&str; 5] =
    ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_FIND_LINKS", "PIP_NO_INDEX"];

fn argv(root: &str, python: &str, words: &[&str]) -> Vec<OsString> {
    let program = format!("{root}/{python}");
    let head = [program.as_str(), "-m", "pip", "--disable-pip-version-check", "--no-input"];
    head.iter().chain(words).map(OsString::from).collect()
}

/// Fetches what pip is to install.
pub fn fetch(staged: &mut Staged, ready: &Ready, python: &str) -> Result<(), BuildError> {
    let lines = ready.locked.pip.join("\n");
    fs::write_quick(&staged.control.join("requirements.txt"), format!("{lines}\n").as_bytes(), 0o644)?;
    let mut sandbox = ready.sandbox(staged);
    sandbox.network = Network::Host;
    sandbox.sources = Some((staged.sources.clone(), true));
    sandbox.vars = SETTINGS.iter().filter_map(|name| Some(((*name).to_owned(), env::var(name)?))).collect();
    let (to, list) = (format!("{SOURCES}/{WHEELS}"), format!("{CONTROL}/requirements.txt"));
    let how: &[&str] =
        if lines.contains("--hash") { &["download", "--dest", &to] } else { &["wheel", "--wheel-dir", &to] };
    let words = [how, &["--no-cache-dir", "--requirement", &list]].concat();
    let argv = argv(&staged.job.name.root(), python, &words);
    command(staged, &sandbox, argv, Phase::Fetch)
}

/// Installs it, without network unless the recipe wants one.
pub fn install(staged: &mut Staged, ready: &Ready, python: &str) -> Result<(), BuildError> {
    let mut sandbox = ready.sandbox(staged);
    sandbox.network = staged.job.network();
    sandbox.sources = Some((staged.sources.clone(), false));
    let (from, list) = (format!("{SOURCES}/{WHEELS}"), format!("{CONTROL}/requirements.txt"));
    let mut words = vec!["install".to_owned(), "--no-cache-dir".to_owned()];
    if ready.locked.pip.iter().any(|line| line.contains("://")) {
        // What is named by its address would be fetched again: everything that was made is installed instead.
        let made = fs::list(&staged.sources.join(WHEELS))?;
        words.push("--no-deps".to_owned());
        words.extend(made.iter().map(|name| format!("{from}/{}", name.to_string_lossy())));
    } else {
        words.extend(["--find-links", &from, "--requirement", &list].map(str::to_owned));
    }
    if sandbox.network != Network::Host {
        words.push("--no-index".to_owned());
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let argv = argv(&staged.job.name.root(), python, &words);
    command(staged, &sandbox, argv, Phase::Install)
}
