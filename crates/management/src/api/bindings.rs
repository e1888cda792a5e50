//! `/api/bindings` and the bindings of queues and exchanges.

use super::binding_key::{Named, properties_key, quoted};
use super::exchanges::{self, from_path};
use super::{Body, JsonResult, StatusResult, queues};
use crate::App;
use crate::auth::Operator;
use crate::error::{ApiError, aside};
use crate::fields::{json_to_table, table_to_json};
use crate::list::ListQuery;
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use node::amqp_codec::FieldTable;
use node::broker_model::catalog::{
    BindingRecord, BindingSpec, CatalogCommand, Destination, Name, Permission, ResourceKind,
};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    rows(&app, &operator.vhosts(&app), query).await
}

pub(super) async fn list_in(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    rows(&app, &[vhost.into()], query).await
}

async fn rows(app: &App, vhosts: &[Name], query: ListQuery) -> JsonResult {
    let bindings: Vec<BindingRecord> = app.read(|catalog| {
        vhosts
            .iter()
            .flat_map(|vhost| catalog.bindings(vhost))
            .collect()
    });
    serve(bindings, query).await
}

/// Sorts and writes the rows, of which there may be very many.
async fn serve(mut bindings: Vec<BindingRecord>, query: ListQuery) -> JsonResult {
    let written = aside(move || {
        bindings.sort_unstable_by(|a, b| {
            (&a.vhost, &a.source, &a.destination, &a.routing_key).cmp(&(
                &b.vhost,
                &b.source,
                &b.destination,
                &b.routing_key,
            ))
        });
        query.serve(bindings.iter().map(row).collect())
    });
    Ok(Json(written.await??))
}

fn row(binding: &BindingRecord) -> Value {
    json!({
        "source": &*binding.source,
        "vhost": &*binding.vhost,
        "destination": &**binding.destination.name(),
        "destination_type": match binding.destination {
            Destination::Queue(_) => "queue",
            Destination::Exchange(_) => "exchange",
        },
        "routing_key": &*binding.routing_key,
        "arguments": table_to_json(&binding.arguments),
        "properties_key": properties_key(binding),
    })
}

/// As with RabbitMQ, what is not there has no bindings.
pub(super) async fn from_exchange(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    serve(
        app.read(|catalog| catalog.bindings_from(&vhost, from_path(&name)).collect()),
        query,
    )
    .await
}

pub(super) async fn to_exchange(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    let destination = Destination::Exchange(from_path(&name).into());
    serve(
        app.read(|catalog| catalog.bindings_to(&vhost, &destination).collect()),
        query,
    )
    .await
}

pub(super) async fn to_queue(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, name)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    let destination = Destination::Queue(name.into());
    serve(
        app.read(|catalog| catalog.bindings_to(&vhost, &destination).collect()),
        query,
    )
    .await
}

/// Source and destination in a path: `q` for queues, `e` for exchanges.
struct Ends {
    source: Name,
    destination: Destination,
}

impl Ends {
    /// What a path names, be it there or not.
    fn named(source: &str, kind: &str, destination: &str) -> Result<Self, ApiError> {
        let destination = match kind {
            "q" => Destination::Queue(destination.into()),
            "e" => Destination::Exchange(from_path(destination).into()),
            _ => return Err(ApiError::NotFound),
        };
        Ok(Self {
            source: from_path(source).into(),
            destination,
        })
    }

    /// Both ends must be there.
    async fn find(
        app: &App,
        vhost: &str,
        source: &str,
        kind: &str,
        destination: &str,
    ) -> Result<Self, ApiError> {
        let ends = Self::named(source, kind, destination)?;
        exchanges::find(app, vhost, &ends.source).await?;
        match &ends.destination {
            Destination::Queue(name) => queues::find(app, vhost, name).await.map(drop)?,
            Destination::Exchange(name) => exchanges::find(app, vhost, name).await.map(drop)?,
        }
        Ok(ends)
    }

    fn bindings(&self, app: &App, vhost: &str) -> Vec<BindingRecord> {
        app.read(|catalog| {
            catalog
                .bindings_to(vhost, &self.destination)
                .filter(|binding| binding.source == self.source)
                .collect()
        })
    }

    /// The binding that a part of a path names.
    fn binding(&self, app: &App, vhost: &str, props: &str) -> Result<BindingRecord, ApiError> {
        let named = Named::read(props).ok_or(ApiError::NotFound)?;
        app.read(|catalog| {
            catalog
                .bindings_to(vhost, &self.destination)
                .find(|binding| binding.source == self.source && named.is(binding))
        })
        .ok_or(ApiError::NotFound)
    }

    /// Binding needs to write to the destination and to read from the source.
    fn permitted(&self, app: &App, operator: &Operator, vhost: &str) -> Result<(), ApiError> {
        let kind = match self.destination {
            Destination::Queue(_) => ResourceKind::Queue,
            Destination::Exchange(_) => ResourceKind::Exchange,
        };
        operator.permitted(app, vhost, Permission::Write, kind, self.destination.name())?;
        operator.permitted(
            app,
            vhost,
            Permission::Read,
            ResourceKind::Exchange,
            &self.source,
        )?;
        Ok(())
    }
}

pub(super) async fn between(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, source, kind, destination)): Path<(String, String, String, String)>,
    Query(query): Query<ListQuery>,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    let ends = Ends::named(&source, &kind, &destination)?;
    serve(ends.bindings(&app, &vhost), query).await
}

pub(super) async fn bind(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, source, kind, destination)): Path<(String, String, String, String)>,
    body: Body,
) -> Result<Response, ApiError> {
    operator.enter(&app, &vhost).await?;
    let ends = Ends::find(&app, &vhost, &source, &kind, &destination).await?;
    ends.permitted(&app, &operator, &vhost)?;
    let arguments = match body.object("arguments")? {
        Some(object) => json_to_table(object).map_err(ApiError::BadRequest)?,
        None => FieldTable::empty(),
    };
    let routing_key: Name = body
        .optional_text("routing_key")?
        .unwrap_or_default()
        .into();
    let spec = BindingSpec {
        vhost: vhost.as_str().into(),
        source: ends.source.clone(),
        destination: ends.destination.clone(),
        routing_key: routing_key.clone(),
        arguments: arguments.clone(),
    };
    app.change(CatalogCommand::Bind(spec)).await?;
    // The record has its arguments sorted, which makes the key.
    let props = ends
        .bindings(&app, &vhost)
        .iter()
        .find(|binding| binding.routing_key == routing_key && same(&binding.arguments, &arguments))
        .map_or_else(|| "~".to_owned(), properties_key);
    let mut response = StatusCode::CREATED.into_response();
    if let Ok(location) = HeaderValue::from_str(&encoded(&destination, &props)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Equal up to the order of entries.
fn same(a: &FieldTable, b: &FieldTable) -> bool {
    table_to_json(a) == table_to_json(b)
}

/// Relative to the request's path, as RabbitMQ gives it.
fn encoded(destination: &str, props: &str) -> String {
    // A path, not a form: no `+` for a space, and `~` as it is.
    let encode = |text: &str| quoted(text).replace('+', "%20").replace("%7E", "~");
    format!("{}/{}", encode(destination), encode(props))
}

type BindingPath = Path<(String, String, String, String, String)>;

pub(super) async fn one(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, source, kind, destination, props)): BindingPath,
) -> JsonResult {
    operator.enter(&app, &vhost).await?;
    let ends = Ends::find(&app, &vhost, &source, &kind, &destination).await?;
    Ok(Json(row(&ends.binding(&app, &vhost, &props)?)))
}

pub(super) async fn unbind(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path((vhost, source, kind, destination, props)): BindingPath,
) -> StatusResult {
    operator.enter(&app, &vhost).await?;
    let ends = Ends::find(&app, &vhost, &source, &kind, &destination).await?;
    ends.permitted(&app, &operator, &vhost)?;
    let binding = ends.binding(&app, &vhost, &props)?;
    let spec = BindingSpec {
        vhost: binding.vhost,
        source: binding.source,
        destination: binding.destination,
        routing_key: binding.routing_key,
        arguments: binding.arguments,
    };
    app.change(CatalogCommand::Unbind(spec)).await?;
    Ok(StatusCode::NO_CONTENT)
}
