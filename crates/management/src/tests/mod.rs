//! Requests against a router over a fake node.

mod access;
mod definitions;
mod exchanges;
mod fake;
mod policies;
mod queues;
mod shovels;
mod status;
mod text;
mod users;
mod web;

use crate::{App, router};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::request::Builder;
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fake::Fake;
use node::amqp_codec::FieldTable;
use node::broker_model::catalog::{CatalogCommand, QueueSpec};
use node::broker_model::ids::{ConnectionId, NodeId, Origin, Placement};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::{Arc, OnceLock};
use tower::ServiceExt;

/// A server without a socket.
struct Server {
    app: Arc<App>,
    fake: Arc<Fake>,
    router: Router,
}

/// What came back.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
    text: String,
}

impl Server {
    fn new() -> Self {
        let server = Self::closed();
        assert!(
            server
                .app
                .backend
                .set(Arc::clone(&server.fake) as _)
                .is_ok()
        );
        server
    }

    /// The server of a node that has not started yet.
    fn closed() -> Self {
        let app = Arc::new(App {
            backend: OnceLock::new(),
            rates: Mutex::default(),
            rates_of: crate::AllRates::default(),
            large_lists: tokio::sync::Semaphore::new(crate::LARGE_LISTS),
            bodies: crate::bodies::Room::within(u64::MAX),
            answers: crate::answers::Room::within(u64::MAX),
        });
        Self {
            fake: Arc::new(Fake::new()),
            router: router(Arc::clone(&app), true),
            app,
        }
    }

    /// Sends a request as `login`; an empty one sends no credentials.
    async fn send(&self, login: &str, method: &str, path: &str, body: Value) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if !login.is_empty() {
            request = request.header("Authorization", format!("Basic {}", STANDARD.encode(login)));
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        self.answer(request, body).await
    }

    async fn answer(&self, request: Builder, body: Body) -> Reply {
        let response = self
            .router
            .clone()
            .oneshot(request.body(body).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        }
    }

    async fn get(&self, path: &str) -> Reply {
        self.send("guest:guest", "GET", path, Value::Null).await
    }

    /// PUT, expecting this status.
    async fn put(&self, path: &str, body: Value, expected: u16) -> Reply {
        self.expect("PUT", path, body, expected).await
    }

    async fn expect(&self, method: &str, path: &str, body: Value, expected: u16) -> Reply {
        let reply = self.send("guest:guest", method, path, body).await;
        assert_eq!(
            reply.status.as_u16(),
            expected,
            "{method} {path}: {}",
            reply.text
        );
        reply
    }

    /// A queue of a connection that is open.
    fn exclusive(&self, name: &str) {
        let owner = ConnectionId {
            origin: Origin {
                node: NodeId(2),
                incarnation: 1,
            },
            serial: 7,
        };
        let spec = QueueSpec {
            vhost: "/".into(),
            name: name.into(),
            durable: false,
            server_named: false,
            exclusive: Some(owner),
            auto_delete: false,
            arguments: FieldTable::empty(),
            placement: Placement::Host(NodeId(1)),
        };
        let command = CatalogCommand::DeclareQueue(spec);
        self.fake.apply(command).expect("declared");
    }

    async fn delete(&self, path: &str, expected: u16) -> Reply {
        self.expect("DELETE", path, Value::Null, expected).await
    }
}

/// The values of one key over the rows of a list.
fn column<'a>(rows: &'a Value, key: &str) -> Vec<&'a str> {
    rows.as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row.get(key)?.as_str())
        .collect()
}
