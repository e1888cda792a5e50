//! Logins by tokens (OAuth 2): who signs them, and what they say. The names are those of RabbitMQ's `auth_oauth2.…`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Which users there are.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthBackends {
    /// Those of the catalog, with passwords or certificates.
    pub internal: bool,
    /// Those who show a token.
    pub oauth2: Option<OAuth2>,
}

impl Default for AuthBackends {
    fn default() -> Self {
        Self {
            internal: true,
            oauth2: None,
        }
    }
}

/// What is asked of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct OAuth2 {
    /// The name that tokens know this cluster by: it must stand among their audiences (`aud`).
    pub resource_server_id: String,
    /// The `type` of what is meant for us in `authorization_details`; `None`: nothing there is.
    pub resource_server_type: Option<String>,
    /// What scopes that are meant for us begin with; may be empty.
    pub scope_prefix: String,
    /// Where scopes stand beside the claim `scope`: paths of claims (`realm_access.roles`).
    pub additional_scopes: Vec<String>,
    /// Scopes that stand for others.
    pub scope_aliases: BTreeMap<String, Vec<String>>,
    /// Claims that may hold the user's name, before `sub` and `client_id`.
    pub username_claims: Vec<String>,
    /// Whether the audience is looked at.
    pub verify_aud: bool,
    /// Whether a token that never expires is refused.
    pub require_exp: bool,
    /// The key of tokens that name none.
    pub default_key: Option<String>,
    /// Keys in files, by their ids.
    pub signing_keys: BTreeMap<String, PathBuf>,
    /// The algorithms of signatures that are accepted; empty: those that fit the key.
    pub algorithms: Vec<String>,
    /// Where keys are fetched from.
    pub provider: Option<Provider>,
}

/// Where keys are fetched from.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// The key set, or the document that names it.
    pub keys_at: KeysAt,
    /// PEM file: authorities of the provider's certificate; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// Keys are not fetched more often, whatever tokens name.
    pub refresh_interval: Duration,
}

/// How the address of the keys is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysAt {
    /// It is given.
    KeySet(String),
    /// The document at this address (OpenID discovery) has it as `jwks_uri`.
    Discovery(String),
}
