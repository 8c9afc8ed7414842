//! Rules about a recipe's commands.

use crate::recipe::finding::{Finding, Rule};
use crate::recipe::shell::{Command, Script, Word};
use crate::recipe::spec::{Net, Spec};

pub(super) fn check(script: &Script, spec: &Spec, findings: &mut Vec<Finding>) {
    if let Some((loc, what)) = &script.unfinished {
        findings.push(Finding::new(
            Rule::Unfinished,
            loc,
            format!("the {what} opened here does not seem to be closed"),
        ));
    }
    let installing = script.reach(&[None, Some("install"), Some("install_app")]);
    for command in &script.commands {
        let Some(first) = command.words.first() else {
            home(command, findings);
            continue;
        };
        let name = command.name();
        let name = name.rsplit('/').next().unwrap_or("");
        if name == "install" && script.defines("install") && first.raw == "install" {
            recursion(command, first, findings);
        }
        if matches!(name, "sudo" | "su" | "doas" | "apt" | "apt-get" | "yum" | "dnf" | "zypper" | "pacman" | "apk") {
            let message = format!("{name} needs root, which a build has not");
            findings.push(
                Finding::new(Rule::Sudo, &first.loc, message).hint("take it from an overlay: #DEP: or #BUILDDEP:"),
            );
        }
        if name == "rm" {
            remove(command, findings);
        }
        if spec.net != Some(Net::Host) && installing.contains(&command.function) && downloads(name, command) {
            let message = format!("{name} in install: it runs without network");
            let hint = "move the download to fetch(), into $src_dir, or say #NET:host";
            findings.push(Finding::new(Rule::NetworkInInstall, &first.loc, message).hint(hint));
        }
        let leaves = name == "exit" && command.words.get(1).is_none_or(|word| word.raw == "0");
        if leaves && command.function.is_none() && spec.functions.install && !spec.calls_install {
            let message = "exit 0 here ends the recipe before install is called";
            findings.push(
                Finding::new(Rule::ExitBeforeInstall, &first.loc, message).hint("leave it out: ovl calls install"),
            );
        }
        home(command, findings);
    }
}

/// `install -m 755 …` where install is a function: it calls that function.
fn recursion(command: &Command, first: &Word, findings: &mut Vec<Finding>) {
    let options = command.words.iter().skip(1).any(|word| word.raw.starts_with('-'));
    if options || command.function.as_deref() == Some("install") {
        let message = "this calls the recipe's own install() again, not the program";
        findings.push(Finding::new(Rule::Recursion, &first.loc, message).hint("write: command install …"));
    }
}

fn remove(command: &Command, findings: &mut Vec<Finding>) {
    let recursive = |word: &&Word| {
        let raw = word.raw.as_str();
        raw == "--recursive" || (raw.starts_with('-') && !raw.starts_with("--") && raw.contains(['r', 'R']))
    };
    if !command.words.iter().skip(1).any(|word| recursive(&word)) {
        return;
    }
    for word in command.words.iter().skip(1).filter(|word| word.raw.starts_with('$')) {
        let message = format!("rm -r {}: unquoted, it removes more when the value has blanks or is empty", word.raw);
        let name = word.raw.trim_start_matches(['$', '{']);
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        let hint = format!("write \"${{{}:?}}\"", name.get(..end).unwrap_or(name));
        findings.push(Finding::new(Rule::UnquotedRemove, &word.loc, message).hint(hint));
    }
}

/// Whether a command is known to use the network.
fn downloads(name: &str, command: &Command) -> bool {
    let words: Vec<String> = command.words.iter().skip(1).map(Word::plain).collect();
    let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
    match name {
        "curl" | "wget" | "aria2c" | "scp" | "sftp" | "ftp" | "lftp" | "prefetch" | "fasterq-dump" => {
            !has(&["--version", "--help"])
        }
        "git" => has(&["clone", "fetch", "pull", "ls-remote"]),
        "pip" | "pip3" | "uv" => has(&["install", "download", "sync"]) && !has(&["--no-index", "--offline"]),
        "python" | "python3" => has(&["pip"]) && has(&["install", "download"]) && !has(&["--no-index"]),
        "conda" | "mamba" | "micromamba" | "pixi" => has(&["install", "create", "update"]) && !has(&["--offline"]),
        "npm" | "yarn" | "pnpm" => has(&["install", "ci", "add"]) && !has(&["--offline"]),
        "cargo" => has(&["install", "fetch"]) && !has(&["--offline", "--path"]),
        "go" => has(&["get", "install"]) && has(&["-u"]),
        "aws" | "gsutil" | "gcloud" => has(&["cp", "sync", "rsync"]),
        _ => false,
    }
}

fn home(command: &Command, findings: &mut Vec<Finding>) {
    let in_home = |word: &&Word| {
        let plain = word.plain();
        ["$HOME", "${HOME}", "~/"].iter().any(|start| plain.starts_with(start)) || plain == "~"
    };
    let name = command.name();
    let writes = matches!(name.as_str(), "mkdir" | "cp" | "mv" | "touch" | "ln" | "tee" | "rm" | "install" | "rsync");
    let words = command.words.iter().skip(1).filter(|_| writes);
    if let Some(word) = command.redirects.iter().chain(words).find(in_home) {
        let message = format!("{} is the home directory of whoever builds", word.raw);
        findings
            .push(Finding::new(Rule::WritesHome, &word.loc, message).hint("write to \"$target_dir\" or \"$tmp_dir\""));
    }
}
