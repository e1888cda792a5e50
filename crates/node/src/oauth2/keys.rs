//! Keys that check signatures: of JSON (RFC 7517) and PEM, and what they accept (RFC 7518).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use ring::{hmac, signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// base64 as keys have it; some are padded, which they should not be.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The longest coordinate of a point on a curve.
const P256_BYTES: usize = 32;
const P384_BYTES: usize = 48;
/// Shorter secrets are guessed.
const SECRET_MIN: usize = 16;

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// All of them, by name.
    pub(crate) const NAMES: [(&'static str, Self); 12] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
        ("HS256", Self::Hs256),
        ("HS384", Self::Hs384),
        ("HS512", Self::Hs512),
    ];

    /// By its name in a token.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, algorithm)| *algorithm)
    }

    /// By its name in a key; Cloud Foundry's UAA has others.
    fn of_key(name: &str) -> Option<Self> {
        match name {
            "HMACSHA256" => Some(Self::Hs256),
            "HMACSHA384" => Some(Self::Hs384),
            "HMACSHA512" => Some(Self::Hs512),
            "SHA256withRSA" => Some(Self::Rs256),
            "SHA512withRSA" => Some(Self::Rs512),
            name => Self::named(name),
        }
    }
}

/// A key.
pub(super) struct Key {
    material: Material,
    /// The only algorithm that it is for, if it says so.
    only: Option<Algorithm>,
}

enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    /// Whoever has it can sign too.
    Secret(Vec<u8>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Whether the signature is this key's.
    pub(super) fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        if self.only.is_some_and(|only| only != algorithm) {
            return false;
        }
        let right = match (&self.material, algorithm) {
            (Material::Rsa { n, e }, algorithm) => {
                let Some(parameters) = rsa(algorithm) else {
                    return false;
                };
                signature::RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature)
            }
            (Material::P256(point), Algorithm::Es256) => verify(
                &signature::ECDSA_P256_SHA256_FIXED,
                point,
                signed,
                signature,
            ),
            (Material::P384(point), Algorithm::Es384) => verify(
                &signature::ECDSA_P384_SHA384_FIXED,
                point,
                signed,
                signature,
            ),
            (Material::Ed25519(key), Algorithm::EdDsa) => {
                verify(&signature::ED25519, key, signed, signature)
            }
            (Material::Secret(secret), algorithm) => {
                let Some(digest) = digest(algorithm) else {
                    return false;
                };
                hmac::verify(&hmac::Key::new(digest, secret), signed, signature)
            }
            _ => return false,
        };
        right.is_ok()
    }

    /// Reads a key of JSON. Secrets are understood only where they are `local`: what is fetched, others can fetch too.
    pub(super) fn of_json(json: &Value, local: bool) -> Result<Self, String> {
        let text = |name: &str| json.get(name).and_then(Value::as_str);
        let bytes = |name: &str| {
            let encoded = text(name).ok_or_else(|| format!("no {name}"))?;
            LENIENT
                .decode(encoded)
                .map_err(|error| format!("{name}: {error}"))
        };
        let kind = text("kty").ok_or("no kty")?;
        if text("use").is_some_and(|used| used != "sig") {
            return Err("it is not for signatures".into());
        }
        let material = match (kind, text("crv").unwrap_or_default()) {
            ("RSA", _) => Material::Rsa {
                n: number(&bytes("n")?),
                e: number(&bytes("e")?),
            },
            ("EC", "P-256") => Material::P256(point(&bytes("x")?, &bytes("y")?, P256_BYTES)?),
            ("EC", "P-384") => Material::P384(point(&bytes("x")?, &bytes("y")?, P384_BYTES)?),
            ("OKP", "Ed25519") => Material::Ed25519(bytes("x")?),
            ("oct", _) if local => Material::Secret(bytes("k")?),
            ("MAC", _) if local => Material::Secret(text("value").ok_or("no value")?.into()),
            ("oct" | "MAC", _) => return Err("a secret that others can fetch is none".into()),
            (kind, "") => return Err(format!("keys of kind {kind} are not understood")),
            (_, curve) => return Err(format!("keys on {curve} are not understood")),
        };
        if matches!(&material, Material::Secret(secret) if secret.len() < SECRET_MIN) {
            return Err(format!("the secret has less than {SECRET_MIN} bytes"));
        }
        let only = match text("alg") {
            Some(name) => {
                Some(Algorithm::of_key(name).ok_or_else(|| format!("{name} is not understood"))?)
            }
            None => None,
        };
        Ok(Self { material, only })
    }

    /// Reads a public key of PEM, or that of a certificate.
    fn of_pem(pem: &[u8]) -> Result<Self, String> {
        let material = if let Ok(key) = SubjectPublicKeyInfoDer::from_pem_slice(pem) {
            of_info(&key)
        } else if let Ok(certificate) = CertificateDer::from_pem_slice(pem) {
            let read = x509_parser::parse_x509_certificate(&certificate);
            let (_, read) = read.map_err(|error| format!("not a certificate: {error}"))?;
            material(read.public_key())
        } else {
            return Err(
                "no key stands there: give a public key (BEGIN PUBLIC KEY), a certificate, or a key in JSON".into(),
            );
        };
        let material =
            material.ok_or("the key is of another kind than RSA, P-256, P-384 and Ed25519")?;
        let only = None;
        Ok(Self { material, only })
    }

    /// Reads a file: PEM, one key of JSON, or a set with one key.
    pub(super) fn of_file(file: &Path) -> Result<Self, String> {
        let text = std::fs::read(file).map_err(|error| error.to_string())?;
        if !text.trim_ascii_start().starts_with(b"{") {
            return Self::of_pem(&text);
        }
        let json: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        match json
            .get("keys")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
        {
            None => Self::of_json(&json, true),
            Some([key]) => Self::of_json(key, true),
            Some(keys) => Err(format!("{} keys stand there: give one", keys.len())),
        }
    }
}

/// Keys by their ids; those without one have the empty id.
pub(super) type Keys = HashMap<String, Arc<Key>>;

/// Reads a set of keys that was fetched. What is not understood is left out, unless nothing is left.
pub(super) fn read_set(json: &[u8]) -> Result<Keys, String> {
    let set: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let listed = set.get("keys").and_then(Value::as_array);
    let listed = listed.ok_or("no keys stand there")?;
    let mut keys = Keys::new();
    let mut wrong = None;
    for json in listed {
        let id = json.get("kid").and_then(Value::as_str).unwrap_or_default();
        match Key::of_json(json, false) {
            Ok(key) => {
                keys.insert(id.to_owned(), Arc::new(key));
            }
            Err(error) => wrong = Some(format!("key '{id}': {error}")),
        }
    }
    if keys.is_empty() {
        return Err(wrong.unwrap_or_else(|| "no keys stand there".into()));
    }
    Ok(keys)
}

fn verify(
    algorithm: &'static dyn signature::VerificationAlgorithm,
    key: &[u8],
    signed: &[u8],
    signature: &[u8],
) -> Result<(), ring::error::Unspecified> {
    signature::UnparsedPublicKey::new(algorithm, key).verify(signed, signature)
}

fn rsa(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn digest(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    Some(match algorithm {
        Algorithm::Hs256 => hmac::HMAC_SHA256,
        Algorithm::Hs384 => hmac::HMAC_SHA384,
        Algorithm::Hs512 => hmac::HMAC_SHA512,
        _ => return None,
    })
}

/// Without zeros at the front, which some write.
fn number(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default().to_vec()
}

/// An uncompressed point.
fn point(x: &[u8], y: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let mut point = vec![4];
    for coordinate in [x, y] {
        let coordinate = number(coordinate);
        let zeros = length
            .checked_sub(coordinate.len())
            .ok_or("a coordinate is too long")?;
        point.resize(point.len() + zeros, 0);
        point.extend(coordinate);
    }
    Ok(point)
}

fn of_info(der: &[u8]) -> Option<Material> {
    let (_, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
    material(&info)
}

fn material(info: &SubjectPublicKeyInfo<'_>) -> Option<Material> {
    let algorithm = info.algorithm.algorithm.to_id_string();
    if algorithm == "1.3.101.112" {
        return Some(Material::Ed25519(info.subject_public_key.data.to_vec()));
    }
    match info.parsed().ok()? {
        PublicKey::RSA(key) => Some(Material::Rsa {
            n: number(key.modulus),
            e: number(key.exponent),
        }),
        PublicKey::EC(point) => {
            let curve = info.algorithm.parameters.as_ref()?.as_oid().ok()?;
            match &*curve.to_id_string() {
                "1.2.840.10045.3.1.7" => Some(Material::P256(point.data().to_vec())),
                "1.3.132.0.34" => Some(Material::P384(point.data().to_vec())),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
