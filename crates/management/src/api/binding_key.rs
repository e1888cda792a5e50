//! How a binding is named in a path: the `properties_key` that RabbitMQ's management plugin made up.
//!
//! It is the quoted routing key, and after a `~` a hash of the arguments; `~` alone if there is neither. The quoting
//! belongs to the name, so that a key in a path is quoted twice. Many clients quote it once only, which RabbitMQ finds
//! as well: what has come through the path is unquoted, and what has nothing to unquote stays what it is.

use node::broker_model::catalog::BindingRecord;
use std::fmt::Write as _;

/// Names a binding among those of one source and destination.
pub(super) fn properties_key(binding: &BindingRecord) -> String {
    match binding.arguments_hash() {
        None if binding.routing_key.is_empty() => "~".into(),
        None => quoted(&binding.routing_key),
        Some(hash) => format!("{}~{hash:016x}", quoted(&binding.routing_key)),
    }
}

/// Which binding a part of a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    routing_key: Vec<u8>,
    /// As text: what is no hash is that of no binding.
    arguments: Option<Vec<u8>>,
}

impl Named {
    /// Reads a name; nothing if it has too many parts to be one.
    pub(super) fn read(props: &str) -> Option<Self> {
        let (key, hash) = props.split_once('~').unwrap_or((props, ""));
        if hash.contains('~') {
            return None;
        }
        Some(Self {
            routing_key: unquoted(key),
            arguments: (!hash.is_empty()).then(|| unquoted(hash)),
        })
    }

    /// Whether it is this binding's.
    pub(super) fn is(&self, binding: &BindingRecord) -> bool {
        let hash = binding.arguments_hash();
        let hash = hash.map(|hash| format!("{hash:016x}").into_bytes());
        self.routing_key == binding.routing_key.as_bytes() && self.arguments == hash
    }
}

/// Quoted as in a form, and `~` too because it separates the hash.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The contrary; a `%` that two hexadecimal digits do not follow stands for itself.
fn unquoted(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return out,
            [b'+', after @ ..] => {
                out.push(b' ');
                after
            }
            [b'%', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(digit(*high) << 4 | digit(*low));
                after
            }
            [byte, after @ ..] => {
                out.push(*byte);
                after
            }
        };
    }
}

/// The value of a hexadecimal digit; of anything else nothing.
fn digit(byte: u8) -> u8 {
    let value = char::from(byte).to_digit(16).unwrap_or_default();
    u8::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(props: &str) -> String {
        let named = Named::read(props).unwrap();
        assert_eq!(named.arguments, None, "{props}");
        String::from_utf8(named.routing_key).unwrap()
    }

    #[test]
    fn what_was_quoted_is_read() {
        for text in [
            "", "plain", "k.#", "a b", "a/b", "a~b", "~", "é", "a%b", "a%41", "a+b", "%", "%4",
        ] {
            assert_eq!(key(&quoted(text)), text);
        }
        assert_eq!(key("~"), "");
    }

    #[test]
    fn what_was_not_quoted_is_read_as_by_rabbitmq() {
        for text in ["k.#", "a b", "a/b", "é", "a%b", "%", "100%", "%zz"] {
            assert_eq!(key(text), text);
        }
        // These have a meaning of their own.
        assert_eq!(key("a+b"), "a b");
        assert_eq!(key("a%41"), "aA");
    }

    #[test]
    fn hashes_follow() {
        let named = Named::read("a.%23~00ff").unwrap();
        assert_eq!(named.routing_key, b"a.#");
        assert_eq!(named.arguments.as_deref(), Some(&b"00ff"[..]));
        assert_eq!(Named::read("a~"), Named::read("a"));
        assert_eq!(Named::read("~00ff").unwrap().routing_key, b"");
        assert_eq!(Named::read("a~b~c"), None);
    }
}
