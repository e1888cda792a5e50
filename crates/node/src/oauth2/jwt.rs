//! The form of a token: three parts in base64, the third one signs the other two (RFC 7515, RFC 7519).
//!
//! Not here: what the claims mean (`claims`), how signatures are checked (`keys`).

use super::TokenError;
use super::claims::{Claims, short};
use super::keys::Algorithm;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// A token that was read and not checked. It has no `Debug`: tokens are not printed.
pub(super) struct Token {
    /// What is signed.
    pub(super) signed: Vec<u8>,
    pub(super) signature: Vec<u8>,
    pub(super) algorithm: Algorithm,
    /// The key that it names.
    pub(super) key_id: Option<String>,
    pub(super) claims: Claims,
}

/// Whether a password has the form of a token.
pub(crate) fn is_one(text: &[u8]) -> bool {
    let mut parts = text.split(|byte| *byte == b'.');
    let header = parts.next().and_then(object);
    header.is_some_and(|header| header.contains_key("alg")) && parts.count() == 2
}

/// Reads a token.
pub(super) fn read(text: &[u8]) -> Result<Token, TokenError> {
    let mut parts = text.split(|byte| *byte == b'.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenError::Form);
    };
    let length = header.len() + 1 + payload.len();
    let header = object(header).ok_or(TokenError::Form)?;
    // It demands that something be understood which is not.
    if header.contains_key("crit") {
        return Err(TokenError::Form);
    }
    let algorithm = header.get("alg").and_then(Value::as_str);
    let algorithm = algorithm.ok_or(TokenError::Form)?;
    Ok(Token {
        signed: text.get(..length).unwrap_or_default().to_vec(),
        signature: URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| TokenError::Form)?,
        algorithm: Algorithm::named(algorithm)
            .ok_or_else(|| TokenError::Algorithm(short(algorithm)))?,
        key_id: header.get("kid").and_then(Value::as_str).map(str::to_owned),
        claims: object(payload).ok_or(TokenError::Form)?,
    })
}

fn object(part: &[u8]) -> Option<Map<String, Value>> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> String {
        let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
        format!("{header}.{payload}.c2ln")
    }

    #[test]
    fn forms() {
        let good = token(r#"{"alg":"RS256","kid":"k"}"#, r#"{"sub":"ann"}"#);
        let read_one = read(good.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read_one.key_id.as_deref(), Some("k"));
        assert_eq!(read_one.signature, b"sig");
        assert_eq!(read_one.claims["sub"], "ann");
        assert!(good.as_bytes().starts_with(&read_one.signed));
        assert!(!read_one.signed.ends_with(b"."));
        for (text, form, why) in [
            (good.clone(), true, None),
            (
                token(r#"{"alg":"none"}"#, "{}"),
                true,
                Some(TokenError::Algorithm("none".into())),
            ),
            (
                token(r#"{"alg":"ES512"}"#, "{}"),
                true,
                Some(TokenError::Algorithm("ES512".into())),
            ),
            (
                token(r#"{"alg":"RS256","crit":["b64"]}"#, "{}"),
                true,
                Some(TokenError::Form),
            ),
            (
                token(r#"{"alg":"RS256"}"#, "[]"),
                true,
                Some(TokenError::Form),
            ),
            (token("{}", "{}"), false, Some(TokenError::Form)),
            (token("nonsense", "{}"), false, Some(TokenError::Form)),
            (format!("{good}.more"), false, Some(TokenError::Form)),
            (format!("{good}="), true, Some(TokenError::Form)),
            ("guest".into(), false, Some(TokenError::Form)),
            ("a.b.c".into(), false, Some(TokenError::Form)),
            (String::new(), false, Some(TokenError::Form)),
        ] {
            assert_eq!(is_one(text.as_bytes()), form, "{text}");
            assert_eq!(read(text.as_bytes()).err(), why, "{text}");
        }
    }
}
