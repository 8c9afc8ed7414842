//! What goes wrong between a wish and a locked list.

use std::error::Error;

use rattler_repodata_gateway::GatewayError;
use rattler_repodata_gateway::fetch::FetchRepoDataError;

use crate::net::{NetError, redacted_text};

/// Where secrets of addresses belong.
pub(super) const KEEP: &str =
    "leave it out of the address, and put it into ~/.netrc or into rattler's file of credentials";

/// A conda environment that cannot be thought through.
#[derive(Debug, thiserror::Error)]
pub enum CondaError {
    /// Something in the configuration, in a flag or in the text.
    #[error("{what}")]
    Setting {
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A channel does not answer, or not with what a channel is made of.
    #[error("the channels cannot be read: {what}")]
    Channel {
        /// The library's words, causes included.
        what: String,
        /// What to do.
        hint: String,
    },
    /// No channel has a package of the name.
    #[error("no package '{name}' for {platform} in {}", channels.join(", "))]
    NoPackage {
        /// The package.
        name: String,
        /// The platform.
        platform: String,
        /// The channels asked.
        channels: Vec<String>,
        /// Names or versions that look like it.
        near: Vec<String>,
    },
    /// The wishes contradict each other or the channels.
    #[error("the environment cannot be solved:\n{explanation}")]
    Unsolvable {
        /// The solver's own explanation, in full.
        explanation: String,
        /// What to try.
        hint: String,
    },
    /// A lock file or an explicit list that does not fit.
    #[error("{label}: {why}")]
    Lock {
        /// The file.
        label: String,
        /// What is wrong with it.
        why: String,
    },
    /// The network itself could not be set up.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The user has interrupted.
    #[error("interrupted")]
    Interrupted,
}

impl CondaError {
    /// From what the library says of a channel.
    pub(super) fn of_gateway(error: &GatewayError, offline: bool) -> CondaError {
        if matches!(error, GatewayError::Cancelled) {
            return CondaError::Interrupted;
        }
        let mut what = error.to_string();
        let of_net = |cause: &reqwest::Error| {
            let url = cause.url().map(ToString::to_string).unwrap_or_default();
            NetError::of(&url, cause)
        };
        // What is passed through is no cause of itself.
        let mut net = match error {
            GatewayError::ReqwestError(cause)
            | GatewayError::FetchRepoDataError(FetchRepoDataError::HttpError(reqwest_middleware::Error::Reqwest(
                cause,
            ))) => Some(of_net(cause)),
            _ => None,
        };
        let mut next = error.source();
        while let Some(cause) = next {
            if net.is_none() {
                net = cause.downcast_ref::<reqwest::Error>().map(of_net);
            }
            let more = cause.to_string();
            if !what.contains(&more) {
                what = format!("{what}: {more}");
            }
            next = cause.source();
        }
        let by_net = net.map(|net| net.hint().to_string()).filter(|hint| !hint.is_empty());
        let hint = match (by_net, error) {
            _ if offline => {
                "what is not in the cache needs the network: leave --offline out, or run it once on a login node".into()
            }
            (Some(hint), _) => hint,
            (_, GatewayError::SubdirNotFoundError(gone)) if gone.channel.base_url.as_str().starts_with("file:") => {
                "is this the directory of a channel, with noarch/repodata.json in it?".into()
            }
            (_, GatewayError::SubdirNotFoundError(_)) => {
                "check the channel's name, and conda.channel_alias in config.yaml".into()
            }
            _ => "compute nodes often have no network: try it on a login node, and look at http_proxy and https_proxy"
                .into(),
        };
        CondaError::Channel { what: redacted_text(&what), hint }
    }

    /// What to do about it; empty where nothing is known.
    pub fn hint(&self) -> String {
        match self {
            CondaError::Setting { hint, .. }
            | CondaError::Channel { hint, .. }
            | CondaError::Unsolvable { hint, .. } => hint.clone(),
            CondaError::NoPackage { near, .. } if !near.is_empty() => format!("there is {}", near.join(", ")),
            CondaError::NoPackage { name, .. } => {
                format!("search for it with: ovl search '*{name}*', and name further channels with -c")
            }
            CondaError::Lock { why, .. } if why.ends_with("a password or token") => KEEP.into(),
            CondaError::Lock { .. } => String::new(),
            CondaError::Net(error) => error.hint().to_string(),
            CondaError::Interrupted => String::new(),
        }
    }
}
