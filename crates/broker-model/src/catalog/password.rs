//! How a user's password is kept. Computing and comparing hashes is the node's work; the catalog
//! only stores them, in our own format or in one imported from RabbitMQ.

use bytes::Bytes;

/// A way to verify a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PasswordAlgorithm {
    /// Argon2id; the hash is a PHC string.
    Argon2id,
    /// Four bytes of salt, then SHA-256 of salt and password.
    RabbitSha256,
    /// Four bytes of salt, then SHA-512 of salt and password.
    RabbitSha512,
    /// Four bytes of salt, then MD5 of salt and password.
    RabbitMd5,
}

impl PasswordAlgorithm {
    /// The name in definition files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Argon2id => "warren_password_hashing_argon2id",
            Self::RabbitSha256 => "rabbit_password_hashing_sha256",
            Self::RabbitSha512 => "rabbit_password_hashing_sha512",
            Self::RabbitMd5 => "rabbit_password_hashing_md5",
        }
    }

    /// Reads a name of a definition file.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [
            Self::Argon2id,
            Self::RabbitSha256,
            Self::RabbitSha512,
            Self::RabbitMd5,
        ]
        .into_iter()
        .find(|algorithm| algorithm.as_str() == name)
    }

    /// What made a hash of this form, where nobody says it: each has a length, or a beginning, of its own.
    #[must_use]
    pub fn of_hash(hash: &[u8]) -> Option<Self> {
        match hash.len() {
            _ if hash.starts_with(b"$argon2") => Some(Self::Argon2id),
            20 => Some(Self::RabbitMd5),
            36 => Some(Self::RabbitSha256),
            68 => Some(Self::RabbitSha512),
            _ => None,
        }
    }
}

/// A stored password. An empty hash lets nobody in.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    /// How it was made.
    pub algorithm: PasswordAlgorithm,
    /// The bytes (for Argon2id: text).
    pub hash: Bytes,
}

impl PasswordHash {
    /// No password opens this user.
    #[must_use]
    pub const fn disabled() -> Self {
        Self {
            algorithm: PasswordAlgorithm::RabbitSha256,
            hash: Bytes::new(),
        }
    }

    /// Whether password login is disabled.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.hash.is_empty()
    }
}

/// Hashes do not belong into logs.
impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordHash")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
