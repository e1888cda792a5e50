//! Logins by tokens of an OAuth 2 provider: JSON Web Tokens, which say themselves what their user may do.
//!
//! A token is checked when somebody logs in with it or refreshes it; what is in it is kept for the connection
//! ([`TokenUser`]) and nowhere else. All that goes over the network is to fetch the provider's keys ([`key_ring`]).
//!
//! Not here: who is asked first (`auth`), what a session does when a token expires (`session::login`).

mod claims;
mod fetch;
mod jwt;
mod key_ring;
mod keys;
mod percent;
mod rich;
mod scope;
mod wildcard;

pub(crate) use jwt::is_one;

use crate::config::OAuth2;
use broker_model::catalog::{Name, Permission};
use key_ring::KeyRing;
use keys::{Algorithm, Key};
use parking_lot::Mutex;
use scope::Grants;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Verified tokens remembered.
const CACHE: usize = 1024;

/// Why a token is refused. The client is told none of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is none, or cannot be read.
    #[error("not a token")]
    Form,
    /// Its signature is of a kind that is not accepted.
    #[error("token is signed by {0}, which is not accepted")]
    Algorithm(String),
    /// Nobody has the key that it names.
    #[error("no key is known {}", .0.as_ref().map_or("for a token that names none".into(), |id| format!("by the id '{id}'")))]
    NoKey(Option<String>),
    /// The key could not be fetched.
    #[error("the key of the token could not be fetched: {0}")]
    Provider(String),
    /// Not by the key that it names.
    #[error("the signature of the token is not that of its key")]
    Signature,
    /// It does not say whom it is for.
    #[error("token has no audience (aud)")]
    NoAudience,
    /// It is for others.
    #[error("token is for '{found}' (aud), not for '{expected}'")]
    Audience {
        /// Whom it is for.
        found: String,
        /// Who we are.
        expected: String,
    },
    /// It is too old.
    #[error("token has expired at {0} (exp)")]
    Expired(u64),
    /// It would be good for ever.
    #[error("token does not say when it expires (exp)")]
    NoExpiry,
    /// It does not say so in seconds.
    #[error("token does not say when it expires: exp is no number")]
    Expiry,
    /// It is too young.
    #[error("token is not good before {0} (nbf)")]
    NotYet(u64),
    /// Each is looked at.
    #[error("token has more than {0} scopes")]
    TooManyScopes(usize),
}

/// What a token says of its user. Good until it expires.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenUser {
    name: Name,
    tags: Vec<Name>,
    grants: Grants,
    /// In seconds since 1970.
    expires_at_s: Option<u64>,
}

impl TokenUser {
    /// As a token with these scopes, without their prefix, would say it.
    #[cfg(test)]
    pub(crate) fn made(name: &str, scopes: &[&str], expires_at_s: Option<u64>) -> Arc<Self> {
        let scopes: Vec<String> = scopes.iter().map(|scope| scope.to_string()).collect();
        Arc::new(Self {
            name: name.into(),
            tags: claims::tags(&scopes).into_iter().map(Name::from).collect(),
            grants: Grants::new(&scopes, &|_| None),
            expires_at_s,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its tags.
    #[must_use]
    pub fn tags(&self) -> &[Name] {
        &self.tags
    }

    /// Whether it may open a vhost.
    #[must_use]
    pub fn has_vhost(&self, vhost: &str) -> bool {
        self.grants.has_vhost(vhost)
    }

    /// Whether it may do something with a queue or exchange.
    #[must_use]
    pub fn may(&self, permission: Permission, vhost: &str, name: &str) -> bool {
        self.grants.allow(permission, vhost, name)
    }

    /// Whether it may do something by a topic.
    #[must_use]
    pub fn may_by_topic(
        &self,
        permission: Permission,
        vhost: &str,
        exchange: &str,
        topic: &str,
    ) -> bool {
        self.grants.allow_topic(permission, vhost, exchange, topic)
    }

    /// Scopes that are looked at for this.
    #[must_use]
    pub fn scopes(&self, permission: Permission) -> usize {
        self.grants.count(permission)
    }

    /// How long it is good; `None`: for ever.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        let left = self.expires_at_s?.saturating_sub(now_s());
        Some(Duration::from_secs(left))
    }
}

/// A token that was read, with the key that it has to be signed by.
pub(crate) struct Unverified {
    token: jwt::Token,
    key: Arc<Key>,
    digest: [u8; 32],
}

/// What stands between a token and its user.
pub(crate) enum Step {
    /// It was shown before.
    Known(Arc<TokenUser>),
    /// Its signature has to be checked, which costs a little.
    Verify(Unverified),
}

/// Checks tokens.
pub struct Tokens {
    config: OAuth2,
    keys: Arc<KeyRing>,
    verified: Mutex<HashMap<[u8; 32], Arc<TokenUser>>>,
    /// Random, so that the digests say nothing outside of this process.
    key: [u8; 32],
}

impl Tokens {
    /// Reads keys, and begins to fetch those of the provider.
    ///
    /// # Errors
    /// A file cannot be used, or an address makes no sense.
    pub fn start(config: OAuth2) -> Result<Self, String> {
        Ok(Self {
            keys: KeyRing::start(&config)?,
            config,
            verified: Mutex::default(),
            key: rand::random(),
        })
    }

    /// Whether it could be started; asks nobody.
    ///
    /// # Errors
    /// As [`Tokens::start`].
    pub fn check(config: &OAuth2) -> Result<(), String> {
        KeyRing::new(config).map(drop)
    }

    /// Looks at all of a token but its signature, and finds its key, which may have to be fetched.
    pub(crate) async fn look(&self, text: &[u8]) -> Result<Step, TokenError> {
        let digest = self.digest(text);
        let known = self.verified.lock().get(&digest).cloned();
        if let Some(user) = known
            && user.expires_in().is_none_or(|left| !left.is_zero())
        {
            return Ok(Step::Known(user));
        }
        let token = jwt::read(text)?;
        if !self.accepts(token.algorithm) {
            return Err(TokenError::Algorithm(format!("{:?}", token.algorithm)));
        }
        claims::check_audience(&token.claims, &self.config)?;
        claims::check_time(&token.claims, &self.config, now_s())?;
        let key = self.keys.find(token.key_id.as_deref()).await?;
        // Of the keys as they are now, if they have just been fetched.
        let digest = self.digest(text);
        Ok(Step::Verify(Unverified { token, key, digest }))
    }

    /// Checks the signature, and reads what the token allows. Blocking, for some tens of microseconds.
    pub(crate) fn verify(&self, unverified: Unverified) -> Result<Arc<TokenUser>, TokenError> {
        let Unverified { token, key, digest } = unverified;
        if !key.verify(token.algorithm, &token.signed, &token.signature) {
            return Err(TokenError::Signature);
        }
        let user = Arc::new(user_of(&token.claims, &self.config)?);
        let mut verified = self.verified.lock();
        if verified.len() >= CACHE {
            verified.clear();
        }
        verified.insert(digest, Arc::clone(&user));
        Ok(user)
    }

    fn accepts(&self, algorithm: Algorithm) -> bool {
        let listed = &self.config.algorithms;
        listed.is_empty()
            || listed
                .iter()
                .any(|name| Algorithm::named(name) == Some(algorithm))
    }

    fn digest(&self, text: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.key);
        digest.update(self.keys.edition().to_be_bytes());
        digest.update(text);
        digest.finalize().into()
    }
}

fn user_of(claims: &claims::Claims, config: &OAuth2) -> Result<TokenUser, TokenError> {
    let expires_at_s = claims::check_time(claims, config, now_s())?;
    let scopes = claims::scopes(claims, config)?;
    Ok(TokenUser {
        name: claims::username(claims, config).into(),
        tags: claims::tags(&scopes).into_iter().map(Name::from).collect(),
        grants: Grants::new(&scopes, &|claim| claims::text(claims, claim)),
        expires_at_s,
    })
}

fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
