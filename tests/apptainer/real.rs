//! With a real Apptainer: on PATH or, in a root of its own, behind OVL_TEST_APPTAINER, a command that runs others there
//! as `CMD -b PATH… -C DIR -- COMMAND…`, as the user that the tests run ovl as.

use std::process::Command;

use crate::support::house::{House, Run, finish, program, script};

/// A house with overlays, and how `ovl` is run where Apptainer is. None: there is none.
struct Real {
    house: House,
    through: Option<String>,
}

impl Real {
    fn find() -> Option<Real> {
        let through = std::env::var("OVL_TEST_APPTAINER").ok();
        let here = Command::new("apptainer").arg("--version").output().is_ok_and(|out| out.status.success());
        if through.is_none() && !here {
            println!("skipped: there is no apptainer, and OVL_TEST_APPTAINER names none");
            return None;
        }
        let house = House::new();
        for (name, low) in [("a/1.0", "a"), ("b/1.0", "b")] {
            let body = format!(
                "mkdir -p $target_dir/bin; echo 'echo {low} $0 $*' > $target_dir/bin/{low}; chmod 755 $target_dir/bin/{low}"
            );
            house.recipe(name, script("#ENV:ROOT=$app_root", &body));
        }
        house.ovl(&["build", "a/1.0", "b/1.0"]).ok();
        Some(Real { house, through })
    }

    /// A command where Apptainer is, with the house's environment and these variables.
    fn command(&self, vars: &[(&str, &str)], words: &[&str]) -> Run {
        let settings: Vec<String> = self
            .house
            .command("x")
            .get_envs()
            .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value?.to_str()?)))
            .chain(vars.iter().map(|(name, value)| format!("{name}={value}")))
            .collect();
        let mut command = match &self.through {
            None => self.house.command("env"),
            Some(through) => {
                let mut parts = through.split_whitespace();
                let mut command = Command::new(parts.next().unwrap());
                command.args(parts).arg("-b").arg(&self.house.dir).arg("-b");
                command.arg(program().parent().unwrap()).arg("-C").arg(self.house.path("work"));
                command.args(["--", "env", "-i"]);
                command
            }
        };
        command.args(settings).args(words);
        finish(command)
    }

    fn exec(&self, vars: &[(&str, &str)], args: &[&str]) -> Run {
        let ovl = program().to_str().unwrap();
        self.command(vars, &[&[ovl, "exec", "--runtime", "apptainer"], args].concat())
    }
}

#[test]
fn real_apptainer_runs_overlays_and_passes_codes_and_signals() {
    let Some(real) = Real::find() else { return };
    let run = real.exec(&[], &["-o", "a/1.0", "-o", "b/1.0", "a", "x y", "$(id)"]).ok();
    assert_eq!(run.stdout, "a /cnt/a/1.0/bin/a x y $(id)\n");
    real.exec(&[], &["-o", "b/1.0", "sh", "-c", "exit 37"]).code(37);
    real.exec(&[], &["-o", "b/1.0", "sh", "-c", "kill -TERM $$"]).code(1000 + 15);
    real.exec(&[], &["-o", "b/1.0", "no-such-command"]).code(255);
    let data = real.house.write("work/data/f", "content");
    let bind = format!("{}:/mine:ro", data.parent().unwrap().display());
    let run = real.exec(&[], &["-o", "a/1.0", "-B", &bind, "sh", "-c", "cat /mine/f; ! touch /mine/g"]).ok();
    assert_eq!(run.stdout, "content");
}

#[test]
fn real_apptainer_passes_the_environment_byte_by_byte() {
    let Some(real) = Real::find() else { return };
    let odd = "$(id) `id` ${HOME} \\ \\n \"q\" 'a',b=c\nline two\t\u{e9} *";
    let vars = [("ODD", odd), ("BASH_FUNC_odd%%", "() { :; }"), ("APPTAINER_BIND", "/x"), ("PREPEND_PATH", "/p")];
    for more in [&vars[..1], &vars[..]] {
        let run = real.exec(more, &["-o", "a/1.0", "--env", "SET=a,b=$c", "env", "-0"]).ok();
        let have: Vec<&str> = run.stdout.split('\0').collect();
        let set = [("SET", "a,b=$c"), ("ROOT", "/cnt/a/1.0")];
        for (name, value) in more.iter().chain(&set) {
            let line = format!("{name}={value}");
            assert!(have.contains(&line.as_str()), "no {line:?} in {have:#?}");
        }
        let path = have.iter().find(|line| line.starts_with("PATH=")).unwrap();
        assert!(path.starts_with("PATH=/cnt/a/1.0/bin:/"), "{path}");
    }
}

#[test]
fn real_apptainer_shows_the_user_as_root_and_takes_its_own_flags() {
    let Some(real) = Real::find() else { return };
    let run = real.exec(&[], &["-o", "a/1.0", "--fakeroot", "sh", "-c", "id -u; a"]).ok();
    assert_eq!(run.stdout, "0\na /cnt/a/1.0/bin/a\n");
    let run = real.exec(&[], &["-o", "a/1.0", "--apptainer-arg=--uts", "--apptainer-arg=--hostname=odd", "hostname"]);
    assert_eq!(run.ok().stdout, "odd\n");
}

#[test]
fn real_apptainer_over_a_sif_and_a_writable_image() {
    let Some(real) = Real::find() else { return };
    let house = &real.house;
    let sif = house.path("work/base.sif");
    // A system small enough: the programs of the one that Apptainer is in.
    let copy = "mkdir -p tree/bin tree/proc tree/sys tree/dev tree/tmp tree/etc && \
        for p in sh cat ls touch id; do cp $(readlink -f $(command -v $p)) tree/bin/$p; \
        for l in $(ldd $(command -v $p) | grep -o '/[^ ]*'); do mkdir -p tree$(dirname $l); cp -L $l tree$l; done; done; \
        echo the base > tree/etc/name && apptainer --silent build base.sif tree";
    real.command(&[], &["sh", "-c", copy]).ok();
    let base = sif.to_str().unwrap();
    let run = real.exec(&[], &["--base", base, "-o", "a/1.0", "sh", "-c", "cat /etc/name; a; ls /"]).ok();
    assert!(run.stdout.starts_with("the base\na /cnt/a/1.0/bin/a\n"), "{run:#?}");

    let make = "truncate -s 64M env.img && mkdir -p top/upper/made top/work && echo old > top/upper/made/f && \
        mke2fs -q -t ext3 -O ^ext_attr -d top env.img";
    let made = real.command(&[], &["sh", "-c", make]);
    assert_eq!(made.code, 0, "{made:#?}");
    let image = house.path("work/env.img");
    // Shared by two readers, one of them Apptainer alone; a writer waits for nobody.
    let both = format!(
        "'{ovl}' exec --runtime apptainer -o '{image}' --base '{base}' sh -c 'cat /made/f; read x' < fifo & \
         mkfifo fifo; exec 3> fifo; sleep 1; \
         apptainer --silent exec --overlay '{image}:ro' '{base}' cat /made/f; \
         apptainer --silent exec --overlay '{image}' '{base}' true; echo $?; echo >&3; wait",
        ovl = program().display(),
        image = image.display(),
    );
    let both = format!("rm -f fifo; mkfifo fifo; {}", both.replace("mkfifo fifo; exec", "exec"));
    let run = real.command(&[], &["sh", "-c", &both]).ok();
    assert_eq!(run.stdout, "old\nold\n255\n", "{run:#?}");
}
