//! The network: one HTTP client for everything above, on one small tokio runtime that is made when it is first needed.
//! Above this room everything is threads; who has something asynchronous to wait for calls [`block_on`].

mod download;
mod error;
mod netrc;
mod part;
pub mod proxy;
mod transfer;

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

pub use download::{Access, Download, Fetched, Keep, Sum, Unwatched, Watch, bytes, download, download_into};
pub use error::{NetError, Trouble, redacted, redacted_text};
pub use netrc::text as netrc;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(20);

/// How patient the program is with servers.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long a server may be silent.
    pub silence: Duration,
    /// How often a passing trouble is met before it is told.
    pub tries: u32,
}

static PATIENCE: OnceLock<Patience> = OnceLock::new();

/// Sets the patience, once and before anything is fetched; the configuration's `net.timeout` and `net.tries`.
pub fn be_patient(patience: Patience) {
    let _ = PATIENCE.set(patience);
}

/// As set, else as the configuration's defaults are.
pub(crate) fn patience() -> Patience {
    PATIENCE.get().copied().unwrap_or(Patience { silence: Duration::from_secs(60), tries: 5 })
}

/// The runtime; two threads suffice for waiting.
fn runtime() -> Result<&'static Runtime, NetError> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        let made = Builder::new_multi_thread().worker_threads(2).thread_name("ovl-net").enable_all().build();
        made.map_err(|error| error.to_string())
    });
    made.as_ref().map_err(|why| NetError::new("", Trouble::Client(format!("no threads for the network: {why}"))))
}

/// Waits for something asynchronous. Not to be called from inside of it.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T, NetError> {
    Ok(runtime()?.block_on(future))
}

/// The client: the proxies of the environment, the system's certificates, no limit to the whole of a transfer.
pub fn http() -> Result<&'static reqwest::Client, NetError> {
    static CLIENT: OnceLock<Result<reqwest::Client, String>> = OnceLock::new();
    let made = CLIENT.get_or_init(|| builder().build().map_err(|error| error::chain(&error)));
    made.as_ref().map_err(|why| NetError::new("", Trouble::Client(why.clone())))
}

/// A client to be made with further wishes (other redirects, for example); [`http`] does for most.
pub fn builder() -> reqwest::ClientBuilder {
    // Somebody else may have chosen one already; then that is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("ovl/", env!("CARGO_PKG_VERSION")))
        // An address may hold a token, which is nobody else's business.
        .referer(false)
        .connect_timeout(CONNECT.min(patience().silence))
        .read_timeout(patience().silence)
}
