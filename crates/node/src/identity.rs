//! Who is logged in, and what decides what it may do: the catalog, or the token that it showed.

use crate::oauth2::TokenUser;
use broker_model::catalog::record::ExchangeRecord;
use broker_model::catalog::{
    Catalog, CatalogError, Name, Permission, Resource, ResourceKind, TopicVariables,
    check_permission_of,
};
use broker_model::routing::ExchangeKind;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A user that has logged in.
#[derive(Debug, Clone)]
pub struct Identity {
    name: Name,
    /// `None`: the catalog's user of that name.
    token: Option<Arc<TokenUser>>,
}

impl Identity {
    /// The catalog's user of that name.
    #[must_use]
    pub fn stored(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            token: None,
        }
    }

    /// Whoever showed the token, whether or not the catalog has somebody of the same name.
    #[must_use]
    pub fn of_token(token: Arc<TokenUser>) -> Self {
        Self {
            name: Arc::clone(token.name()),
            token: Some(token),
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
        self.token.is_none()
    }

    /// Its tags.
    #[must_use]
    pub fn tags(&self, catalog: &Catalog) -> Vec<Name> {
        match &self.token {
            Some(token) => token.tags().to_vec(),
            None => catalog
                .user(&self.name)
                .map(|user| user.tags.clone())
                .unwrap_or_default(),
        }
    }

    /// Whether it has a tag.
    #[must_use]
    pub fn has_tag(&self, catalog: &Catalog, tag: &str) -> bool {
        match &self.token {
            Some(token) => token.tags().iter().any(|have| **have == *tag),
            None => catalog
                .user(&self.name)
                .is_some_and(|user| user.has_tag(tag)),
        }
    }

    /// Whether it may open a vhost.
    #[must_use]
    pub fn may_open(&self, catalog: &Catalog, vhost: &str) -> bool {
        match &self.token {
            Some(token) => catalog.vhost(vhost).is_some() && token.has_vhost(vhost),
            None => catalog.permissions(&self.name, vhost).is_some(),
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
        let Some(token) = &self.token else {
            return catalog.check_permission(&self.name, vhost, permission, kind, name);
        };
        let allows = |name: &str| token.may(permission, vhost, name);
        check_permission_of(&self.name, vhost, permission, kind, name, allows)
    }

    /// Whether it may publish to or bind by a topic. Only topic exchanges have topics.
    ///
    /// # Errors
    /// [`CatalogError::TopicRefused`].
    pub fn check_topic_permission(
        &self,
        catalog: &Catalog,
        permission: Permission,
        exchange: &ExchangeRecord,
        topic: &str,
    ) -> Result<(), CatalogError> {
        let Some(token) = &self.token else {
            let variables = TopicVariables {
                username: &self.name,
                vhost: &exchange.vhost,
                client_id: "",
            };
            return catalog.check_topic_permission(variables, permission, exchange, topic);
        };
        if exchange.matching() != ExchangeKind::Topic
            || token.may_by_topic(permission, &exchange.vhost, &exchange.name, topic)
        {
            return Ok(());
        }
        Err(CatalogError::TopicRefused {
            permission: permission.as_str(),
            topic: topic.into(),
            exchange: Resource::exchange(&exchange.vhost, &exchange.name),
            user: Arc::clone(&self.name),
        })
    }

    /// How long the login is good; `None`: for ever.
    #[must_use]
    pub fn expires_in(&self) -> Option<Duration> {
        self.token.as_ref()?.expires_in()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
