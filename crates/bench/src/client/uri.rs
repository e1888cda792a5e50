//! `amqp://user:password@host:port/vhost`.

use std::fmt;
use std::str::FromStr;

/// Where and as whom to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uri {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) vhost: String,
}

impl Uri {
    /// The broker at a port of this machine, as guest.
    pub(crate) fn local(port: u16) -> Self {
        Self {
            user: "guest".to_owned(),
            password: "guest".to_owned(),
            host: "127.0.0.1".to_owned(),
            port,
            vhost: "/".to_owned(),
        }
    }
}

impl FromStr for Uri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("amqp://")
            .ok_or_else(|| format!("'{text}' does not start with amqp://"))?;
        let (authority, vhost) = match rest.split_once('/') {
            Some((authority, vhost)) => (authority, decode(vhost)?),
            None => (rest, "/".to_owned()),
        };
        let (login, address) = authority
            .rsplit_once('@')
            .unwrap_or(("guest:guest", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (
                host,
                port.parse()
                    .map_err(|_| format!("'{port}' is not a port"))?,
            ),
            _ => (address, 5672),
        };
        Ok(Self {
            user: decode(user)?,
            password: decode(password)?,
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port,
            vhost,
        })
    }
}

impl fmt::Display for Uri {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "amqp://{}@{}:{}", self.user, self.host, self.port)
    }
}

/// Undoes percent encoding.
fn decode(text: &str) -> Result<String, String> {
    let bad = || format!("'{text}' is not percent-encoded text");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or_else(bad)?;
        let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
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
        for (text, user, password, host, port, vhost) in [
            ("amqp://localhost", "guest", "guest", "localhost", 5672, "/"),
            ("amqp://localhost:1/", "guest", "guest", "localhost", 1, ""),
            ("amqp://u:p%40@h:5673/%2F", "u", "p@", "h", 5673, "/"),
            ("amqp://[::1]:7/v", "guest", "guest", "::1", 7, "v"),
            ("amqp://[::1]", "guest", "guest", "::1", 5672, "/"),
        ] {
            let uri: Uri = text.parse().unwrap();
            assert_eq!(
                (
                    uri.user.as_str(),
                    uri.password.as_str(),
                    uri.host.as_str(),
                    uri.port
                ),
                (user, password, host, port),
                "{text}"
            );
            assert_eq!(uri.vhost, vhost, "{text}");
        }
        for text in ["http://h", "amqp://h:x", "amqp://h/%2", "amqp://h/%zz"] {
            assert!(text.parse::<Uri>().is_err(), "{text}");
        }
    }
}
