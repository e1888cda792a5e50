//! The pages for browsers: files of `web/`, held in the program. They show nothing by themselves; all data comes
//! from `/api`, with the credentials that somebody types in.

use crate::App;
use crate::error::ApiError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

/// Nothing but these files, and no markup made of text: what clients of the broker choose must stay text.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'";

/// Headers of every file. A browser asks each time whether its copy is current: after an update of the node no
/// old module may meet a new one.
static HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-cache"),
];

/// The page that all others are part of.
const INDEX: &str = "index.html";

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        /// Every file of `web/` with its content.
        pub(crate) const FILES: &[(&str, &[u8])] = &[
            $(($path, include_bytes!(concat!("../web/", $path)))),*
        ];
    };
}

files![
    "api.js",
    "arguments.js",
    "chart.js",
    "dom.js",
    "favicon.svg",
    "format.js",
    "forms.js",
    "frame.js",
    "history.js",
    "index.html",
    "main.js",
    "pages/bindings.js",
    "pages/channel.js",
    "pages/channels.js",
    "pages/cluster.js",
    "pages/connection.js",
    "pages/connections.js",
    "pages/consumers.js",
    "pages/definitions.js",
    "pages/exchange.js",
    "pages/exchanges.js",
    "pages/limits.js",
    "pages/login.js",
    "pages/messages.js",
    "pages/node.js",
    "pages/overview.js",
    "pages/permissions.js",
    "pages/policies.js",
    "pages/queue.js",
    "pages/queues.js",
    "pages/shovels.js",
    "pages/user.js",
    "pages/users.js",
    "pages/vhost.js",
    "pages/vhost_field.js",
    "pages/vhosts.js",
    "parts.js",
    "routes.js",
    "session.js",
    "style.css",
    "table.js",
    "visit.js",
];

/// A file as it is sent.
struct File {
    content: &'static [u8],
    kind: &'static str,
    /// Changes with the content.
    tag: String,
}

static BY_PATH: LazyLock<HashMap<&'static str, File>> = LazyLock::new(|| {
    let file = |content: &'static [u8], path| File {
        content,
        kind: kind(path),
        tag: tag(content),
    };
    let files = FILES.iter().copied();
    files
        .map(|(path, content)| (path, file(content, path)))
        .collect()
});

/// The media type, by the end of the name.
fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

fn tag(content: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// `/`, the files below `/web`, and other addresses under which RabbitMQ's pages were found over time.
pub(crate) fn router() -> Router<Arc<App>> {
    let elsewhere = async || Redirect::temporary("/");
    Router::new()
        .route("/", get(async |headers: HeaderMap| file(INDEX, &headers)))
        .route("/index.html", get(elsewhere))
        .route("/mgmt", get(elsewhere))
        .route("/web/{*path}", get(asset))
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    file(&path, &headers)
}

fn file(path: &str, asked: &HeaderMap) -> Response {
    let Some(file) = BY_PATH.get(path) else {
        return ApiError::NotFound.into_response();
    };
    let mut response = if is_current(asked, &file.tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let kind = [(header::CONTENT_TYPE, file.kind)];
        (kind, Bytes::from_static(file.content)).into_response()
    };
    let headers = response.headers_mut();
    for (name, value) in &HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::from_str(&file.tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// Whether the copy that the browser has is the file's content. Proxies make tags weak when they compress.
fn is_current(asked: &HeaderMap, tag: &str) -> bool {
    let known = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    known
        .flat_map(|value| value.split(','))
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == tag || one == "*")
}
