//! Virtual packages: what the target machine has that no channel holds (kernel, C library, CPU, drivers).

use std::io::Read;
use std::path::Path;

use rattler_conda_types::package::BuildString;
use rattler_conda_types::{GenericVirtualPackage, PackageName, Subdir, Version};
use rattler_virtual_packages::{VirtualPackageOverrides, VirtualPackages};

use super::error::CondaError;
use super::setup::Setup;
use crate::sys::{env, fs};

/// What the machine that the packages are for has: this one, looked at; another platform, with the library's
/// assumptions; a base other than the host, with its own C library. `CONDA_OVERRIDE_…` win, then `conda.overrides`.
pub(super) fn of(setup: &Setup, platform: Subdir) -> Result<Vec<GenericVirtualPackage>, CondaError> {
    let told = VirtualPackages::detect_for_platform(platform, &VirtualPackageOverrides::from_env(), Some(&setup.cache))
        .map_err(|error| CondaError::Setting {
            what: format!("this machine cannot be told: {error}"),
            hint: "look at the variables that begin with CONDA_OVERRIDE_".into(),
        })?;
    let mut all: Vec<GenericVirtualPackage> = told.into_generic_virtual_packages().collect();
    if setup.base != Path::new("/")
        && Some(platform) == Subdir::current()
        && let Some(version) = glibc_of(&setup.base)
    {
        replace(&mut all, "__glibc", version, "0");
    }
    for text in &setup.overrides {
        let (name, version, build) = understood(text)?;
        match version {
            Some(version) => replace(&mut all, &name, version, &build),
            None if env::var(&variable(&name)).is_none() => all.retain(|one| one.name.as_normalized() != name),
            None => {}
        }
    }
    all.sort();
    Ok(all)
}

/// `CONDA_OVERRIDE_CUDA` of `__cuda`.
fn variable(name: &str) -> String {
    format!("CONDA_OVERRIDE_{}", name.trim_start_matches('_').to_ascii_uppercase())
}

/// Puts a version in the place of what was found, unless a variable says otherwise.
fn replace(all: &mut Vec<GenericVirtualPackage>, name: &str, version: Version, build: &str) {
    if env::var(&variable(name)).is_some() {
        return;
    }
    all.retain(|one| one.name.as_normalized() != name);
    let build_string = BuildString::new_unchecked(build);
    all.push(GenericVirtualPackage { name: PackageName::new_unchecked(name), version, build_string });
}

/// `cuda=12.4`, `__archspec=1=x86_64_v3`, or `cuda=` for "there is none".
fn understood(text: &str) -> Result<(String, Option<Version>, String), CondaError> {
    let bad = |why: &str| CondaError::Setting {
        what: format!("conda.overrides: '{text}' {why}"),
        hint: "for example cuda=12.4, glibc=2.28 or archspec=1=x86_64_v3".into(),
    };
    let mut parts = text.splitn(3, '=');
    let (name, version) = (parts.next().unwrap_or_default().trim(), parts.next().map(str::trim));
    let build = parts.next().map_or("0", str::trim).to_owned();
    let name = format!("__{}", name.trim_start_matches('_'));
    if PackageName::try_from(name.as_str()).is_err() || name == "__" {
        return Err(bad("names no virtual package"));
    }
    let version = match version {
        None => return Err(bad("has no version")),
        Some("") => None,
        Some(version) => Some(version.parse().map_err(|_| bad("has no version that conda understands"))?),
    };
    Ok((name, version, build))
}

/// Where the C library of a system lies, below its root.
const LIBC: &[&str] = &[
    "lib64/libc.so.6",
    "usr/lib64/libc.so.6",
    "lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "lib/aarch64-linux-gnu/libc.so.6",
    "usr/lib/aarch64-linux-gnu/libc.so.6",
    "lib/libc.so.6",
];

/// The C library of a base that is a directory or an image; None where it has none that can be told.
fn glibc_of(base: &Path) -> Option<Version> {
    if fs::metadata_if_exists(base).ok()??.is_dir() {
        let file = LIBC.iter().find_map(|path| fs::open(&base.join(path)).ok())?;
        return version_in(file);
    }
    let image = crate::store::overlays::open(base).ok()?;
    let inode = LIBC.iter().find_map(|path| image.find(format!("/{path}").as_bytes()).ok().flatten())?;
    let mut at = 0;
    version_in(ReadWith(|buffer: &mut [u8]| {
        let got = image.read(&inode, at, buffer).map_err(std::io::Error::other)?;
        at += got as u64;
        Ok(got)
    }))
}

struct ReadWith<F>(F);

impl<F: FnMut(&mut [u8]) -> std::io::Result<usize>> Read for ReadWith<F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        (self.0)(buffer)
    }
}

/// The GNU C library says of itself: `stable release version 2.36.`
fn version_in(file: impl Read) -> Option<Version> {
    const MARK: &[u8] = b"release version ";
    let mut bytes = Vec::new();
    file.take(16 << 20).read_to_end(&mut bytes).ok()?;
    let at = bytes.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
    std::str::from_utf8(rest.get(..end)?).ok()?.trim_end_matches('.').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_understood_or_refused() {
        let (name, version, build) = understood("cuda=12.4").unwrap();
        assert_eq!((name.as_str(), version.unwrap().to_string().as_str(), build.as_str()), ("__cuda", "12.4", "0"));
        let (name, _, build) = understood("__archspec=1=x86_64_v3").unwrap();
        assert_eq!((name.as_str(), build.as_str()), ("__archspec", "x86_64_v3"));
        assert_eq!(understood("cuda=").unwrap().1, None);
        for bad in ["", "cuda", "cuda=new version", "=1", "c d=1"] {
            assert!(understood(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_c_library_tells_its_version() {
        let text = b"\0GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\nCopyright";
        assert_eq!(version_in(&text[..]).unwrap().to_string(), "2.36");
        assert!(version_in(&b"nothing of the kind"[..]).is_none());
        assert!(version_in(&b"release version "[..]).is_none());
    }
}
