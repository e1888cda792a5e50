//! Options for logins by tokens. Their names are RabbitMQ's `auth_oauth2.…`, with `_` for dots.

use super::values::{Names, Pairs, Span};
use clap::Args;
use node::config::{AuthBackends, KeysAt, OAuth2, Provider};
use node::oauth2::Tokens;
use std::path::PathBuf;
use std::time::Duration;

/// Where providers have the document that names their keys.
const DISCOVERY: &str = ".well-known/openid-configuration";
/// Keys are not fetched more often.
const REFRESH: Duration = Duration::from_secs(10);

/// The name of the first of these options that is given.
macro_rules! first_given {
    ($options:expr, $($option:ident),+) => {
        None$(.or($options.$option.is_some().then_some(stringify!($option))))+
    };
}

/// Options of tokens, and who may log in beside their users.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Tokens (OAuth 2)")]
pub(crate) struct OAuth2Options {
    /// Who may log in: internal (users with passwords or certificates), oauth2 (default: internal, and oauth2 if it is set up)
    #[arg(long, value_name = "LIST", help_heading = "Users")]
    auth_backends: Option<Names>,
    /// The name that tokens know this cluster by, which has to stand among their audiences (aud)
    #[arg(long, value_name = "ID")]
    auth_oauth2_resource_server_id: Option<String>,
    /// Address of the provider, whose discovery document names its keys
    #[arg(long, value_name = "URL")]
    auth_oauth2_issuer: Option<String>,
    /// Address of the provider's keys (default: as the issuer's discovery document says)
    #[arg(long, value_name = "URL")]
    auth_oauth2_jwks_uri: Option<String>,
    /// Authorities of the provider's certificate, PEM (default: those of the system)
    #[arg(long, value_name = "FILE")]
    auth_oauth2_https_cacertfile: Option<PathBuf>,
    /// Where the issuer has its discovery document (default: .well-known/openid-configuration)
    #[arg(long, value_name = "PATH", hide_short_help = true)]
    auth_oauth2_discovery_endpoint_path: Option<String>,
    /// What is asked for there: NAME=VALUE,…
    #[arg(long, value_name = "LIST", hide_short_help = true)]
    auth_oauth2_discovery_endpoint_params: Option<Pairs>,
    /// Keys in files (PEM, or one key in JSON) by the ids that tokens name: ID=FILE,…
    #[arg(long, value_name = "LIST")]
    auth_oauth2_signing_keys: Option<Pairs>,
    /// The key of tokens that name none (default: the only key there is)
    #[arg(long, value_name = "ID")]
    auth_oauth2_default_key: Option<String>,
    /// Algorithms of signatures that are accepted, such as RS256,ES256 (default: those that fit the key)
    #[arg(long, value_name = "LIST")]
    auth_oauth2_algorithms: Option<Names>,
    /// What scopes for this cluster begin with, or 'none' (default: its id and a dot)
    #[arg(long, value_name = "TEXT")]
    auth_oauth2_scope_prefix: Option<String>,
    /// Scopes that stand for others: NAME=SCOPE SCOPE …,NAME=…
    #[arg(long, value_name = "LIST")]
    auth_oauth2_scope_aliases: Option<Pairs>,
    /// Claims that hold scopes beside 'scope': paths with dots, and blanks between them
    #[arg(long, value_name = "PATHS")]
    auth_oauth2_additional_scopes_key: Option<String>,
    /// The type of what is meant for this cluster in authorization_details (default: nothing there is)
    #[arg(long, value_name = "TYPE")]
    auth_oauth2_resource_server_type: Option<String>,
    /// Claims that hold the user's name, before sub and client_id
    #[arg(long, value_name = "LIST")]
    auth_oauth2_preferred_username_claims: Option<Names>,
    /// Refuse tokens for other audiences (default: true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    auth_oauth2_verify_aud: Option<bool>,
    /// Refuse tokens that never expire (default: true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    auth_oauth2_require_exp: Option<bool>,
    /// Keys are fetched anew when a token names one that is not there, but not more often than this (default: 10s)
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    auth_oauth2_refresh_interval: Option<Span>,
}

impl OAuth2Options {
    /// Who may log in. Reads the files that hold keys.
    pub(super) fn resolve(self) -> Result<AuthBackends, String> {
        let backends = self.auth_backends.clone();
        let oauth2 = self.oauth2()?;
        if let Some(oauth2) = &oauth2 {
            Tokens::check(oauth2).map_err(|error| format!("auth_oauth2: {error}"))?;
        }
        let Some(Names(listed)) = backends else {
            return Ok(AuthBackends {
                internal: true,
                oauth2,
            });
        };
        let (mut internal, mut tokens) = (false, false);
        for name in listed {
            match name.trim_start_matches("rabbit_auth_backend_") {
                "internal" => internal = true,
                "oauth2" => tokens = true,
                _ => {
                    return Err(format!(
                        "auth_backends: '{name}' is not known: use internal, oauth2 or both"
                    ));
                }
            }
        }
        match (tokens, &oauth2) {
            (true, None) => {
                Err("auth_backends: oauth2 needs auth_oauth2_resource_server_id, and keys".into())
            }
            (false, Some(_)) => Err(
                "auth_oauth2_resource_server_id is set, but auth_backends does not have oauth2: add it, or leave both out"
                    .into(),
            ),
            (false, None) if !internal => {
                Err("auth_backends is empty: nobody could log in; use internal, oauth2 or both".into())
            }
            _ => Ok(AuthBackends { internal, oauth2 }),
        }
    }

    fn oauth2(self) -> Result<Option<OAuth2>, String> {
        let names = |names: Option<Names>| names.unwrap_or_default().0;
        let pairs = |pairs: Option<Pairs>| pairs.unwrap_or_default().0;
        let Some(id) = self.auth_oauth2_resource_server_id.clone() else {
            return match self.first_given() {
                Some(key) => Err(format!(
                    "{key} needs auth_oauth2_resource_server_id, the name that tokens know this cluster by"
                )),
                None => Ok(None),
            };
        };
        if id.is_empty() {
            return Err("auth_oauth2_resource_server_id is empty".into());
        }
        let provider = self.provider()?;
        let signing_keys = pairs(self.auth_oauth2_signing_keys);
        if provider.is_none() && signing_keys.is_empty() {
            return Err(
                "tokens need keys: set auth_oauth2_issuer, auth_oauth2_jwks_uri or auth_oauth2_signing_keys"
                    .into(),
            );
        }
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
        Ok(Some(OAuth2 {
            scope_prefix: match self.auth_oauth2_scope_prefix.as_deref() {
                None => format!("{id}."),
                Some("none") => String::new(),
                Some(prefix) => prefix.to_owned(),
            },
            resource_server_id: id,
            resource_server_type: self.auth_oauth2_resource_server_type,
            additional_scopes: self
                .auth_oauth2_additional_scopes_key
                .map(words)
                .unwrap_or_default(),
            scope_aliases: pairs(self.auth_oauth2_scope_aliases)
                .into_iter()
                .map(|(alias, scopes)| (alias, words(scopes)))
                .collect(),
            username_claims: names(self.auth_oauth2_preferred_username_claims),
            verify_aud: self.auth_oauth2_verify_aud.unwrap_or(true),
            require_exp: self.auth_oauth2_require_exp.unwrap_or(true),
            default_key: self.auth_oauth2_default_key,
            signing_keys: signing_keys
                .into_iter()
                .map(|(id, file)| (id, file.into()))
                .collect(),
            algorithms: names(self.auth_oauth2_algorithms),
            provider,
        }))
    }

    fn provider(&self) -> Result<Option<Provider>, String> {
        let keys_at = match (&self.auth_oauth2_jwks_uri, &self.auth_oauth2_issuer) {
            (Some(address), _) => KeysAt::KeySet(address.clone()),
            (None, Some(issuer)) => KeysAt::Discovery(self.discovery(issuer)?),
            (None, None) => {
                return match self.first_of_provider() {
                    Some(key) => Err(format!(
                        "{key} needs auth_oauth2_issuer or auth_oauth2_jwks_uri"
                    )),
                    None => Ok(None),
                };
            }
        };
        Ok(Some(Provider {
            keys_at,
            ca: self.auth_oauth2_https_cacertfile.clone(),
            refresh_interval: self
                .auth_oauth2_refresh_interval
                .map_or(REFRESH, |span| span.0),
        }))
    }

    /// Where the issuer has its discovery document.
    fn discovery(&self, issuer: &str) -> Result<String, String> {
        let (issuer, query) = issuer.split_once('?').unwrap_or((issuer, ""));
        let path = self.auth_oauth2_discovery_endpoint_path.as_deref();
        let path = path.unwrap_or(DISCOVERY).trim_start_matches('/');
        let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
        let mut address = format!("{issuer}/{path}");
        let params = self.auth_oauth2_discovery_endpoint_params.iter();
        let params = params.flat_map(|params| &params.0);
        let params = params.map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        let query: Vec<String> = [query.to_owned()]
            .into_iter()
            .filter(|query| !query.is_empty())
            .chain(params)
            .collect();
        if !query.is_empty() {
            address = format!("{address}?{}", query.join("&"));
        }
        if issuer.is_empty() {
            return Err("auth_oauth2_issuer is empty".into());
        }
        Ok(address)
    }

    /// An option that makes no sense alone.
    fn first_given(&self) -> Option<&'static str> {
        first_given!(
            self,
            auth_oauth2_issuer,
            auth_oauth2_jwks_uri,
            auth_oauth2_https_cacertfile,
            auth_oauth2_discovery_endpoint_path,
            auth_oauth2_discovery_endpoint_params,
            auth_oauth2_signing_keys,
            auth_oauth2_default_key,
            auth_oauth2_algorithms,
            auth_oauth2_scope_prefix,
            auth_oauth2_scope_aliases,
            auth_oauth2_additional_scopes_key,
            auth_oauth2_resource_server_type,
            auth_oauth2_preferred_username_claims,
            auth_oauth2_verify_aud,
            auth_oauth2_require_exp,
            auth_oauth2_refresh_interval
        )
    }

    /// One that is about a provider.
    fn first_of_provider(&self) -> Option<&'static str> {
        first_given!(
            self,
            auth_oauth2_https_cacertfile,
            auth_oauth2_discovery_endpoint_path,
            auth_oauth2_discovery_endpoint_params,
            auth_oauth2_refresh_interval
        )
    }
}

/// A part of a query.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
