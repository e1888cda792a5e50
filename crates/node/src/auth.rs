//! Logins: passwords against the catalog's hashes, with a cache that keeps repeated logins cheap; tokens by what
//! stands in them (`oauth2`).
//!
//! Not here: permissions (`identity`), what a client is told (`session`).

use crate::auth_attempts::Door;
use crate::auth_turns::Turns;
use crate::catalog::machine::CatalogMachine;
use crate::identity::Identity;
use crate::oauth2::{self, Step, TokenError, TokenUser, Tokens};
use argon2::password_hash::phc::PasswordHash as PhcHash;
use argon2::{Algorithm, Argon2, Params, PasswordVerifier, Version};
use broker_model::catalog::{PasswordAlgorithm, PasswordHash};
use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256, Sha512};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory of one Argon2 computation, KiB.
const ARGON2_KIB: u32 = 8 * 1024;
/// Passes of one computation.
const ARGON2_PASSES: u32 = 3;
/// Computations at the same time: they cost memory and a core each.
const CONCURRENT: usize = 2;
/// Verified logins remembered.
const CACHE: usize = 4096;

/// What a client shows.
#[derive(Clone)]
pub struct Login {
    /// User; empty if only a token counts.
    pub user: String,
    /// Password, or a token; `None` if the peer is authenticated by its certificate.
    pub password: Option<Vec<u8>>,
    /// Where it comes from.
    pub address: IpAddr,
    /// How.
    pub door: Door,
}

/// Why a login is refused. The client is told none of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No such user.
    #[error("no such user")]
    NoUser,
    /// Wrong or empty password, or the user has none.
    #[error("wrong password")]
    WrongPassword,
    /// This user may log in from loopback addresses only.
    #[error("user may log in from loopback addresses only")]
    LoopbackOnly,
    /// Only tokens count here.
    #[error("users with passwords or certificates are not among the auth_backends")]
    TokensOnly,
    /// The token is not accepted.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// Something ended in the middle of it.
    #[error("the node is stopping")]
    Stopping,
}

/// Checks logins.
pub struct Authenticator {
    loopback_users: Vec<String>,
    /// Whether users of the catalog may log in.
    internal: bool,
    tokens: Option<Arc<Tokens>>,
    permits: Arc<Semaphore>,
    turns: Turns,
    /// Digest of (key, user, stored hash, password) of logins that were right.
    verified: Arc<Mutex<HashMap<[u8; 32], ()>>>,
    /// Random, so that the digests say nothing outside of this process.
    key: [u8; 32],
}

/// While it is held, others wait: those of the same address, and all when there are too many.
struct Turn(
    #[expect(dead_code, reason = "held")] Option<OwnedSemaphorePermit>,
    #[expect(dead_code, reason = "held")] Option<OwnedSemaphorePermit>,
);

impl Authenticator {
    /// `loopback_users` may log in from loopback addresses only. `internal`: users of the catalog may log in.
    #[must_use]
    pub fn new(loopback_users: Vec<String>, internal: bool, tokens: Option<Arc<Tokens>>) -> Self {
        Self {
            loopback_users,
            internal,
            tokens,
            permits: Arc::new(Semaphore::new(CONCURRENT)),
            turns: Turns::default(),
            verified: Arc::default(),
            key: rand::random(),
        }
    }

    /// The user, if the login is right. What has the form of a token is taken for one where tokens are accepted, and
    /// compared with no password: nobody has one of that form, and each comparison is dear.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub async fn check(
        &self,
        catalog: &CatalogMachine,
        login: Login,
    ) -> Result<Identity, AuthError> {
        if let (Some(tokens), Some(text)) = (&self.tokens, &login.password)
            && (!self.internal || login.user.is_empty() || oauth2::is_one(text))
        {
            let user = self.check_token(tokens, text, login.address).await?;
            return Ok(Identity::of_token(user));
        }
        if !self.internal {
            return Err(AuthError::TokensOnly);
        }
        self.check_stored(catalog, login)
            .await
            .map(Identity::stored)
    }

    async fn check_token(
        &self,
        tokens: &Arc<Tokens>,
        text: &[u8],
        address: IpAddr,
    ) -> Result<Arc<TokenUser>, AuthError> {
        let unverified = match tokens.look(text).await? {
            Step::Known(user) => return Ok(user),
            Step::Verify(unverified) => unverified,
        };
        let held = self.turn(address).await;
        let tokens = Arc::clone(tokens);
        let verified = tokio::task::spawn_blocking(move || {
            let _held = held;
            tokens.verify(unverified)
        });
        Ok(verified.await.map_err(|_| AuthError::Stopping)??)
    }

    async fn check_stored(
        &self,
        catalog: &CatalogMachine,
        login: Login,
    ) -> Result<Arc<str>, AuthError> {
        let found = {
            let catalog = catalog.read();
            catalog
                .user(&login.user)
                .map(|user| (Arc::clone(&user.name), user.password.clone()))
        };
        let address = login.address.to_canonical();
        if !address.is_loopback() && self.loopback_users.contains(&login.user) {
            return Err(AuthError::LoopbackOnly);
        }
        let Some(password) = login.password else {
            return found.map(|(name, _)| name).ok_or(AuthError::NoUser);
        };
        if password.is_empty() {
            return Err(AuthError::WrongPassword);
        }
        // An unknown user, and one without a password, cost as much as a wrong password.
        let (name, stored) = match found {
            Some((name, stored)) if stored.is_disabled() => (Some(name), dummy_hash()),
            Some((name, stored)) => (Some(name), stored),
            None => (None, dummy_hash()),
        };
        let digest = self.digest(&login.user, &stored, &password);
        if self.verified.lock().contains_key(&digest) {
            return name.ok_or(AuthError::NoUser);
        }
        let right = self.compute(address, digest, move || verify(&stored, &password));
        let right = right.await;
        let name = name.ok_or(AuthError::NoUser)?;
        if right {
            Ok(name)
        } else {
            Err(AuthError::WrongPassword)
        }
    }

    /// Runs a verification when it is its turn, and remembers a login that is right. Not if it was found right
    /// meanwhile: after the restart of a node all its clients come at once.
    async fn compute(
        &self,
        address: IpAddr,
        digest: [u8; 32],
        verify: impl FnOnce() -> bool + Send + 'static,
    ) -> bool {
        let held = self.turn(address).await;
        if self.verified.lock().contains_key(&digest) {
            return true;
        }
        let verified = Arc::clone(&self.verified);
        tokio::task::spawn_blocking(move || {
            let _held = held;
            let right = verify();
            if right {
                let mut verified = verified.lock();
                if verified.len() >= CACHE {
                    verified.clear();
                }
                verified.insert(digest, ());
            }
            right
        })
        .await
        .unwrap_or(false)
    }

    /// Waits for a turn. To be held to the end of the computation, also if the client is gone before.
    async fn turn(&self, address: IpAddr) -> Turn {
        let of_address = self.turns.take(address).await;
        // It is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        Turn(of_address, permit)
    }

    fn digest(&self, user: &str, stored: &PasswordHash, password: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.key);
        for part in [user.as_bytes(), &stored.hash, password] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

fn argon2() -> Option<Argon2<'static>> {
    let params = Params::new(ARGON2_KIB, ARGON2_PASSES, 1, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Hashes a new password, slowly and with a fresh salt. Blocking.
#[must_use]
pub fn hash_password(password: &str) -> PasswordHash {
    use argon2::PasswordHasher;
    let hashed = argon2().and_then(|argon2| argon2.hash_password(password.as_bytes()).ok());
    match hashed {
        Some(hash) => PasswordHash {
            algorithm: PasswordAlgorithm::Argon2id,
            hash: Bytes::from(hash.to_string()),
        },
        None => PasswordHash::disabled(),
    }
}

/// A hash that no password has.
fn dummy_hash() -> PasswordHash {
    static DUMMY: std::sync::OnceLock<PasswordHash> = std::sync::OnceLock::new();
    DUMMY
        .get_or_init(|| hash_password(&format!("{:032x}", rand::random::<u128>())))
        .clone()
}

/// Whether `password` is the one of `stored`. Blocking.
#[must_use]
pub fn verify(stored: &PasswordHash, password: &[u8]) -> bool {
    match stored.algorithm {
        PasswordAlgorithm::Argon2id => {
            let text = String::from_utf8_lossy(&stored.hash);
            let Ok(parsed) = PhcHash::new(&text) else {
                return false;
            };
            Argon2::default().verify_password(password, &parsed).is_ok()
        }
        PasswordAlgorithm::RabbitSha256 => verify_salted::<Sha256>(&stored.hash, password),
        PasswordAlgorithm::RabbitSha512 => verify_salted::<Sha512>(&stored.hash, password),
        PasswordAlgorithm::RabbitMd5 => verify_salted::<md5::Md5>(&stored.hash, password),
    }
}

/// RabbitMQ's format: four bytes of salt, then the digest of salt and password.
fn verify_salted<D: Digest>(stored: &[u8], password: &[u8]) -> bool {
    let Some((salt, expected)) = stored.split_first_chunk::<4>() else {
        return false;
    };
    let mut digest = D::new();
    digest.update(salt);
    digest.update(password);
    digest.finalize().as_slice().ct_eq(expected).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_crowd_with_one_password_is_verified_once() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let auth = Authenticator::new(Vec::new(), true, None);
        let computed = Arc::new(AtomicUsize::new(0));
        let login = |nth: u8| {
            let (auth, computed) = (&auth, Arc::clone(&computed));
            async move {
                let address = IpAddr::from([192, 0, 2, nth % 3]);
                let right = auth.compute(address, [7; 32], move || {
                    computed.fetch_add(1, Ordering::Relaxed);
                    true
                });
                assert!(right.await);
            }
        };
        futures::future::join_all((0..100).map(login)).await;
        // So many may have begun before the first was done.
        let computed = computed.load(Ordering::Relaxed);
        assert!((1..=CONCURRENT).contains(&computed), "{computed}");
    }

    #[test]
    fn own_hashes_verify() {
        let stored = hash_password("secret");
        assert!(verify(&stored, b"secret"));
        assert!(!verify(&stored, b"Secret"));
        assert!(!verify(&dummy_hash(), b""));
    }

    #[test]
    fn rabbitmq_hashes_verify() {
        // From RabbitMQ's documentation on passwords: "test12" with this salt.
        let mut digest = Sha256::new();
        digest.update([0x90, 0x8d, 0xc6, 0x0a]);
        digest.update(b"test12");
        let mut hash = vec![0x90, 0x8d, 0xc6, 0x0a];
        hash.extend_from_slice(&digest.finalize());
        let stored = PasswordHash {
            algorithm: PasswordAlgorithm::RabbitSha256,
            hash: hash.into(),
        };
        assert!(verify(&stored, b"test12"));
        assert!(!verify(&stored, b"test13"));
        let short = PasswordHash {
            algorithm: PasswordAlgorithm::RabbitMd5,
            hash: Bytes::from_static(b"abc"),
        };
        assert!(!verify(&short, b"abc"));
    }
}
