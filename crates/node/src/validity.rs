//! Until when certificates in files are valid.

use std::path::Path;
use x509_parser::prelude::{FromDer, X509Certificate};

/// One certificate of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validity {
    /// Whose it is, as text.
    pub subject: String,
    /// When it ends, in seconds since the Unix epoch.
    pub not_after_s: i64,
    /// The same, to be read.
    pub not_after: String,
}

/// The certificates of a PEM file.
///
/// # Errors
/// The file cannot be read or holds something else.
pub fn validities(path: &Path) -> Result<Vec<Validity>, String> {
    let mut validities = Vec::new();
    for certificate in consensus::tls::certificates(path)? {
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let not_after = parsed.validity().not_after;
        validities.push(Validity {
            subject: crate::distinguished_name::text(parsed.subject()),
            not_after_s: not_after.timestamp(),
            not_after: not_after.to_string(),
        });
    }
    Ok(validities)
}
