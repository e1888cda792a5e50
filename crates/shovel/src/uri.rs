//! `amqp://user:password@host:port/vhost?heartbeat=5`, as RabbitMQ's Erlang client reads it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The virtual host of a URI that names none.
const DEFAULT_VHOST: &str = "/";
/// The user of a URI with a host that names none, and its password.
const GUEST: &str = "guest";
/// Heartbeats are asked for this often, where the URI does not say.
const HEARTBEAT_S: u16 = 10;
/// A connection has to be open after so long, where the URI does not say.
const CONNECT: Duration = Duration::from_secs(60);
/// Longest such time that a URI may ask for.
const CONNECT_MAX: Duration = Duration::from_secs(600);
/// Of a URI; longer ones are refused before anything is made of them.
const LEN_MAX: usize = 8 * 1024;

/// Why a text is no AMQP URI. Written as RabbitMQ writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// No scheme, or not `scheme://…`.
    #[error("{{unable_to_parse_uri,no_scheme}}")]
    NoScheme,
    /// Neither `amqp` nor `amqps`.
    #[error("{{unexpected_uri_scheme,\"{0}\"}}")]
    Scheme(String),
    /// Larger than any URI has to be.
    #[error("too_long")]
    TooLong,
    /// No number, or none that a port can be.
    #[error("{{port_out_of_range,{0}}}")]
    Port(String),
    /// A port of no host.
    #[error("port_requires_host")]
    PortWithoutHost,
    /// TLS to no host.
    #[error("tls_requires_host")]
    TlsWithoutHost,
    /// More than one segment.
    #[error("{{invalid_vhost,\"{0}\"}}")]
    Vhost(String),
    /// `%` and something that is not two hexadecimal digits.
    #[error("{{invalid_entity,\"{0}\"}}")]
    Entity(String),
    /// A value that its parameter cannot have.
    #[error("{{invalid_amqp_params_parameter,{0},\"{1}\"}}")]
    Parameter(String, String),
}

/// How the client shows who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// By name and password.
    Plain,
    /// By its certificate.
    External,
}

/// Where and as whom to connect.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    /// The text, without credentials and parameters: what is shown.
    pub shown: String,
    /// `None`: this cluster, without a network in between.
    pub host: Option<Host>,
    /// The user; `None` where neither the URI nor a default names one.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// The virtual host.
    pub vhost: String,
    /// Heartbeats are asked for this often, in seconds; 0: none.
    pub heartbeat_s: u16,
    /// Largest channel number and frame to be asked for; 0: what the server proposes.
    pub channel_max: u16,
    /// Of frames, in bytes.
    pub frame_max: u32,
    /// A connection has to be open after so long.
    pub connect: Duration,
    /// Mechanisms that may be used, the best first.
    pub mechanisms: Vec<Mechanism>,
}

/// A broker on the network.
#[derive(Clone, PartialEq, Eq)]
pub struct Host {
    /// Name or address.
    pub name: String,
    /// Port.
    pub port: u16,
    /// `amqps`.
    pub tls: Option<Tls>,
}

/// What TLS is done with.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities; `None`: those that the system trusts.
    pub cacertfile: Option<PathBuf>,
    /// The client's certificate.
    pub certfile: Option<PathBuf>,
    /// Its key.
    pub keyfile: Option<PathBuf>,
    /// Do not check who the server is.
    pub verify_none: bool,
    /// The name that the server's certificate has to be for, if it is not the host's.
    pub server_name: Option<String>,
}

impl Uri {
    /// Reads a URI.
    ///
    /// # Errors
    /// See [`UriError`].
    pub fn parse(text: &str) -> Result<Self, UriError> {
        if text.len() > LEN_MAX {
            return Err(UriError::TooLong);
        }
        let (scheme, rest) = text.split_once(':').ok_or(UriError::NoScheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "amqp" => false,
            "amqps" => true,
            other => return Err(UriError::Scheme(other.to_owned())),
        };
        let rest = rest.strip_prefix("//").ok_or(UriError::NoScheme)?;
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (rest, None),
        };
        let vhost = match path {
            // As RabbitMQ: `amqp://host/` has the virtual host whose name is empty.
            Some(path) if path.is_empty() && authority.is_empty() => DEFAULT_VHOST.to_owned(),
            Some(path) if path.contains('/') => return Err(UriError::Vhost(path.to_owned())),
            Some(path) => decode(path)?,
            None => DEFAULT_VHOST.to_owned(),
        };
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (Some(decode(user)?), Some(decode(password)?)),
            None if login.is_empty() => (None, None),
            None => (Some(decode(login)?), None),
        };
        let host = host(address, tls)?;
        let on_network = host.is_some();
        if tls && !on_network {
            return Err(UriError::TlsWithoutHost);
        }
        let mut uri = Self {
            shown: String::new(),
            host,
            user: user.or_else(|| on_network.then(|| GUEST.to_owned())),
            password: password.or_else(|| on_network.then(|| GUEST.to_owned())),
            vhost,
            heartbeat_s: HEARTBEAT_S,
            channel_max: 0,
            frame_max: 0,
            connect: CONNECT,
            mechanisms: Vec::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            uri.parameter(key, value)?;
        }
        if uri.mechanisms.is_empty() {
            uri.mechanisms.push(Mechanism::Plain);
        }
        uri.shown = without_credentials(text);
        Ok(uri)
    }

    fn parameter(&mut self, key: &str, value: &str) -> Result<(), UriError> {
        let wrong = || UriError::Parameter(key.to_owned(), value.to_owned());
        let number = || value.parse::<u64>().map_err(|_| wrong());
        match key {
            "heartbeat" => {
                self.heartbeat_s = u16::try_from(number()?).map_err(|_| wrong())?;
            }
            "channel_max" => {
                self.channel_max = u16::try_from(number()?).map_err(|_| wrong())?;
            }
            "frame_max" => self.frame_max = u32::try_from(number()?).map_err(|_| wrong())?,
            "connection_timeout" => {
                self.connect = Duration::from_millis(number()?).min(CONNECT_MAX);
            }
            "auth_mechanism" => self.mechanisms.push(match value {
                "plain" | "amqplain" => Mechanism::Plain,
                "external" => Mechanism::External,
                _ => return Err(wrong()),
            }),
            _ => {
                if let Some(tls) = self.host.as_mut().and_then(|host| host.tls.as_mut()) {
                    tls.parameter(key, value)?;
                }
            }
        }
        Ok(())
    }
}

impl Tls {
    fn parameter(&mut self, key: &str, value: &str) -> Result<(), UriError> {
        let wrong = || UriError::Parameter(key.to_owned(), value.to_owned());
        let path = || decode(value).map(|path| Some(path.into()));
        match key {
            "cacertfile" => self.cacertfile = path()?,
            "certfile" => self.certfile = path()?,
            "keyfile" => self.keyfile = path()?,
            "verify" => {
                self.verify_none = match value {
                    "verify_none" => true,
                    "verify_peer" => false,
                    _ => return Err(wrong()),
                }
            }
            "server_name_indication" => self.server_name = Some(decode(value)?),
            // Without a meaning here: chains are as long as they are, and servers always have a certificate.
            "depth" | "fail_if_no_peer_cert" | "customize_hostname_check" => {}
            // Keys are not encrypted here.
            "password" => return Err(wrong()),
            _ => {}
        }
        Ok(())
    }
}

impl fmt::Debug for Uri {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn host(address: &str, tls: bool) -> Result<Option<Host>, UriError> {
    let (name, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']').unwrap_or((rest, ""));
            match rest.strip_prefix(':') {
                Some(port) => (name, Some(port)),
                None if rest.is_empty() => (name, None),
                None => return Err(UriError::Port(rest.to_owned())),
            }
        }
        None => match address.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (address, None),
        },
    };
    let port = match port {
        Some(text) => {
            let port: Option<u16> = text.parse().ok().filter(|port| *port > 0);
            Some(port.ok_or_else(|| UriError::Port(text.to_owned()))?)
        }
        None => None,
    };
    if name.is_empty() {
        return match port {
            Some(_) => Err(UriError::PortWithoutHost),
            None => Ok(None),
        };
    }
    Ok(Some(Host {
        name: decode(name)?,
        port: port.unwrap_or(if tls { 5671 } else { 5672 }),
        tls: tls.then(Tls::default),
    }))
}

/// The text without user, password and parameters, also where it is no URI.
#[must_use]
pub fn without_credentials(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    let cut = |text: &str| {
        let end = text.find(['?', '#']).unwrap_or(text.len());
        text.get(..end).unwrap_or_default().to_owned()
    };
    // What belongs into a password only when it is encoded may stand in one all the same.
    let shown = match cut(rest).rsplit_once('@') {
        Some((_, address)) => address.to_owned(),
        None => cut(rest.rsplit_once('@').map_or(rest, |(_, address)| address)),
    };
    format!("{scheme}{shown}")
}

/// Undoes percent encoding.
fn decode(text: &str) -> Result<String, UriError> {
    let bad = || UriError::Entity(text.to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or_else(bad)?;
        let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(bad());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        for (text, user, password, host, vhost) in [
            ("amqp://", None, None, None, "/"),
            ("amqp:///", None, None, None, "/"),
            ("amqp:///%2F", None, None, None, "/"),
            ("amqp:///shop", None, None, None, "shop"),
            ("amqp://anna@/shop", Some("anna"), None, None, "shop"),
            ("amqp://a:b@/v", Some("a"), Some("b"), None, "v"),
            (
                "amqp://h",
                Some("guest"),
                Some("guest"),
                Some(("h", 5672)),
                "/",
            ),
            (
                "amqp://h/",
                Some("guest"),
                Some("guest"),
                Some(("h", 5672)),
                "",
            ),
            (
                "amqp://u:p%40@h:7/%2f",
                Some("u"),
                Some("p@"),
                Some(("h", 7)),
                "/",
            ),
            (
                "AMQPS://[::1]",
                Some("guest"),
                Some("guest"),
                Some(("::1", 5671)),
                "/",
            ),
            (
                "amqp://[::1]:9/v?heartbeat=5",
                Some("guest"),
                Some("guest"),
                Some(("::1", 9)),
                "v",
            ),
        ] {
            let uri = Uri::parse(text).unwrap();
            assert_eq!(uri.user.as_deref(), user, "{text}");
            assert_eq!(uri.password.as_deref(), password, "{text}");
            assert_eq!(uri.vhost, vhost, "{text}");
            let found = uri
                .host
                .as_ref()
                .map(|host| (host.name.as_str(), host.port));
            assert_eq!(found, host, "{text}");
        }
    }

    #[test]
    fn parameters() {
        let uri = Uri::parse(
            "amqps://h?heartbeat=5&connection_timeout=2000&cacertfile=/a%20b&verify=verify_none\
             &server_name_indication=x&auth_mechanism=external&unknown=1",
        )
        .unwrap();
        assert_eq!((uri.heartbeat_s, uri.connect), (5, Duration::from_secs(2)));
        assert_eq!(uri.mechanisms, [Mechanism::External]);
        let tls = uri.host.and_then(|host| host.tls).unwrap();
        assert_eq!(tls.cacertfile, Some("/a b".into()));
        assert!(tls.verify_none && tls.server_name.as_deref() == Some("x"));
    }

    #[test]
    fn refused() {
        for (text, expected) in [
            ("", "{unable_to_parse_uri,no_scheme}"),
            ("h", "{unable_to_parse_uri,no_scheme}"),
            ("http://h", "{unexpected_uri_scheme,\"http\"}"),
            ("amqp://h:x", "{port_out_of_range,x}"),
            ("amqp://h:65536", "{port_out_of_range,65536}"),
            ("amqp://h:0", "{port_out_of_range,0}"),
            ("amqp://:5672", "port_requires_host"),
            ("amqp://h/a/b", "{invalid_vhost,\"a/b\"}"),
            ("amqp://h/%2", "{invalid_entity,\"%2\"}"),
            ("amqp://h/%+1", "{invalid_entity,\"%+1\"}"),
            (
                "amqp://h?heartbeat=x",
                "{invalid_amqp_params_parameter,heartbeat,\"x\"}",
            ),
            (
                "amqps://h?verify=no",
                "{invalid_amqp_params_parameter,verify,\"no\"}",
            ),
        ] {
            let error = Uri::parse(text).unwrap_err();
            assert_eq!(error.to_string(), expected, "{text}");
        }
        assert_eq!(
            Uri::parse(&format!("amqp://{}", "h".repeat(LEN_MAX))),
            Err(UriError::TooLong)
        );
    }

    #[test]
    fn nothing_secret_is_shown() {
        for (text, shown) in [
            ("amqp://u:secret@h:5/v?password=secret", "amqp://h:5/v"),
            ("amqp://u:sec@ret@h/v", "amqp://h/v"),
            ("amqp://u:sec/ret@h", "amqp://h"),
            ("amqp://u:sec?ret@h/v?x=1", "amqp://h/v"),
            ("amqp://h/v?cacertfile=/a", "amqp://h/v"),
            ("u:secret@h", "h"),
            ("amqp://", "amqp://"),
        ] {
            assert_eq!(without_credentials(text), shown, "{text}");
        }
        let uri = Uri::parse("amqp://u:secret@h").unwrap();
        assert_eq!(format!("{uri:?}"), "amqp://h");
    }
}
