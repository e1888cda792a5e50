//! What users may do: regular expressions over names.

use super::command::Name;
use super::pattern::Pattern;
use std::borrow::Cow;

/// The three permissions of AMQP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Declare and delete.
    Configure,
    /// Publish, bind to a destination.
    Write,
    /// Consume, get, purge, bind from a source.
    Read,
}

impl Permission {
    /// The word in texts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// What one user may do in one vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Declare and delete.
    pub configure: Pattern,
    /// Publish, bind to a destination.
    pub write: Pattern,
    /// Consume, get, purge, bind from a source.
    pub read: Pattern,
}

impl Permissions {
    /// Whether `permission` covers `name`. The default exchange is named `amq.default` here.
    #[must_use]
    pub fn allow(&self, permission: Permission, name: &str) -> bool {
        match permission {
            Permission::Configure => self.configure.matches(name),
            Permission::Write => self.write.matches(name),
            Permission::Read => self.read.matches(name),
        }
    }
}

/// Which topics a user may use at one exchange. `{username}`, `{vhost}` and `{client_id}` stand
/// for the session's values; expressions with such variables are compiled when used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPermissions {
    /// Exchange.
    pub exchange: Name,
    /// Routing keys to publish with.
    pub write: TopicPattern,
    /// Routing keys to bind with.
    pub read: TopicPattern,
}

/// An expression over routing keys that may hold variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicPattern {
    /// Without variables.
    Plain(Pattern),
    /// With variables.
    Template(Name),
}

/// What variables in topic permissions stand for.
#[derive(Debug, Clone, Copy, Default)]
pub struct TopicVariables<'a> {
    /// `{username}`.
    pub username: &'a str,
    /// `{vhost}`.
    pub vhost: &'a str,
    /// `{client_id}`.
    pub client_id: &'a str,
}

impl TopicPattern {
    /// Compiles what can be compiled now.
    #[must_use]
    pub fn new(source: Name) -> Self {
        let variable = ["{username}", "{vhost}", "{client_id}"];
        if variable.iter().any(|name| source.contains(name)) {
            Self::Template(source)
        } else {
            Self::Plain(Pattern::new(source))
        }
    }

    /// As written.
    #[must_use]
    pub fn source(&self) -> &Name {
        match self {
            Self::Plain(pattern) => pattern.source(),
            Self::Template(source) => source,
        }
    }

    /// The expression with the values of its variables, which are taken literally.
    #[must_use]
    pub fn filled(&self, variables: TopicVariables<'_>) -> Cow<'_, Pattern> {
        match self {
            Self::Plain(pattern) => Cow::Borrowed(pattern),
            Self::Template(source) => {
                let filled = source
                    .replace("{username}", &regex::escape(variables.username))
                    .replace("{vhost}", &regex::escape(variables.vhost))
                    .replace("{client_id}", &regex::escape(variables.client_id));
                Cow::Owned(Pattern::new(filled.into()))
            }
        }
    }
}
