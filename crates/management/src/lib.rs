//! HTTP on the management port: health, metrics, the API that operators' tools of RabbitMQ speak, and pages for
//! browsers that use it.
//!
//! Owns routes, JSON, authentication of operators and the Prometheus text. What a node knows and does
//! comes through [`Backend`]; nothing here decides about queues or the cluster.
//!
//! The server answers from the first moment of a node, so that a supervisor sees a node that waits
//! for its peers as alive but not ready; the API opens with [`Management::open`].

mod answers;
mod api;
mod auth;
pub mod backend;
mod bodies;
mod bounded;
mod definitions;
mod error;
mod fields;
mod form;
mod health;
mod list;
mod metrics;
mod metrics_objects;
mod node_backend;
mod object_rates;
mod query;
mod rates;
mod samples;
mod server;
mod web;

pub use backend::Backend;
pub use definitions::{Definitions, Loaded};
pub use node_backend::NodeBackend;

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use backend::{SharedBackend, read};
use error::ApiError;
use node::broker_model::catalog::{Catalog, CatalogAnswer, CatalogCommand, CatalogError};
use node::config::TlsListener;
use node::life::process::FileShares;
use node::tls::OperatorTls;
use object_rates::AllRates;
use parking_lot::Mutex;
use rates::Rates;
use server::serve;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinHandle};

/// What handlers share.
pub(crate) struct App {
    backend: OnceLock<SharedBackend>,
    rates: Mutex<Rates>,
    pub(crate) rates_of: AllRates,
    /// To make a list of very many rows.
    pub(crate) large_lists: Semaphore,
    /// For bodies of requests.
    pub(crate) bodies: bodies::Room,
    /// For answers that are not read yet.
    pub(crate) answers: answers::Room,
}

/// Connections at a time on the port for metrics.
const SCRAPERS: usize = 16;
/// Large lists made at the same time.
const LARGE_LISTS: usize = 2;

impl App {
    /// The node, if it has started.
    pub(crate) fn open_backend(&self) -> Result<&SharedBackend, ApiError> {
        self.backend.get().ok_or_else(|| {
            ApiError::Unavailable("the node waits for its cluster and is not ready yet".into())
        })
    }

    /// The node. Handlers that take an [`auth::Operator`] run only when it has started.
    pub(crate) fn backend(&self) -> &dyn Backend {
        match self.backend.get() {
            Some(backend) => &**backend,
            None => &api::closed::Closed,
        }
    }

    /// Changes the catalog, refusing first what it would refuse: that needs no round trip.
    pub(crate) async fn change(&self, command: CatalogCommand) -> Result<CatalogAnswer, ApiError> {
        let check = |app: &Self| {
            read(app.backend(), |catalog| app.check(catalog, &command)).unwrap_or(Ok(()))
        };
        if check(self).is_err() {
            // What is missing here may have just been made elsewhere.
            let sure = self.backend().sync().await;
            match check(self) {
                Err(CatalogError::NotFound(_)) if !sure => return Err(cut_off()),
                checked => checked?,
            }
        }
        Ok(self.backend().change(command).await?)
    }

    /// Before it is said that something does not exist.
    pub(crate) async fn be_up_to_date(&self) -> Result<(), ApiError> {
        if self.backend().sync().await {
            return Ok(());
        }
        Err(cut_off())
    }

    fn check(&self, catalog: &Catalog, command: &CatalogCommand) -> Result<(), CatalogError> {
        if let CatalogCommand::DeclareQueue(spec) = command
            && catalog.check_declare_queue(spec)?.is_none()
        {
            let limit = self.backend().config().limits.queues;
            return catalog.check_queue_limit(&spec.name, limit);
        }
        catalog.check(command)
    }

    /// As [`App::change`]; tells whether something new was made.
    pub(crate) async fn created(&self, command: CatalogCommand) -> Result<bool, ApiError> {
        Ok(match self.change(command).await? {
            CatalogAnswer::Done { created } | CatalogAnswer::Queue { created, .. } => created,
        })
    }

    /// Reads something from the catalog.
    pub(crate) fn read<T: Default>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        read(self.backend(), look).unwrap_or_default()
    }
}

fn cut_off() -> ApiError {
    let text = "this node reaches no majority of its cluster, and cannot tell what exists";
    ApiError::Unavailable(text.into())
}

/// The server of one node.
pub struct Management {
    app: Arc<App>,
    address: SocketAddr,
    router: Router,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
}

impl Management {
    /// Takes the port and answers from now on; `/api`, and the pages, only if `with_api`. What it may take for bodies of
    /// requests and for answers goes by the memory of the node, in bytes.
    ///
    /// # Errors
    /// The port cannot be taken.
    pub async fn start(listen: SocketAddr, with_api: bool, memory_bytes: u64) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let app = Arc::new(App {
            backend: OnceLock::new(),
            rates: Mutex::default(),
            rates_of: AllRates::default(),
            large_lists: Semaphore::new(LARGE_LISTS),
            bodies: bodies::Room::within(memory_bytes),
            answers: answers::Room::within(memory_bytes),
        });
        let stop = watch::Sender::new(false);
        let router = router(Arc::clone(&app), with_api);
        let operators = FileShares::now().operators;
        let server = serve(listener, operators, None, router.clone(), &stop);
        Ok(Self {
            app,
            address,
            router,
            stop,
            servers: vec![server],
        })
    }

    /// Serves the same over TLS on another port too, with the certificate that AMQP clients are shown. Returns where.
    ///
    /// # Errors
    /// The port cannot be taken, or the files of the certificate cannot be used.
    pub async fn serve_tls(
        &mut self,
        listen: SocketAddr,
        tls: &TlsListener,
    ) -> io::Result<SocketAddr> {
        let tls = OperatorTls::load(tls).map_err(io::Error::other)?;
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (operators, router) = (FileShares::now().operators, self.router.clone());
        let server = serve(listener, operators, Some(tls), router, &self.stop);
        self.servers.push(server);
        Ok(address)
    }

    /// Serves metrics, and nothing else, on another port too. Returns where.
    ///
    /// # Errors
    /// The port cannot be taken.
    pub async fn serve_metrics(&mut self, listen: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let connections = SCRAPERS.min(FileShares::now().operators);
        let router = metrics_router(Arc::clone(&self.app));
        let server = serve(listener, connections, None, router, &self.stop);
        self.servers.push(server);
        Ok(address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The node has started: its state is shown from now on. Only the first call counts.
    pub fn open(&self, backend: Arc<dyn Backend>) {
        let _ = self.app.backend.set(backend);
    }

    /// Answers what is being asked, for a moment, and stops.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        let aborts: Vec<_> = self.servers.iter().map(JoinHandle::abort_handle).collect();
        let all = futures::future::join_all(self.servers);
        if tokio::time::timeout(std::time::Duration::from_secs(1), all)
            .await
            .is_err()
        {
            aborts.iter().for_each(AbortHandle::abort);
        }
    }
}

fn router(app: Arc<App>, with_api: bool) -> Router {
    let mut router = Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .merge(metrics_routes());
    if with_api {
        let body_max = usize::try_from(app.bodies.max()).unwrap_or(usize::MAX);
        let bounded = from_fn_with_state(Arc::clone(&app), bodies::bounded);
        router = router
            .nest("/api", api::router(body_max).layer(bounded))
            .merge(web::router());
    }
    finished(router, app)
}

/// Metrics alone, for a port that scrapers may reach and others need not.
fn metrics_router(app: Arc<App>) -> Router {
    finished(metrics_routes(), app)
}

fn metrics_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/metrics", get(metrics::text))
        .route("/metrics/per-object", get(metrics_objects::per_object))
        .route("/metrics/detailed", get(metrics_objects::detailed))
}

fn finished(router: Router<Arc<App>>, app: Arc<App>) -> Router {
    let answers = from_fn_with_state(Arc::clone(&app), answers::bounded);
    let router = router
        .method_not_allowed_fallback(other_method)
        .fallback(async || ApiError::NotFound)
        .layer(answers)
        .with_state(app);
    // Around the router, because a path has to be mended before it is matched.
    Router::new()
        .fallback_service(router)
        .layer(axum::middleware::map_request(without_last_slash))
}

/// Which methods there are is told to everybody, as by RabbitMQ; the router names them in `allow`.
async fn other_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::OK.into_response();
    }
    ApiError::MethodNotAllowed.into_response()
}

/// `/api/queues/` means `/api/queues`, as it does for RabbitMQ. One slash only.
async fn without_last_slash<B>(mut request: axum::http::Request<B>) -> axum::http::Request<B> {
    let uri = request.uri();
    let Some(path) = uri.path().strip_suffix('/').filter(|path| !path.is_empty()) else {
        return request;
    };
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    // Part of a valid path is one; if it were not, nothing would be found under the old one either.
    if let Ok(target) = target.parse() {
        parts.path_and_query = Some(target);
        if let Ok(mended) = axum::http::Uri::from_parts(parts) {
            *request.uri_mut() = mended;
        }
    }
    request
}

#[cfg(test)]
mod tests;
