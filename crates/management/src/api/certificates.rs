//! `/api/health/checks/certificate-expiration`: whether a certificate in use ends soon.

use super::health_checks::{passed, refused};
use crate::App;
use crate::auth::Operator;
use crate::error::ApiError;
use axum::extract::{Path, State};
use axum::response::Response;
use node::Config;
use node::validity::{Validity, validities};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: i64 = 86_400;

/// `…/{within}/{unit}`: days, weeks, months or years.
pub(super) async fn check(
    State(app): State<Arc<App>>,
    _: Operator,
    Path((within, unit)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let within = seconds(&within, &unit)?;
    let files = files(app.backend().config());
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64);
    let looked = tokio::task::spawn_blocking(move || expiring(&files, now.saturating_add(within)));
    let expiring = looked
        .await
        .map_err(|error| ApiError::Unavailable(error.to_string()))?;
    match expiring {
        Err(reason) => Ok(refused(json!({ "status": "failed", "reason": reason }))),
        Ok(expired) if expired.is_empty() => Ok(passed()),
        Ok(expired) => Ok(refused(json!({
            "status": "failed",
            "reason": "Certificates expiring",
            "expired": expired,
        }))),
    }
}

fn seconds(within: &str, unit: &str) -> Result<i64, ApiError> {
    let within: i64 = within
        .parse::<u32>()
        .map_err(|_| ApiError::BadRequest("Invalid expiration value.".into()))?
        .into();
    // Months and years as RabbitMQ takes them.
    let days = match unit {
        "days" => 1,
        "weeks" => 7,
        "months" => 28,
        "years" => 365,
        _ => return Err(ApiError::BadRequest("Time unit not recognised.".into())),
    };
    Ok(within * days * DAY_S)
}

/// Certificates that this node shows or trusts.
fn files(config: &Config) -> Vec<PathBuf> {
    let clients = config.amqps.iter().flat_map(|tls| {
        [Some(&tls.certificate), tls.client_ca.as_ref()]
            .into_iter()
            .flatten()
    });
    let peers = config
        .cluster_tls
        .iter()
        .flat_map(|tls| [&tls.certificate, &tls.ca]);
    clients.chain(peers).cloned().collect()
}

/// Those that end before `before`, or why that cannot be told.
fn expiring(files: &[PathBuf], before: i64) -> Result<Vec<Value>, String> {
    let mut rows = Vec::new();
    for file in files {
        let ends = |certificate: &Validity| certificate.not_after_s < before;
        for certificate in validities(file)?.iter().filter(|one| ends(one)) {
            rows.push(json!({
                "file": file.display().to_string(),
                "subject": certificate.subject,
                "not_after": certificate.not_after,
            }));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (within, unit, expected) in [
            ("2", "days", Some(2 * DAY_S)),
            ("1", "weeks", Some(7 * DAY_S)),
            ("1", "months", Some(28 * DAY_S)),
            ("1", "years", Some(365 * DAY_S)),
            ("1", "hours", None),
            ("-1", "days", None),
            ("x", "days", None),
        ] {
            assert_eq!(seconds(within, unit).ok(), expected, "{within} {unit}");
        }
    }
}
