//! TLS between nodes: each shows its certificate, and takes a peer's only if the cluster's authority
//! has signed it. The files are read again when they change; files that cannot be read leave what
//! was there in force. Connections that are open stay.

use super::transport::Wired;
use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ConnectionCommon, RootCertStore, ServerConfig};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;
use tokio::time::Interval;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Ties what is proven on a connection to this connection (RFC 9266).
const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// The files of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: this node's certificate and chain. Names the host by which peers reach it.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// PEM: the authorities whose certificates are nodes of the cluster.
    pub ca: PathBuf,
}

/// A connection, and what is different for each one of them (empty without TLS).
pub(crate) struct Bound {
    pub(crate) stream: Box<dyn Wired>,
    pub(crate) binding: [u8; 32],
}

/// Both sides of TLS with the files that are in force.
pub(crate) struct Tls {
    sides: Arc<ArcSwap<Sides>>,
    watcher: JoinHandle<()>,
}

struct Sides {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files and begins to watch them.
    pub(crate) async fn load(files: TlsFiles) -> Result<Self, String> {
        let sides = Arc::new(ArcSwap::from_pointee(read_aside(&files).await?));
        let watcher = tokio::spawn(watch(files, Arc::clone(&sides)));
        Ok(Self { sides, watcher })
    }

    /// As the one who connects to `host:port`; the peer's certificate must name the host.
    pub(crate) async fn connect(&self, address: &str, stream: Box<dyn Wired>) -> io::Result<Bound> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let client = Arc::clone(&self.sides.load().client);
        let stream = tokio_rustls::TlsConnector::from(client)
            .connect(name, stream)
            .await?;
        let binding = binding(stream.get_ref().1)?;
        Ok(Bound {
            stream: Box::new(stream),
            binding,
        })
    }

    /// As the one who was connected to.
    pub(crate) async fn accept(&self, stream: Box<dyn Wired>) -> io::Result<Bound> {
        let server = Arc::clone(&self.sides.load().server);
        let stream = tokio_rustls::TlsAcceptor::from(server)
            .accept(stream)
            .await?;
        let binding = binding(stream.get_ref().1)?;
        Ok(Bound {
            stream: Box::new(stream),
            binding,
        })
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

fn binding<Side>(session: &ConnectionCommon<Side>) -> io::Result<[u8; 32]> {
    session
        .export_keying_material([0; 32], BINDING_LABEL, None)
        .map_err(io::Error::other)
}

async fn watch(files: TlsFiles, sides: Arc<ArcSwap<Sides>>) {
    let paths = vec![
        files.certificate.clone(),
        files.key.clone(),
        files.ca.clone(),
    ];
    let mut watch = FileWatch::new(paths);
    loop {
        watch.changed().await;
        match read_aside(&files).await {
            Ok(new) => {
                sides.store(Arc::new(new));
                tracing::info!(certificate = %files.certificate.display(), "cluster TLS files read again");
            }
            Err(error) => {
                tracing::warn!(%error, "cluster TLS files have changed but cannot be used; the former ones stay in force");
            }
        }
    }
}

async fn read_aside(files: &TlsFiles) -> Result<Sides, String> {
    let files = files.clone();
    tokio::task::spawn_blocking(move || read(&files))
        .await
        .unwrap_or_else(|_| Err("interrupted".to_owned()))
}

fn read(files: &TlsFiles) -> Result<Sides, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = authorities(&files.ca)?;
    let chain = certificates(&files.certificate)?;
    let key = private_key(&files.key)?;
    let in_pair = |error: rustls::Error| {
        format!(
            "{} and {}: {error}",
            files.certificate.display(),
            files.key.display()
        )
    };
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| format!("{}: {error}", files.ca.display()))?;
    let versions = [&rustls::version::TLS13];
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(in_pair)?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(in_pair)?;
    Ok(Sides {
        client: Arc::new(client),
        server: Arc::new(server),
    })
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// The file cannot be read, or holds none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error: rustls::pki_types::pem::Error| format!("{}: {error}", path.display());
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(wrong)?
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    if chain.is_empty() {
        return Err(format!("{}: no certificate in it", path.display()));
    }
    Ok(chain)
}

/// The authorities of a PEM file, at least one.
///
/// # Errors
/// The file cannot be read, or holds none.
pub fn authorities(path: &Path) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(Arc::new(roots))
}

/// The private key of a PEM file.
///
/// # Errors
/// The file cannot be read, or holds none.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Files that are looked at now and then, to be read again when they change.
#[derive(Debug)]
pub struct FileWatch {
    files: Vec<PathBuf>,
    /// When they were last written; `None`: not there.
    seen: Vec<Option<SystemTime>>,
    ticks: Interval,
}

impl FileWatch {
    /// Begins with the files as they are.
    #[must_use]
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self {
            seen: written_at(&files),
            files,
            ticks: tokio::time::interval(LOOK),
        }
    }

    /// Returns when one of them has changed.
    pub async fn changed(&mut self) {
        loop {
            self.ticks.tick().await;
            let now = written_at(&self.files);
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }
}

fn written_at(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    let written = |file: &PathBuf| std::fs::metadata(file).and_then(|meta| meta.modified());
    files.iter().map(|file| written(file).ok()).collect()
}
