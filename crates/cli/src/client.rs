//! HTTP to a node's management port.

use crate::serve::layers;
use crate::{exit, secret};
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{Method, Request, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// The API's reason where it lets a user not in at all; others say what an operator may not do.
pub(crate) const NO_LOGIN: &str = "Not_Authorized";
/// Where Debian, and images made of it, have the authorities that everybody trusts.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Rows asked for at once where lists are paged; the server's upper bound.
const PAGE_SIZE: usize = 500;

/// How to reach a node; the same options on every command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Access {
    /// Management address of any node (default: where WARREN_MANAGEMENT_LISTEN has one listen, else port 15672 here)
    #[arg(
        long,
        env = "WARREN_URL",
        global = true,
        value_name = "URL",
        help_heading = "Access"
    )]
    url: Option<String>,
    /// User and password (default: those of WARREN_DEFAULT_USER and WARREN_DEFAULT_PASS or _PASS_FILE, else guest:guest)
    #[arg(
        long,
        env = "WARREN_LOGIN",
        global = true,
        value_name = "USER:PASSWORD",
        help_heading = "Access",
        hide_env_values = true
    )]
    login: Option<String>,
    /// Authorities of certificates at https:// addresses, PEM (default: those of the system)
    #[arg(
        long,
        env = "WARREN_CACERT",
        global = true,
        value_name = "FILE",
        help_heading = "Access"
    )]
    cacert: Option<PathBuf>,
    /// Take any certificate at https:// addresses
    #[arg(long, global = true, help_heading = "Access")]
    insecure: bool,
    /// Give up after this many seconds
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        default_value_t = 30,
        help_heading = "Access"
    )]
    timeout: u64,
}

impl Access {
    /// As the environment says; a request takes at most `timeout` seconds.
    pub(crate) fn of_environment(timeout: u64) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            url: variable("WARREN_URL"),
            login: variable("WARREN_LOGIN"),
            cacert: variable("WARREN_CACERT").map(PathBuf::from),
            insecure: false,
            timeout,
        }
    }
}

/// Talks to one node.
pub(crate) struct Client {
    agent: Agent,
    base: String,
    authorization: String,
}

/// Why a request did not work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The node refused.
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// What the node said.
        reason: String,
    },
    /// There was no answer.
    Unreachable {
        /// Where.
        base: String,
        /// Why.
        error: String,
    },
    /// Wrong options.
    Usage(String),
    /// Something on this side, or an answer that makes no sense.
    Local(String),
    /// The answer could not be shown.
    Output(std::io::Error),
}

impl Failure {
    /// The exit status that it ends the program with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } | Self::Local(_) | Self::Output(_) => exit::FAILED,
            Self::Unreachable { .. } => exit::UNREACHABLE,
            Self::Usage(_) => exit::USAGE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused {
                status: StatusCode::UNAUTHORIZED,
                reason,
            } if reason.is_empty() || reason == NO_LOGIN => {
                f.write_str("login refused: check --login user:password (or WARREN_LOGIN), and that the user has a tag such as administrator")
            }
            Self::Refused { status, reason } if reason.is_empty() => write!(f, "the node answered {status}"),
            Self::Refused { reason, .. } => f.write_str(reason),
            Self::Unreachable { base, error } => {
                write!(f, "no answer from {base}: {error}: is the node running, and is --url right?")
            }
            Self::Usage(text) | Self::Local(text) => f.write_str(text),
            Self::Output(error) => error.fmt(f),
        }
    }
}

impl Client {
    /// Prepares to talk as `access` says; sends nothing yet.
    pub(crate) fn new(access: &Access) -> Result<Self, Failure> {
        let variable = |name: &str| std::env::var(name).ok();
        // An empty variable is how compose files pass "not set".
        let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let base = match given(&access.url) {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => local_url(setting(&["management-listen"], &variable)?.as_deref()),
        };
        let tls = match base.split_once("://") {
            Some(("http", _)) => TlsConfig::default(),
            Some(("https", _)) => tls(access)?,
            _ => {
                let text = format!("--url {base}: use http://HOST:PORT or https://HOST:PORT");
                return Err(Failure::Usage(text));
            }
        };
        let login = match given(&access.login) {
            Some(login) => login,
            None => default_login(&variable)?,
        };
        if !login.contains(':') {
            return Err(Failure::Usage("--login: use USER:PASSWORD".into()));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(access.timeout.max(1))))
            .timeout_connect(Some(Duration::from_secs(access.timeout.clamp(1, 5))))
            .proxy(None)
            .tls_config(tls)
            .build()
            .into();
        Ok(Self {
            agent,
            base,
            authorization: format!("Basic {}", base64(login.as_bytes())),
        })
    }

    /// Where the node is: `http://HOST:PORT` or `https://HOST:PORT`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// GET, expecting JSON.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::GET, path, None, &[])
    }

    /// All rows of a paged list below `/api`.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        let mut rows = Vec::new();
        for page in 1.. {
            let separator = if path.contains('?') { '&' } else { '?' };
            let answer = self.get(&format!(
                "{path}{separator}page={page}&page_size={PAGE_SIZE}"
            ))?;
            let (items, pages) = match answer {
                Value::Array(items) => (items, 1),
                Value::Object(mut object) => {
                    let pages = object
                        .get("page_count")
                        .and_then(Value::as_u64)
                        .unwrap_or(1);
                    match object.remove("items") {
                        Some(Value::Array(items)) => (items, pages),
                        _ => {
                            return Err(Failure::Local(format!(
                                "{path}: the answer is not a list"
                            )));
                        }
                    }
                }
                _ => return Err(Failure::Local(format!("{path}: the answer is not a list"))),
            };
            rows.extend(items);
            if page >= pages {
                break;
            }
        }
        Ok(rows)
    }

    /// PUT with a JSON body.
    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Method::PUT, path, Some(body), &[])
    }

    /// POST with a JSON body.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Method::POST, path, Some(body), &[])
    }

    /// DELETE.
    pub(crate) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::DELETE, path, None, &[])
    }

    /// Any request; `Null` for an answer without a body.
    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Value, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Authorization", &self.authorization)
            .header("Accept", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let built = match body {
            Some(body) => request
                .header("Content-Type", "application/json")
                .body(body.to_string()),
            None => request.body(String::new()),
        };
        let request =
            built.map_err(|error| Failure::Usage(format!("{}{path}: {error}", self.base)))?;
        let unreachable = |error: ureq::Error| Failure::Unreachable {
            base: self.base.clone(),
            error: error.to_string(),
        };
        let mut response = self.agent.run(request).map_err(unreachable)?;
        let status = response.status();
        let text = response
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_string()
            .map_err(unreachable)?;
        if !status.is_success() {
            let reason = match status {
                // The API's text says only "Not Found".
                StatusCode::NOT_FOUND => format!("not found: {}", readable(path)),
                _ => reason(&text),
            };
            return Err(Failure::Refused { status, reason });
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text)
            .map_err(|error| Failure::Local(format!("{path}: answer is not JSON: {error}")))
    }
}

/// How certificates at `https://` addresses are checked.
fn tls(access: &Access) -> Result<TlsConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    if access.insecure {
        return Ok(config.disable_verification(true).build());
    }
    let file = access.cacert.as_deref().unwrap_or(Path::new(AUTHORITIES));
    let wrong = |error: String| {
        let text = format!(
            "{}: {error}: name the authority by --cacert (or WARREN_CACERT)",
            file.display()
        );
        Failure::Usage(text)
    };
    let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let mut roots = Vec::new();
    for item in parse_pem(&pem) {
        match item.map_err(|error| wrong(error.to_string()))? {
            PemItem::Certificate(certificate) => roots.push(certificate),
            _ => {
                return Err(wrong(
                    "something else than a certificate stands there".into(),
                ));
            }
        }
    }
    if roots.is_empty() {
        return Err(wrong("no certificate stands there".into()));
    }
    Ok(config.root_certs(RootCerts::new_with_certs(&roots)).build())
}

/// What a node with this environment, and with the file that it names, was told.
fn setting(
    flags: &[&str],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, Failure> {
    let found = layers::setting(flags, variable).map_err(Failure::Usage)?;
    Ok(found.map(|(_, value)| value))
}

/// The default user, as a node with this environment makes it.
fn default_login(variable: &dyn Fn(&str) -> Option<String>) -> Result<String, Failure> {
    let guest = || "guest".to_owned();
    let user = setting(&["default-user"], variable)?.unwrap_or_else(guest);
    let password = layers::setting(&["default-pass", "default-pass-file"], variable);
    let password = match password.map_err(Failure::Usage)? {
        Some((flag, file)) if flag == "default-pass-file" => {
            secret::read(Path::new(&file)).map_err(Failure::Usage)?
        }
        Some((_, password)) => password,
        None => guest(),
    };
    Ok(format!("{user}:{password}"))
}

/// The node on this machine, where its environment (in a container, ours too) says that it listens.
fn local_url(management_listen: Option<&str>) -> String {
    let (host, port) = management_listen
        .and_then(|listen| listen.rsplit_once(':'))
        .unwrap_or(("", "15672"));
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    format!("http://{host}:{port}")
}

/// What an error body says: `reason` of the API's objects, else the text itself.
fn reason(text: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return text.trim().to_owned();
    };
    for key in ["reason", "error"] {
        if let Some(reason) = value.get(key).and_then(Value::as_str) {
            return reason.to_owned();
        }
    }
    text.trim().to_owned()
}

/// A path made of segments, each encoded, so that vhost `/` is `%2F`.
pub(crate) fn path<'a>(segments: impl IntoIterator<Item = &'a str>) -> String {
    let mut path = String::from("/api");
    for segment in segments {
        path.push('/');
        for byte in segment.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    path.push(char::from(byte))
                }
                _ => path.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    path
}

/// A path as the operator wrote its parts: `queues / jobs` for `/api/queues/%2F/jobs`.
fn readable(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let path = path
        .strip_prefix("/api")
        .unwrap_or(path)
        .trim_start_matches('/');
    path.split('/').map(decoded).collect::<Vec<_>>().join(" ")
}

fn decoded(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Base64 for the one header that needs it.
fn base64(input: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded() {
        for (segments, expected) in [
            (vec!["queues", "/", "a b"], "/api/queues/%2F/a%20b"),
            (vec!["exchanges", "v", ""], "/api/exchanges/v/"),
            (vec!["users", "é"], "/api/users/%C3%A9"),
        ] {
            assert_eq!(path(segments), expected);
        }
    }

    #[test]
    fn paths_are_readable() {
        for (path, expected) in [
            ("/api/queues/%2F/a%20b?if-unused=true", "queues / a b"),
            ("/api/users/%C3%A9", "users é"),
            ("/health/live", "health live"),
            ("/api/users/50%", "users 50%"),
        ] {
            assert_eq!(readable(path), expected);
        }
    }

    #[test]
    fn refusals_say_why() {
        for (status, reason, expected) in [
            (401, "Not_Authorized", "login refused: check --login"),
            (401, "", "login refused: check --login"),
            (401, "Not administrator user", "Not administrator user"),
            (400, "inequivalent arg", "inequivalent arg"),
            (503, "", "the node answered 503"),
        ] {
            let refused = Failure::Refused {
                status: StatusCode::from_u16(status).unwrap(),
                reason: reason.into(),
            };
            let shown = refused.to_string();
            assert!(shown.starts_with(expected), "{shown}");
        }
    }

    #[test]
    fn reasons() {
        for (text, expected) in [
            (
                r#"{"error":"bad_request","reason":"inequivalent arg"}"#,
                "inequivalent arg",
            ),
            (r#"{"error":"Object Not Found"}"#, "Object Not Found"),
            ("gone\n", "gone"),
            ("[1]", "[1]"),
        ] {
            assert_eq!(reason(text), expected);
        }
    }

    #[test]
    fn the_default_user_follows_the_environment() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from a file\n").unwrap();
        let path = file.path().to_str().unwrap();
        let config = tempfile::NamedTempFile::new().unwrap();
        let text =
            "default_user = 'filed'\ndefault_pass = 'of the file'\nmanagement_listen = ':8080'";
        std::fs::write(config.path(), text).unwrap();
        let config = config.path().to_str().unwrap();
        let variable = |name: &str| (name == "WARREN_CONFIG").then(|| config.to_owned());
        let listen = setting(&["management-listen"], &variable).unwrap();
        assert_eq!(listen.as_deref(), Some(":8080"));
        for (environment, expected) in [
            (vec![], "guest:guest"),
            (vec![("RABBITMQ_DEFAULT_USER", "u")], "u:guest"),
            (
                vec![("WARREN_DEFAULT_PASS_FILE", path)],
                "guest:from a file",
            ),
            (
                vec![
                    ("WARREN_DEFAULT_PASS_FILE", path),
                    ("WARREN_DEFAULT_USER", "w"),
                    ("RABBITMQ_DEFAULT_PASS", "p"),
                ],
                // As the node does.
                "w:from a file",
            ),
            (
                vec![
                    ("WARREN_CONFIG", config),
                    ("WARREN_DEFAULT_PASS", "of the environment"),
                ],
                "filed:of the environment",
            ),
        ] {
            let variable = |name: &str| {
                let found = environment.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(default_login(&variable).unwrap(), expected);
        }
        let missing = |name: &str| {
            (name == "WARREN_DEFAULT_PASS_FILE").then(|| "/nowhere/password".to_owned())
        };
        let failure = default_login(&missing).unwrap_err();
        assert!(failure.to_string().contains("/nowhere/password"));
    }

    #[test]
    fn the_local_url_follows_the_environment() {
        for (listen, expected) in [
            (None, "http://127.0.0.1:15672"),
            (Some("0.0.0.0:8080"), "http://127.0.0.1:8080"),
            (Some(":8080"), "http://127.0.0.1:8080"),
            (Some("10.0.0.1:8080"), "http://10.0.0.1:8080"),
            (Some("[::]:8080"), "http://[::1]:8080"),
            (Some("[fd00::1]:8080"), "http://[fd00::1]:8080"),
        ] {
            assert_eq!(local_url(listen), expected);
        }
    }
}
