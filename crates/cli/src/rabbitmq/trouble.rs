//! What goes wrong, as RabbitMQ's tools say it: a text on standard error and one of the exit codes of `sysexits.h`.

use crate::client::Failure;
use std::io;
use ureq::http::StatusCode;

/// Wrong usage.
pub(super) const USAGE: u8 = 64;
/// Something given makes no sense, or names a vhost that does not exist.
pub(super) const DATA: u8 = 65;
/// There is no such user.
pub(super) const NO_USER: u8 = 67;
/// Refused, not found, or no node reached.
pub(super) const UNAVAILABLE: u8 = 69;
/// It exists already.
pub(super) const SOFTWARE: u8 = 70;
/// It took too long.
pub(super) const TEMPORARY: u8 = 75;

/// Why a command ends without success.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Exit code and text; an empty text is not printed.
    Told(u8, String),
    /// A request failed in a way that says nothing of the command.
    Request(Failure),
    /// What is shown could not be written.
    Output(io::Error),
}

impl Trouble {
    /// `Error:` and the text below it.
    pub(super) fn error(code: u8, text: impl AsRef<str>) -> Self {
        Self::Told(code, format!("Error:\n{}", text.as_ref()))
    }

    /// Something that Warren does not do.
    pub(super) fn refused(text: impl AsRef<str>) -> Self {
        Self::error(UNAVAILABLE, text)
    }

    /// A vhost that is not there.
    pub(super) fn no_vhost(vhost: &str) -> Self {
        Self::Told(DATA, format!("Virtual host '{vhost}' does not exist"))
    }

    /// A user that is not there.
    pub(super) fn no_user(user: &str) -> Self {
        Self::error(NO_USER, format!("User \"{user}\" does not exist"))
    }

    /// A check that did not pass.
    pub(super) fn check(text: impl Into<String>) -> Self {
        Self::Told(UNAVAILABLE, text.into())
    }

    /// Exit code and text, as the command `operation` on the node of that name would have them.
    pub(super) fn told(self, operation: &str, node: &str, timeout: u64) -> (u8, String) {
        match self {
            Self::Told(code, text) => (code, text),
            Self::Output(error) => (SOFTWARE, format!("Error:\n{error}")),
            Self::Request(failure) => match failure {
                Failure::Unreachable { error, .. } if error.starts_with("timeout: global") => (
                    TEMPORARY,
                    format!(
                        "Error: operation {operation} on node {node} timed out. Timeout value used: {timeout}"
                    ),
                ),
                Failure::Unreachable { base, error } => (
                    UNAVAILABLE,
                    format!(
                        "Error: unable to perform an operation on node '{node}'. No answer from {base}: {error}.\n\
                         Is the node running? WARREN_URL names another address of its management port."
                    ),
                ),
                Failure::Refused {
                    status: StatusCode::UNAUTHORIZED,
                    ref reason,
                } if reason.is_empty() || reason == crate::client::NO_LOGIN => (
                    UNAVAILABLE,
                    "Error:\nlogin refused: set WARREN_LOGIN=user:password to an administrator of the cluster. Without it the \
                     default user is taken (WARREN_DEFAULT_USER and WARREN_DEFAULT_PASS or WARREN_DEFAULT_PASS_FILE, \
                     RABBITMQ_DEFAULT_USER and RABBITMQ_DEFAULT_PASS, else guest:guest)"
                        .into(),
                ),
                Failure::Usage(text) => (USAGE, format!("Error:\n{text}")),
                Failure::Output(error) => (SOFTWARE, format!("Error:\n{error}")),
                other => (UNAVAILABLE, format!("Error:\n{other}")),
            },
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Output(error) => Self::Output(error),
            other => Self::Request(other),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Whether the API answered that there is no such thing.
pub(super) fn is_missing(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
}

/// Says `otherwise` where the API answered that there is no such thing.
pub(super) trait OrMissing<T> {
    fn or_missing(self, otherwise: impl FnOnce() -> Trouble) -> Result<T, Trouble>;
}

impl<T> OrMissing<T> for Result<T, Failure> {
    fn or_missing(self, otherwise: impl FnOnce() -> Trouble) -> Result<T, Trouble> {
        self.map_err(|failure| {
            if is_missing(&failure) {
                otherwise()
            } else {
                failure.into()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_texts() {
        let unreachable = |error: &str| Failure::Unreachable {
            base: "http://x".into(),
            error: error.into(),
        };
        let refused = |status: u16, reason: &str| Failure::Refused {
            status: StatusCode::from_u16(status).unwrap(),
            reason: reason.into(),
        };
        for (trouble, code, begins) in [
            (
                Trouble::no_vhost("v"),
                65,
                "Virtual host 'v' does not exist",
            ),
            (
                Trouble::no_user("u"),
                67,
                "Error:\nUser \"u\" does not exist",
            ),
            (
                unreachable("refused").into(),
                69,
                "Error: unable to perform an operation on node 'n'",
            ),
            (
                unreachable("timeout: global").into(),
                75,
                "Error: operation op on node n timed out",
            ),
            (
                refused(401, "Not_Authorized").into(),
                69,
                "Error:\nlogin refused: set WARREN_LOGIN",
            ),
            (refused(401, "no").into(), 69, "Error:\nno"),
            (Failure::Usage("u".into()).into(), 64, "Error:\nu"),
        ] {
            let (shown, text) = trouble.told("op", "n", 3);
            assert!(shown == code && text.starts_with(begins), "{shown} {text}");
        }
    }
}
