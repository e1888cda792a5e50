//! What a session uses of its node.

use crate::auth::{AuthError, Login};
use crate::broker::{Alarms, Broker};
use crate::catalog::writer::WriteError;
use crate::config::Config;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::registry::Registry;
use broker_model::catalog::{Catalog, CatalogAnswer, CatalogCommand};
use broker_model::ids::{NodeId, Origin, Placement};
use consensus::Connectivity;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::RwLockReadGuard;
use std::sync::Arc;
use tokio::sync::watch;

/// The node, as sessions see it. See [`Broker`], which is what it is outside of tests.
pub trait Services: Send + Sync + 'static {
    /// The configuration.
    fn config(&self) -> &Config;
    /// This node and its start.
    fn origin(&self) -> Origin;
    /// Links to queues.
    fn hub(&self) -> &Arc<Hub>;
    /// Counters.
    fn metrics(&self) -> &Metrics;
    /// Open connections.
    fn registry(&self) -> &Registry;
    /// The catalog as applied here.
    fn catalog(&self) -> RwLockReadGuard<'_, Catalog>;
    /// Changes whenever the catalog does.
    fn catalog_version(&self) -> u64;
    /// Changes the catalog.
    fn catalog_write(
        &self,
        command: CatalogCommand,
    ) -> BoxFuture<'_, Result<CatalogAnswer, WriteError>>;
    /// Brings the catalog here up to date.
    fn catalog_sync(&self) -> BoxFuture<'_, bool>;
    /// Whether the catalog here is up to date for all that anybody can know.
    fn catalog_is_recent(&self) -> bool;
    /// Brings the catalog here up to date unless it is.
    fn catalog_freshen(&self) -> BoxFuture<'_, bool>;
    /// Checks a login.
    fn authenticate(&self, login: Login) -> BoxFuture<'_, Result<Identity, AuthError>>;
    /// Where a queue declared here would live.
    fn place_queue(&self, replicated: bool) -> Placement;
    /// Whether this node serves the queues of a placement now.
    fn is_here(&self, placement: Placement) -> bool;
    /// How many connections a user has open, and how many a virtual host, on all nodes.
    fn open_of<'a>(&'a self, user: &'a str, vhost: &'a str) -> BoxFuture<'a, (u64, u64)>;
    /// Open channels of a user on the other nodes.
    fn channels_elsewhere<'a>(&'a self, user: &'a str) -> BoxFuture<'a, u64>;
    /// Whether the process of another node is known to be gone.
    fn is_dead(&self, node: NodeId) -> bool;
    /// Alarms of all nodes.
    fn alarms(&self) -> watch::Receiver<Alarms>;
}

impl Services for Broker {
    fn config(&self) -> &Config {
        Self::config(self)
    }

    fn origin(&self) -> Origin {
        Self::origin(self)
    }

    fn hub(&self) -> &Arc<Hub> {
        Self::hub(self)
    }

    fn metrics(&self) -> &Metrics {
        Self::metrics(self)
    }

    fn registry(&self) -> &Registry {
        Self::registry(self)
    }

    fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        Self::catalog(self)
    }

    fn catalog_version(&self) -> u64 {
        Self::catalog_version(self)
    }

    fn catalog_write(
        &self,
        command: CatalogCommand,
    ) -> BoxFuture<'_, Result<CatalogAnswer, WriteError>> {
        Self::catalog_write(self, command).boxed()
    }

    fn catalog_sync(&self) -> BoxFuture<'_, bool> {
        Self::catalog_sync(self).boxed()
    }

    fn catalog_is_recent(&self) -> bool {
        Self::catalog_is_recent(self)
    }

    fn catalog_freshen(&self) -> BoxFuture<'_, bool> {
        Self::catalog_freshen(self).boxed()
    }

    fn authenticate(&self, login: Login) -> BoxFuture<'_, Result<Identity, AuthError>> {
        Self::authenticate(self, login).boxed()
    }

    fn place_queue(&self, replicated: bool) -> Placement {
        Self::place_queue(self, replicated)
    }

    fn is_here(&self, placement: Placement) -> bool {
        Self::is_here(self, placement)
    }

    fn open_of<'a>(&'a self, user: &'a str, vhost: &'a str) -> BoxFuture<'a, (u64, u64)> {
        Self::open_of(self, user, vhost).boxed()
    }

    fn channels_elsewhere<'a>(&'a self, user: &'a str) -> BoxFuture<'a, u64> {
        Self::channels_elsewhere(self, user).boxed()
    }

    fn is_dead(&self, node: NodeId) -> bool {
        let connectivity = self.consensus().peers().connectivity();
        let seen = connectivity.borrow().get(&node.0).copied();
        seen == Some(Connectivity::Refused)
    }

    fn alarms(&self) -> watch::Receiver<Alarms> {
        Self::alarms(self)
    }
}
