//! From wishes to packages: the channels' lists are read, what is wished for is solved, the result is put in order.

use std::collections::BTreeMap;
use std::time::Duration;

use rattler_conda_types::package::{ArchiveIdentifier, BuildString, DistArchiveIdentifier};
use rattler_conda_types::{
    Channel, MatchSpec, PackageName, PackageNameMatcher, PackageRecord, RepoDataRecord, Subdir, VersionWithSource,
};
use rattler_repodata_gateway::fetch::CacheAction;
use rattler_repodata_gateway::{
    ChannelConfig, ChannelRelationsMode, Gateway, GatewayError, RepoDataQueryOutput, SourceConfig,
};
use rattler_solve::{CancellationToken, SolveError, SolverImpl, SolverTask, resolvo};

use super::auth;
use super::error::CondaError;
use super::locked::Locked;
use super::setup::{Setup, Wishes, shown};
use super::virtuals;
use crate::config::Config;
use crate::net;
use crate::recipe::conda::{self as text, Archive, Content, Environment};
use crate::recipe::spec::At;
use crate::sys::signal;

/// Conda, ready to be asked; lists of packages are read once for all questions.
pub struct Conda {
    setup: Setup,
    gateway: Gateway,
    /// Reads nothing but the cache; for when there turns out to be no network.
    cached: Gateway,
    notes: std::sync::Mutex<Vec<String>>,
}

impl Conda {
    /// Reads configuration and flags; nothing is asked yet.
    pub fn new(config: &Config, wishes: &Wishes) -> Result<Conda, CondaError> {
        let setup = Setup::new(config, wishes)?;
        let client = auth::client()?;
        let gateway = |cache_action| {
            let default = SourceConfig { cache_action, ..SourceConfig::default() };
            Gateway::builder()
                .with_client(client.clone())
                .with_cache_dir(setup.cache.clone())
                .with_channel_config(ChannelConfig { default, ..ChannelConfig::default() })
                .with_max_concurrent_requests(16)
                .with_max_concurrent_io(64)
                .finish()
        };
        let cached = gateway(CacheAction::ForceCacheOnly);
        let gateway = if setup.offline { cached.clone() } else { gateway(CacheAction::CacheOrFetch) };
        Ok(Conda { setup, gateway, cached, notes: std::sync::Mutex::default() })
    }

    /// What the user should know of the answers so far, as sentences; each is told once.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().map(|mut notes| std::mem::take(&mut *notes)).unwrap_or_default()
    }

    /// The packages of an environment. `label` names its text in messages.
    pub fn lock(&self, label: &str, given: &str, environment: &Environment) -> Result<Locked, CondaError> {
        let platform = self.setup.platform(Some(environment))?;
        let mut locked = match &environment.content {
            Content::Wishes(wishes) => {
                let wishes: Vec<String> = wishes.iter().map(|at| at.value.clone()).collect();
                self.solve(&wishes, environment, platform, &[])?
            }
            Content::Explicit(archives) => explicit(label, archives, platform)?,
            Content::Lock => Locked::from_lock_file(given, platform)
                .map_err(|error| CondaError::Lock { label: label.to_owned(), why: error.to_string() })?,
        };
        if let Some(url) = locked.records.iter().map(|record| &record.url).find(|url| text::is_secret(url)) {
            let why = format!("the address {} carries a password or token", net::redacted(url.as_str()));
            return Err(CondaError::Lock { label: label.to_owned(), why });
        }
        locked.channels = locked.channels.iter().map(|url| net::redacted(url)).collect();
        locked.pip = environment.pip.iter().map(|at| at.value.clone()).collect();
        locked.variables = environment.variables.iter().cloned().collect();
        Ok(locked)
    }

    /// The packages of an environment that is changed: what is there stays as it is as far as `wishes` allow it.
    pub fn change(
        &self,
        wishes: &[String],
        environment: &Environment,
        there: &[RepoDataRecord],
    ) -> Result<Locked, CondaError> {
        self.solve(wishes, environment, self.setup.platform(Some(environment))?, there)
    }

    fn solve(
        &self,
        wishes: &[String],
        environment: &Environment,
        platform: Subdir,
        there: &[RepoDataRecord],
    ) -> Result<Locked, CondaError> {
        let specs = wishes.iter().map(|wish| self.setup.spec(wish)).collect::<Result<Vec<_>, _>>()?;
        let mut channels = self.setup.channels(Some(environment))?;
        for own in specs.iter().filter_map(|spec| spec.channel.as_deref()) {
            if !channels.iter().any(|channel| channel.base_url == own.base_url) {
                channels.push(own.clone());
            }
        }
        self.need_channels(&channels)?;
        let mut asked = specs.clone();
        asked.extend(there.iter().map(|record| MatchSpec::from(record.package_record.name.clone())));
        let found = self.query(&channels, platform, &asked, true)?;
        for (spec, wish) in specs.iter().zip(wishes) {
            let Some(name) = exact(spec) else { continue };
            if !found.iter().flatten().chain(there).any(|record| record.package_record.name == *name) {
                return Err(self.none_of(wish, name, &channels, platform)?);
            }
        }
        let records = self.run_solver(&found, specs, platform, there)?;
        let mut locked = Locked {
            platform,
            channels: channels.iter().map(|channel| channel.base_url.to_string()).collect(),
            records,
            pip: Vec::new(),
            variables: BTreeMap::new(),
        };
        locked.sort();
        Ok(locked)
    }

    fn run_solver(
        &self,
        found: &RepoDataQueryOutput,
        specs: Vec<MatchSpec>,
        platform: Subdir,
        there: &[RepoDataRecord],
    ) -> Result<Vec<RepoDataRecord>, CondaError> {
        let token = CancellationToken::new();
        let over = std::sync::atomic::AtomicBool::new(false);
        let task = SolverTask {
            virtual_packages: virtuals::of(&self.setup, platform)?,
            specs,
            locked_packages: there.iter().collect(),
            channel_priority: self.setup.priority,
            cancellation_token: Some(token.clone()),
            ..found.repodata.iter().collect()
        };
        let solved = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    if signal::interrupted().is_some() {
                        token.cancel();
                    }
                    std::thread::park_timeout(Duration::from_millis(50));
                }
            });
            let solved = resolvo::Solver.solve(task);
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            solved
        });
        solved.map(|result| result.records).map_err(|error| match error {
            SolveError::Cancelled => CondaError::Interrupted,
            SolveError::Unsolvable(reasons) => CondaError::Unsolvable {
                explanation: reasons.join("\n").trim_end().to_owned(),
                hint: "loosen one of the versions, or see what there is with: ovl search NAME".into(),
            },
            other => CondaError::Unsolvable { explanation: other.to_string(), hint: String::new() },
        })
    }

    /// Every package that a wish fits, for the platform and for any, best last.
    pub fn search(&self, wish: &str) -> Result<Vec<RepoDataRecord>, CondaError> {
        let spec = self.setup.spec(wish)?;
        let platform = self.setup.platform(None)?;
        let mut channels = self.setup.channels(None)?;
        if let Some(own) = spec.channel.as_deref() {
            channels = vec![own.clone()];
        }
        self.need_channels(&channels)?;
        let found = self.query(&channels, platform, std::slice::from_ref(&spec), false)?;
        let mut records: Vec<RepoDataRecord> = found.iter().flatten().cloned().collect();
        records.sort_by(|a, b| {
            let key = |record: &RepoDataRecord| {
                let record = &record.package_record;
                (
                    record.version.clone(),
                    record.build_number,
                    record.timestamp.map(jiff::Timestamp::from),
                    record.build.to_string(),
                )
            };
            key(a).cmp(&key(b)).then_with(|| a.url.cmp(&b.url))
        });
        match exact(&spec) {
            Some(name) if records.is_empty() => Err(self.none_of(wish, name, &channels, platform)?),
            _ => Ok(records),
        }
    }

    /// Why a wish fits nothing: there is no such package, or none of such a version.
    fn none_of(
        &self,
        wish: &str,
        name: &PackageName,
        channels: &[Channel],
        platform: Subdir,
    ) -> Result<CondaError, CondaError> {
        let any = self.query(channels, platform, &[MatchSpec::from(name.clone())], false)?;
        let mut versions: Vec<_> = any.iter().flatten().map(|record| record.package_record.version.clone()).collect();
        versions.sort();
        versions.dedup();
        let near = if versions.is_empty() {
            self.near(name.as_normalized(), channels, platform).unwrap_or_default()
        } else {
            versions.iter().rev().map(|version| format!("{}={version}", name.as_normalized())).collect()
        };
        Ok(CondaError::NoPackage {
            name: if versions.is_empty() { name.as_normalized() } else { wish }.to_owned(),
            platform: platform.to_string(),
            channels: channels.iter().map(shown).collect(),
            near: near.into_iter().take(5).collect(),
        })
    }

    /// The wish for a package of this version: exactly it where there is one, else the newest that begins with it.
    pub fn pin(&self, name: &str, version: &str, channel: Option<&str>) -> Result<String, CondaError> {
        let prefix = channel.map(|channel| format!("{channel}::")).unwrap_or_default();
        let wish = format!("{prefix}{name}={version}");
        let exactly = self.search(&wish)?.iter().any(|record| record.package_record.version.as_str() == version);
        Ok(if exactly { format!("{prefix}{name}=={version}") } else { wish })
    }

    /// The channel of a package, as people know it.
    pub fn channel_of(&self, record: &RepoDataRecord) -> String {
        let all = self.setup.channels(None).unwrap_or_default();
        let own = all.iter().find(|channel| record.url.as_str().starts_with(channel.base_url.as_str()));
        own.map_or_else(|| self.setup.shown_address(&record.platform_url()), shown)
    }

    /// The names of all packages in the channels, sorted.
    pub fn names(&self) -> Result<Vec<String>, CondaError> {
        let channels = self.setup.channels(None)?;
        self.need_channels(&channels)?;
        self.all_names(&channels, self.setup.platform(None)?)
    }

    fn all_names(&self, channels: &[Channel], platform: Subdir) -> Result<Vec<String>, CondaError> {
        let ask = |gateway: &Gateway| gateway.names(channels.to_vec(), [platform, Subdir::NoArch]).execute();
        let mut names: Vec<String> = self.ask(ask)?.iter().map(|name| name.as_normalized().to_owned()).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn near(&self, word: &str, channels: &[Channel], platform: Subdir) -> Result<Vec<String>, CondaError> {
        let names = self.all_names(channels, platform)?;
        let word = word.to_ascii_lowercase();
        let mut scored: Vec<(usize, String)> = names
            .into_iter()
            .filter_map(|name| {
                let distance = strsim::damerau_levenshtein(&word, &name);
                let contains = word.len() > 2 && name.contains(&word);
                (contains || distance <= 1 + word.len() / 4).then_some((distance, name))
            })
            .collect();
        scored.sort();
        Ok(scored.into_iter().map(|(_, name)| name).collect())
    }

    fn need_channels(&self, channels: &[Channel]) -> Result<(), CondaError> {
        if channels.is_empty() {
            return Err(CondaError::Setting {
                what: "no channel is named to take packages from".into(),
                hint: "name one with -c, or set conda.channels in config.yaml".into(),
            });
        }
        Ok(())
    }

    fn query(
        &self,
        channels: &[Channel],
        platform: Subdir,
        specs: &[MatchSpec],
        recursive: bool,
    ) -> Result<RepoDataQueryOutput, CondaError> {
        let ask = |gateway: &Gateway| {
            gateway
                .query(channels.to_vec(), [platform, Subdir::NoArch], specs.to_vec())
                .recursive(recursive)
                // Other channels are asked when the user names them, not when a channel does.
                .channel_relations(ChannelRelationsMode::Disabled)
                .execute()
        };
        self.ask(ask)
    }

    /// Asks the channels; where there is no network, the cache.
    fn ask<T, F: Future<Output = Result<T, GatewayError>>>(
        &self,
        ask: impl Fn(&Gateway) -> F,
    ) -> Result<T, CondaError> {
        let wait = |gateway: &Gateway| -> Result<Result<T, GatewayError>, CondaError> {
            let asked = ask(gateway);
            net::block_on(async {
                tokio::select! {
                    answer = asked => Ok(answer),
                    () = interrupted() => Err(CondaError::Interrupted),
                }
            })?
        };
        let error = match wait(&self.gateway)? {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let told = CondaError::of_gateway(&error, self.setup.offline);
        // That a channel has no such directory is no trouble of the network.
        if self.setup.offline || matches!(error, GatewayError::SubdirNotFoundError(_)) {
            return Err(told);
        }
        let answer = wait(&self.cached)?.map_err(|_| told)?;
        if let Ok(mut notes) = self.notes.lock() {
            let note = format!(
                "the channels do not answer; what was read of them earlier is used ({})",
                net::redacted_text(&error.to_string())
            );
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        Ok(answer)
    }
}

/// Ends when the user interrupts.
async fn interrupted() {
    while signal::interrupted().is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn exact(spec: &MatchSpec) -> Option<&PackageName> {
    match &spec.name {
        PackageNameMatcher::Exact(name) => Some(name),
        _ => None,
    }
}

/// The packages of an explicit list: what their addresses tell.
fn explicit(label: &str, archives: &[At<Archive>], platform: Subdir) -> Result<Locked, CondaError> {
    let mut channels: Vec<String> = Vec::new();
    let mut records: Vec<RepoDataRecord> = Vec::new();
    for At { loc, value } in archives {
        let bad = |why: String| CondaError::Lock { label: label.to_owned(), why: format!("{loc}: {why}") };
        let record = record(value, platform).map_err(bad)?;
        let name = &record.package_record.name;
        if records.iter().any(|known| known.package_record.name == *name) {
            return Err(bad(format!("{} is named twice", name.as_source())));
        }
        channels.extend(record.channel.clone().filter(|channel| !channels.contains(channel)));
        records.push(record);
    }
    Ok(Locked { platform, channels, records, pip: Vec::new(), variables: BTreeMap::new() })
}

fn record(archive: &Archive, platform: Subdir) -> Result<RepoDataRecord, String> {
    let identifier = DistArchiveIdentifier::try_from_url(&archive.url).ok_or("it is no archive of a package")?;
    let ArchiveIdentifier { name, version, build_string } = identifier.identifier.clone();
    let name: PackageName = name.parse().map_err(|error| format!("{error}"))?;
    let version: VersionWithSource = version.parse().map_err(|error| format!("{error}"))?;
    let build: BuildString = BuildString::new_unchecked(build_string);
    let mut package_record = PackageRecord::new(name, version, build);
    let segments: Vec<&str> = archive.url.path_segments().map(Iterator::collect).unwrap_or_default();
    let subdir = segments.iter().rev().nth(1).copied().unwrap_or_default();
    if subdir != platform.as_str() && subdir != Subdir::NoArch.as_str() {
        return Err(format!("it is for '{subdir}', not for {platform} (--platform chooses another)"));
    }
    package_record.subdir = subdir.to_owned();
    package_record.sha256 =
        archive.sha256.as_deref().and_then(rattler_digest::parse_digest_from_hex::<rattler_digest::Sha256>);
    package_record.md5 = archive.md5.as_deref().and_then(rattler_digest::parse_digest_from_hex::<rattler_digest::Md5>);
    let mut channel = archive.url.clone();
    channel.set_fragment(None);
    if let Ok(mut path) = channel.path_segments_mut() {
        path.pop().pop().push("");
    }
    Ok(RepoDataRecord { package_record, identifier, url: archive.url.clone(), channel: Some(channel.to_string()) })
}
