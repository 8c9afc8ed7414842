//! Looks on the machine for graphics processors with their drivers, and for what of a driver a command over a base
//! image needs. No machine with a GPU has been at hand: what is here was tried with files made to look like one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::exec::gpu::{Found, Wanted, furnish, loader_cache};
use crate::exec::{Base, Gpus, Invocation};
use crate::model::cmd::Cmd;
use crate::sys::{fs, process, userns};

/// Where Apptainer and Singularity keep their lists.
const LIST_DIRS: [&str; 4] =
    ["etc/apptainer", "etc/singularity", "usr/local/etc/apptainer", "usr/local/etc/singularity"];
/// Longest time to ask a program about the driver.
const PATIENCE: Duration = Duration::from_secs(10);

/// The processors that are at hand below `root` (`/`): a device and the driver that made it.
pub fn present(root: &Path) -> Gpus {
    let there = |path: &str| root.join(path).exists();
    let nvidia = there("dev/nvidiactl") && there("proc/driver/nvidia/version");
    // The device alone is there for Intel's and for virtual ones, too.
    let rocm = there("dev/kfd") && there("sys/module/amdgpu");
    Gpus { nvidia, rocm, off: false, list: None }
}

/// What `exec.gpu` means on this machine: `auto`, `nvidia`, `rocm` or `none`.
pub fn wanted(word: &str, list: Option<PathBuf>) -> Gpus {
    let gpus = match word {
        "nvidia" => Gpus { nvidia: true, ..Gpus::default() },
        "rocm" => Gpus { rocm: true, ..Gpus::default() },
        "none" => Gpus { off: true, ..Gpus::default() },
        _ => present(Path::new("/")),
    };
    Gpus { list, ..gpus }
}

/// The invocation with the drivers of the host seen over its base; None when it needs none: the host is the base, or
/// no processor is wanted. `say` is told what is missing.
pub fn furnished(invocation: &Invocation, say: &dyn Fn(&str)) -> Option<Invocation> {
    let gpus = &invocation.gpus;
    if !(gpus.nvidia || gpus.rocm) || invocation.base == Base::Dir("/".into()) {
        return None;
    }
    let cache = loader_cache(&printed("ldconfig", "-p").unwrap_or_default(), std::env::consts::ARCH);
    let mut all = Found::default();
    for (name, on, wanted) in [("NVIDIA", gpus.nvidia, nvidia as Lister), ("AMD", gpus.rocm, rocm)] {
        if !on {
            continue;
        }
        let found = find(Path::new("/"), &wanted(Path::new("/"), gpus.list.as_deref()), &cache);
        if found.libraries.is_empty() {
            say(&format!("no driver libraries for processors of {name} were found on this host"));
        }
        all.libraries.extend(found.libraries);
        all.programs.extend(found.programs);
        all.files.extend(found.files);
    }
    // Those who heard the programs out are joined, but the kernel may count them for a moment still.
    for _ in 0..200 {
        if userns::threads() <= 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut invocation = invocation.clone();
    furnish(&mut invocation, &all);
    Some(invocation)
}

type Lister = fn(&Path, Option<&Path>) -> Wanted;

/// What is wanted for NVIDIA: the list that the configuration names, the site's, the driver's own, or ours.
fn nvidia(root: &Path, list: Option<&Path>) -> Wanted {
    let listed = list.map(Path::to_owned).and_then(|path| text(&path)).or_else(|| site_list(root, "nvliblist.conf"));
    if let Some(text) = listed {
        return Wanted::of_list(&text);
    }
    match printed("nvidia-container-cli", "list") {
        Some(text) => Wanted::of_container_cli(&text),
        None => Wanted::nvidia(),
    }
}

fn rocm(root: &Path, _: Option<&Path>) -> Wanted {
    site_list(root, "rocmliblist.conf").map_or_else(Wanted::rocm, |text| Wanted::of_list(&text))
}

fn site_list(root: &Path, name: &str) -> Option<String> {
    LIST_DIRS.iter().find_map(|dir| text(&root.join(dir).join(name)))
}

fn text(path: &Path) -> Option<String> {
    Some(String::from_utf8_lossy(&fs::read_if_exists(path).ok()??).into_owned())
}

/// What a program prints; None when it is not there or fails.
fn printed(program: &str, arg: &str) -> Option<String> {
    let cmd = Cmd::new(process::find(program)?).arg(arg);
    let output = process::capture(&cmd, PATIENCE).ok().filter(|output| output.ended.ok())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What of the wanted is there.
fn find(root: &Path, wanted: &Wanted, cache: &[(String, PathBuf)]) -> Found {
    let there = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path)).exists();
    let mut libraries = wanted.libraries_in(cache);
    libraries.retain(|_, path| there(path));
    let dirs = ["/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin", "/sbin", "/opt/rocm/bin"].map(Path::new);
    let program = |name: &String| dirs.iter().map(|dir| dir.join(name)).find(|path| there(path));
    Found {
        libraries,
        programs: wanted.programs.iter().filter_map(program).collect(),
        files: wanted.files.iter().filter(|path| there(path)).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::host;

    fn machine(files: &[&str]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("ovl-gpu-{}-{}", std::process::id(), host::token()));
        for file in files {
            let path = root.join(file);
            fs::create_dirs(path.parent().unwrap()).unwrap();
            fs::write_quick(&path, b"# a list\nlibcuda.so\nnvidia-smi\n/etc/only.json\n", 0o644).unwrap();
        }
        root
    }

    #[test]
    fn a_processor_is_a_device_with_its_driver() {
        let root = machine(&["dev/nvidiactl", "proc/driver/nvidia/version", "dev/kfd"]);
        assert_eq!(present(&root), Gpus { nvidia: true, ..Gpus::default() });
        fs::create_dirs(&root.join("sys/module/amdgpu")).unwrap();
        fs::remove_file(&root.join("dev/nvidiactl")).unwrap();
        assert_eq!(present(&root), Gpus { rocm: true, ..Gpus::default() });
        fs::remove_tree(&root).unwrap();
        assert_eq!(present(&root), Gpus::default());
    }

    #[test]
    fn the_list_of_the_site_says_what_is_looked_for_and_only_what_is_there_is_taken() {
        let root = machine(&["etc/singularity/nvliblist.conf", "usr/bin/nvidia-smi", "lib/libcuda.so.1", "my.conf"]);
        let wanted = nvidia(&root, None);
        assert_eq!(wanted, Wanted::of_list("libcuda.so\nnvidia-smi\n/etc/only.json"));
        let cache = [("libcuda.so.1", "/lib/libcuda.so.1"), ("libcuda.so", "/lib/gone/libcuda.so")];
        let cache = cache.map(|(name, path)| (name.to_owned(), PathBuf::from(path)));
        let found = find(&root, &wanted, &cache);
        assert_eq!(found.libraries.keys().collect::<Vec<_>>(), ["libcuda.so.1"]);
        assert_eq!(found.programs, [PathBuf::from("/usr/bin/nvidia-smi")]);
        assert_eq!(found.files, Vec::<PathBuf>::new());
        fs::write_quick(&root.join("my.conf"), b"libmine.so", 0o644).unwrap();
        assert_eq!(
            nvidia(&root, Some(&root.join("my.conf"))).libraries,
            ["libmine.so"],
            "the configuration comes first"
        );
        assert_eq!(rocm(&root, None), Wanted::rocm());
        fs::remove_tree(&root).unwrap();
    }

    #[test]
    fn words_of_the_configuration() {
        assert!(wanted("none", None).off && wanted("nvidia", None).nvidia && wanted("rocm", None).rocm);
        let invocation = Invocation { gpus: wanted("nvidia", None), ..Invocation::default() };
        assert_eq!(furnished(&invocation, &|_| {}), None, "the host as base has everything");
    }
}
