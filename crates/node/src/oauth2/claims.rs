//! What the claims of a token say: who it is, for whom the token is, how long it is good, and its scopes.
//!
//! Not here: whether the token is genuine (`jwt`), what scopes allow (`scope`).

use super::TokenError;
use super::rich;
use crate::config::OAuth2;
use serde_json::{Map, Value};

/// The claims of a token.
pub(super) type Claims = Map<String, Value>;

/// Scopes that are looked at in one token, at most.
const SCOPES_MAX: usize = 2048;
/// How much a provider's clock may be ahead of ours, in seconds.
const AHEAD_S: u64 = 60;
/// What a token says is told so far in the log.
const TEXT_MAX: usize = 100;
/// Where scopes stand in a token for a requesting party (User-Managed Access).
const REQUESTING_PARTY: &str = "authorization.permissions.scopes";
/// Claims that hold the user's name where no other does.
const USERNAME_CLAIMS: [&str; 2] = ["sub", "client_id"];
/// The name of whoever has none.
const UNKNOWN: &str = "unknown";

/// Refuses tokens for others, unless nobody wants to know.
pub(super) fn check_audience(claims: &Claims, config: &OAuth2) -> Result<(), TokenError> {
    if !config.verify_aud {
        return Ok(());
    }
    let Some(audience) = claims.get("aud") else {
        return Err(TokenError::NoAudience);
    };
    let audience = words(audience);
    if audience.contains(&config.resource_server_id) {
        return Ok(());
    }
    Err(TokenError::Audience {
        found: short(&audience.join(" ")),
        expected: config.resource_server_id.clone(),
    })
}

/// What a token says, as far as the log wants to have it.
pub(super) fn short(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// When the token expires, in seconds since 1970; refuses one that has, or is not good yet.
pub(super) fn check_time(
    claims: &Claims,
    config: &OAuth2,
    now_s: u64,
) -> Result<Option<u64>, TokenError> {
    if let Some(not_before) = claims.get("nbf").and_then(seconds)
        && not_before > now_s + AHEAD_S
    {
        return Err(TokenError::NotYet(not_before));
    }
    match claims.get("exp") {
        None if config.require_exp => Err(TokenError::NoExpiry),
        None => Ok(None),
        Some(expiry) => match seconds(expiry) {
            None => Err(TokenError::Expiry),
            Some(expiry) if expiry <= now_s => Err(TokenError::Expired(expiry)),
            Some(expiry) => Ok(Some(expiry)),
        },
    }
}

fn seconds(value: &Value) -> Option<u64> {
    let fraction = || value.as_f64().map(|seconds| seconds.max(0.0) as u64);
    value.as_u64().or_else(fraction)
}

/// The user's name.
pub(super) fn username<'a>(claims: &'a Claims, config: &'a OAuth2) -> &'a str {
    let preferred = config.username_claims.iter().map(String::as_str);
    preferred
        .chain(USERNAME_CLAIMS)
        .filter_map(|claim| text(claims, claim))
        .find(|name| !name.is_empty())
        .unwrap_or(UNKNOWN)
}

/// A claim that is a text.
pub(super) fn text<'a>(claims: &'a Claims, claim: &str) -> Option<&'a str> {
    claims.get(claim)?.as_str()
}

/// The scopes that are meant for us, without their prefix, each once.
pub(super) fn scopes(claims: &Claims, config: &OAuth2) -> Result<Vec<String>, TokenError> {
    let mut all = claims.get("scope").map(words).unwrap_or_default();
    let paths = config.additional_scopes.iter().map(String::as_str);
    for path in [REQUESTING_PARTY].into_iter().chain(paths) {
        let path: Vec<&str> = path.split('.').filter(|key| !key.is_empty()).collect();
        if let Some((first, rest)) = path.split_first()
            && let Some(value) = claims.get(*first)
        {
            collect(value, rest, config, &mut all);
        }
    }
    let meant = |scope: &String| config.scope_aliases.get(scope).cloned();
    let aliases: Vec<String> = all.iter().filter_map(meant).flatten().collect();
    all.extend(aliases);
    all.extend(rich::scopes(claims, config));
    let mut ours: Vec<String> = all
        .iter()
        .filter_map(|scope| scope.strip_prefix(&*config.scope_prefix))
        .map(str::to_owned)
        .collect();
    ours.sort_unstable();
    ours.dedup();
    if ours.len() > SCOPES_MAX {
        return Err(TokenError::TooManyScopes(SCOPES_MAX));
    }
    Ok(ours)
}

/// The tags among the scopes, in order.
pub(super) fn tags(scopes: &[String]) -> Vec<&str> {
    scopes
        .iter()
        .filter_map(|scope| scope.strip_prefix("tag:"))
        .collect()
}

/// Scopes at the end of a path: words, or words by the name that we are known by. On the way lists are walked through.
fn collect(value: &Value, path: &[&str], config: &OAuth2, all: &mut Vec<String>) {
    match (path, value) {
        ([], Value::Object(by_server)) => {
            let id = &config.resource_server_id;
            let ours = by_server.get(id).map(words).unwrap_or_default();
            all.extend(ours.iter().map(|scope| format!("{id}.{scope}")));
        }
        ([], value) => all.extend(words(value)),
        ([key, rest @ ..], Value::Object(object)) => {
            if let Some(value) = object.get(*key) {
                collect(value, rest, config, all);
            }
        }
        (path, Value::Array(items)) => {
            for item in items {
                collect(item, path, config, all);
            }
        }
        _ => {}
    }
}

/// A list of texts, or a text with blanks between words.
pub(super) fn words(value: &Value) -> Vec<String> {
    let split = |text: &str| -> Vec<String> {
        let words = text.split(' ').filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    match value {
        Value::String(text) => split(text),
        Value::Array(items) => {
            let texts = items.iter().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{claims, config};
    use super::*;
    use serde_json::json;

    fn found(value: Value, change: impl FnOnce(&mut OAuth2)) -> Vec<String> {
        let mut config = config();
        change(&mut config);
        scopes(&claims(value), &config).unwrap()
    }

    #[test]
    fn where_scopes_stand() {
        let keys = |keys: &'static str| {
            move |config: &mut OAuth2| {
                config.additional_scopes = keys.split(' ').map(str::to_owned).collect();
            }
        };
        let plain = |_: &mut OAuth2| {};
        for (what, found, expected) in [
            ("none", found(json!({}), plain), &[][..]),
            (
                "a text",
                found(
                    json!({"scope": "openid  rabbitmq.read:*/* rabbitmq.tag:x"}),
                    plain,
                ),
                &["read:*/*", "tag:x"],
            ),
            (
                "a list, some twice",
                found(
                    json!({"scope": ["rabbitmq.b", 7, "rabbitmq.a", "rabbitmq.b", "rabbit.c"]}),
                    plain,
                ),
                &["a", "b"],
            ),
            (
                "neither",
                found(json!({"scope": {"rabbitmq": "a"}}), plain),
                &[],
            ),
            (
                "no prefix",
                found(json!({"scope": "read:*/* x"}), |config| {
                    config.scope_prefix.clear()
                }),
                &["read:*/*", "x"],
            ),
            (
                "another prefix",
                found(json!({"scope": "api://a rabbitmq.b"}), |config| {
                    config.scope_prefix = "api://".into()
                }),
                &["a"],
            ),
            (
                "a requesting party's token",
                found(
                    json!({"scope": "email", "authorization": {"permissions": [
                        {"scopes": ["rabbitmq.read:*/*"], "rsname": "one"},
                        {"scopes": "rabbitmq.tag:a rabbitmq.tag:b"},
                        {"rsname": "none"},
                    ]}}),
                    plain,
                ),
                &["read:*/*", "tag:a", "tag:b"],
            ),
            (
                "other claims",
                found(
                    json!({"extra": "rabbitmq.a", "realm_access": {"roles": ["rabbitmq.b", "c"]}, "not": ["rabbitmq.d"]}),
                    keys("extra realm_access.roles missing.path"),
                ),
                &["a", "b"],
            ),
            (
                "by server",
                found(
                    json!({"rights": {"rabbitmq": ["read:*/*", "tag:a"], "other": ["tag:b"]}, "more": {"rabbitmq": "x y"}}),
                    keys("rights more"),
                ),
                &["read:*/*", "tag:a", "x", "y"],
            ),
            (
                "a path that is too long",
                found(json!({"extra": "rabbitmq.a"}), keys("extra.more")),
                &[],
            ),
        ] {
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn aliases_stand_for_scopes() {
        let alias = |config: &mut OAuth2| {
            config.additional_scopes = vec!["roles".into()];
            for (name, scopes) in [
                ("admin", "rabbitmq.tag:administrator"),
                ("api://dev", "rabbitmq.read:*/* rabbitmq.write:*/* other.x"),
            ] {
                let scopes = scopes.split(' ').map(str::to_owned).collect();
                config.scope_aliases.insert(name.into(), scopes);
            }
        };
        for (value, expected) in [
            (json!({"scope": "admin"}), &["tag:administrator"][..]),
            (json!({"roles": ["api://dev"]}), &["read:*/*", "write:*/*"]),
            (json!({"scope": "developer"}), &[]),
            (
                json!({"scope": "admin rabbitmq.a"}),
                &["a", "tag:administrator"],
            ),
        ] {
            assert_eq!(found(value.clone(), alias), expected, "{value}");
        }
    }

    #[test]
    fn very_many_scopes_are_refused() {
        let many = |count: usize| {
            let scopes: Vec<String> = (0..count).map(|n| format!("rabbitmq.{n}")).collect();
            scopes_of(json!({ "scope": scopes }))
        };
        assert_eq!(many(SCOPES_MAX).map(|scopes| scopes.len()), Ok(SCOPES_MAX));
        assert_eq!(
            many(SCOPES_MAX + 1),
            Err(TokenError::TooManyScopes(SCOPES_MAX))
        );
    }

    fn scopes_of(value: Value) -> Result<Vec<String>, TokenError> {
        scopes(&claims(value), &config())
    }

    #[test]
    fn audiences() {
        for (value, expected) in [
            (json!({"aud": "rabbitmq"}), true),
            (json!({"aud": ["other", "rabbitmq"]}), true),
            (json!({"aud": "other rabbitmq"}), true),
            (json!({"aud": "rabbitmq2"}), false),
            (json!({"aud": []}), false),
            (json!({"aud": 7}), false),
            (json!({}), false),
        ] {
            let mut config = config();
            let claims = claims(value);
            let found = check_audience(&claims, &config);
            assert_eq!(found.is_ok(), expected, "{claims:?} {found:?}");
            config.verify_aud = false;
            assert_eq!(check_audience(&claims, &config), Ok(()), "{claims:?}");
        }
    }

    #[test]
    fn times() {
        let now = 1_000_000;
        for (value, required, expected) in [
            (json!({"exp": now + 1}), true, Ok(Some(now + 1))),
            (json!({"exp": now as f64 + 1.5}), true, Ok(Some(now + 1))),
            (json!({"exp": now}), true, Err(TokenError::Expired(now))),
            (json!({"exp": -1}), true, Err(TokenError::Expired(0))),
            (json!({"exp": now}), false, Err(TokenError::Expired(now))),
            (json!({"exp": "soon"}), false, Err(TokenError::Expiry)),
            (json!({}), true, Err(TokenError::NoExpiry)),
            (json!({}), false, Ok(None)),
            (
                json!({"exp": now + 9, "nbf": now + AHEAD_S}),
                true,
                Ok(Some(now + 9)),
            ),
            (
                json!({"exp": now + 9, "nbf": now + AHEAD_S + 1}),
                true,
                Err(TokenError::NotYet(now + AHEAD_S + 1)),
            ),
        ] {
            let mut config = config();
            config.require_exp = required;
            let claims = claims(value);
            assert_eq!(check_time(&claims, &config, now), expected, "{claims:?}");
        }
    }

    #[test]
    fn names() {
        for (value, expected) in [
            (json!({"sub": "s", "client_id": "c"}), "s"),
            (json!({"client_id": "c"}), "c"),
            (json!({"sub": "s", "mail": "m", "user_name": "u"}), "u"),
            (json!({"sub": "s", "mail": "m"}), "m"),
            (json!({"sub": "s", "mail": ["m"]}), "s"),
            (json!({"sub": ""}), "unknown"),
            (json!({}), "unknown"),
        ] {
            let mut config = config();
            config.username_claims = vec!["user_name".into(), "mail".into()];
            let claims = claims(value);
            assert_eq!(username(&claims, &config), expected, "{claims:?}");
        }
    }
}
