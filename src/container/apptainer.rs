//! Apptainer, or Singularity, as the engine: the command that makes a SIF file of a definition.

use std::path::Path;

use crate::model::cmd::Cmd;

/// The host's paths that a build takes.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The definition, arguments filled in.
    pub definition: &'a Path,
    /// The SIF file to write.
    pub image: &'a Path,
    /// On scratch.
    pub tmp: &'a Path,
    /// What it keeps of downloads.
    pub cache: &'a Path,
    /// Where relative paths begin.
    pub dir: &'a Path,
}

/// The command. `%test` is left to ovl, which runs it against the finished image.
pub fn build(program: &Path, places: &Places, is_root: bool) -> Cmd {
    let mut cmd = Cmd::new(program).arg("build");
    if !is_root {
        cmd = cmd.arg("--fakeroot");
    }
    cmd = cmd.arg("--notest").arg(places.image).arg(places.definition);
    for prefix in ["APPTAINER", "SINGULARITY"] {
        cmd.env.insert(format!("{prefix}_TMPDIR").into(), places.tmp.into());
        cmd.env.insert(format!("{prefix}_CACHEDIR").into(), places.cache.into());
    }
    cmd.cwd = Some(places.dir.to_owned());
    cmd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line() {
        let path = Path::new;
        let places = Places {
            definition: path("/s/x y.def"),
            image: path("/s/o.sif"),
            tmp: path("/s/t"),
            cache: path("/c"),
            dir: path("/d"),
        };
        let cmd = build(path("/usr/bin/apptainer"), &places, false);
        assert_eq!(cmd.to_string(), "/usr/bin/apptainer build --fakeroot --notest /s/o.sif '/s/x y.def'");
        let env: Vec<String> = cmd.env.iter().map(|(n, v)| format!("{}={}", n.display(), v.display())).collect();
        let expected =
            ["APPTAINER_CACHEDIR=/c", "APPTAINER_TMPDIR=/s/t", "SINGULARITY_CACHEDIR=/c", "SINGULARITY_TMPDIR=/s/t"];
        assert_eq!(env, expected);
        assert_eq!(cmd.cwd.as_deref(), Some(path("/d")));
        assert_eq!(build(path("s"), &places, true).to_string(), "s build --notest /s/o.sif '/s/x y.def'");
    }
}
