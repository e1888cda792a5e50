//! Names that the broker makes up.

use broker_model::catalog::REPLY_QUEUE_PREFIX;

/// Alphabet of base64 for URLs.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Characters of a token.
const TOKEN_LEN: usize = 22;
/// Characters of an address for direct replies before its dot.
const REPLY_DOT: usize = 8;
/// What an address for direct replies ends with.
const REPLY_END: &str = "==";
/// Prefix of queues whose name the client left to the broker.
const QUEUE: &str = "amq.gen-";
/// Prefix of consumer tags that the client left to the broker.
const CONSUMER_TAG: &str = "amq.ctag-";

/// A name for a queue.
pub(super) fn queue_name() -> String {
    with_token(QUEUE)
}

/// A consumer tag.
pub(super) fn consumer_tag() -> String {
    with_token(CONSUMER_TAG)
}

/// An address for direct replies. It has the form of RabbitMQ's, two parts in base64 with a dot between them, because tests of
/// client libraries look for that.
pub(super) fn reply_address() -> String {
    let mut name = with_token(REPLY_QUEUE_PREFIX);
    name.insert(REPLY_QUEUE_PREFIX.len() + REPLY_DOT, '.');
    name.push_str(REPLY_END);
    name
}

/// Whether a name may be an address for direct replies that some node has made, and may be gone.
pub(super) fn is_reply_address(name: &str) -> bool {
    name.strip_prefix(REPLY_QUEUE_PREFIX)
        .and_then(|rest| rest.strip_suffix(REPLY_END))
        .is_some_and(|token| {
            let mut bytes = token.bytes().enumerate();
            token.len() == TOKEN_LEN + 1
                && bytes.all(|(at, byte)| {
                    if at == REPLY_DOT {
                        byte == b'.'
                    } else {
                        ALPHABET.contains(&byte)
                    }
                })
        })
}

/// `prefix` and 16 random bytes in 22 characters.
fn with_token(prefix: &str) -> String {
    let mut random: u128 = rand::random();
    let mut name = String::with_capacity(prefix.len() + TOKEN_LEN);
    name.push_str(prefix);
    for _ in 0..TOKEN_LEN {
        let index = (random & 63) as usize;
        name.push(ALPHABET.get(index).copied().map_or('A', char::from));
        random >>= 6;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_differ() {
        let (a, b) = (queue_name(), queue_name());
        assert_eq!(a.len(), QUEUE.len() + 22);
        assert!(a.starts_with(QUEUE) && a != b);
        assert!(
            a.bytes()
                .skip(QUEUE.len())
                .all(|byte| ALPHABET.contains(&byte))
        );
    }

    #[test]
    fn addresses_have_two_parts_in_base64() {
        let address = reply_address();
        let rest = address.strip_prefix(REPLY_QUEUE_PREFIX).expect("prefix");
        let (one, two) = rest.split_once('.').expect("a dot");
        let key = two.strip_suffix("==").expect("the end of base64");
        assert_eq!((one.len(), key.len()), (8, 14));
        let mut bytes = one.bytes().chain(key.bytes());
        assert!(bytes.all(|byte| ALPHABET.contains(&byte)), "{address}");
    }

    #[test]
    fn addresses_are_told_from_other_names() {
        let address = reply_address();
        assert!(is_reply_address(&address));
        for other in [
            REPLY_QUEUE_PREFIX,
            "amq.rabbitmq.reply-to.nobody",
            &queue_name(),
            &format!("{address}A"),
            &address.replace(char::is_alphanumeric, "."),
            &address.replace('=', ""),
            &address.replace('.', "_"),
        ] {
            assert!(!is_reply_address(other), "{other}");
        }
    }
}
