//! Who is logged in, and what decides what it may do: the catalog, or the token that it showed; or that it is the cluster itself.

use crate::oauth2::TokenUser;
use broker_model::catalog::record::ExchangeRecord;
use broker_model::catalog::{
    Catalog, CatalogError, Name, Permission, Resource, ResourceKind, TopicVariables,
    check_permission_of,
};
use broker_model::routing::{Effort, ExchangeKind};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A user that has logged in.
#[derive(Debug, Clone)]
pub struct Identity {
    name: Name,
    rights: Rights,
}

/// What decides.
#[derive(Debug, Clone)]
enum Rights {
    /// The catalog, about its user of that name.
    Stored,
    /// A token.
    Token(Arc<TokenUser>),
    /// It may do everything in one virtual host, and nothing elsewhere.
    Vhost(Name),
}

/// RabbitMQ's name for whoever needs no user.
const NOBODY: &str = "none";
/// The tag of those who may publish in the name of others.
const IMPERSONATOR: &str = "impersonator";

impl Identity {
    /// The catalog's user of that name.
    #[must_use]
    pub fn stored(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            rights: Rights::Stored,
        }
    }

    /// What this cluster does by itself in a virtual host, as its shovels. Never for somebody who logs in.
    #[must_use]
    pub(crate) fn of_vhost(vhost: impl Into<Name>) -> Self {
        Self {
            name: NOBODY.into(),
            rights: Rights::Vhost(vhost.into()),
        }
    }

    /// Whoever showed the token, whether or not the catalog has somebody of the same name.
    #[must_use]
    pub fn of_token(token: Arc<TokenUser>) -> Self {
        Self {
            name: Arc::clone(token.name()),
            rights: Rights::Token(token),
        }
    }

    /// The user's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Whether the catalog has the user.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        matches!(self.rights, Rights::Stored)
    }

    /// Its tags.
    #[must_use]
    pub fn tags(&self, catalog: &Catalog) -> Vec<Name> {
        match &self.rights {
            Rights::Token(token) => token.tags().to_vec(),
            Rights::Stored => catalog
                .user(&self.name)
                .map(|user| user.tags.clone())
                .unwrap_or_default(),
            Rights::Vhost(_) => vec![IMPERSONATOR.into()],
        }
    }

    /// Whether it has a tag.
    #[must_use]
    pub fn has_tag(&self, catalog: &Catalog, tag: &str) -> bool {
        match &self.rights {
            Rights::Token(token) => token.tags().iter().any(|have| **have == *tag),
            Rights::Stored => catalog
                .user(&self.name)
                .is_some_and(|user| user.has_tag(tag)),
            Rights::Vhost(_) => tag == IMPERSONATOR,
        }
    }

    /// Whether it may open a vhost.
    #[must_use]
    pub fn may_open(&self, catalog: &Catalog, vhost: &str) -> bool {
        match &self.rights {
            Rights::Token(token) => catalog.vhost(vhost).is_some() && token.has_vhost(vhost),
            Rights::Stored => catalog.permissions(&self.name, vhost).is_some(),
            Rights::Vhost(own) => catalog.vhost(vhost).is_some() && **own == *vhost,
        }
    }

    /// Whether it may do something with a queue or exchange.
    ///
    /// # Errors
    /// [`CatalogError::AccessRefused`].
    pub fn check_permission(
        &self,
        catalog: &Catalog,
        vhost: &str,
        permission: Permission,
        kind: ResourceKind,
        name: &str,
    ) -> Result<(), CatalogError> {
        let allows = |name: &str| match &self.rights {
            Rights::Token(token) => token.may(permission, vhost, name),
            Rights::Vhost(own) => **own == *vhost,
            Rights::Stored => false,
        };
        if self.is_stored() {
            return catalog.check_permission(&self.name, vhost, permission, kind, name);
        }
        check_permission_of(&self.name, vhost, permission, kind, name, allows)
    }

    /// Whether it may publish to or bind by each of these topics. Only topic exchanges have topics.
    ///
    /// # Errors
    /// [`CatalogError::TopicRefused`], [`CatalogError::TooCostly`].
    pub fn check_topic_permission(
        &self,
        catalog: &Catalog,
        permission: Permission,
        exchange: &ExchangeRecord,
        topics: &[&str],
        effort: &mut Effort,
    ) -> Result<(), CatalogError> {
        if exchange.matching() != ExchangeKind::Topic {
            return Ok(());
        }
        let refused = match &self.rights {
            Rights::Stored => {
                let variables = TopicVariables {
                    username: &self.name,
                    vhost: &exchange.vhost,
                    client_id: "",
                };
                return catalog
                    .check_topic_permission(variables, permission, exchange, topics, effort);
            }
            Rights::Token(token) => {
                effort.take(topics.len().saturating_mul(1 + token.scopes(permission)))?;
                let mut topics = topics.iter();
                topics.find(|topic| {
                    !token.may_by_topic(permission, &exchange.vhost, &exchange.name, topic)
                })
            }
            Rights::Vhost(own) if **own == *exchange.vhost => None,
            Rights::Vhost(_) => topics.first(),
        };
        let Some(topic) = refused else {
            return Ok(());
        };
        Err(CatalogError::TopicRefused {
            permission: permission.as_str(),
            topic: (*topic).into(),
            exchange: Resource::exchange(&exchange.vhost, &exchange.name),
            user: Arc::clone(&self.name),
        })
    }

    /// How long the login is good; `None`: for ever.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        match &self.rights {
            Rights::Token(token) => token.expires_in(),
            Rights::Stored | Rights::Vhost(_) => None,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
