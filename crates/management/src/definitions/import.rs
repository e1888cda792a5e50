//! Reading definitions, ours or RabbitMQ's: additive, and what exists already is left as it is.
//!
//! Everything that can be imported is, whatever else fails; the report says what was not.

use crate::App;
use crate::api::{Body, limits, parameters, policies, queues, shovels, users};
use crate::auth::{Need, Operator};
use crate::error::ApiError;
use crate::fields::json_to_table;
use crate::query::Query;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use node::amqp_codec::FieldTable;
use node::broker_model::catalog::{
    BindingSpec, Catalog, CatalogCommand, Destination, ExchangeSpec, Name, PermissionSpec,
    QueueSpec, TopicPermissionSpec, VhostSpec,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Changes on their way at the same time.
const CONCURRENT: usize = 64;

const PARAMETERS: &str = "parameters";

/// Parts of a file, in the order in which they depend on each other; but shovels come after all of them.
pub(super) const PARTS: &[&str] = &[
    "vhosts",
    "users",
    "permissions",
    "exchanges",
    "topic_permissions",
    PARAMETERS,
    "global_parameters",
    "policies",
    "queues",
    "bindings",
];

/// Parts of the definitions of a single virtual host, whose items do not name it.
const OF_ONE_VHOST: &[&str] = &[PARAMETERS, "policies", "queues", "exchanges", "bindings"];

/// Keys that say where a file comes from.
const ORIGIN: &[&str] = &[
    "rabbit_version",
    "rabbitmq_version",
    "product_name",
    "product_version",
    "rabbitmq_definition_format",
    "original_cluster_name",
    "original_vhost_name",
    "explanation",
    "metadata",
    "default_queue_type",
    "limits",
    "name",
    "description",
    "tags",
];

/// The query of an import.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ImportQuery {
    report: Option<String>,
}

/// What became of a file.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) imported: BTreeMap<&'static str, u64>,
    pub(super) not_understood: Vec<String>,
    pub(super) failed: Vec<String>,
}

pub(crate) async fn import(
    State(app): State<Arc<App>>,
    operator: Operator,
    Query(query): Query<ImportQuery>,
    body: Body,
) -> Result<Response, ApiError> {
    operator.need(Need::Administrator)?;
    refuse_homeless(&body).map_err(ApiError::BadRequest)?;
    Ok(answer(run(&app, body, None).await, &query))
}

pub(crate) async fn import_vhost(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(vhost): Path<String>,
    Query(query): Query<ImportQuery>,
    mut body: Body,
) -> Result<Response, ApiError> {
    operator.need(Need::Policymaker)?;
    operator.enter(&app, &vhost).await?;
    if !PARTS.iter().any(|part| body.0.contains_key(*part)) {
        return Err(ApiError::BadRequest("the file holds no definitions".into()));
    }
    for part in [
        "users",
        "vhosts",
        "permissions",
        "topic_permissions",
        "global_parameters",
    ] {
        body.0.remove(part);
    }
    let given = body.0.get(PARAMETERS).and_then(Value::as_array);
    for item in given.into_iter().flatten() {
        let component = item.get("component").and_then(Value::as_str);
        if let (Some(parameters::SHOVEL), Some(value)) = (component, item.get("value")) {
            shovels::check_reach(&app, &operator, value).await?;
        }
    }
    Ok(answer(run(&app, body, Some(&vhost)).await, &query))
}

/// As RabbitMQ, refuses as a whole the definitions of a single virtual host where those of all are wanted: nobody knows
/// which one they are for.
pub(super) fn refuse_homeless(body: &Body) -> Result<(), String> {
    let is_homeless = |item: &Value| {
        let item = item.as_object();
        item.is_some_and(|item| item.get("vhost").is_none_or(Value::is_null))
    };
    let has_homeless = |part: &&&str| {
        let items = body.0.get(**part).and_then(Value::as_array);
        items.is_some_and(|items| items.iter().any(is_homeless))
    };
    match OF_ONE_VHOST.iter().find(has_homeless) {
        None => Ok(()),
        Some(part) => Err(format!(
            "invalid_definitions_file: {part} do not name their virtual host, as in the definitions of a single one, \
             which must be imported into one"
        )),
    }
}

fn answer(report: Report, query: &ImportQuery) -> Response {
    if query.report.as_deref() == Some("true") {
        let body = json!({
            "imported": report.imported,
            "not_understood": report.not_understood,
            "failed": report.failed,
        });
        return Json(body).into_response();
    }
    match report.failed.first() {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(first) => ApiError::BadRequest(first.clone()).into_response(),
    }
}

pub(super) async fn run(app: &App, mut body: Body, vhost: Option<&str>) -> Report {
    let mut report = Report::default();
    let mut shovels = Vec::new();
    for part in PARTS {
        let mut items = match body.0.remove(*part) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(items)) => items,
            Some(_) => {
                report.failed.push(format!("{part}: not a list"));
                continue;
            }
        };
        if *part == PARAMETERS {
            (shovels, items) = items.into_iter().partition(is_shovel);
        }
        import_part(app, part, &items, vhost, &mut report).await;
    }
    // Last, because a shovel runs at once, and declares queues that are not there as it likes.
    import_part(app, PARAMETERS, &shovels, vhost, &mut report).await;
    let unknown = body.0.keys().filter(|key| !ORIGIN.contains(&key.as_str()));
    report
        .not_understood
        .extend(unknown.map(|key| format!("{key}: unknown part of the file")));
    report
}

async fn import_part(
    app: &App,
    part: &'static str,
    items: &[Value],
    vhost: Option<&str>,
    report: &mut Report,
) {
    for chunk in items.chunks(CONCURRENT) {
        let imports = chunk.iter().map(|item| import_item(app, part, item, vhost));
        for (item, result) in chunk.iter().zip(futures::future::join_all(imports).await) {
            match result {
                Ok(notes) => {
                    *report.imported.entry(part).or_default() += 1;
                    report.not_understood.extend(notes);
                }
                Err(error) => {
                    report
                        .failed
                        .push(format!("{part}: {}: {}", label(item), error.reason()))
                }
            }
        }
    }
}

fn is_shovel(parameter: &Value) -> bool {
    parameter.get("component").and_then(Value::as_str) == Some(parameters::SHOVEL)
}

/// What an item is called in the report.
fn label(item: &Value) -> String {
    let text = |key: &str| item.get(key).and_then(Value::as_str);
    let name = match (text("name"), text("user"), text("source")) {
        (Some(name), _, _) => name.to_owned(),
        (None, Some(user), _) => user.to_owned(),
        (None, None, Some(source)) => {
            format!("{source} -> {}", text("destination").unwrap_or_default())
        }
        (None, None, None) => "(no name)".into(),
    };
    match text("vhost") {
        Some(vhost) => format!("'{name}' in vhost '{vhost}'"),
        None => format!("'{name}'"),
    }
}

/// Imports one item; returns what of it was not understood.
async fn import_item(
    app: &App,
    part: &str,
    item: &Value,
    vhost: Option<&str>,
) -> Result<Vec<String>, ApiError> {
    let Value::Object(object) = item else {
        return Err(ApiError::BadRequest("not an object".into()));
    };
    let body = Body(object.clone());
    let vhost: Name = match vhost {
        Some(vhost) => vhost.into(),
        None => body.optional_text("vhost")?.unwrap_or_default().into(),
    };
    match part {
        "vhosts" => import_vhost_item(app, &body).await,
        "users" => import_user(app, &body).await,
        "permissions" => {
            let spec = PermissionSpec {
                user: body.text("user")?.into(),
                vhost,
                configure: body.text("configure")?.into(),
                write: body.text("write")?.into(),
                read: body.text("read")?.into(),
            };
            change(app, CatalogCommand::SetPermissions(spec)).await
        }
        "topic_permissions" => {
            let spec = TopicPermissionSpec {
                user: body.text("user")?.into(),
                vhost,
                exchange: body.text("exchange")?.into(),
                write: body.text("write")?.into(),
                read: body.text("read")?.into(),
            };
            change(app, CatalogCommand::SetTopicPermissions(spec)).await
        }
        PARAMETERS => import_parameter(app, vhost, body).await,
        "global_parameters" => import_global(app, &body).await,
        "policies" => {
            let spec = policies::spec(&vhost, body.text("name")?, false, &body)?;
            change(app, CatalogCommand::PutPolicy(spec)).await
        }
        "queues" => {
            let durable = body.flag("durable", true)?;
            let arguments = queues::arguments(&body)?;
            let spec = QueueSpec {
                arguments,
                name: body.text("name")?.into(),
                vhost,
                durable,
                server_named: false,
                exclusive: None,
                auto_delete: body.flag("auto_delete", false)?,
                placement: app.backend().place_queue(durable),
            };
            let rules = app.backend().config().declarations;
            let arguments = app.read(|catalog| catalog.arguments_to_declare(&spec, rules));
            let spec = QueueSpec { arguments, ..spec };
            let (vhost, name) = (spec.vhost.clone(), spec.name.clone());
            let declared = change(app, CatalogCommand::DeclareQueue(spec)).await;
            let is_there = |catalog: &Catalog| catalog.queue(&vhost, &name).is_some();
            declared.or_else(|error| leave("queue", &vhost, &name, app.read(is_there), error))
        }
        "exchanges" => {
            let spec = ExchangeSpec {
                name: body.text("name")?.into(),
                vhost,
                kind: body.text("type")?.into(),
                durable: body.flag("durable", true)?,
                auto_delete: body.flag("auto_delete", false)?,
                internal: body.flag("internal", false)?,
                arguments: table(&body)?,
            };
            let (vhost, name) = (spec.vhost.clone(), spec.name.clone());
            let declared = change(app, CatalogCommand::DeclareExchange(spec)).await;
            let is_there = |catalog: &Catalog| catalog.exchange(&vhost, &name).is_some();
            declared.or_else(|error| leave("exchange", &vhost, &name, app.read(is_there), error))
        }
        "bindings" => import_binding(app, vhost, &body).await,
        _ => Err(ApiError::BadRequest("unknown part".into())),
    }
}

/// As RabbitMQ: an import leaves alone what is there with other properties, and names that are the broker's own.
fn leave(
    kind: &str,
    vhost: &str,
    name: &str,
    is_there: bool,
    error: ApiError,
) -> Result<Vec<String>, ApiError> {
    let why = if is_there {
        "is there with other properties"
    } else if name.starts_with("amq.") {
        "has a name of the broker's own"
    } else {
        return Err(error);
    };
    Ok(vec![format!(
        "{kind} '{name}' in vhost '{vhost}' {why}, and is left as it is: {}",
        error.reason()
    )])
}

async fn change(app: &App, command: CatalogCommand) -> Result<Vec<String>, ApiError> {
    app.change(command)
        .await
        .map(|_| Vec::new())
        .map_err(|error| match error {
            // Where a name is missing depends on the file, so the name must be told.
            ApiError::NotFound => ApiError::BadRequest("what it refers to does not exist".into()),
            other => other,
        })
}

fn table(body: &Body) -> Result<FieldTable, ApiError> {
    match body.object("arguments")? {
        Some(object) => json_to_table(object)
            .map_err(|error| ApiError::BadRequest(format!("arguments: {error}"))),
        None => Ok(FieldTable::empty()),
    }
}

async fn import_vhost_item(app: &App, body: &Body) -> Result<Vec<String>, ApiError> {
    // Newer files have these under metadata, older ones beside the name.
    let metadata = Body(body.object("metadata")?.cloned().unwrap_or_default());
    let text = |key: &str| -> Result<Option<Name>, ApiError> {
        Ok(metadata
            .optional_text(key)?
            .or(body.optional_text(key)?)
            .map(Name::from))
    };
    let name: Name = body.text("name")?.into();
    let tags = metadata.words("tags")?.or(body.words("tags")?);
    let spec = VhostSpec {
        name: name.clone(),
        description: text("description")?,
        tags: tags.map(|tags| tags.into_iter().map(Name::from).collect()),
        default_queue_type: text("default_queue_type")?.filter(|kind| &**kind != "undefined"),
        protected: metadata
            .0
            .get("protected_from_deletion")
            .and_then(Value::as_bool),
        tracing: None,
    };
    let mut notes = change(app, CatalogCommand::PutVhost(spec)).await?;
    if let Some(values) = body.object("limits")?
        && !values.is_empty()
    {
        notes.extend(set_vhost_limits(app, name, values).await?);
    }
    Ok(notes)
}

async fn set_vhost_limits(
    app: &App,
    vhost: Name,
    values: &Map<String, Value>,
) -> Result<Vec<String>, ApiError> {
    let limits = limits::read(limits::Of::Vhost, values)?;
    change(app, CatalogCommand::SetVhostLimits { vhost, limits }).await
}

async fn import_user(app: &App, body: &Body) -> Result<Vec<String>, ApiError> {
    let name = body.text("name")?.to_owned();
    let mut described = Body(body.0.clone());
    described.0.entry("tags").or_insert_with(|| "".into());
    let spec = users::spec(app, &name, &described).await?;
    let mut notes = change(app, CatalogCommand::PutUser(spec)).await?;
    if let Some(values) = body.object("limits")?
        && !values.is_empty()
    {
        let limits = limits::read(limits::Of::User, values)?;
        notes.extend(
            change(
                app,
                CatalogCommand::SetUserLimits {
                    user: name.into(),
                    limits,
                },
            )
            .await?,
        );
    }
    Ok(notes)
}

async fn import_parameter(app: &App, vhost: Name, body: Body) -> Result<Vec<String>, ApiError> {
    let component = body.text("component")?;
    let name = body.text("name")?;
    match component {
        parameters::OPERATOR_POLICY => {
            let value = Body(body.object("value")?.cloned().unwrap_or_default());
            let spec = policies::spec(&vhost, name, true, &value)?;
            change(app, CatalogCommand::PutPolicy(spec)).await
        }
        parameters::VHOST_LIMITS => {
            let values = body.object("value")?.cloned().unwrap_or_default();
            set_vhost_limits(app, vhost, &values).await
        }
        _ => {
            let value = body.0.get("value").cloned().unwrap_or_default();
            let command = CatalogCommand::PutParameter {
                vhost,
                component: component.into(),
                name: name.into(),
                value: value.to_string().into(),
            };
            change(app, command).await?;
            let trouble = if component == parameters::SHOVEL {
                shovels::trouble(name, &value).map(|why| format!("it does not run: {why}"))
            } else {
                Some("nothing acts on it".into())
            };
            Ok(trouble
                .map(|why| format!("parameters: {component} '{name}' is kept, but {why}"))
                .into_iter()
                .collect())
        }
    }
}

async fn import_global(app: &App, body: &Body) -> Result<Vec<String>, ApiError> {
    let name = body.text("name")?;
    let value = body.0.get("value").cloned().unwrap_or_default();
    match name {
        parameters::CLUSTER_NAME => {
            let name = parameters::cluster_name(value.as_str().unwrap_or_default())?;
            return change(app, CatalogCommand::SetClusterName { name }).await;
        }
        // Each cluster has its own.
        parameters::CLUSTER_ID => return Ok(Vec::new()),
        _ => {}
    }
    let command = CatalogCommand::PutGlobalParameter {
        name: name.into(),
        value: value.to_string().into(),
    };
    change(app, command).await
}

async fn import_binding(app: &App, vhost: Name, body: &Body) -> Result<Vec<String>, ApiError> {
    let destination = body.text("destination")?;
    let spec = BindingSpec {
        vhost,
        source: body.text("source")?.into(),
        destination: match body.text("destination_type")? {
            "queue" => Destination::Queue(destination.into()),
            "exchange" => Destination::Exchange(destination.into()),
            other => {
                return Err(ApiError::BadRequest(format!(
                    "unknown destination_type '{other}'"
                )));
            }
        },
        routing_key: body
            .optional_text("routing_key")?
            .unwrap_or_default()
            .into(),
        arguments: table(body)?,
    };
    // Every queue has it by itself.
    if spec.source.is_empty() {
        return Ok(Vec::new());
    }
    change(app, CatalogCommand::Bind(spec)).await
}
