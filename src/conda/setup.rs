//! Where packages come from and what they are for: channels, platform, priority, from the configuration and the flags.

use std::path::PathBuf;
use std::sync::Arc;

use rattler_conda_types::{Channel, ChannelConfig, MatchSpec, Subdir};
use rattler_solve::ChannelPriority;
use serde::{Deserialize, Serialize};
use url::Url;

use super::error::{CondaError, KEEP};
use crate::config::Config;
use crate::model::meta;
use crate::net::redacted;
use crate::recipe::conda::{self as text, Environment};
use crate::sys::env;

/// What flags say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// Channels of `-c`, before all others.
    pub channels: Vec<String>,
    /// `--override-channels`: only those.
    pub only_those: bool,
    /// `--platform`.
    pub platform: Option<String>,
    /// Nothing but the cache, whatever the configuration says.
    pub offline: bool,
}

/// The settings, understood.
pub(super) struct Setup {
    pub names: ChannelConfig,
    pub priority: ChannelPriority,
    pub offline: bool,
    pub cache: PathBuf,
    pub overrides: Vec<String>,
    pub base: PathBuf,
    /// `--platform`.
    flag: Option<Subdir>,
    /// `conda.platform`.
    configured: Option<Subdir>,
    flags: Vec<String>,
    only_those: bool,
    defaults: Vec<String>,
}

fn setting(what: impl Into<String>, hint: impl Into<String>) -> CondaError {
    CondaError::Setting { what: what.into(), hint: hint.into() }
}

impl Setup {
    /// Reads configuration and flags.
    pub fn new(config: &Config, wishes: &Wishes) -> Result<Setup, CondaError> {
        let alias = config.conda_alias();
        let channel_alias = Url::parse(&format!("{}/", alias.trim_end_matches('/'))).map_err(|error| {
            setting(format!("conda.channel_alias: '{alias}' is no address: {error}"), "for example https://HOST/conda")
        })?;
        let flag = wishes.platform.as_deref().map(|word| parse_platform(word, "--platform")).transpose()?;
        let configured = config.conda_platform().map(|word| parse_platform(&word, "conda.platform")).transpose()?;
        Ok(Setup {
            names: ChannelConfig { channel_alias, root_dir: env::current_dir() },
            priority: if config.conda_strict() { ChannelPriority::Strict } else { ChannelPriority::Disabled },
            offline: wishes.offline || config.offline(),
            cache: config.cache_dir().join("repodata"),
            overrides: config.conda_overrides().to_vec(),
            base: config.base(),
            flag,
            configured,
            flags: wishes.channels.clone(),
            only_those: wishes.only_those,
            defaults: config.conda_channels().to_vec(),
        })
    }

    /// What packages are for: the flag, the text, the configuration, this machine, in that order.
    pub fn platform(&self, environment: Option<&Environment>) -> Result<Subdir, CondaError> {
        let own = environment.and_then(|environment| environment.platform.as_ref());
        match (self.flag, own) {
            (Some(platform), _) => Ok(platform),
            (None, Some(at)) => parse_platform(&at.value, &at.loc.to_string()),
            (None, None) => self.configured.or(Subdir::current()).ok_or_else(|| {
                setting("conda has no packages for this kind of machine", "choose another with --platform")
            }),
        }
    }

    /// The channels in the order in which they count: those of the flags, then those of the text, or, where it names
    /// none, those of the configuration.
    pub fn channels(&self, environment: Option<&Environment>) -> Result<Vec<Channel>, CondaError> {
        let own = environment.map(|environment| environment.channels.as_slice()).unwrap_or_default();
        let mut words: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        if !self.only_those {
            match own {
                [] => words.extend(self.defaults.iter().map(String::as_str)),
                own => words.extend(own.iter().map(|at| at.value.as_str())),
            }
        }
        let mut channels: Vec<Channel> = Vec::new();
        for word in words {
            let channel = self.channel(word)?;
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        Ok(channels)
    }

    /// What beside its text decides about an environment's packages.
    fn inputs(&self, environment: &Environment) -> Result<meta::Channels, CondaError> {
        let solved = matches!(environment.content, text::Content::Wishes(_));
        let channels = if solved { self.channels(Some(environment))? } else { Vec::new() };
        Ok(meta::Channels {
            channels: channels.iter().map(|channel| channel.base_url.to_string()).collect(),
            platform: self.platform(Some(environment))?.to_string(),
            strict: self.priority == ChannelPriority::Strict,
            overrides: self.overrides.clone(),
        })
    }

    /// The address of a channel's directory of one platform, as people know the channel.
    pub fn shown_address(&self, subdir: &Url) -> String {
        let mut url = subdir.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().pop();
        }
        let url = redacted(url.as_str());
        match url.strip_prefix(self.names.channel_alias.as_str()) {
            Some(name) => name.trim_end_matches('/').to_owned(),
            None => url,
        }
    }

    /// Understands a channel: a name, an address or a path.
    pub fn channel(&self, word: &str) -> Result<Channel, CondaError> {
        let shown = redacted(word);
        let channel = Channel::from_str(word, &self.names).map_err(|error| {
            setting(format!("'{shown}' is no channel: {error}"), "a channel is a name, an address or a directory")
        })?;
        let url = channel.base_url.url();
        if text::is_secret(url) {
            let what = format!("the channel {} carries a password or token", redacted(url.as_str()));
            return Err(setting(what, KEEP));
        }
        Ok(channel)
    }

    /// A wish as the solver takes it; a channel named in it is one of ours.
    pub fn spec(&self, wish: &str) -> Result<MatchSpec, CondaError> {
        let mut spec = text::wish(wish).map_err(|why| {
            setting(
                format!("'{wish}' is no specification of a package: {why}"),
                "write it as name, name=version or name>=1.2,<2",
            )
        })?;
        if let Some(channel) = spec.channel.take() {
            // The library resolves names against its own alias.
            let theirs = ChannelConfig::default_with_root_dir(self.names.root_dir.clone()).channel_alias;
            let by_name = channel.base_url.as_str().starts_with(theirs.as_str());
            let own = match &channel.name {
                Some(name) if by_name => self.channel(name)?,
                _ => self.channel(channel.base_url.as_str())?,
            };
            spec.channel = Some(Arc::new(own));
        }
        Ok(spec)
    }
}

/// What beside its text decides about an environment's packages; nobody is asked for it.
pub fn inputs(config: &Config, wishes: &Wishes, environment: &Environment) -> Result<meta::Channels, CondaError> {
    Setup::new(config, wishes)?.inputs(environment)
}

fn parse_platform(word: &str, what: &str) -> Result<Subdir, CondaError> {
    let platform = word.parse::<Subdir>().ok().filter(|platform| *platform != Subdir::NoArch);
    platform.ok_or_else(|| setting(format!("{what}: '{word}' is no platform"), "for example linux-64 or linux-aarch64"))
}

/// How a channel is shown: by its name where it has one, else by its address.
pub fn shown(channel: &Channel) -> String {
    match &channel.name {
        Some(name) if !channel.base_url.as_str().starts_with("file:") => name.clone(),
        _ => channel.base_url.as_str().trim_end_matches('/').to_owned(),
    }
}
