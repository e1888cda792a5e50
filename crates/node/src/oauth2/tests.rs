//! Tokens and keys as a provider makes them.

use super::claims::Claims;
use super::*;
use crate::config::{self, KeysAt};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

pub(super) fn config() -> OAuth2 {
    OAuth2 {
        resource_server_id: "rabbitmq".into(),
        resource_server_type: None,
        scope_prefix: "rabbitmq.".into(),
        additional_scopes: Vec::new(),
        scope_aliases: Default::default(),
        username_claims: Vec::new(),
        verify_aud: true,
        require_exp: true,
        default_key: None,
        signing_keys: Default::default(),
        algorithms: Vec::new(),
        provider: None,
    }
}

pub(super) fn claims(value: Value) -> Claims {
    match value {
        Value::Object(claims) => claims,
        other => panic!("no claims: {other}"),
    }
}

const SECRET: &str = "a secret of more than 16 bytes";

/// Tokens that are signed by one secret, in a file.
struct Provider {
    _directory: tempfile::TempDir,
    tokens: Tokens,
}

impl Provider {
    fn new(change: impl FnOnce(&mut OAuth2)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key.json");
        let key = json!({"kty": "MAC", "alg": "HS256", "value": SECRET});
        std::fs::write(&file, key.to_string()).unwrap();
        let mut config = config();
        config.signing_keys.insert("k1".into(), file);
        change(&mut config);
        Self {
            _directory: directory,
            tokens: Tokens::start(config).unwrap(),
        }
    }

    async fn login(&self, token: &str) -> Result<Arc<TokenUser>, TokenError> {
        match self.tokens.look(token.as_bytes()).await? {
            Step::Known(user) => Ok(user),
            Step::Verify(unverified) => self.tokens.verify(unverified),
        }
    }
}

fn token(header: Value, claims: Value, secret: &str) -> String {
    let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn good() -> Value {
    json!({
        "sub": "ann",
        "aud": ["rabbitmq"],
        "exp": now_s() + 600,
        "scope": "rabbitmq.read:*/* rabbitmq.tag:monitoring",
    })
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

#[tokio::test]
async fn a_token_becomes_a_user() {
    let provider = Provider::new(|_| {});
    let token = token(json!({"alg": "HS256", "kid": "k1"}), good(), SECRET);
    let user = provider.login(&token).await.unwrap();
    assert_eq!(&**user.name(), "ann");
    assert_eq!(user.tags(), [Name::from("monitoring")]);
    assert!(user.has_vhost("/") && user.may(Permission::Read, "/", "q"));
    assert!(!user.may(Permission::Write, "/", "q"));
    let left = user.expires_in().unwrap().as_secs();
    assert!((590..=600).contains(&left), "{left}");
    // Nothing is computed for one that was shown before.
    let again = provider.tokens.look(token.as_bytes()).await;
    assert!(matches!(again, Ok(Step::Known(known)) if Arc::ptr_eq(&known, &user)));
}

#[tokio::test]
async fn what_is_refused() {
    let hs256 = || json!({"alg": "HS256", "kid": "k1"});
    let provider = Provider::new(|_| {});
    let past = now_s() - 1;
    for (token, expected) in [
        ("guest".to_owned(), TokenError::Form),
        (
            token(hs256(), good(), "another secret of 16 bytes"),
            TokenError::Signature,
        ),
        (
            token(json!({"alg": "HS384", "kid": "k1"}), good(), SECRET),
            TokenError::Signature,
        ),
        (
            token(json!({"alg": "none", "kid": "k1"}), good(), SECRET),
            TokenError::Algorithm("none".into()),
        ),
        (
            token(json!({"alg": "HS256", "kid": "k2"}), good(), SECRET),
            TokenError::NoKey(Some("k2".into())),
        ),
        (
            token(hs256(), with(good(), "exp", past.into()), SECRET),
            TokenError::Expired(past),
        ),
        (
            token(hs256(), with(good(), "aud", "other".into()), SECRET),
            TokenError::Audience {
                found: "other".into(),
                expected: "rabbitmq".into(),
            },
        ),
    ] {
        let found = provider.login(&token).await;
        assert_eq!(found, Err(expected), "{token}");
    }
}

/// One that names no key has the default one, or the only one.
#[tokio::test]
async fn tokens_that_name_no_key() {
    let nameless = token(json!({"alg": "HS256"}), good(), SECRET);
    for (default, expected) in [
        (None, Ok(())),
        (Some("k1"), Ok(())),
        (Some("k2"), Err(TokenError::NoKey(None))),
    ] {
        let provider = Provider::new(|config| config.default_key = default.map(str::to_owned));
        let found = provider.login(&nameless).await.map(drop);
        assert_eq!(found, expected, "{default:?}");
    }
}

#[tokio::test]
async fn only_algorithms_that_are_listed() {
    let token = token(json!({"alg": "HS256", "kid": "k1"}), good(), SECRET);
    for (listed, fine) in [(&["HS256"][..], true), (&["RS256", "ES256"], false)] {
        let provider = Provider::new(|config| {
            config.algorithms = listed.iter().map(|name| name.to_string()).collect();
        });
        assert_eq!(provider.login(&token).await.is_ok(), fine, "{listed:?}");
    }
}

#[test]
fn what_does_not_start() {
    let wrong = |change: &dyn Fn(&mut OAuth2)| {
        let mut config = config();
        change(&mut config);
        Tokens::check(&config).unwrap_err()
    };
    let no_file = wrong(&|config| {
        let file = "/no/such.pem".into();
        config.signing_keys.insert("k".into(), file);
    });
    assert!(no_file.contains("k, /no/such.pem"), "{no_file}");
    let algorithm = wrong(&|config| config.algorithms = vec!["RS265".into()]);
    assert!(
        algorithm.contains("RS265") && algorithm.contains("RS256"),
        "{algorithm}"
    );
    let plain = wrong(&|config| {
        config.provider = Some(config::Provider {
            keys_at: KeysAt::KeySet("http://idp.example/keys".into()),
            ca: None,
            refresh_interval: Duration::ZERO,
        });
    });
    assert!(plain.contains("https://"), "{plain}");
}
