//! Wrappers, modulefiles and shell set-up, with real Lmod and Environment Modules where they are.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::house::{House, Run, finish, program, script};

/// What nobody may evaluate, in a shell, Lua or Tcl.
const ODD: &str = "a \"q\" $(touch evil) `touch evil` [exec touch evil] ${x} ] } { \\ 'x'; \u{e9} # -- ";

/// A house with a tool that needs a library, both with odd metadata.
fn house() -> House {
    let house = House::new();
    house.recipe(
        "lib/1.0",
        script("#ENV:LIB_ROOT=$app_root", "mkdir $target_dir/share; echo data > $target_dir/share/d"),
    );
    for version in ["2.0", "2.1"] {
        let headers = format!(
            "#URL:https://example.org/?a=$b\n#DEP:lib/1.0\n#ENV:TOOL_ROOT=$app_root\n#ENV:TOOL_NOTE={ODD}\n\
             #ENV:PERL5LIB=$app_root/perl:$PERL5LIB\n#LABEL:x={ODD}"
        );
        let install = format!(
            "mkdir $target_dir/bin; cd $target_dir/bin\nprintf '#!/bin/sh\\necho {version} \"$@\"; cat $LIB_ROOT/share/d\\n' > tool\n\
             chmod 755 tool; ln -s tool alias; ln -s nowhere dangling; echo x > readme; cp tool .hidden"
        );
        let text = script(&headers, &install).replace("made by a test", ODD);
        house.recipe(&format!("tool/{version}"), text);
    }
    house.ovl(&["build", "-q", "tool/2.0", "tool/2.1"]).ok();
    house
}

/// Runs a line of shell in the house.
fn shell(house: &House, vars: &[(&str, &str)], text: &str) -> Run {
    let mut command = house.command("bash");
    command.args(["--noprofile", "--norc", "-c", text]).envs(vars.iter().copied());
    finish(command)
}

fn no_evil(house: &House) {
    assert!(!house.path("work/evil").exists(), "something of an overlay was evaluated");
}

#[test]
fn wrappers_run_the_programs_of_one_version() {
    let house = house();
    let dir = house.path("work/my bin");
    let wrap = |args: &[&str]| house.ovl(&[&["wrap", "-d", dir.to_str().unwrap()], args].concat());
    assert_eq!(wrap(&["tool/2.0", "-n"]).ok().stdout, format!("{0}/alias\n{0}/tool\n", dir.display()));
    assert!(!dir.exists());
    wrap(&["tool/2.0"]).ok().says("2 wrappers of tool/2.0").says("is not on PATH yet");
    assert_eq!(house.names("work/my bin"), ["alias", "tool"], "no data, no dangling links, nothing hidden");
    let run = shell(&house, &[], "'./my bin/tool' 'a b' '$(touch evil)' ''; './my bin/alias'");
    assert_eq!(run.ok().stdout, "2.0 a b $(touch evil) \ndata\n2.0\ndata\n");

    wrap(&["tool", "--only", "tool"]).ok().says("tool is of tool/2.1 from now on, no longer of tool/2.0");
    assert_eq!(shell(&house, &[], "'./my bin/tool'; './my bin/alias'").ok().stdout, "2.1\ndata\n2.0\ndata\n");
    wrap(&["tool", "--only", "tol"]).code(4).says("has no program 'tol'").says("did you mean tool?");
    wrap(&["lib"]).code(4).says("lib/1.0 has no programs");

    wrap(&["--remove", "tool/2.0", "-n"]).ok().prints("alias").keeps_quiet_about("removed");
    wrap(&["--remove", "tool/2.0"]).ok().says("removed 1 wrapper");
    assert_eq!(house.names("work/my bin"), ["tool"]);
    wrap(&["--remove", "tool"]).ok();
    wrap(&["--remove", "tool"]).code(4).says("holds no wrappers of tool");
    no_evil(&house);
}

#[test]
fn files_of_others_are_not_touched() {
    let house = house();
    let own = house.write("work/bin/tool", "mine\n");
    house.make("work/bin/alias");
    let run = house.ovl(&["wrap", "tool/2.0", "-d", "bin"]).code(4);
    run.says("no wrappers of ovl's, nothing was written").says("bin/alias").says("--force");
    house.ovl(&["wrap", "tool/2.0", "-d", "bin", "--force"]).code(4).says("bin/alias");
    assert_eq!(std::fs::read_to_string(&own).unwrap(), "mine\n");
    house.ovl(&["wrap", "tool/2.0", "-d", "bin", "--only", "tool", "--force"]).ok();
    assert_eq!(own.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    // An overlay by its file.
    std::fs::copy(house.image("tool/2.0"), house.path("work/o'dd copy.sqf")).unwrap();
    house.ovl(&["wrap", "./o'dd copy.sqf", "-d", "files"]).ok();
    assert_eq!(shell(&house, &[], "cd /; \"$OLDPWD/files/tool\" x").ok().stdout, "2.0 x\ndata\n");
    house.ovl(&["wrap", "--remove", "./o'dd copy.sqf", "-d", "files"]).ok().says("removed 2 wrappers");
    let module = house.write("work/modules/tool/2.0.lua", "-- mine\n");
    house.ovl(&["module", "tool/2.0", "-d", "modules"]).code(4).says("was not made by ovl, nothing was written");
    assert!(!house.path("work/modules/lib").exists());
    house.ovl(&["module", "tool/2.0", "-d", "modules", "--force"]).ok();
    assert!(std::fs::read_to_string(module).unwrap().contains("made by ovl module"));
}

#[test]
fn shells_are_set_up() {
    let house = house();
    house.write("home/.config/ovl/config.yaml", format!("wrap:\n  dir: \"{}/it's here\"\n", house.dir.display()));
    house.ovl(&["wrap", "tool/2.0"]).ok().says("ovl shell-init bash");
    let init = format!("eval \"$('{0}' shell-init bash)\"; eval \"$('{0}' shell-init bash)\"", program().display());
    let run = shell(&house, &[], &format!("{init}; tool x; echo \"$PATH\"; complete -p ovl")).ok();
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines[..2], ["2.0 x", "data"]);
    assert_eq!(lines[2].matches("it's here").count(), 1, "{run:#?}");
    assert!(lines[3].contains("_ovl"), "{run:#?}");
    for (shell, flags) in [("zsh", "-fc"), ("fish", "-c")] {
        let text = house.ovl(&["shell-init", shell]).ok().stdout;
        if Command::new(shell).arg("--version").output().is_err() {
            println!("skipped in part: no {shell}");
            continue;
        }
        let file = house.write("work/init", text);
        let mut command = house.command(shell);
        command.args([flags, &format!("source {}; tool x", file.display())]);
        assert_eq!(finish(command).ok().stdout, "2.0 x\ndata\n", "{shell}");
    }
}

/// What a session with modules has to show, whatever reads them. `module` is how the shell comes by that command.
fn session(house: &House, module: &str, dir: &Path) {
    let text = format!(
        "{module}\nmodule use '{}'\nmodule load tool/2.0 || exit 9\ntool 'a b'\necho \"$TOOL_NOTE\"\n\
         echo \"$PERL5LIB $TOOL_ROOT $LIB_ROOT\"\nmodule whatis tool/2.0 2>&1 | grep -c touch\nmodule help tool/2.0 2>&1 | grep touch\n\
         module unload tool/2.0\ntype tool 2>/dev/null\necho \"[$TOOL_NOTE][$PERL5LIB]\"",
        dir.display()
    );
    let run = shell(house, &[("PERL5LIB", "/mine")], &text).ok();
    let root = "/cnt/tool/2.0";
    // A variable that is nobody's is empty, as it is for `ovl exec`.
    let note = ODD.replace("${x}", "");
    let wanted = format!("2.0 a b\ndata\n{note}\n{root}/perl:/mine {root} /cnt/lib/1.0\n1\n{ODD}\n[][/mine]\n");
    assert_eq!(run.stdout.replace(" \n", "\n"), wanted.replace(" \n", "\n"), "{run:#?}");
    no_evil(house);
}

#[test]
fn lmod_loads_what_is_made_for_it() {
    let init = "/usr/share/lmod/lmod/init/bash";
    if !Path::new(init).exists() {
        crate::support::missing("no Lmod");
        return;
    }
    let house = house();
    house.ovl(&["module", "tool/2.0", "tool/2.1", "-d", "modules"]).ok().says("module use").says("tool/2.1.lua");
    let dir = house.path("work/modules");
    session(&house, &format!(". {init}"), &dir);
    let swap = format!(". {init}; module use '{}'; module load tool/2.0; module load tool/2.1; tool", dir.display());
    assert!(shell(&house, &[], &swap).ok().stdout.ends_with("2.1\ndata\n"));
}

#[test]
fn environment_modules_load_what_is_made_for_them() {
    let Some(command) = std::env::var_os("OVL_TEST_MODULECMD") else {
        println!("skipped: OVL_TEST_MODULECMD names no modulecmd.tcl of Environment Modules");
        return;
    };
    let house = house();
    house.ovl(&["module", "tool/2.0", "-d", "modules", "--format", "tcl", "--bin-dir", "bin"]).ok();
    assert_eq!(house.names("work/bin/tool/2.0"), ["alias", "tool"]);
    let module = format!("module() {{ eval \"$(tclsh {} bash \"$@\")\"; }}", command.display());
    session(&house, &module, &house.path("work/modules"));
    let both = format!(
        "{module}; module use '{}'; module load lib/1.0; module list 2>&1",
        house.path("work/modules").display()
    );
    shell(&house, &[], &both).ok().prints("lib/1.0");
}

#[test]
fn modulefiles_are_the_same_each_time_and_follow_the_overlay() {
    let house = house();
    let once = house.ovl(&["module", "tool/2.0"]).ok().stdout;
    assert_eq!(house.ovl(&["module", "tool/2.0"]).ok().stdout, once);
    let lib = once.find("family(\"lib\")").unwrap();
    assert!(lib < once.find("depends_on(\"lib/1.0\")").unwrap(), "{once}");
    let alone = house.ovl(&["module", "tool/2.0", "--no-deps"]).ok().stdout;
    assert!(!alone.contains("depends_on") && alone.contains("family(\"tool\")"), "{alone}");
    house.ovl(&["module", "tool/2.0", "-d", "modules"]).ok();
    let file = house.path("work/modules/tool/2.0.lua");
    let first = std::fs::read(&file).unwrap();
    house.write("work/modules/tool/.2.0.bin/mine", "mine");
    let gone = "#!/bin/sh\n# made by ovl wrap: [\"tool/2.0\",\"/cnt/tool/2.0/bin/gone\"]\n";
    house.write("work/modules/tool/.2.0.bin/gone", gone);
    house.ovl(&["module", "tool/2.0", "-d", "modules"]).ok();
    assert_eq!(std::fs::read(&file).unwrap(), first);
    assert_eq!(house.names("work/modules/tool/.2.0.bin"), ["alias", "mine", "tool"]);
    house.ovl(&["module", "tool/9"]).code(4).says("there is no overlay 'tool/9'");
}
