//! Documents that cannot rot: manual pages equal the command line, the README's session runs, what ships resolves.

use std::path::Path;

use crate::support::house::{House, finish, program};

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
fn completions_are_scripts_their_shells_accept() {
    let house = House::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = house.ovl(&["completion", shell]).ok().stdout;
        assert!(script.contains("rollback"), "{shell}");
        if shell == "bash" {
            let file = house.write("work/completion", script);
            finish({
                let mut bash = house.command("bash");
                bash.args(["-n"]).arg(file);
                bash
            })
            .ok();
        }
    }
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
    for document in ["README.md", "docs/running.md", "docs/recipes.md"] {
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
