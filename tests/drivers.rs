//! Graphics drivers and looking like root, natively. No machine with a GPU is at hand: libraries and programs that every
//! machine has stand for those of a driver, named by a list of the site's.

use std::os::unix::fs::MetadataExt;

use crate::running::{system, with_overlays};
use crate::support::house::{House, Run, finish};

fn packed(house: &House) -> String {
    let (directory, image) = (system(house), house.path("system.sqf"));
    let mut pack = house.command("mksquashfs");
    pack.arg(&directory).arg(&image).args(["-quiet", "-no-progress", "-all-root"]);
    finish(pack).ok();
    image.to_str().unwrap().to_owned()
}

#[test]
fn a_driver_is_seen_over_a_base_and_behind_everything() {
    let house = with_overlays(&[("a/1", "")]);
    let image = packed(&house);
    let list = house.write("nvliblist.conf", "# the site's\nlibz.so\nid\n/etc/hostname\nlibnosuch.so\nnosuch\n");
    house.write("home/.config/ovl/config.yaml", format!("exec:\n  nvliblist: {}\n", list.display()));
    let directory = house.path("system").to_str().unwrap().to_owned();
    let script = "echo $LD_LIBRARY_PATH; ls /.ovl/gpu/lib; id -un; cat /etc/hostname; echo ${PATH##*:}";
    let exec =
        |args: &[&str]| -> Run { house.ovl(&[&["exec", "-o", "a", "--env", "LD_LIBRARY_PATH=/mine"], args].concat()) };
    let name = std::fs::read_to_string("/etc/hostname").unwrap();
    for base in [&image, &directory] {
        let run = exec(&["--base", base, "--nv", "bash", "-c", script]).ok();
        let lines: Vec<&str> = run.stdout.lines().collect();
        assert_eq!(lines[0], "/mine:/.ovl/gpu/lib", "{run:#?}");
        assert!(lines.contains(&"libz.so.1") && !lines.contains(&"libnosuch.so"), "{run:#?}");
        assert!(run.stdout.ends_with(&format!("{}\n/.ovl/gpu/bin\n", name.trim_end())), "{run:#?}");
        let off = exec(&["--base", base, "--no-gpu", "bash", "-c", "echo $LD_LIBRARY_PATH; ls -d /.ovl*"]);
        assert_eq!(off.stdout, "/mine\n", "{off:#?}");
    }
    assert_eq!(exec(&["--nv", "bash", "-c", "echo $LD_LIBRARY_PATH"]).ok().stdout, "/mine\n", "the host has its own");
    house.write("nvliblist.conf", "libnosuch.so\n");
    exec(&["--base", &image, "--nv", "true"]).code(127).says("no driver libraries for processors of NVIDIA");
    house.settle();
}

#[test]
fn fakeroot_is_root_inside_and_the_user_outside() {
    let house = with_overlays(&[("a/1", "")]);
    let image = packed(&house);
    let script =
        "id -u; id -g; stat -c '%u %g' /cnt/a/1 .; touch made; chown 0:0 made; grep NoNewPrivs /proc/self/status";
    for more in [&[][..], &["-o", "a"]] {
        let run = house.ovl(&[&["exec", "--fakeroot"], more, &["sh", "-c", script]].concat());
        let shown = if more.is_empty() { "0\n0\n0 0\n" } else { "0\n0\n0 0\n0 0\n" };
        assert_eq!(run.stdout, format!("{shown}NoNewPrivs:\t1\n"), "{run:#?}");
        let made = house.path("work/made");
        assert_eq!(made.metadata().unwrap().uid(), house.path("work").metadata().unwrap().uid());
        std::fs::remove_file(made).unwrap();
    }
    let run =
        house.ovl(&["exec", "--fakeroot", "--base", &image, "-o", "a", "bash", "-c", "echo $EUID; cat /etc/which"]);
    assert_eq!(run.ok().stdout, "0\nthe base\n");
    // Beside one that is not: they share nothing.
    let both = "\"$0\" exec -o a --fakeroot sh -c 'id -u; read x' < fifo & exec 3> fifo; sleep 0.3; \
        \"$0\" exec -o a id -u; \"$0\" exec -o a --fakeroot id -u; echo >&3; wait";
    let mut shell = house.command("sh");
    shell.args(["-c", &format!("mkfifo fifo; {both}")]).arg(crate::support::house::program());
    let own = house.path("work").metadata().unwrap().uid();
    assert_eq!(finish(shell).ok().stdout, format!("0\n{own}\n0\n"));
    house.settle();
}

#[test]
fn fakeroot_has_the_subordinate_ids_of_the_user() {
    let house = with_overlays(&[("a/1", "")]);
    let user = nix::unistd::User::from_uid(house.path("work").metadata().unwrap().uid().into()).unwrap().unwrap();
    let ids = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
    let first =
        ids.lines().find_map(|line| line.strip_prefix(&format!("{}:", user.name))?.split(':').next()?.parse().ok());
    let (Some(first), true) = (first, std::path::Path::new("/usr/bin/newuidmap").exists()) else {
        println!("skipped: {} has no subordinate ids, or there is no newuidmap", user.name);
        return;
    };
    let script = "touch mine made; chown 5:6 made; stat -c '%u %g' mine made /cnt/a/1; wc -l < /proc/self/uid_map";
    for _ in 0..2 {
        let run = house.ovl(&["exec", "--fakeroot", "-o", "a", "sh", "-c", script]).ok();
        assert_eq!(run.stdout, "0 0\n5 6\n0 0\n2\n", "{run:#?}");
        let of = |file: &str| house.path(file).metadata().unwrap().uid();
        let first: u32 = first;
        assert_eq!((of("work/mine"), of("work/made")), (user.uid.as_raw(), first + 4));
        house.ovl(&["exec", "--fakeroot", "rm", "made", "mine"]).ok();
    }
    house.settle();
}
