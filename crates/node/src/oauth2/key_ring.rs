//! The keys that are known: those of files, and those of the provider, which are fetched when a token names one that is
//! not there, and every hour.
//!
//! What a token names is said by whoever logs in: one fetch is under way at a time, and not soon after another.

use super::TokenError;
use super::claims::short;
use super::fetch::Source;
use super::keys::{Algorithm, Key, Keys};
use crate::config::OAuth2;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// Keys that the provider has withdrawn are forgotten after this time.
const RENEWAL: Duration = Duration::from_secs(3600);
/// A provider that has not answered is asked again after this time at the earliest.
const RETRY: Duration = Duration::from_secs(1);

/// The keys.
pub(super) struct KeyRing {
    own: Keys,
    default: Option<String>,
    fetched: ArcSwap<Fetched>,
    provider: Option<Fetcher>,
}

/// What the provider has given last.
#[derive(Default)]
struct Fetched {
    keys: Keys,
    /// Grows with each time.
    edition: u64,
}

struct Fetcher {
    source: Arc<Source>,
    interval: Duration,
    last: Mutex<Option<Attempt>>,
}

/// The last time that keys were asked for.
struct Attempt {
    at: Instant,
    error: Option<String>,
}

impl KeyRing {
    /// Reads the files; asks nobody yet.
    pub(super) fn new(config: &OAuth2) -> Result<Self, String> {
        for name in &config.algorithms {
            if Algorithm::named(name).is_none() {
                let known = Algorithm::NAMES.map(|(name, _)| name).join(", ");
                return Err(format!("algorithm '{name}' is not known: use {known}"));
            }
        }
        let mut own = Keys::new();
        for (id, file) in &config.signing_keys {
            let key = Key::of_file(file)
                .map_err(|error| format!("signing key {id}, {}: {error}", file.display()))?;
            own.insert(id.clone(), Arc::new(key));
        }
        let provider = match &config.provider {
            None => None,
            Some(provider) => Some(Fetcher {
                source: Arc::new(Source::new(provider)?),
                interval: provider.refresh_interval,
                last: Mutex::default(),
            }),
        };
        Ok(Self {
            own,
            default: config.default_key.clone(),
            fetched: ArcSwap::default(),
            provider,
        })
    }

    /// Reads the files, and begins to fetch from the provider.
    pub(super) fn start(config: &OAuth2) -> Result<Arc<Self>, String> {
        let ring = Arc::new(Self::new(config)?);
        if ring.provider.is_some() {
            let ring = Arc::downgrade(&ring);
            tokio::spawn(async move {
                while let Some(ring) = ring.upgrade() {
                    let _ = ring.fetch(|_| false).await;
                    drop(ring);
                    sleep(RENEWAL).await;
                }
            });
        }
        Ok(ring)
    }

    /// Changes with the keys that were fetched.
    pub(super) fn edition(&self) -> u64 {
        self.fetched.load().edition
    }

    /// The key that a token names.
    pub(super) async fn find(self: &Arc<Self>, id: Option<&str>) -> Result<Arc<Key>, TokenError> {
        if let Some(key) = self.known(id) {
            return Ok(key);
        }
        if self.provider.is_some() {
            let (ring, wanted) = (Arc::clone(self), id.map(str::to_owned));
            // Goes on if the client is gone: else each that comes and goes would begin another.
            let fetch = tokio::spawn(async move {
                ring.fetch(|ring| ring.known(wanted.as_deref()).is_some())
                    .await
            });
            if let Ok(Err(error)) = fetch.await {
                return Err(TokenError::Provider(error));
            }
        }
        self.known(id).ok_or(TokenError::NoKey(id.map(short)))
    }

    fn known(&self, id: Option<&str>) -> Option<Arc<Key>> {
        let fetched = self.fetched.load();
        let by_id = |id: &str| self.own.get(id).or_else(|| fetched.keys.get(id)).cloned();
        match (id, &self.default) {
            (Some(id), _) => by_id(id),
            (None, Some(default)) => by_id(default),
            // One that has no name either, or the only one there is.
            (None, None) => by_id("").or_else(|| {
                let mut all = self.own.values().chain(fetched.keys.values());
                all.next().filter(|_| all.next().is_none()).cloned()
            }),
        }
    }

    /// Fetches the keys, unless that is not needed any more when nobody else fetches, or was done just before.
    async fn fetch(&self, is_done: impl Fn(&Self) -> bool) -> Result<(), String> {
        let Some(fetcher) = &self.provider else {
            return Ok(());
        };
        let mut last = fetcher.last.lock().await;
        if is_done(self) {
            return Ok(());
        }
        if let Some(attempt) = &*last {
            let wait = match &attempt.error {
                Some(_) => RETRY.min(fetcher.interval),
                None => fetcher.interval,
            };
            if attempt.at.elapsed() < wait {
                return attempt.error.clone().map_or(Ok(()), Err);
            }
        }
        let source = Arc::clone(&fetcher.source);
        let fetched = tokio::task::spawn_blocking(move || source.fetch()).await;
        let result = match fetched.unwrap_or_else(|_| Err("the node is stopping".into())) {
            Ok(keys) => {
                info!(keys = keys.len(), "keys of tokens fetched");
                let edition = self.edition() + 1;
                self.fetched.store(Arc::new(Fetched { keys, edition }));
                Ok(())
            }
            Err(error) => {
                warn!(%error, "keys of tokens not fetched");
                Err(error)
            }
        };
        *last = Some(Attempt {
            at: Instant::now(),
            error: result.clone().err(),
        });
        result
    }
}
