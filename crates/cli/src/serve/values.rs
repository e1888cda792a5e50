//! The forms in which values are written on the command line, in the environment and in the file.

use node::config::Peer;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

/// An address to listen on: `IP:PORT`, `NAME:PORT`, or `:PORT` for all IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) SocketAddr);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = if text.starts_with(':') {
            format!("0.0.0.0{text}")
        } else {
            text.to_owned()
        };
        wanted
            .to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next())
            .map(Self)
            .ok_or_else(|| "not an address: use IP:PORT, such as 0.0.0.0:5672".into())
    }
}

/// `1=host:port,2=host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Peers(pub(crate) Vec<Peer>);

impl FromStr for Peers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parts(text)
            .map(|part| {
                let (id, address) = part
                    .split_once('=')
                    .ok_or_else(|| format!("'{part}' is not ID=HOST:PORT"))?;
                let id = id
                    .trim()
                    .parse()
                    .map_err(|_| format!("'{id}' is not a node id"))?;
                Ok(Peer {
                    id: node::config::NodeId(id),
                    address: address.trim().to_owned(),
                })
            })
            .collect::<Result<_, String>>()
            .map(Self)
    }
}

/// Names separated by commas; `none` (or nothing) is the empty list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Names(pub(crate) Vec<String>);

impl FromStr for Names {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "none" {
            return Ok(Self::default());
        }
        Ok(Self(parts(text).map(str::to_owned).collect()))
    }
}

/// Names with values: `NAME=VALUE,NAME=VALUE`; `none` (or nothing) is the empty list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pairs(pub(crate) Vec<(String, String)>);

impl FromStr for Pairs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "none" {
            return Ok(Self::default());
        }
        parts(text)
            .map(|part| {
                let (name, value) = part
                    .split_once('=')
                    .ok_or_else(|| format!("'{part}' is not NAME=VALUE"))?;
                Ok((name.trim().to_owned(), value.trim().to_owned()))
            })
            .collect::<Result<_, String>>()
            .map(Self)
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

/// A time: `500ms`, `30s`, `5m`, `1h`; a bare number is seconds; `off` is no time at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(Duration::ZERO));
        }
        let (number, unit) = split_unit(text);
        let ms_per_unit: u64 = match unit {
            "ms" => 1,
            "" | "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => {
                return Err(format!(
                    "unknown unit '{unit}': use ms, s, m or h, such as 30s"
                ));
            }
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(ms_per_unit))
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(|| "not a time: use a number and a unit, such as 30s".into())
    }
}

/// A size: `65536`, `64KiB`, `16MiB`, `1GiB`, or decimal `kB`, `MB`, `GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let bytes_per_unit: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            _ => {
                return Err(format!(
                    "unknown unit '{unit}': use KiB, MiB or GiB, such as 16MiB"
                ));
            }
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(bytes_per_unit))
            .map(Self)
            .ok_or_else(|| "not a size: use a number and a unit, such as 16MiB".into())
    }
}

/// A limit: a number, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<u32>);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "none" | "unlimited") {
            return Ok(Self(None));
        }
        text.parse()
            .map(|limit| Self(Some(limit)))
            .map_err(|_| "not a number, nor 'none'".into())
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, ms) in [
            ("30", Some(30_000)),
            ("30s", Some(30_000)),
            ("30 s", Some(30_000)),
            ("250ms", Some(250)),
            ("5m", Some(300_000)),
            ("2h", Some(7_200_000)),
            ("off", Some(0)),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1d", None),
            ("99999999999999999999", None),
            ("18446744073709551615h", None),
        ] {
            let parsed = text.parse::<Span>().ok().map(|span| span.0);
            assert_eq!(parsed, ms.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("65536", Some(65_536)),
            ("64KiB", Some(65_536)),
            ("16MiB", Some(16 << 20)),
            ("2g", Some(2 << 30)),
            ("50MB", Some(50_000_000)),
            ("1.5GiB", None),
            ("1TB", None),
            ("MiB", None),
        ] {
            assert_eq!(
                text.parse::<Size>().ok().map(|size| size.0),
                bytes,
                "{text:?}"
            );
        }
    }

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("127.0.0.1:5672", Some("127.0.0.1:5672")),
            (":5672", Some("0.0.0.0:5672")),
            ("[::1]:5672", Some("[::1]:5672")),
            ("5672", None),
            ("127.0.0.1", None),
            ("127.0.0.1:99999", None),
        ] {
            let parsed = text
                .parse::<Listen>()
                .ok()
                .map(|listen| listen.0.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn peer_lists() {
        let peer = |id, address: &str| Peer {
            id: node::config::NodeId(id),
            address: address.into(),
        };
        for (text, expected) in [
            ("", Some(vec![])),
            ("1=a:1", Some(vec![peer(1, "a:1")])),
            (
                "1=a:1, 2 = b:2,",
                Some(vec![peer(1, "a:1"), peer(2, "b:2")]),
            ),
            ("a:1", None),
            ("x=a:1", None),
        ] {
            assert_eq!(text.parse::<Peers>().ok(), expected.map(Peers), "{text:?}");
        }
    }

    #[test]
    fn pairs_of_names_and_values() {
        for (text, expected) in [
            ("", Some(&[][..])),
            ("none", Some(&[])),
            ("a=b", Some(&[("a", "b")])),
            (
                "a = b c , api://d=x=y,",
                Some(&[("a", "b c"), ("api://d", "x=y")]),
            ),
            ("a", None),
            ("a=b,c", None),
        ] {
            let expected = expected.map(|pairs: &[(&str, &str)]| {
                let pair = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
                Pairs(pairs.iter().map(pair).collect())
            });
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn name_lists_and_limits() {
        for (text, expected) in [
            ("guest", vec!["guest"]),
            ("a, b", vec!["a", "b"]),
            ("none", vec![]),
            ("", vec![]),
        ] {
            let names: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(text.parse(), Ok(Names(names)), "{text:?}");
        }
        for (text, expected) in [
            ("5", Some(Some(5))),
            ("none", Some(None)),
            ("0", Some(Some(0))),
            ("-1", None),
        ] {
            assert_eq!(
                text.parse::<Limit>().ok().map(|limit| limit.0),
                expected,
                "{text:?}"
            );
        }
    }
}
