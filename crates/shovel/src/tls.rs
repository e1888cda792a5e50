//! TLS to a broker, with what its URI says.

use crate::uri::{Host, Tls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where systems have the authorities that everybody trusts.
const AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Does the handshake. What its files hold is never told: whoever defines a shovel may name any.
///
/// # Errors
/// A file cannot be used, or the broker is not who it should be.
pub async fn connect(
    stream: TcpStream,
    host: &Host,
    tls: &Tls,
) -> Result<TlsStream<TcpStream>, String> {
    let settings = tls.clone();
    let config = tokio::task::spawn_blocking(move || config(&settings))
        .await
        .map_err(|_| "the node is stopping".to_owned())??;
    let name = tls.server_name.as_deref().filter(|name| *name != "disable");
    let name = ServerName::try_from(name.unwrap_or(&host.name).to_owned())
        .map_err(|_| "the name of the host is none that a certificate can have".to_owned())?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())
}

fn config(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = if tls.verify_none {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else {
        builder.with_root_certificates(authorities(tls.cacertfile.as_deref())?)
    };
    match (&tls.certfile, &tls.keyfile) {
        (Some(certificate), key) => {
            let chain = certificates(certificate)?;
            let key = key.as_ref().unwrap_or(certificate);
            let key = PrivateKeyDer::from_pem_file(key).map_err(|_| unusable(key))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| error.to_string())
        }
        (None, _) => Ok(builder.with_no_client_auth()),
    }
}

fn authorities(file: Option<&Path>) -> Result<RootCertStore, String> {
    let usual = || AUTHORITIES.iter().map(Path::new).find(|path| path.exists());
    let file = file
        .or_else(usual)
        .ok_or("this system trusts no authorities: name some with cacertfile")?;
    let mut roots = RootCertStore::empty();
    // One that is malformed is passed over, as long as others are left.
    let (added, _) = roots.add_parsable_certificates(certificates(file)?);
    if added == 0 {
        return Err(unusable(file));
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).map_err(|_| unusable(file))?;
    let found: Result<Vec<_>, _> = read.collect();
    found.map_err(|_| unusable(file))
}

fn unusable(file: &Path) -> String {
    format!("{} cannot be used", file.display())
}

/// `verify=verify_none`: takes every certificate, but only from who has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
