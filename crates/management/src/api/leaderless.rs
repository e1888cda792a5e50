//! `/api/health/checks/quorum-queues-without-elected-leaders`: replicated queues that nobody leads.

use super::health_checks::{passed, refused};
use crate::App;
use crate::auth::Operator;
use crate::error::ApiError;
use axum::extract::{Path, State};
use axum::response::Response;
use node::broker_model::catalog::{Name, Pattern};
use node::broker_model::ids::Placement;
use serde_json::{Value, json};
use std::sync::Arc;

/// Queues named in an answer; all are counted.
const NAMED: usize = 1000;

pub(super) async fn everywhere(
    state: State<Arc<App>>,
    operator: Operator,
) -> Result<Response, ApiError> {
    everywhere_named(state, operator, Path(".*".into())).await
}

pub(super) async fn everywhere_named(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(pattern): Path<String>,
) -> Result<Response, ApiError> {
    let vhosts = operator.vhosts(&app);
    look(&app, &vhosts, &pattern)
}

pub(super) async fn in_vhost(
    state: State<Arc<App>>,
    operator: Operator,
    Path(vhost): Path<String>,
) -> Result<Response, ApiError> {
    in_vhost_named(state, operator, Path((vhost, ".*".into()))).await
}

pub(super) async fn in_vhost_named(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, pattern)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    operator.enter(&app, &vhost).await?;
    look(&app, &[vhost.into()], &pattern)
}

/// Durable queues of both types, because both are replicated.
fn look(app: &App, vhosts: &[Name], pattern: &str) -> Result<Response, ApiError> {
    Pattern::check(pattern)?;
    let pattern = Pattern::new(pattern.into());
    let backend = app.backend();
    let is_led = |placement: Placement| {
        backend
            .leader_of(placement)
            .is_some_and(|leader| backend.is_alive(leader))
    };
    let (count, rows) = app.read(|catalog| {
        let mut count = 0;
        let mut rows: Vec<Value> = Vec::new();
        for queue in vhosts.iter().flat_map(|vhost| catalog.queues(vhost)) {
            let replicated = matches!(queue.placement, Placement::Shard(_));
            if replicated && pattern.matches(&queue.name) && !is_led(queue.placement) {
                count += 1;
                if rows.len() < NAMED {
                    rows.push(json!({
                        "name": &*queue.name,
                        "virtual_host": &*queue.vhost,
                        "readable_name": format!("queue '{}' in vhost '{}'", queue.name, queue.vhost),
                        "type": queue.queue_type.as_str(),
                    }));
                }
            }
        }
        (count, rows)
    });
    if count == 0 {
        return Ok(passed());
    }
    Ok(refused(json!({
        "status": "failed",
        "reason": format!("{count} replicated queues have no leader"),
        "queues": rows,
    })))
}
