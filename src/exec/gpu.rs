//! Driver libraries and programs of graphics processors, brought in over a base that has none: what is wanted (the
//! site's `nvliblist.conf`, the driver's own list or a built-in one), what of it the host's loader knows, and where it
//! is seen inside. Device nodes need nothing: `/dev` is the host's. The form of `nvliblist.conf` is Apptainer's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Invocation, Mount};

/// Where libraries are seen inside.
pub const LIBRARIES: &str = "/.ovl/gpu/lib";
/// Where programs are seen inside.
pub const PROGRAMS: &str = "/.ovl/gpu/bin";

/// What is wanted of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Libraries by the beginning of their name up to `.so`, as in `libcuda.so`; with `*` anything may stand there.
    pub libraries: Vec<String>,
    /// Programs by name.
    pub programs: Vec<String>,
    /// Files by their absolute path.
    pub files: Vec<PathBuf>,
}

/// What was found on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Libraries by the name they are looked for, with their path.
    pub libraries: BTreeMap<String, PathBuf>,
    /// Programs.
    pub programs: Vec<PathBuf>,
    /// Other files, seen at the same place.
    pub files: Vec<PathBuf>,
}

/// What NVIDIA's driver consists of, without the dispatchers of GL that a base has itself.
const NVIDIA: &str = "libcuda.so libcudadebugger.so libnvidia-*.so libnvcuvid.so libnvoptix.so libEGL_nvidia.so \
    libGLX_nvidia.so libGLESv1_CM_nvidia.so libGLESv2_nvidia.so libvdpau_nvidia.so libOpenCL.so nvidia-smi \
    nvidia-debugdump nvidia-persistenced nvidia-cuda-mps-control nvidia-cuda-mps-server \
    /usr/share/glvnd/egl_vendor.d/10_nvidia.json /usr/share/vulkan/icd.d/nvidia_icd.json \
    /usr/share/nvidia/nvoptix.bin /run/nvidia-persistenced/socket";

/// What programs need of the host to talk to AMD's driver, which itself is in the kernel.
const ROCM: &str = "libdrm.so libdrm_amdgpu.so libnuma.so libpci.so libamd_comgr.so libamdocl64.so \
    librocr_debug_agent64.so libOpenCL.so rocm-smi rocminfo";

impl Wanted {
    /// The built-in list for NVIDIA.
    pub fn nvidia() -> Wanted {
        Wanted::of_words(NVIDIA.split_ascii_whitespace())
    }

    /// The built-in list for AMD.
    pub fn rocm() -> Wanted {
        Wanted::of_words(ROCM.split_ascii_whitespace())
    }

    /// Reads an `nvliblist.conf` or `rocmliblist.conf`: a name or absolute path a line, `#` begins a comment line.
    pub fn of_list(text: &str) -> Wanted {
        Wanted::of_words(text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')))
    }

    /// Reads what `nvidia-container-cli list` prints: a path a line. Devices are left out. Libraries are listed by their
    /// version, but are looked for by every name they have.
    pub fn of_container_cli(text: &str) -> Wanted {
        let paths = text.lines().map(str::trim).filter(|line| line.starts_with('/') && !line.starts_with("/dev/"));
        let words = paths.map(|path| {
            let name = path.rsplit('/').next().unwrap_or_default();
            match name.find(".so") {
                Some(end) => name.get(..end + 3).unwrap_or(name),
                None if path.contains("/bin/") || path.contains("/sbin/") => name,
                None => path,
            }
        });
        Wanted::of_words(words)
    }

    fn of_words<'a>(words: impl Iterator<Item = &'a str>) -> Wanted {
        let mut wanted = Wanted::default();
        let add = |list: &mut Vec<String>, word: &str| {
            if !list.iter().any(|known| known == word) {
                list.push(word.to_owned());
            }
        };
        for word in words {
            if word.starts_with('/') {
                wanted.files.push(word.into());
            } else if word.contains('/') {
                // Neither a name nor a path that means anything.
            } else if word.contains(".so") {
                add(&mut wanted.libraries, word);
            } else {
                add(&mut wanted.programs, word);
            }
        }
        wanted
    }

    /// Adds another list.
    pub fn extend(&mut self, other: Wanted) {
        self.libraries.extend(other.libraries);
        self.programs.extend(other.programs);
        self.files.extend(other.files);
    }

    /// The libraries of the loader's cache that are wanted: each name with the path that the loader would take.
    pub fn libraries_in(&self, cache: &[(String, PathBuf)]) -> BTreeMap<String, PathBuf> {
        let mut found = BTreeMap::new();
        for (name, path) in cache {
            if self.libraries.iter().any(|wanted| is_meant(wanted, name)) {
                // The first is the one that the loader prefers.
                found.entry(name.clone()).or_insert_with(|| path.clone());
            }
        }
        found
    }
}

/// Whether a library is meant: the wanted name itself or with numbers behind it.
fn is_meant(wanted: &str, name: &str) -> bool {
    let behind = match wanted.split_once('*') {
        None => name.strip_prefix(wanted),
        Some((before, after)) => name.strip_prefix(before).and_then(|rest| {
            let at = rest.find(after)?;
            rest.get(at + after.len()..)
        }),
    };
    behind.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Reads what `ldconfig -p` prints, the entries for programs of this platform (`x86_64`, `aarch64`, …) only:
/// `\tlibcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1`.
pub fn loader_cache(text: &str, machine: &str) -> Vec<(String, PathBuf)> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let Some((left, path)) = line.split_once(" => ") else { continue };
        let Some((name, rest)) = left.trim_start().split_once(" (") else { continue };
        let mut words = rest.split([',', ')', ' ']);
        let fits = match machine {
            "x86_64" => words.any(|word| word == "x86-64"),
            "aarch64" => words.any(|word| word == "AArch64"),
            "riscv64" => words.any(|word| word == "double-float"),
            _ => words.any(|word| word == "64bit"),
        };
        if fits && path.starts_with('/') && !name.is_empty() && !name.contains('/') {
            entries.push((name.to_owned(), PathBuf::from(path.trim_end())));
        }
    }
    entries
}

/// Has what was found seen inside: libraries and programs in directories of their own, behind all others in
/// LD_LIBRARY_PATH and PATH; the user's own binds stay above.
pub fn furnish(invocation: &mut Invocation, found: &Found) {
    let bind = |source: &Path, target: PathBuf| Mount::Bind { source: source.to_owned(), target, writable: false };
    let mut mounts = Vec::new();
    for (name, path) in &found.libraries {
        mounts.push(bind(path, Path::new(LIBRARIES).join(name)));
    }
    for path in &found.programs {
        if let Some(name) = path.file_name() {
            mounts.push(bind(path, Path::new(PROGRAMS).join(name)));
        }
    }
    for path in &found.files {
        mounts.push(bind(path, path.clone()));
    }
    if !found.libraries.is_empty() {
        append(&mut invocation.env, "LD_LIBRARY_PATH", LIBRARIES);
    }
    if !found.programs.is_empty() {
        append(&mut invocation.env, "PATH", PROGRAMS);
    }
    mounts.append(&mut invocation.mounts);
    invocation.mounts = mounts;
}

/// Puts a directory behind the others of a search path.
fn append(env: &mut Vec<(OsString, OsString)>, name: &str, dir: &str) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, value)) if !value.is_empty() => {
            value.push(":");
            value.push(dir);
        }
        Some((_, value)) => *value = dir.into(),
        None => env.push((name.into(), dir.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CACHE: &str = "1234 libs found in cache `/etc/ld.so.cache'\n\
        \tlibnvidia-ml.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libnvidia-ml.so.1\n\
        \tlibcuda.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcuda.so.1\n\
        \tlibcuda.so.1 (libc6) => /lib/i386-linux-gnu/libcuda.so.1\n\
        \tlibcuda.so (libc6,x86-64, hwcap: \"x86-64-v3\") => /opt/v3/libcuda.so\n\
        \tlibcuda.so (libc6,x86-64) => /lib/x86_64-linux-gnu/libcuda.so\n\
        \tlibcudart.so.12 (libc6,x86-64) => /usr/lib/libcudart.so.12\n\
        \todd line\n\t (libc6,x86-64) => /x\n\t../up.so (libc6,x86-64) => /x\n\
        Cache generated by: ldconfig (Debian GLIBC 2.36-9) stable release version 2.36\n";

    fn cache() -> Vec<(String, PathBuf)> {
        loader_cache(CACHE, "x86_64")
    }

    #[test]
    fn lists_are_read_as_apptainer_reads_them() {
        let text = "# comment\n\nnvidia-smi\n  libcuda.so  \nlibcuda.so\n/usr/share/x y.json\nodd/name\n";
        let wanted = Wanted::of_list(text);
        assert_eq!(wanted.programs, ["nvidia-smi"]);
        assert_eq!(wanted.libraries, ["libcuda.so"]);
        assert_eq!(wanted.files, [PathBuf::from("/usr/share/x y.json")]);
    }

    #[test]
    fn the_drivers_own_list_names_versions() {
        let text = "/dev/nvidiactl\n/usr/bin/nvidia-smi\n/usr/lib/x86_64-linux-gnu/libcuda.so.535.129.03\n\
                    /run/nvidia-persistenced/socket\n/lib/firmware/nvidia/535/gsp_ga10x.bin\nodd\n";
        let wanted = Wanted::of_container_cli(text);
        assert_eq!(wanted.libraries, ["libcuda.so"]);
        assert_eq!(wanted.programs, ["nvidia-smi"]);
        assert_eq!(wanted.files.len(), 2);
    }

    #[test]
    fn libraries_are_those_the_loader_would_take() {
        assert_eq!(cache().len(), 5);
        assert_eq!(loader_cache(CACHE, "aarch64"), []);
        let wanted = Wanted::of_list("libcuda.so\nlibnvidia-ml.so\nlibnotthere.so");
        let found = wanted.libraries_in(&cache());
        let lines: Vec<String> = found.iter().map(|(name, path)| format!("{name} {}", path.display())).collect();
        assert_eq!(
            lines,
            [
                "libcuda.so /opt/v3/libcuda.so",
                "libcuda.so.1 /lib/x86_64-linux-gnu/libcuda.so.1",
                "libnvidia-ml.so.1 /lib/x86_64-linux-gnu/libnvidia-ml.so.1"
            ]
        );
        assert_eq!(Wanted::nvidia().libraries_in(&cache()), found, "libcudart is the program's own");
    }

    #[test]
    fn names_are_not_guessed() {
        for (wanted, name, meant) in [
            ("libcuda.so", "libcuda.so", true),
            ("libcuda.so", "libcuda.so.1", true),
            ("libcuda.so", "libcudart.so", false),
            ("libcuda.so", "libcuda.sox", false),
            ("libnvidia-*.so", "libnvidia-ml.so.535.1", true),
            ("libnvidia-*.so", "libnvidia-ml.solid", false),
            ("libnvidia-*.so", "libnv.so", false),
        ] {
            assert_eq!(is_meant(wanted, name), meant, "{wanted} {name}");
        }
    }

    #[test]
    fn what_was_found_lies_behind_everything() {
        let env = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let own = Mount::Bind { source: "/a".into(), target: "/b".into(), writable: true };
        let mut invocation = Invocation {
            env: vec![env("LD_LIBRARY_PATH", "/mine"), env("PATH", "/bin")],
            mounts: vec![own.clone()],
            ..Invocation::default()
        };
        let found = Found {
            libraries: [("libcuda.so.1".to_owned(), PathBuf::from("/lib/libcuda.so.1"))].into(),
            programs: vec!["/usr/bin/nvidia-smi".into()],
            files: vec!["/run/s".into()],
        };
        furnish(&mut invocation, &found);
        assert_eq!(invocation.env, [env("LD_LIBRARY_PATH", "/mine:/.ovl/gpu/lib"), env("PATH", "/bin:/.ovl/gpu/bin")]);
        let targets: Vec<&Path> = invocation
            .mounts
            .iter()
            .map(|mount| match mount {
                Mount::Bind { target, .. } | Mount::Tmpfs { target, .. } => target.as_path(),
            })
            .collect();
        let wanted = ["/.ovl/gpu/lib/libcuda.so.1", "/.ovl/gpu/bin/nvidia-smi", "/run/s", "/b"].map(Path::new);
        assert_eq!(targets, wanted);
        assert_eq!(invocation.mounts.last(), Some(&own));
        let before = Invocation::default();
        let mut nothing = before.clone();
        furnish(&mut nothing, &Found::default());
        assert_eq!(nothing, before);
    }
}
