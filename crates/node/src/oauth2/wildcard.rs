//! Patterns of scopes: `*` stands for any text, and what is special is percent-encoded.

use super::percent;

/// The parts between the stars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wildcard {
    parts: Vec<Vec<Piece>>,
}

/// A stretch of a pattern without a star.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    /// `{vhost}`: the vhost that is asked about.
    Vhost,
}

/// What a variable stands for.
pub(super) enum Variable<'a> {
    /// The vhost that is asked about.
    Vhost,
    /// This text, whatever is in it.
    Text(&'a str),
}

impl Wildcard {
    /// Reads a pattern; `variable` tells what a name in braces stands for. `None` if it makes no sense: then it
    /// matches nothing.
    pub(super) fn new<'a>(
        pattern: &'a str,
        variable: &dyn Fn(&'a str) -> Variable<'a>,
    ) -> Option<Self> {
        let mut parts = vec![Vec::new()];
        let mut rest = pattern;
        loop {
            let end = rest.find(['*', '{']).unwrap_or(rest.len());
            let (text, tail) = rest.split_at(end);
            let part = parts.last_mut()?;
            if !text.is_empty() {
                part.push(Piece::Text(percent::decode(text)?));
            }
            if let Some(after) = tail.strip_prefix('*') {
                parts.push(Vec::new());
                rest = after;
            } else if let Some(after) = tail.strip_prefix('{') {
                let (name, after) = after.split_once('}')?;
                if name.contains(['{', '.', '*']) {
                    return None;
                }
                part.push(match variable(name) {
                    Variable::Vhost => Piece::Vhost,
                    Variable::Text(text) => Piece::Text(text.into()),
                });
                rest = after;
            } else {
                return Some(Self { parts });
            }
        }
    }

    /// Whether the whole of `subject` matches.
    pub(super) fn matches(&self, subject: &str, vhost: &str) -> bool {
        let subject = subject.as_bytes();
        let Some((first, others)) = self.parts.split_first() else {
            return false;
        };
        let Some(mut rest) = strip(subject, first, vhost) else {
            return false;
        };
        let Some((last, middle)) = others.split_last() else {
            return rest.is_empty();
        };
        // The leftmost place is the best one for each but the last, which has to be at the end.
        for part in middle {
            let at = (0..=rest.len()).find_map(|at| strip(rest.get(at..)?, part, vhost));
            match at {
                Some(after) => rest = after,
                None => return false,
            }
        }
        let length: usize = last.iter().map(|piece| piece.bytes(vhost).len()).sum();
        rest.len()
            .checked_sub(length)
            .and_then(|at| strip(rest.get(at..)?, last, vhost))
            .is_some()
    }
}

impl Piece {
    fn bytes<'a>(&'a self, vhost: &'a str) -> &'a [u8] {
        match self {
            Self::Text(text) => text,
            Self::Vhost => vhost.as_bytes(),
        }
    }
}

/// What follows the part at the beginning of `subject`, if it stands there.
fn strip<'a>(subject: &'a [u8], part: &[Piece], vhost: &str) -> Option<&'a [u8]> {
    part.iter().try_fold(subject, |subject, piece| {
        subject.strip_prefix(piece.bytes(vhost))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, subject: &str) -> bool {
        let variable = |name| match name {
            "vhost" => Variable::Vhost,
            "sub" => Variable::Text("a/*%b"),
            name => Variable::Text(name),
        };
        Wildcard::new(pattern, &variable).is_some_and(|pattern| pattern.matches(subject, "shop/1"))
    }

    #[test]
    fn patterns() {
        for (pattern, subject, expected) in [
            ("", "", true),
            ("", "a", false),
            ("foo", "foo", true),
            ("foo", "Foo", false),
            ("foo", "fo", false),
            ("foo", "fooo", false),
            ("*", "", true),
            ("*", "anything/at *all", true),
            ("**", "x", true),
            ("fo*", "foo", true),
            ("foo*", "foo", true),
            ("foo**", "foo", true),
            ("fo*", "bfoo", false),
            ("*oo", "foo", true),
            ("*oo", "foooo", true), // RabbitMQ: not, because `oo` stands before the end too.
            ("*r", "foo", false),
            ("*foobar", "foo", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("some*long*string", "some long string", true),
            ("some*other*string", "some long string", false),
            ("*long*", "some long string", true),
            ("*+*+*", "some long string", true),
            ("*+*+*", "some string", false),
            ("s*e*str*", "some long string", true),
            ("ab*ab*b", "ababab", true),
            ("a%20b", "a b", true),
            ("a+b", "a b", true),
            ("a b", "a b", true),
            ("%2F", "/", true),
            ("%2f", "/", true),
            ("%2a", "*", true),
            ("%2a", "x", false),
            ("100%25", "100%", true),
            ("100%", "100%", false),
            ("%zz", "%zz", false),
            ("%D1%8E*", "юникод", true),
            ("*д", "юникод", true),
        ] {
            assert_eq!(
                matches(pattern, subject),
                expected,
                "{pattern:?} {subject:?}"
            );
        }
    }

    /// As far as they are sure; values stand for themselves.
    #[test]
    fn variables() {
        for (pattern, subject, expected) in [
            ("x-{vhost}-*", "x-shop/1-y", true),
            ("x-{vhost}-*", "x-shop-y", false),
            ("{sub}", "a/*%b", true),
            ("{sub}", "a/x%b", false),
            ("*{sub}", "..a/*%b", true),
            ("{client}", "client", true), // Of a claim that is not there the name.
            ("{}", "", true),
            ("{", "{", false),
            ("{sub", "a/*%b", false),
            ("{su*b}", "sub", false),
            ("var}", "var}", true),
        ] {
            assert_eq!(
                matches(pattern, subject),
                expected,
                "{pattern:?} {subject:?}"
            );
        }
    }
}
