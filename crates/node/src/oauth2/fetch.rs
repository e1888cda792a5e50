//! Fetching keys from the provider, with bounds on time and size. Blocking.

use super::keys::{Keys, read_set};
use crate::config::{KeysAt, Provider};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// One request takes no longer. Two of them are over before an AMQP handshake has to be.
const PATIENCE: Duration = Duration::from_secs(4);
/// A document is no larger.
const SIZE_MAX: u64 = 1 << 20;
/// The provider may send us elsewhere so often.
const REDIRECTS_MAX: u32 = 3;
/// Where systems have the authorities that everybody trusts.
const AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Where keys come from.
pub(super) struct Source {
    agent: Agent,
    keys_at: KeysAt,
}

impl Source {
    /// Reads the authorities; asks nobody yet.
    pub(super) fn new(provider: &Provider) -> Result<Self, String> {
        let address = match &provider.keys_at {
            KeysAt::KeySet(address) | KeysAt::Discovery(address) => address,
        };
        check_address(address)?;
        let https = address.starts_with("https:");
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(crypto);
        let tls = if https {
            let roots = authorities(provider.ca.as_deref())?;
            tls.root_certs(RootCerts::new_with_certs(&roots))
        } else {
            tls
        };
        let agent = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .max_redirects(REDIRECTS_MAX)
            .https_only(https)
            .proxy(None)
            .tls_config(tls.build())
            .build()
            .into();
        Ok(Self {
            agent,
            keys_at: provider.keys_at.clone(),
        })
    }

    /// Fetches the keys.
    pub(super) fn fetch(&self) -> Result<Keys, String> {
        let discovered;
        let address = match &self.keys_at {
            KeysAt::KeySet(address) => address,
            KeysAt::Discovery(address) => {
                discovered = self.discover(address)?;
                &discovered
            }
        };
        read_set(&self.get(address)?).map_err(|error| format!("{address}: {error}"))
    }

    fn discover(&self, address: &str) -> Result<String, String> {
        let wrong = |error: &str| format!("{address}: {error}");
        let document: Value = serde_json::from_slice(&self.get(address)?)
            .map_err(|error| wrong(&error.to_string()))?;
        let keys_at = document.get("jwks_uri").and_then(Value::as_str);
        let keys_at = keys_at.ok_or_else(|| wrong("no jwks_uri stands there"))?;
        check_address(keys_at).map_err(|error| wrong(&error))?;
        Ok(keys_at.to_owned())
    }

    fn get(&self, address: &str) -> Result<Vec<u8>, String> {
        let wrong = |error: ureq::Error| format!("{address}: {error}");
        let mut response = self
            .agent
            .get(address)
            .header("Accept", "application/json")
            .call()
            .map_err(wrong)?;
        let body = response.body_mut().with_config().limit(SIZE_MAX);
        body.read_to_vec().map_err(wrong)
    }
}

/// Keys come over TLS, or from this machine: whoever can change them on the way can log in as anybody.
fn check_address(address: &str) -> Result<(), String> {
    let advice = || format!("'{address}' is no address of the form https://HOST/PATH");
    let uri: Uri = address.parse().map_err(|_| advice())?;
    let host = uri.host().ok_or_else(advice)?;
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if matches!(host, "localhost" | "127.0.0.1" | "[::1]") => Ok(()),
        Some("http") => Err(format!(
            "'{address}' is not protected: use https:// (http:// is for this machine only)"
        )),
        _ => Err(advice()),
    }
}

fn authorities(file: Option<&Path>) -> Result<Vec<Certificate<'static>>, String> {
    let usual = || AUTHORITIES.iter().map(Path::new).find(|path| path.exists());
    let file = file
        .or_else(usual)
        .ok_or("this system trusts no authorities: name the provider's in a file")?;
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let read = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
    let certificates: Vec<Certificate<'static>> = read
        .map(|der| der.map(|der| Certificate::from_der(&der).to_owned()))
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(&error))?;
    if certificates.is_empty() {
        return Err(wrong(&"no certificate stands there"));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (address, fine) in [
            ("https://idp.example/keys", true),
            ("https://idp.example:8443", true),
            ("http://127.0.0.1:8080/keys", true),
            ("http://[::1]:8080/keys", true),
            ("http://localhost/keys", true),
            ("http://localhost.example/keys", false),
            ("http://idp.example/keys", false),
            ("ftp://idp.example/keys", false),
            ("idp.example", false),
            ("/keys", false),
            ("", false),
        ] {
            assert_eq!(check_address(address).is_ok(), fine, "{address}");
        }
    }
}
