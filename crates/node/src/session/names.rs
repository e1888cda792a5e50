//! Names that the broker makes up.

/// Alphabet of base64 for URLs.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

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

/// `prefix` and 16 random bytes in 22 characters.
pub(super) fn with_token(prefix: &str) -> String {
    let mut random: u128 = rand::random();
    let mut name = String::with_capacity(prefix.len() + 22);
    name.push_str(prefix);
    for _ in 0..22 {
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
}
