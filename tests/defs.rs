//! Definition files, built by ovl's own engine as an unprivileged user, and used.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::house::{House, finish};
use crate::support::missing;

/// Debian's static busybox; None, with the reason, where it is not installed.
fn busybox() -> Option<PathBuf> {
    let found = ["/usr/bin/busybox", "/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.exists());
    if found.is_none() {
        missing("no busybox here (Debian: busybox-static)");
    }
    found
}

/// A house in which definitions are built by ovl itself.
fn house() -> House {
    let house = House::new();
    house.set("OVL_BUILD_DEF_ENGINE", "native");
    house.set("OVL_EXEC_RUNTIME", "native");
    house
}

/// A house without newuidmap: only one id can be mapped.
fn poor_house() -> House {
    let house = house();
    let bin = house.make("poor");
    for dir in ["/usr/sbin", "/usr/bin"] {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            if !matches!(entry.file_name().to_str(), Some("newuidmap" | "newgidmap" | "apptainer" | "singularity")) {
                let _ = std::os::unix::fs::symlink(entry.path(), bin.join(entry.file_name()));
            }
        }
    }
    house.set("PATH", bin.to_str().unwrap());
    house
}

/// The beginning of a definition with busybox as its system.
fn tiny(busybox: &Path) -> String {
    format!("Bootstrap: scratch\n%files\n    {} /bin/sh\n", busybox.display())
}

#[test]
fn a_definition_becomes_a_system_that_says_what_it_is() {
    let Some(busybox) = busybox() else { return };
    for house in [house(), poor_house()] {
        let text = format!(
            "#WHATIS:tiny\n#ENV:FROM_HEADER=$app_root/x\n{}    data.txt\n    glob/*.txt /opt/\n\
             %arguments\n    who=world\n\
             %setup\n    echo setup > \"$APPTAINER_ROOTFS/setup\"\n\
             %post\n    test \"$(sh -c 'echo $$')\" -gt 0\n    echo {{{{ who }}}} > /made\n    chown 7:7 /made\n    mkdir /data2\n\
             \x20   echo 'export LATE=1' >> \"$APPTAINER_ENVIRONMENT\"\n    echo MADE by-post >> \"$APPTAINER_LABELS\"\n\
             %environment\n    export GREETING=\"hello $HOME_OF\"\n    PATH=$PATH:/opt/bin\n\
             %labels\n    Author Ann B.\n%runscript\n    echo \"run $1 $GREETING\"\n\
             %help\n    Say this.\n%test\n    test \"$(cat /made)\" = \"ovl\" || exit 1\n    exec true\n\
             %apprun foo\n    echo app\n%appenv foo\n    export FOO=1\n",
            tiny(&busybox)
        );
        house.recipe("tiny/1.def", text.clone());
        house.recipe("tiny/data.txt", "data\n");
        house.recipe("tiny/glob/a.txt", "a\n");
        house.recipe("tiny/glob/b.txt", "b\n");
        house.ovl(&["build", "tiny/1", "--build-arg", "who=wrong"]).code(5).says("%test");
        assert_eq!(house.names("home/.local/share/ovl/images"), Vec::<String>::new());
        house.ovl(&["build", "tiny/1", "--build-arg", "who=ovl"]).ok();
        assert_eq!(house.names("scratch"), Vec::<String>::new(), "nothing is left");
        let inside = |args: &[&str]| house.ovl(&[&["exec", "--base", "tiny/1", "--"], args].concat()).ok().stdout;
        let show = |what: &str| inside(&["sh", "-c", what]);
        assert_eq!(show("cat /made /setup /data.txt /opt/a.txt /opt/b.txt"), "ovl\nsetup\ndata\na\nb\n");
        let said = house.ovl_with(
            &[("HOME_OF", "me")],
            &["exec", "--base", "tiny/1", "sh", "-c", "echo $GREETING $LATE $FROM_HEADER $PATH"],
        );
        assert!(said.ok().stdout.starts_with("hello me 1 /cnt/tiny/1/x /usr/local/sbin:"), "sourced");
        assert!(show("echo $PATH").ends_with(":/opt/bin\n"));
        assert_eq!(
            house
                .ovl(&["exec", "--base", "tiny/1", "--env", "GREETING=it's mine", "sh", "-c", "echo $GREETING"])
                .ok()
                .stdout,
            "it's mine\n"
        );
        assert_eq!(house.ovl_with(&[("HOME_OF", "me")], &["run", "tiny/1", "x y"]).ok().stdout, "run x y hello me\n");
        assert_eq!(house.ovl(&["help", "tiny/1"]).ok().stdout.trim(), "Say this.");
        house
            .ovl(&["info", "tiny/1"])
            .ok()
            .prints("runscript, test, help")
            .prints("Author=Ann B.")
            .prints("MADE=by-post");
        let json = house.ovl(&["info", "--json", "tiny/1"]).ok().json();
        assert_eq!(json["system"]["labels"]["Author"], "Ann B.");
        let top = show("ls -a / | tr '\\n' ' '");
        let expected = ". .. .exec .run .shell .singularity.d .test bin cnt data.txt data2 dev environment etc home made \
                        opt proc root scif setup singularity sys tmp var";
        assert_eq!(top.trim(), expected);
        // The same again: nothing to do; another argument: another build.
        house.ovl(&["build", "tiny/1", "--build-arg", "who=ovl"]).ok().says("up to date");
        // On top of it, by its name.
        house.recipe("top/1.def", "Bootstrap: localimage\nFrom: tiny/1\n%post\n    cat /made > /again\n");
        house.ovl(&["build", "top/1"]).ok();
        let again = house.ovl(&[
            "exec",
            "--base",
            "top/1",
            "sh",
            "-c",
            "cat /again; echo $GREETING; ls /.singularity.d/bootstrap_history",
        ]);
        assert_eq!(again.ok().stdout, "ovl\nhello\nApptainer0\n");
        // What it starts from is an input: one that has changed makes it stale, and is built first.
        house.ovl(&["build", "top/1"]).ok().says("up to date");
        house.recipe("tiny/1.def", text.replace("Say this.", "Say that."));
        house.ovl(&["build", "-u", "tiny/1", "--build-arg", "who=ovl"]).ok();
        house.ovl(&["build", "top/1"]).ok().says("stale").says("tiny/1");
        house
            .ovl(&["exec", "--base", "tiny/1", "nothing-like-it"])
            .code(127)
            .says("command not found: nothing-like-it");
        house.settle();
    }
}

#[test]
fn stages_hand_files_on() {
    let Some(busybox) = busybox() else { return };
    let house = house();
    let first = tiny(&busybox).replacen('\n', "\nStage: build\n", 1);
    let text = format!(
        "{first}%post\n    mkdir -p /out/sub\n    echo built > /out/sub/file\n    ln -s sub/file /out/link\n    ln -s /out /abs\n\
         {}%files from build\n    /out /opt/out\n    /abs/link /etc/one\n    /out/s*\n%test\n    cat /opt/out/link /etc/one /out/sub/file\n    test -L /opt/out/link && test ! -L /etc/one\n",
        tiny(&busybox)
    );
    house.recipe("two/1.def", text);
    house.ovl(&["build", "two/1"]).ok();
    let list = "cat /opt/out/link /etc/one /out/sub/file; ls /";
    let said = house.ovl(&["exec", "--base", "two/1", "sh", "-c", list]).ok().stdout;
    assert!(said.starts_with("built\nbuilt\nbuilt\n") && !said.contains("abs"), "{said}");
    house.settle();
}

#[test]
fn links_and_processes_of_an_image_never_lead_to_the_host() {
    let Some(busybox) = busybox() else { return };
    for house in [house(), poor_house()] {
        let outside = house.make("work/outside");
        std::fs::write(outside.join("secret"), "host\n").unwrap();
        for (path, mode) in [(outside.clone(), 0o777), (outside.join("secret"), 0o644)] {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
        let out = outside.display();
        house.recipe("bad/1.def", format!("{}%post\n    mkdir /opt\n    ln -s {out} /opt/tool\n", tiny(&busybox)));
        house.ovl(&["build", "bad/1"]).ok();
        let first = tiny(&busybox).replacen('\n', "\nStage: build\n", 1);
        let made = "%post\n    mkdir -p /src/tool2\n    echo x > /src/tool\n    echo y > /src/tool2/f\n";
        let text = format!(
            "{first}{made}    ln -s {out} /lib\nBootstrap: localimage\nFrom: bad/1\n\
             %files from build\n    /src/tool /opt\n%post\n\
             \x20   test ! -L /opt/tool && test \"$(cat /opt/tool)\" = x\n\
             \x20   test \"$(cat /etc/hosts)\" != '' && echo 192.0.2.1 nowhere >> /etc/hosts\n\
             \x20   for root in /proc/[0-9]*/root; do if cat $root{out}/secret; then exit 9; fi; done\n\
             \x20   for link in /proc/1/exe /proc/1/root /proc/1/cwd; do if readlink $link; then exit 8; fi; done\n\
             \x20   (sleep 1000 &)\n"
        );
        house.recipe("good/1.def", text);
        let hosts = std::fs::read("/etc/hosts").unwrap();
        house.ovl(&["build", "good/1"]).ok();
        assert_eq!(std::fs::read("/etc/hosts").unwrap(), hosts, "a copy was changed");
        assert_eq!(house.names("work/outside"), ["secret"], "nothing was written outside");
        let text =
            format!("{first}{made}    ln -s {out} /lib\n{}%files from build\n    /lib/sec* /opt/\n", tiny(&busybox));
        house.recipe("glob/1.def", text);
        house.ovl(&["build", "glob/1"]).code(7).says("/lib/sec* is not in that stage");
        house.settle();
    }
}

#[test]
fn what_cannot_be_done_is_said_with_its_line() {
    let house = house();
    let check = |text: &str, code: i32, says: &str| {
        let file = house.write("work/x.def", text);
        house.ovl(&["build", "-f", file.to_str().unwrap(), "x/1"]).code(code).says(says);
    };
    check("Bootstrap: library\nFrom: alpine\n", 7, "x.def:1:1: Bootstrap: library");
    check("Bootstrap: yum\nMirrorURL: http://x\n", 7, "Bootstrap: docker");
    check("Bootstrap: localimage\nFrom: nothing.sif\n", 7, "x.def:2:1: there is no");
    check("Bootstrap: localimage\nFrom: none/1\n", 4, "none/1");
    check("Bootstrap: scratch\n%post\n echo\n", 7, "line 2: %post needs a /bin/sh");
    check("Bootstrap: scratch\n%files\n /nowhere/x\n", 7, "line 3: %files: /nowhere/x is not there");
    check("Bootstrap: scratch\n%poste\n {{ x }}\n", 4, "OVL084");
    let file = house.write("work/x.def", "Bootstrap: scratch\n%poste\n {{ x }}\n");
    let run = house.ovl(&["check", file.to_str().unwrap()]).code(4);
    assert!(
        run.stdout.contains("x.def:2:1: error[OVL081]") && run.stdout.contains("x.def:3:2: error[OVL084]"),
        "{run:?}"
    );
    assert_eq!(house.names("scratch"), Vec::<String>::new());
    house.settle();
}

#[test]
fn the_definitions_that_ship_are_clean() {
    let house = house();
    for name in ["debian12/base", "debian12/bootstrap", "ubuntu24/base", "rocky9/base"] {
        let run = house.ovl(&["check", name]).ok();
        assert!(run.stdout.contains(&format!("OK: built-in:{name}.def")), "{run:?}");
        house.ovl(&["avail", name]).ok().prints(name);
    }
    house.ovl(&["build", "--dry-run", "ubuntu24/base", "--build-arg", "imagee=x"]).ok();
}

#[test]
fn a_template_of_definitions_fills_names_in() {
    let Some(busybox) = busybox() else { return };
    let house = house();
    let head = "#PL:version:1.0,2.0\n#TARGET:tpl/{version}\n";
    house.recipe(
        "tpl.def",
        format!("{head}{}%arguments\n    x=y\n%post\n    echo {{version}} {{{{ x }}}} > /v\n", tiny(&busybox)),
    );
    house.ovl(&["build", "tpl/2.0"]).ok();
    assert_eq!(house.ovl(&["exec", "--base", "tpl/2.0", "sh", "-c", "cat /v"]).ok().stdout, "2.0 y\n");
    house.settle();
}

#[test]
fn a_killed_build_leaves_nothing_after_the_next() {
    let Some(busybox) = busybox() else { return };
    for house in [house(), poor_house()] {
        // Directories of other ids cannot be removed by the user.
        let post = "%post\n    mkdir /deep /deep/er\n    echo x > /deep/er/x\n    chown -R 7:7 /deep\n    chmod -R go-w /deep\n    echo begun\n";
        house.recipe("k/1.def", format!("{}{post}    sleep 600\n", tiny(&busybox)));
        let mut build = house.start(&["build", "k/1"]);
        let begun = Instant::now();
        let deep = || {
            let work = house.path("scratch");
            let found = std::fs::read_dir(&work).unwrap().flatten();
            found.into_iter().any(|entry| entry.path().join("cook/root-0/deep/er/x").exists())
        };
        while !deep() {
            assert!(begun.elapsed() < Duration::from_secs(60), "%post did not begin");
            std::thread::sleep(Duration::from_millis(20));
        }
        build.kill().unwrap();
        build.wait().unwrap();
        house.settle();
        assert_eq!(house.names("scratch").len(), 1, "what the kill left");
        house.recipe("k/1.def", format!("{}{post}", tiny(&busybox)));
        house.ovl(&["build", "k/1"]).ok();
        assert_eq!(house.names("scratch"), Vec::<String>::new());
        // A failure leaves nothing either.
        house.recipe("k/2.def", format!("{}{post}    exit 3\n", tiny(&busybox)));
        house.ovl(&["build", "k/2"]).code(2).says("begun");
        assert_eq!(house.names("scratch"), Vec::<String>::new());
        house.settle();
    }
}

/// A Debian root as an OCI archive and an archive of docker save, made once; None with the reason.
fn debian() -> Option<PathBuf> {
    let dir = PathBuf::from("/tmp/ovl-tests-debian");
    if dir.join("deb-docker.tar").exists() && dir.join("deb-oci.tar").exists() {
        return Some(dir);
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: {} is made by root's test runs", dir.display());
        return None;
    }
    for program in ["mmdebstrap", "skopeo", "umoci"] {
        if Command::new(program).arg("--version").output().is_err() {
            missing(&format!("no {program} here"));
            return None;
        }
    }
    let script = "set -e; umask 022; new=$(mktemp -d /tmp/ovl-tests-debian.XXXXXX); cd $new; chmod 755 .\n\
        mmdebstrap --quiet --variant=apt --mode=root --aptopt='Acquire::Check-Valid-Until \"false\"' bookworm root.tar 'deb http://deb.debian.org/debian bookworm main'\n\
        umoci init --layout img; umoci new --image img:deb; umoci raw add-layer --image img:deb root.tar\n\
        umoci config --image img:deb --config.env 'GREETING=hello world' --config.cmd bash --config.label maker=tests; umoci gc --layout img\n\
        skopeo copy -q oci:img:deb oci-archive:deb-oci.tar:deb; skopeo copy -q oci:img:deb docker-archive:deb-docker.tar:deb:latest\n\
        rm -rf root.tar /tmp/ovl-tests-debian; mv $new /tmp/ovl-tests-debian";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    if !output.status.success() {
        eprintln!("skipped: no Debian root can be made: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(dir)
}

/// Whether packages can be had.
fn mirror() -> bool {
    use std::net::ToSocketAddrs;
    let there = ("deb.debian.org", 80).to_socket_addrs().ok().and_then(|mut all| all.next());
    let there = there.is_some_and(|at| std::net::TcpStream::connect_timeout(&at, Duration::from_secs(5)).is_ok());
    if !there {
        eprintln!("skipped: no mirror of Debian can be reached");
    }
    there
}

#[test]
fn packages_are_installed_in_a_container_image_by_anybody() {
    let Some(debian) = debian() else { return };
    if !mirror() {
        return;
    }
    for (house, agent, file) in
        [(house(), "oci-archive", "deb-oci.tar:deb"), (poor_house(), "docker-archive", "deb-docker.tar")]
    {
        let text = format!(
            "Bootstrap: {agent}\nFrom: {}/{file}\n%post\n    echo \"$GREETING\" > /greeting\n\
             \x20   echo 'Acquire::Check-Valid-Until \"false\";' > /etc/apt/apt.conf.d/99now\n\
             \x20   apt-get -q update && apt-get -qy install --no-install-recommends hello\n    apt-get clean; rm -rf /var/lib/apt/lists/*\n\
             %test\n    hello\n",
            debian.display()
        );
        house.recipe("deb/1.def", text);
        house.ovl(&["build", "deb/1", "--comp", "lz4"]).ok();
        let said =
            house.ovl(&["exec", "--base", "deb/1", "sh", "-c", "hello; cat /greeting; echo $GREETING"]).ok().stdout;
        assert_eq!(said, "Hello, world!\nhello world\nhello world\n");
        assert_eq!(house.ovl(&["run", "deb/1", "echo", "a b"]).ok().stdout, "a b\n");
        house.ovl(&["info", "deb/1"]).ok().prints("maker=tests");
        assert_eq!(house.names("scratch"), Vec::<String>::new());
        house.settle();
    }
}

#[test]
fn apptainer_is_asked_where_it_is_wanted() {
    let Some(busybox) = busybox() else { return };
    let house = House::new();
    // A stand-in: notes how it is called, and makes a SIF file as the real one would.
    house.write("tree/bin/x", "x\n");
    let tree = house.path("tree");
    let mut pack = house.command("mksquashfs");
    pack.arg(&tree).arg(house.path("tree.sqf")).args(["-quiet", "-no-progress", "-all-root"]);
    finish(pack).ok();
    let sif = crate::support::sif::bytes(&[crate::support::sif::partition(&house.path("tree.sqf"), 1, 2)]);
    house.write("made.sif", sif);
    let dir = house.dir.display().to_string();
    let text = format!(
        "#!/bin/sh\necho \"$@\" > {dir}/argv\nenv | grep TMPDIR > {dir}/env\nfor last; do before=$that; that=$last; done\ncp {dir}/made.sif \"$before\"\ncp \"$that\" {dir}/def\n"
    );
    let program = house.write("bin/apptainer", text);
    std::fs::set_permissions(program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    house.put_on_path(&house.path("bin"));
    house.recipe(
        "a/1.def",
        format!("#WHATIS:a\nBootstrap: library\nFrom: {{{{ x }}}}\n%files\n {}\n", busybox.display()),
    );
    house.ovl(&["build", "a/1", "--build-arg", "x=alpine"]).ok();
    let argv = std::fs::read_to_string(house.path("argv")).unwrap();
    assert!(argv.starts_with("build --fakeroot --notest ") && argv.ends_with("recipe.def\n"), "{argv}");
    assert!(std::fs::read_to_string(house.path("def")).unwrap().contains("From: alpine"));
    assert!(std::fs::read_to_string(house.path("env")).unwrap().contains(&format!("APPTAINER_TMPDIR={dir}/scratch/")));
    house.ovl(&["info", "a/1"]).ok().prints("a/1");
    assert_eq!(house.names("scratch"), Vec::<String>::new());
}

/// Debian's docker-registry on a free port; killed when dropped.
struct Registry(std::process::Child, u16);

impl Registry {
    fn start(house: &House) -> Option<Registry> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = house.make("registry");
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            dir.display()
        );
        let config = house.write("registry.yml", config);
        let mut command = house.command("docker-registry");
        command.arg("serve").arg(config).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let Ok(child) = command.spawn() else {
            missing("no docker-registry here");
            return None;
        };
        let registry = Registry(child, port);
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("docker-registry does not answer");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_definition_starts_from_an_image_in_a_registry() {
    let Some(busybox) = busybox() else { return };
    let house = house();
    let Some(registry) = Registry::start(&house) else { return };
    let at = format!("127.0.0.1:{}/group/tiny:1", registry.1);
    let script = format!(
        "set -e; mkdir -p img-root/bin; cp {} img-root/bin/sh; ln -s sh img-root/bin/cat; tar -C img-root -cf root.tar .\n\
         umoci init --layout img; umoci new --image img:t; umoci raw add-layer --image img:t root.tar\n\
         umoci config --image img:t --config.env 'IT=is  this' --config.entrypoint cat --config.cmd /made\n\
         skopeo --insecure-policy copy -q --dest-tls-verify=false oci:img:t docker://{at}",
        busybox.display()
    );
    let mut push = house.command("sh");
    push.args(["-c", &script]);
    let pushed = push.output().unwrap();
    if !pushed.status.success() {
        missing(&format!("umoci and skopeo cannot push: {}", String::from_utf8_lossy(&pushed.stderr)));
        return;
    }
    house.recipe("reg/1.def", format!("Bootstrap: docker\nFrom: {at}\n%post\n    echo \"$IT\" > /made\n"));
    house.ovl(&["build", "reg/1"]).ok();
    assert_eq!(house.ovl(&["run", "reg/1"]).ok().stdout, "is  this\n");
    // What is in the cache needs no registry any more.
    drop(registry);
    house.recipe("reg/2.def", format!("Bootstrap: docker\nFrom: {at}\n%post\n    echo again > /made\n"));
    house.ovl_with(&[("OVL_NET_OFFLINE", "true")], &["build", "reg/2"]).ok();
    assert_eq!(house.ovl(&["run", "reg/2"]).ok().stdout, "again\n");
    house.recipe("reg/3.def", "Bootstrap: docker\nFrom: 127.0.0.1:1/none:1\n");
    house.ovl(&["build", "reg/3"]).code(1).says("3.def:2:1");
    house.settle();
}
