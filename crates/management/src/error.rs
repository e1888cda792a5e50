//! What goes wrong in a request, and how RabbitMQ's HTTP API says it.

use crate::backend::Refusal;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use node::amqp_codec::ReplyCode;
use node::broker_model::catalog::CatalogError;
use serde_json::json;

/// A request that is not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ApiError {
    /// Nobody, or not enough permission.
    Unauthorized(String),
    /// Nothing of that name.
    NotFound,
    /// Does not make sense, or is refused by the broker.
    BadRequest(String),
    /// Something stands against it.
    PreconditionFailed(String),
    /// Not this method here.
    MethodNotAllowed,
    /// Cannot be done now.
    Unavailable(String),
}

impl ApiError {
    /// As RabbitMQ answers a login that it refuses.
    pub(crate) fn login() -> Self {
        Self::Unauthorized("Not_Authorized".into())
    }

    /// What makes no sense, as RabbitMQ tells it of a parameter, a policy or a limit of a vhost: tools look for these words.
    pub(crate) fn into_validation(self) -> Self {
        match self {
            Self::BadRequest(text) => Self::BadRequest(format!("Validation failed\n\n{text}\n")),
            other => other,
        }
    }

    /// The text.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Unauthorized(reason)
            | Self::BadRequest(reason)
            | Self::PreconditionFailed(reason)
            | Self::Unavailable(reason) => reason,
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
        }
    }
}

/// Does what takes long where nobody waits for it.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ApiError::Unavailable("the node is stopping".into()))
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, error) = match &self {
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "not_authorised"),
            Self::NotFound => (StatusCode::NOT_FOUND, "Object Not Found"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::PreconditionFailed(_) => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "service_unavailable"),
        };
        let mut response = (
            status,
            Json(json!({ "error": error, "reason": self.reason() })),
        )
            .into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"Warren Management\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        match &error {
            CatalogError::NotFound(_)
            | CatalogError::NoVhost { .. }
            | CatalogError::NoUser { .. } => Self::NotFound,
            CatalogError::Protected { .. } => Self::PreconditionFailed(error.to_string()),
            CatalogError::AccessRefused { .. } | CatalogError::TopicRefused { .. } => {
                Self::Unauthorized(error.to_string())
            }
            CatalogError::Remote { code, .. } if *code == ReplyCode::NOT_FOUND => Self::NotFound,
            _ => Self::BadRequest(error.to_string()),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Catalog(error) => error.into(),
            Refusal::Queue {
                code: ReplyCode::NOT_FOUND,
                ..
            } => Self::NotFound,
            // No majority, no leader: another time it may work.
            Refusal::Queue {
                code: ReplyCode::INTERNAL_ERROR,
                text,
            } => Self::Unavailable(text),
            Refusal::Queue { text, .. } => Self::BadRequest(text),
            Refusal::Unavailable(text) => Self::Unavailable(text),
        }
    }
}
