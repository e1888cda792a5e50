//! Keys in the forms that providers and operators have them, and signatures of `a.b` by them (all made by OpenSSL).

use super::*;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

/// Modulus of an RSA key.
const N: &str = "uxuRa7DydIsJHioAYMnErsgtJlAPyn3V8MnJvKEYKtBdz1cIbGAR3XGnvXYzkIRoEX7UwCxFui-JQDnnMA03DDbG1B6cQVptmcph8PUWTz9yXMe8FltDy1TB9rWAbmOZdxccIFtNU9xcsxxCfHxG0YAcPwJmFckxeWQo27hHSwOnLd7-kaGb7GMRpg4_I42A9jveiON3q55mP9ab91qvbdfh2tLahJ9Kj9NIIoOQDjBjczlxLrwc4_8wSsr23zsuVOZZ_8M4qiLlLwUcdBrD7j7uuGDnjSYbh2nvN3dyinVSlVk4jnQ1wg8exI7pEs3lVbGZEc59aDx6CZPHdeF-MQ";
/// The same key.
const RSA_PEM: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAuxuRa7DydIsJHioAYMnErsgtJlAPyn3V8MnJvKEYKtBdz1cIbGAR3XGnvXYzkIRoEX7UwCxFui+JQDnnMA03DDbG1B6cQVptmcph8PUWTz9yXMe8FltDy1TB9rWAbmOZdxccIFtNU9xcsxxCfHxG0YAcPwJmFckxeWQo27hHSwOnLd7+kaGb7GMRpg4/I42A9jveiON3q55mP9ab91qvbdfh2tLahJ9Kj9NIIoOQDjBjczlxLrwc4/8wSsr23zsuVOZZ/8M4qiLlLwUcdBrD7j7uuGDnjSYbh2nvN3dyinVSlVk4jnQ1wg8exI7pEs3lVbGZEc59aDx6CZPHdeF+MQIDAQAB";
/// A certificate with it.
const CERTIFICATE: &str = "MIIDATCCAemgAwIBAgIUYejk1VBKcoudx7TpifN2jpmoQ7AwDQYJKoZIhvcNAQELBQAwDzENMAsGA1UEAwwEa2V5czAgFw0yNjExMzAxNzM4MjBaGA8yMTI2MTEwNjE3MzgyMFowDzENMAsGA1UEAwwEa2V5czCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBALsbkWuw8nSLCR4qAGDJxK7ILSZQD8p91fDJybyhGCrQXc9XCGxgEd1xp712M5CEaBF+1MAsRboviUA55zANNww2xtQenEFabZnKYfD1Fk8/clzHvBZbQ8tUwfa1gG5jmXcXHCBbTVPcXLMcQnx8RtGAHD8CZhXJMXlkKNu4R0sDpy3e/pGhm+xjEaYOPyONgPY73ojjd6ueZj/Wm/dar23X4drS2oSfSo/TSCKDkA4wY3M5cS68HOP/MErK9t87LlTmWf/DOKoi5S8FHHQaw+4+7rhg540mG4dp7zd3cop1UpVZOI50NcIPHsSO6RLN5VWxmRHOfWg8egmTx3XhfjECAwEAAaNTMFEwHQYDVR0OBBYEFFXZ9n5nQuL/Kz/QaU48SPp4IuHOMB8GA1UdIwQYMBaAFFXZ9n5nQuL/Kz/QaU48SPp4IuHOMA8GA1UdEwEB/wQFMAMBAf8wDQYJKoZIhvcNAQELBQADggEBALDKE4mYUZeNq6wXAZ+yHR+hWJc1PZ0MvdfyGqxdckWYj+K1A7LeBVmZdjBTXPMgj4rneP8OhLAqvH0IibZEe1fkC4UwMk2rmHkLq+jz8fATldKhc4XTtmrBZyDh6Ipvn8rbIXr4dH0Plekd1uiBD0M0zvZJb6Tn2G2b6TSr0Q+i8sVVnxyJr/NfHBlaE8xJefVcibnAvpnnDhyQUpsSpruojCOiqDmqGRVuuy6cdsebF/EPJtkJ/Ly9GPVCCggkYFcUh0C8hPeFoz3XkuNW58sUgwh4XsO3lIlor0ApeEEo6gdff+WeQPEfvCIF5iVHttO8SaNcq3AYAqSyHJI3JXg=";
/// PKCS #1 1.5.
const RS256: &str = "VQJHSXWstZTdMOd6-7MIbdcK1bV5VDeJnjhu0QCgn7yon5Ajch8MVFHtUqnXKzYBYPatLB7Da8Fx5JF64uSjHzS2-6BY_G9FOEHn7k9C0PyBxevkX01rgmu6o6BBDaEDb-sKxZzDUesnYtIZ2fqmch6WkZXh03JCP1GJcxY9TOFiCvEproMkP80onLcvnncOHO8rNFRR7gpolGUeG8wWcgnalod1PMiYDzHfEndNo6mUFo7W4FG123qIetXNjH_gUouXbGsEj2aZ-IbmY0hdlIOwTrWVFQp55pvZ4Vl-NoDM2jjDB54VEw_XiFCjKEO4fSq2WN2OnU7yAkVU0zJWHg";
/// PSS.
const PS256: &str = "fBYTfMDrk_ndQPMBAKe-iMqkC0eziHsF3DxnmqW1Hr2oGjljpb_K1CZ6D-6bMbahQ7_QIOwQensZ1UagSj_aWBRX0mYDOTQPoIlDY7lAJOrOpiiw1LguAKjNvuiQWV3r96AY1GOAuxpIAULm5H189lVvJgNnL09le06UeAmTe46_Uw14XDeDqAgBtfckJBP4L5svvS--NeaZnrDPHUvkdh2pzqsoN--mgQRMFlO84u2dDo-WOOyNhdy7lhS_m0dCqmDxoIyMO8vsMZFy5H3nYaAg6vNNPCUX8phlmXqjLbcXHPCV7BzIwpEzq37sgV8Nyp1XBf5LBqWXd0NfVoucSQ";
/// On P-256.
const P256_PEM: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEWrtAZx+xgYKyY467bjqHCrHXkoRVzFYdqf0jhvGC5d2X2VmwOkft8GFuILriMw0xFUdzypwEyPcu8gMmX2LmSw==";
/// Its point.
const P256_X: &str = "WrtAZx-xgYKyY467bjqHCrHXkoRVzFYdqf0jhvGC5d0";
/// Its point.
const P256_Y: &str = "l9lZsDpH7fBhbiC64jMNMRVHc8qcBMj3LvIDJl9i5ks";
/// By it.
const ES256: &str =
    "E5wvP0eyQAOK1PMnoj9eRTu7JYsKcbgk6AxDT5YxzVk2jMVpyoRACrqOJfAGfmWZ9xsGxTToS7GP7XdMcMinKQ";
/// On P-384.
const P384_PEM: &str = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEUIOzwrJ2sn8f1eqKZUYbDg+bSnzt4ooqzkxA7QlajzABnFBMIqgPIpNAgUDZZ6lKn4wW0IAB+PEkqQgYEey5XOWWrX3v0T+/jv8tdG/5K0qACtlb9A+UX9B1QkXATHAt";
/// Its point.
const P384_X: &str = "UIOzwrJ2sn8f1eqKZUYbDg-bSnzt4ooqzkxA7QlajzABnFBMIqgPIpNAgUDZZ6lK";
/// Its point.
const P384_Y: &str = "n4wW0IAB-PEkqQgYEey5XOWWrX3v0T-_jv8tdG_5K0qACtlb9A-UX9B1QkXATHAt";
/// By it.
const ES384: &str = "BGgB3O6hHvY1k12NjIiCFSxGkRbdgdHe5RBRNbJOk2AVnOKZPGo3B84NtZvoOgp2DhadzUygL8h1zbAXVr2Jn9VwAZT5bP3dBIk-7ndMWHaBzyR-C_EWAyb189UzGHIJ";
/// Ed25519.
const ED_PEM: &str = "MCowBQYDK2VwAyEAAE8wNk7HoTy5RkHwGr8ulD03Myb+lRu0q2ldHLZn0wE=";
/// The same key.
const ED_X: &str = "AE8wNk7HoTy5RkHwGr8ulD03Myb-lRu0q2ldHLZn0wE";
/// By it.
const EDDSA: &str =
    "1t1SSCEUmrI3dlywZcKKT2ABbWtFsvKJACU-17kWUiF0H2hTexQeV25TfS5rZ1G-t2Y_nubjCAu-JZZdnJnwCA";
/// On secp256k1.
const OTHER_CURVE_PEM: &str = "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEEHUXpNziS5Ddcx0jYNKfzGWoIQtH5eub0WhMHfHYcgN1h47mndMAOBQQWklOAZdmmKU/wD1GxPnDv7P5Q9a8NA==";

fn pem(kind: &str, body: &str) -> String {
    format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n")
}

fn is_signed(key: &Key, algorithm: Algorithm, signature: &str) -> bool {
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    key.verify(algorithm, b"a.b", &signature)
}

/// Each key accepts its own signature, by the algorithm that it was made with, and no other.
#[test]
fn signatures() {
    let keys: Vec<(&str, Key)> = [
        (
            "rsa",
            json!({"kty": "RSA", "use": "sig", "n": N, "e": "AQAB"}),
        ),
        (
            "rsa, padded",
            json!({"kty": "RSA", "n": format!("{N}=="), "e": "AAEAAQ"}),
        ),
        (
            "P-256",
            json!({"kty": "EC", "crv": "P-256", "x": P256_X, "y": P256_Y}),
        ),
        (
            "P-384",
            json!({"kty": "EC", "crv": "P-384", "x": P384_X, "y": P384_Y}),
        ),
        (
            "ed",
            json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": ED_X}),
        ),
    ]
    .into_iter()
    .map(|(name, json)| (name, Key::of_json(&json, false).unwrap()))
    .chain(
        [
            ("rsa, PEM", "PUBLIC KEY", RSA_PEM),
            ("rsa, certificate", "CERTIFICATE", CERTIFICATE),
            ("P-256, PEM", "PUBLIC KEY", P256_PEM),
            ("P-384, PEM", "PUBLIC KEY", P384_PEM),
            ("ed, PEM", "PUBLIC KEY", ED_PEM),
        ]
        .map(|(name, kind, body)| (name, Key::of_pem(pem(kind, body).as_bytes()).unwrap())),
    )
    .collect();
    for (name, key) in &keys {
        for (made_by, algorithm, signature) in [
            ("rsa", Algorithm::Rs256, RS256),
            ("rsa", Algorithm::Ps256, PS256),
            ("P-256", Algorithm::Es256, ES256),
            ("P-384", Algorithm::Es384, ES384),
            ("ed", Algorithm::EdDsa, EDDSA),
        ] {
            let expected = name.starts_with(made_by);
            assert_eq!(
                is_signed(key, algorithm, signature),
                expected,
                "{name} {algorithm:?}"
            );
            for (_, other) in Algorithm::NAMES {
                if other != algorithm {
                    assert!(!is_signed(key, other, signature), "{name} {other:?}");
                }
            }
            assert!(!key.verify(
                algorithm,
                b"a.c",
                &URL_SAFE_NO_PAD.decode(signature).unwrap()
            ));
            assert!(!key.verify(algorithm, b"a.b", b""));
        }
    }
}

/// What is public must not be taken for a secret: whoever has the key could sign.
#[test]
fn secrets() {
    let secret = "a secret of more than 16 bytes";
    let sign = |secret: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        URL_SAFE_NO_PAD.encode(hmac::sign(&key, b"a.b"))
    };
    let oct = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret)});
    let mac = json!({"kty": "MAC", "alg": "HMACSHA256", "value": secret});
    for json in [&oct, &mac] {
        assert!(Key::of_json(json, false).is_err());
        let key = Key::of_json(json, true).unwrap();
        assert!(is_signed(&key, Algorithm::Hs256, &sign(secret.as_bytes())));
        assert!(!is_signed(&key, Algorithm::Hs384, &sign(secret.as_bytes())));
        assert!(!is_signed(&key, Algorithm::Hs256, &sign(b"another")));
        assert!(!format!("{key:?}").contains("secret of"));
    }
    let short = json!({"kty": "oct", "k": "c2hvcnQ"});
    assert!(Key::of_json(&short, true).is_err());
    let public = pem("PUBLIC KEY", RSA_PEM);
    let key = Key::of_pem(public.as_bytes()).unwrap();
    assert!(!is_signed(&key, Algorithm::Hs256, &sign(public.as_bytes())));
}

#[test]
fn what_is_no_key() {
    for (json, said) in [
        (json!({}), "no kty"),
        (json!({"kty": "RSA", "e": "AQAB"}), "no n"),
        (json!({"kty": "RSA", "n": "!", "e": "AQAB"}), "n: "),
        (
            json!({"kty": "RSA", "use": "enc", "n": N, "e": "AQAB"}),
            "not for signatures",
        ),
        (
            json!({"kty": "RSA", "alg": "RSA-OAEP", "n": N, "e": "AQAB"}),
            "RSA-OAEP",
        ),
        (
            json!({"kty": "EC", "crv": "P-521", "x": "", "y": ""}),
            "P-521",
        ),
        (
            json!({"kty": "EC", "crv": "P-256", "x": N, "y": P256_Y}),
            "too long",
        ),
        (json!({"kty": "other"}), "other"),
    ] {
        let error = Key::of_json(&json, true).unwrap_err();
        assert!(error.contains(said), "{json}: {error}");
    }
    for text in [
        "",
        "nonsense",
        &pem("PUBLIC KEY", "AAAA"),
        &pem("PUBLIC KEY", OTHER_CURVE_PEM),
    ] {
        assert!(Key::of_pem(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn sets() {
    let rsa = |id: &str| json!({"kid": id, "kty": "RSA", "n": N, "e": "AQAB"});
    let unknown = json!({"kid": "x", "kty": "EC", "crv": "P-521"});
    for (set, expected) in [
        (
            json!({"keys": [rsa("a"), unknown, rsa("b")]}),
            Ok(vec!["a", "b"]),
        ),
        (
            json!({"keys": [{"kty": "RSA", "n": N, "e": "AQAB"}]}),
            Ok(vec![""]),
        ),
        (
            json!({"keys": [unknown]}),
            Err("key 'x': keys on P-521 are not understood"),
        ),
        (json!({"keys": []}), Err("no keys stand there")),
        (json!({}), Err("no keys stand there")),
    ] {
        let found = read_set(set.to_string().as_bytes()).map(|keys| {
            let mut ids: Vec<String> = keys.into_keys().collect();
            ids.sort();
            ids
        });
        let expected = expected
            .map(|ids| ids.into_iter().map(str::to_owned).collect())
            .map_err(str::to_owned);
        assert_eq!(found, expected, "{set}");
    }
    assert!(read_set(b"<html>").is_err());
}
