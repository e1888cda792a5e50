//! Reply codes: what close and return methods carry.

use std::fmt;

use crate::short_str::{ShortStr, cut};

/// Largest size of a reply text in bytes.
pub const REPLY_TEXT_MAX: usize = ShortStr::MAX_LEN;

/// A reply code of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyCode(pub u16);

macro_rules! reply_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $hard:literal;)*) => {
        impl ReplyCode {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// Every code that has a name.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name that starts the reply text, if the code is a known one.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// Whether it closes the connection; a soft one closes the channel. Unknown codes are hard.
            #[must_use]
            pub const fn is_hard(self) -> bool {
                match self.0 {
                    $($code => $hard,)*
                    _ => true,
                }
            }
        }
    };
}

reply_codes! {
    /// An orderly close.
    REPLY_SUCCESS = 200, false;
    /// Content too large.
    CONTENT_TOO_LARGE = 311, false;
    /// A mandatory message reached no queue; only in basic.return.
    NO_ROUTE = 312, false;
    /// An immediate message reached no consumer; only in basic.return.
    NO_CONSUMERS = 313, false;
    /// An operator or the server's end closes the connection.
    CONNECTION_FORCED = 320, true;
    /// Unused in practice.
    INVALID_PATH = 402, true;
    /// No permission, or a reserved name.
    ACCESS_REFUSED = 403, false;
    /// No such queue, exchange or virtual host.
    NOT_FOUND = 404, false;
    /// A queue that is exclusive to another connection.
    RESOURCE_LOCKED = 405, false;
    /// A condition of the method does not hold.
    PRECONDITION_FAILED = 406, false;
    /// A frame that cannot be decoded.
    FRAME_ERROR = 501, true;
    /// A field with an illegal value.
    SYNTAX_ERROR = 502, true;
    /// A method or mechanism that does not exist or is not allowed here.
    COMMAND_INVALID = 503, true;
    /// Wrong use of a channel.
    CHANNEL_ERROR = 504, true;
    /// A frame that does not fit into what came before.
    UNEXPECTED_FRAME = 505, true;
    /// A resource that the server lacks.
    RESOURCE_ERROR = 506, true;
    /// Forbidden by limits or settings.
    NOT_ALLOWED = 530, true;
    /// Not implemented.
    NOT_IMPLEMENTED = 540, true;
    /// The server's fault.
    INTERNAL_ERROR = 541, true;
}

impl fmt::Debug for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} {name}", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// `NAME - explanation`, cut to what a reply text holds; just the name without an explanation.
#[must_use]
pub fn reply_text(code: ReplyCode, explanation: &str) -> ShortStr {
    let name = code.name().unwrap_or("UNKNOWN");
    if explanation.is_empty() {
        return ShortStr::truncated(name);
    }
    // The rest of an explanation can be of any size and does not need copying.
    ShortStr::truncated(&format!("{name} - {}", cut(explanation, REPLY_TEXT_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_and_name() {
        for (code, name, hard) in [
            (311, "CONTENT_TOO_LARGE", false),
            (312, "NO_ROUTE", false),
            (313, "NO_CONSUMERS", false),
            (320, "CONNECTION_FORCED", true),
            (402, "INVALID_PATH", true),
            (403, "ACCESS_REFUSED", false),
            (404, "NOT_FOUND", false),
            (405, "RESOURCE_LOCKED", false),
            (406, "PRECONDITION_FAILED", false),
            (501, "FRAME_ERROR", true),
            (502, "SYNTAX_ERROR", true),
            (503, "COMMAND_INVALID", true),
            (504, "CHANNEL_ERROR", true),
            (505, "UNEXPECTED_FRAME", true),
            (506, "RESOURCE_ERROR", true),
            (530, "NOT_ALLOWED", true),
            (540, "NOT_IMPLEMENTED", true),
            (541, "INTERNAL_ERROR", true),
        ] {
            assert_eq!(ReplyCode(code).name(), Some(name));
            assert_eq!(ReplyCode(code).is_hard(), hard, "{name}");
        }
        assert_eq!(ReplyCode(999).name(), None);
        assert!(ReplyCode(999).is_hard());
    }

    #[test]
    fn text_is_cut_at_a_character() {
        assert_eq!(reply_text(ReplyCode::NO_ROUTE, ""), "NO_ROUTE");
        assert_eq!(
            reply_text(ReplyCode::NOT_FOUND, "no queue 'q' in vhost '/'"),
            "NOT_FOUND - no queue 'q' in vhost '/'"
        );
        let text = reply_text(ReplyCode::NOT_FOUND, &"ä".repeat(300));
        assert_eq!(text.len(), 254);
        assert!(text.starts_with("NOT_FOUND - ä") && text.ends_with('ä'));
    }
}
