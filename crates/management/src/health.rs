//! Health for supervisors and load balancers: no login, no numbers.

use crate::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;

/// The process runs and answers.
pub(crate) async fn live() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// Clients are served: the cluster is formed and a majority answers this node.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    let reason = match app.open_backend() {
        Err(error) => error.reason().to_owned(),
        Ok(backend) => match backend.readiness().reason() {
            None => return live().await,
            Some(reason) => reason.to_owned(),
        },
    };
    let body = Json(json!({ "status": "failed", "reason": reason }));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}
