//! TLS for AMQP clients. Certificate, key and authorities are read again when their files change,
//! without a restart; files that cannot be read leave what was there in force.

use crate::config::{CertificateLogin, TlsListener};
use arc_swap::ArcSwap;
use consensus::tls::{certificates, changed_at};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

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
        let acceptor = tokio_rustls::TlsAcceptor::from(self.config.load_full());
        let stream = acceptor.accept(stream).await?;
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first());
        let user = certificate.and_then(|certificate| user_of(certificate, self.login_from));
        Ok((stream, user))
    }
}

fn files(tls: &TlsListener) -> Vec<PathBuf> {
    let mut files = vec![tls.certificate.clone(), tls.key.clone()];
    files.extend(tls.client_ca.clone());
    files
}

async fn watch(tls: TlsListener, config: Arc<ArcSwap<ServerConfig>>) {
    let files = files(&tls);
    let mut seen = changed_at(&files);
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        let now = changed_at(&files);
        if now == seen {
            continue;
        }
        seen = now;
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
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
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
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|error| format!("{}: {error}", tls.key.display()))?;
    builder
        .with_single_cert(certificates(&tls.certificate)?, key)
        .map_err(|error| {
            format!(
                "{} and {}: {error}",
                tls.certificate.display(),
                tls.key.display()
            )
        })
}

fn user_of(certificate: &CertificateDer<'_>, from: CertificateLogin) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    match from {
        CertificateLogin::DistinguishedName => Some(parsed.subject().to_string()),
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
