//! Environments made by the program micromamba, where a site wants that: what it is called with. Nothing is run here.

use std::path::Path;

use super::error::CondaError;
use super::locked::Locked;
use super::setup::{Setup, Wishes};
use crate::config::Config;
use crate::model::cmd::Cmd;
use crate::recipe::conda::{Content, Environment};

/// What micromamba is to make.
pub struct Create<'a> {
    /// The program.
    pub program: &'a Path,
    /// Where the environment goes, as it will be called in the end: `/cnt/NAME/VERSION`.
    pub prefix: &'a Path,
    /// The file that says what belongs into it; see [`file()`].
    pub file: &'a Path,
    /// A directory of micromamba's own, for its packages and lists.
    pub cache: &'a Path,
}

/// The file for [`Create::file`], as its name and its text: micromamba goes by the ending. What is not to be solved is
/// an explicit list, lock files too, which need the packages they lock.
pub fn file(environment: &Environment, text: &str, locked: Option<&Locked>) -> (&'static str, String) {
    match (&environment.content, locked) {
        (Content::Wishes(_), _) => ("environment.yml", environment.to_yaml()),
        (_, Some(locked)) => ("explicit.txt", locked.to_explicit()),
        (_, None) => ("explicit.txt", text.to_owned()),
    }
}

/// The command that makes an environment.
pub fn create(what: &Create, environment: &Environment, config: &Config, wishes: &Wishes) -> Result<Cmd, CondaError> {
    let setup = Setup::new(config, wishes)?;
    let mut cmd = Cmd::new(what.program).args(["create", "--yes", "--no-rc", "--no-env", "--prefix"]).arg(what.prefix);
    cmd = cmd.arg("--file").arg(what.file);
    cmd = cmd.arg("--platform").arg(setup.platform(Some(environment))?.as_str());
    if matches!(environment.content, Content::Wishes(_)) {
        cmd = cmd.arg("--channel-priority").arg(if config.conda_strict() { "strict" } else { "disabled" });
        cmd = cmd.arg("--override-channels");
        for channel in setup.channels(Some(environment))? {
            cmd = cmd.arg("--channel").arg(channel.base_url.as_str().trim_end_matches('/'));
        }
    }
    if setup.offline {
        cmd = cmd.arg("--offline");
    }
    cmd.env.insert("MAMBA_ROOT_PREFIX".into(), what.cache.into());
    cmd.env.insert("CONDA_PKGS_DIRS".into(), what.cache.join("pkgs").into());
    cmd.env.insert("CONDA_CHANNEL_ALIAS".into(), config.conda_alias().into());
    for text in config.conda_overrides() {
        let (name, version) = text.split_once('=').unwrap_or((text, ""));
        let name = name.trim_start_matches('_').to_ascii_uppercase();
        cmd.env.insert(format!("CONDA_OVERRIDE_{name}").into(), version.into());
    }
    Ok(cmd)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn line(text: &str, keys: &[(&str, &[&str])], wishes: &Wishes) -> String {
        let keys: BTreeMap<String, Vec<String>> = keys
            .iter()
            .map(|(key, values)| ((*key).to_owned(), values.iter().map(|&value| value.to_owned()).collect()))
            .collect();
        let environment = crate::recipe::conda::read("f", text, &mut Vec::new());
        let path = Path::new("/tmp/b").join(file(&environment, text, None).0);
        let what = Create {
            program: Path::new("micromamba"),
            prefix: Path::new("/cnt/lab/1.0"),
            file: &path,
            cache: Path::new("/c/micromamba"),
        };
        let cmd = create(&what, &environment, &Config::thaw(&keys).unwrap(), wishes).unwrap();
        let words = cmd.words();
        let env = cmd.env.iter().map(|(name, value)| format!("{}={}", name.display(), value.display()));
        env.chain(words).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_command_line_is_this() {
        let keys: &[(&str, &[&str])] = &[
            ("conda.channels", &["lab", "file:///srv/c"]),
            ("conda.channel_alias", &["https://h.example/conda"]),
            ("conda.overrides", &["cuda=12.4"]),
        ];
        let wishes = Wishes { platform: Some("linux-64".into()), ..Wishes::default() };
        assert_eq!(
            line("python=3.12\n", keys, &wishes),
            "CONDA_CHANNEL_ALIAS=https://h.example/conda CONDA_OVERRIDE_CUDA=12.4 CONDA_PKGS_DIRS=/c/micromamba/pkgs \
             MAMBA_ROOT_PREFIX=/c/micromamba micromamba create --yes --no-rc --no-env --prefix /cnt/lab/1.0 --file \
             /tmp/b/environment.yml --platform linux-64 --channel-priority strict --override-channels --channel \
             https://h.example/conda/lab --channel file:///srv/c"
        );
        let explicit = "@EXPLICIT\nfile:///srv/c/linux-64/zlib-1.3-0.conda\n";
        let offline = Wishes { offline: true, ..wishes };
        assert_eq!(
            line(explicit, &[], &offline).split_once(" micromamba ").unwrap().1,
            "create --yes --no-rc --no-env --prefix /cnt/lab/1.0 --file /tmp/b/explicit.txt --platform linux-64 --offline"
        );
    }
}
