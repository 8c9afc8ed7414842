//! Documents that cannot rot: manual pages equal the command line, the README's session runs, what ships resolves.

use std::path::Path;

use crate::support::house::{House, finish, program, script};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn manual_pages_equal_the_command_line() {
    let house = House::new();
    let dir = house.path("work/man");
    house.ovl(&["internal", "man", dir.to_str().unwrap()]).ok();
    let generated = house.names("work/man");
    let mut shipped: Vec<String> = std::fs::read_dir(root().join("man"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    shipped.sort();
    assert_eq!(shipped, generated, "write them anew with: cargo run -- internal man man");
    for name in generated {
        let (new, old) = (
            std::fs::read_to_string(dir.join(&name)).unwrap(),
            std::fs::read_to_string(root().join("man").join(&name)).unwrap(),
        );
        assert!(
            new == old,
            "man/{name} is not what the command line generates; write it anew with: cargo run -- internal man man"
        );
    }
}

#[test]
fn completion_scripts_offer_what_is_there() {
    let house = House::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = house.ovl(&["completion", shell]).ok().stdout;
        assert!(script.contains("OVL_COMPLETE") && script.contains("ovl"), "{shell}: {script}");
    }
    house.recipe("hello/1.0", script("", "touch $target_dir/x"));
    house.recipe("hello/2.0", script("", "touch $target_dir/x"));
    house.ovl(&["build", "-q", "hello/2.0"]).ok();
    let run = house.names("home/.local/state/ovl/runs").concat();
    let bin = crate::support::house::program().parent().unwrap();
    let offered = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let line = format!(
            "PATH={}:$PATH; source <(ovl completion bash); COMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9
             $(complete -p ovl | sed 's/.*-F //; s/ .*//') ovl \"${{COMP_WORDS[COMP_CWORD]}}\" && printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            bin.display(),
            words.join(" "),
            words.len() - 1
        );
        let mut bash = house.command("bash");
        bash.args(["-c", &line]);
        finish(bash).ok().stdout.lines().map(|word| word.trim().to_owned()).collect::<Vec<String>>()
    };
    assert_eq!(offered(&["ovl", "roll"]), ["rollback"]);
    assert_eq!(offered(&["ovl", "build", "hel"]), ["hello/1.0", "hello/2.0"]);
    assert_eq!(offered(&["ovl", "info", "h"]), ["hello/2.0"]);
    assert_eq!(offered(&["ovl", "rm", "hello/1"]), [""]);
    assert_eq!(offered(&["ovl", "logs", "--run", "20"]), [run.as_str()]);
    assert!(offered(&["ovl", "status", ""]).iter().any(|word| word == "hello/2.0"));
    assert!(offered(&["ovl", "info", "/et"]).iter().any(|word| word == "/etc/"), "files, too");
    house.write("home/.config/ovl/config.yaml", "no: such: thing");
    assert_eq!(offered(&["ovl", "info", "h"]), [""], "a broken configuration is for the command to tell");
}

/// The shell blocks of a document, in order.
fn blocks(text: &str) -> String {
    let mut session = String::new();
    for block in text.split("```sh\n").skip(1) {
        session.push_str(block.split("```").next().unwrap());
        session.push('\n');
    }
    session
}

#[test]
fn the_readmes_session_runs() {
    let house = House::new();
    house.make("work/bin");
    std::os::unix::fs::symlink(program(), house.path("work/bin/ovl")).unwrap();
    for document in ["README.md", "docs/running.md", "docs/run.md", "docs/recipes.md"] {
        let session = blocks(&std::fs::read_to_string(root().join(document)).unwrap());
        let mut bash = house.command("bash");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", house.path("work/bin").display());
        bash.env("PATH", path).args(["-euo", "pipefail", "-c", &session]);
        let run = finish(bash);
        assert_eq!(run.code, 0, "{document}: {run:#?}");
        if document == "README.md" {
            run.prints("Bonjour, Marie!").prints("Hello, world!").prints("OK: ");
        }
    }
    house.settle();
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    for document in
        docs.chain([root().join("README.md")]).filter(|path| path.extension().is_some_and(|ending| ending == "md"))
    {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let target = link.split('#').next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                assert!(
                    document.parent().unwrap().join(target).exists(),
                    "{}: {link} leads nowhere",
                    document.display()
                );
            }
        }
    }
}
