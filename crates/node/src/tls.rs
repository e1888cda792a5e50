//! TLS for AMQP clients and operators. Certificate, key and authorities are read again when their files change,
//! without a restart; files that cannot be read leave what was there in force.

use crate::config::{CertificateLogin, TlsListener};
use arc_swap::ArcSwap;
use consensus::tls::{FileWatch, authorities, certificates, private_key};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Accepts TLS connections with the certificate that is in force.
#[derive(Clone)]
pub(crate) struct TlsAcceptor {
    config: Arc<ArcSwap<ServerConfig>>,
    login_from: CertificateLogin,
}

impl TlsAcceptor {
    /// Reads the files and begins to watch them.
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should.
    pub(crate) fn load(tls: &TlsListener) -> Result<Self, String> {
        let config = Arc::new(ArcSwap::from_pointee(read(tls)?));
        tokio::spawn(watch(tls.clone(), Arc::clone(&config)));
        Ok(Self {
            config,
            login_from: tls.login_from,
        })
    }

    /// Does the handshake. Returns the stream and the user named by the client's certificate.
    ///
    /// # Errors
    /// The handshake failed.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> std::io::Result<(TlsStream<TcpStream>, Option<String>)> {
        let stream = self.handshake(stream).await?;
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first());
        let user = certificate.and_then(|certificate| user_of(certificate, self.login_from));
        Ok((stream, user))
    }

    async fn handshake<S>(&self, stream: S) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = tokio_rustls::TlsAcceptor::from(self.config.load_full());
        acceptor.accept(stream).await
    }
}

/// Accepts operators, with the certificate that AMQP clients are shown. They log in by name and password and are asked for
/// no certificate: a browser would bother whoever has one.
#[derive(Clone)]
pub struct OperatorTls(TlsAcceptor);

impl OperatorTls {
    /// Reads the files and begins to watch them.
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should.
    pub fn load(tls: &TlsListener) -> Result<Self, String> {
        let tls = TlsListener {
            client_ca: None,
            require_client_certificate: false,
            ..tls.clone()
        };
        TlsAcceptor::load(&tls).map(Self)
    }

    /// Does the handshake.
    ///
    /// # Errors
    /// The handshake failed.
    pub async fn accept<S>(&self, stream: S) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.0.handshake(stream).await
    }
}

fn files(tls: &TlsListener) -> Vec<PathBuf> {
    let mut files = vec![tls.certificate.clone(), tls.key.clone()];
    files.extend(tls.client_ca.clone());
    files
}

async fn watch(tls: TlsListener, config: Arc<ArcSwap<ServerConfig>>) {
    let mut watch = FileWatch::new(files(&tls));
    loop {
        watch.changed().await;
        match read(&tls) {
            Ok(new) => {
                config.store(Arc::new(new));
                info!(certificate = %tls.certificate.display(), "TLS files read again");
            }
            Err(error) => {
                warn!(%error, "TLS files have changed but cannot be used; the former ones stay in force")
            }
        }
    }
}

fn read(tls: &TlsListener) -> Result<ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(
                authorities(path)?,
                Arc::clone(&provider),
            );
            let verifier = if tls.require_client_certificate {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            let verifier = verifier
                .build()
                .map_err(|error| format!("{}: {error}", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let certified = certified_key(tls, &provider).map_err(|error| {
        format!(
            "{} and {}: {error}",
            tls.certificate.display(),
            tls.key.display()
        )
    })?;
    Ok(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified))))
}

/// The certificate that is shown, and its key. That they belong together is not looked at by rustls, which takes no certificates of
/// version 1, whereas clients do: `openssl x509 -req` makes such ones when it is given no extensions.
fn certified_key(tls: &TlsListener, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let chain = certificates(&tls.certificate)?;
    let key = provider
        .key_provider
        .load_private_key(private_key(&tls.key)?)
        .map_err(|error| error.to_string())?;
    let first = chain.first().ok_or("there is no certificate")?;
    let (_, parsed) = X509Certificate::from_der(first).map_err(|error| error.to_string())?;
    let belongs = key
        .public_key()
        .is_none_or(|public| public.as_ref() == parsed.public_key().raw);
    if !belongs {
        return Err("the key is that of another certificate".to_owned());
    }
    Ok(CertifiedKey::new(chain, key))
}

fn user_of(certificate: &CertificateDer<'_>, from: CertificateLogin) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    match from {
        CertificateLogin::DistinguishedName => {
            Some(crate::distinguished_name::text(parsed.subject()))
        }
        CertificateLogin::CommonName => {
            let name = parsed.subject().iter_common_name().next()?;
            name.as_str().ok().map(str::to_owned)
        }
        CertificateLogin::SubjectAlternativeName => {
            let names = parsed.subject_alternative_name().ok()??;
            names
                .value
                .general_names
                .iter()
                .find_map(|name| match name {
                    GeneralName::DNSName(name) => Some((*name).to_owned()),
                    _ => None,
                })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;

    /// DC=example, O=shop, the; OU=a+b; CN=alice. Its alternative names: an address, two hosts. Ends in 2126.
    const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIICKjCCAdGgAwIBAgIUMs5r22KtqRs2ttgWB90gLqLFRcEwCgYIKoZIzj0EAwIw\n\
SzEXMBUGCgmSJomT8ixkARkWB2V4YW1wbGUxEjAQBgNVBAoMCXNob3AsIHRoZTEM\n\
MAoGA1UECwwDYStiMQ4wDAYDVQQDDAVhbGljZTAgFw0yNjExMjgyMDU4MzBaGA8y\n\
MTI2MTEwNDIwNTgzMFowSzEXMBUGCgmSJomT8ixkARkWB2V4YW1wbGUxEjAQBgNV\n\
BAoMCXNob3AsIHRoZTEMMAoGA1UECwwDYStiMQ4wDAYDVQQDDAVhbGljZTBZMBMG\n\
ByqGSM49AgEGCCqGSM49AwEHA0IABKR4v3AjxC2WzHfv/0FkEHDJXLhhXPeHmlVU\n\
uFlByB9eZG0BY+9Cqef4oAnxbURnytGkiJqrVffuGlPBps3FrUKjgZAwgY0wHQYD\n\
VR0OBBYEFP9qnpABdNt7dk52gGOaxoTzH7i7MB8GA1UdIwQYMBaAFP9qnpABdNt7\n\
dk52gGOaxoTzH7i7MA8GA1UdEwEB/wQFMAMBAf8wOgYDVR0RBDMwMYENYUBleGFt\n\
cGxlLm9yZ4IRYWxpY2UuZXhhbXBsZS5vcmeCDWIuZXhhbXBsZS5vcmcwCgYIKoZI\n\
zj0EAwIDRwAwRAIgPS3zBsRSiFx5/qwzR2dsJk9t1jvSeFrcbGGSFf7G7p0CIFSA\n\
Ias5RpZy7m932xtw0CwF9HEKFDaRIg7SOA8TStbX\n\
-----END CERTIFICATE-----\n\
";

    /// Of version 1, CN=localhost, self-signed. Ends in 2126.
    const OLD_FORM: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBJTCBywIUcbGKtsPYW85na8IgvUaLzM1DV6owCgYIKoZIzj0EAwIwFDESMBAG\n\
A1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDE4MTYxMFoYDzIxMjYxMTA2MTgxNjEw\n\
WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\n\
AARbzYEkykOOYEzMZ0JRcPFjnvj01kmKDFbR6m5eZ0AAn3DmJJkPFVHncvKqbseP\n\
mMuAo6dktZo/P1l1pkp+mjXLMAoGCCqGSM49BAMCA0kAMEYCIQCPcSxI73iIx0r0\n\
FqCvTdNlexm3N6wGL6agqDP1Zjq39wIhAMnT9VUgWwb4FT1BvKIAeHmjlPTCrcha\n\
dqLsYSr8A9vh\n\
-----END CERTIFICATE-----\n\
";

    /// The key of the former, made for this test.
    const OLD_FORM_KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgBEyY1tohI3f173fN\n\
FjVNvRRZK2ahDPk4yq0wR41+ozChRANCAARbzYEkykOOYEzMZ0JRcPFjnvj01kmK\n\
DFbR6m5eZ0AAn3DmJJkPFVHncvKqbsePmMuAo6dktZo/P1l1pkp+mjXL\n\
-----END PRIVATE KEY-----\n\
";

    #[test]
    fn certificates_of_version_1_are_shown_and_keys_of_others_refused() {
        let file = |name: &str, text: &str| {
            let path = std::env::temp_dir().join(format!("warren-{}-{name}", std::process::id()));
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut tls = TlsListener {
            listen: ([127, 0, 0, 1], 0).into(),
            certificate: file("old.pem", OLD_FORM),
            key: file("old.key", OLD_FORM_KEY),
            client_ca: None,
            require_client_certificate: false,
            login_from: CertificateLogin::CommonName,
        };
        let old = read(&tls).map(|_| ());
        let right = std::mem::replace(&mut tls.certificate, file("other.pem", CERTIFICATE));
        let other = read(&tls).map(|_| ());
        for path in [&right, &tls.certificate, &tls.key] {
            std::fs::remove_file(path).unwrap();
        }
        assert_eq!(old, Ok(()));
        assert!(other.unwrap_err().ends_with("of another certificate"));
    }

    #[test]
    fn users_of_a_certificate() {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
        for (from, expected) in [
            (
                CertificateLogin::DistinguishedName,
                r"CN=alice,OU=a\+b,O=shop\, the,DC=example",
            ),
            (CertificateLogin::CommonName, "alice"),
            (
                CertificateLogin::SubjectAlternativeName,
                "alice.example.org",
            ),
        ] {
            assert_eq!(user_of(&certificate, from).as_deref(), Some(expected));
        }
    }

    #[test]
    fn the_end_of_a_certificate() {
        let path = std::env::temp_dir().join(format!("warren-{}.pem", std::process::id()));
        std::fs::write(&path, [CERTIFICATE, CERTIFICATE].concat()).unwrap();
        let found = crate::validity::validities(&path).unwrap();
        assert_eq!(found.len(), 2);
        for validity in found {
            assert!(validity.not_after_s > 4_900_000_000, "{validity:?}");
            assert!(validity.not_after.contains("2126"), "{validity:?}");
            assert!(validity.subject.starts_with("CN=alice,"), "{validity:?}");
        }
        std::fs::write(&path, "-----BEGIN NONSENSE").unwrap();
        let broken = crate::validity::validities(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(broken.is_err());
    }
}
