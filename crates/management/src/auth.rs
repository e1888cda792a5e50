//! Who asks: by name and password, or with a token; tags, and what they allow.

use crate::App;
use crate::backend::read;
use crate::error::ApiError;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use node::Identity;
use node::broker_model::catalog::{CatalogError, Name, Permission, ResourceKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};

/// An authenticated user with at least one tag that lets it in.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    /// Its name.
    pub(crate) name: Name,
    /// Who that is.
    pub(crate) user: Identity,
    tags: Vec<Name>,
}

/// What a request needs beyond being let in. Each includes what a lower one may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// See what concerns all vhosts.
    Monitoring,
    /// Change policies.
    Policymaker,
    /// Change users, vhosts, permissions.
    Administrator,
}

impl Operator {
    /// Refuses users without the tag.
    pub(crate) fn need(&self, need: Need) -> Result<(), ApiError> {
        let (tags, reason): (&[&str], _) = match need {
            Need::Monitoring => (&["administrator", "monitoring"], "Not monitor user"),
            Need::Policymaker => (&["administrator", "policymaker"], "Not policymaker user"),
            Need::Administrator => (&["administrator"], "Not administrator user"),
        };
        if self.has_any(tags) {
            Ok(())
        } else {
            Err(ApiError::Unauthorized(reason.into()))
        }
    }

    /// Whether the user sees every vhost.
    pub(crate) fn sees_all(&self) -> bool {
        self.has_any(&["administrator", "monitoring"])
    }

    /// The vhosts that the user sees, by name.
    pub(crate) fn vhosts(&self, app: &App) -> Vec<Name> {
        let all = self.sees_all();
        app.read(|catalog| {
            catalog
                .vhosts()
                .into_iter()
                .map(|vhost| vhost.name.clone())
                .filter(|vhost| all || self.user.may_open(catalog, vhost))
                .collect()
        })
    }

    /// Refuses vhosts that do not exist or that the user has nothing to do with, alike: whether one exists is nobody
    /// else's business.
    pub(crate) async fn enter(&self, app: &App, vhost: &str) -> Result<(), ApiError> {
        if !app.read(|catalog| catalog.vhost(vhost).is_some()) {
            app.be_up_to_date().await?;
        }
        let (exists, permitted) = app.read(|catalog| {
            (
                catalog.vhost(vhost).is_some(),
                self.user.may_open(catalog, vhost),
            )
        });
        if exists && (permitted || self.sees_all()) {
            return Ok(());
        }
        Err(ApiError::NotFound)
    }

    /// As AMQP would, refuses what the user has no permission for.
    pub(crate) fn permitted(
        &self,
        app: &App,
        vhost: &str,
        permission: Permission,
        kind: ResourceKind,
        name: &str,
    ) -> Result<(), CatalogError> {
        let check = read(app.backend(), |catalog| {
            self.user
                .check_permission(catalog, vhost, permission, kind, name)
        });
        // Without a catalog nobody gets here.
        check.unwrap_or_else(|| {
            Err(CatalogError::NoVhost {
                vhost: vhost.into(),
            })
        })
    }

    /// Its tags.
    pub(crate) fn tags(&self) -> &[Name] {
        &self.tags
    }

    fn has_any(&self, tags: &[&str]) -> bool {
        self.tags.iter().any(|have| tags.contains(&&**have))
    }
}

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let backend = app.open_backend()?;
        let (user, password) = credentials(parts).ok_or_else(ApiError::login)?;
        let from = parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ConnectInfo(address)| {
                address.ip()
            });
        // As an AMQP client: one must not guess as fast as passwords are verified. Whatever was wrong, it is told at the
        // same time; nobody else waits for it.
        let told_at = Instant::now() + backend.config().timing.login_failure_delay / 3;
        let Some(user) = backend.authenticate(user, password, from).await else {
            sleep_until(told_at).await;
            return Err(ApiError::login());
        };
        let tags = read(&**backend, |catalog| user.tags(catalog)).unwrap_or_default();
        let name = Arc::clone(user.name());
        let operator = Self { name, user, tags };
        if !operator.has_any(&["administrator", "monitoring", "policymaker", "management"]) {
            sleep_until(told_at).await;
            return Err(ApiError::login());
        }
        Ok(operator)
    }
}

/// A name and a password, which may be a token; or a token alone.
fn credentials(parts: &Parts) -> Option<(String, Vec<u8>)> {
    let header = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some((String::new(), encoded.trim().into()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (user, password) = decoded.split_at(colon);
    Some((
        String::from_utf8(user.to_vec()).ok()?,
        password.get(1..)?.to_vec(),
    ))
}
