//! Logging in, opening a virtual host, and the limits on both.

use super::consume::Consumer;
use super::services::Services;
use super::state::Session;
use crate::auth::{AuthError, Login};
use crate::auth_attempts::Door;
use crate::identity::Identity;
use crate::oauth2::{TokenError, is_one};
use crate::registry::ConnectionEntry;
use amqp_codec::ShortStr;
use amqp_connection::{Connection, Credentials, Mechanism, ProtocolError};
use broker_model::catalog::{Permission, is_reply_queue};
use broker_model::ids::ConsumerId;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tracing::{Span, info, warn};

/// `connection.update-secret`.
const UPDATE_SECRET: (u16, u16) = (10, 70);

impl Session {
    pub(super) fn authenticate(&mut self, credentials: Credentials) {
        if let Some(known) = self.ends.known.clone() {
            self.become_user(known);
            self.conn.authenticated();
            return;
        }
        let address = self.ends.peer.ip();
        let login = match credentials {
            Credentials::Password { user, password, .. } => Login {
                user: user.as_str().to_owned(),
                password: Some(password.to_vec()),
                address,
                door: Door::Amqp,
            },
            Credentials::External => match self.ends.certificate_user.clone() {
                Some(user) => Login {
                    user,
                    password: None,
                    address,
                    door: Door::Amqp,
                },
                None => {
                    self.conn.refuse_login(self.now);
                    return;
                }
            },
        };
        let name = login.user.clone();
        let broker = Arc::clone(&self.broker);
        let check = async move { broker.authenticate(login).await };
        self.run(check, move |session, result| match result {
            Ok(user) => {
                session.become_user(user);
                session.conn.authenticated();
            }
            Err(error) => {
                warn!(user = shown(&name), %error, "login refused");
                session.conn.refuse_login(session.now);
            }
        });
    }

    pub(super) fn open_vhost(&mut self, vhost: ShortStr) {
        let vhost: Arc<str> = vhost.as_str().into();
        let (broker, user) = (Arc::clone(&self.broker), self.user.clone());
        let name = Arc::clone(&vhost);
        let check = async move {
            let mut access = check_access(&*broker, &user, &name);
            if access.is_err() && broker.catalog_sync().await {
                access = check_access(&*broker, &user, &name);
            }
            check_limits(&*broker, user.name(), &name, access?).await
        };
        self.run(check, move |session, result| match result {
            Ok(()) => session.opened(vhost),
            Err(error) => session.connection_error(&error),
        });
    }

    fn opened(&mut self, vhost: Arc<str>) {
        self.vhost = vhost;
        self.conn.vhost_opened();
        if !self.conn.is_open() {
            return;
        }
        let client = self.conn.client();
        let (channel_max, frame_max, heartbeat_s) = self.conn.limits();
        let entry = Arc::new(ConnectionEntry {
            session: self.handle.id(),
            peer: self.ends.peer,
            local: self.ends.local,
            user: Arc::clone(self.user.name()),
            vhost: Arc::clone(&self.vhost),
            tls: self.ends.tls,
            mechanism: client.mechanism.map_or("", Mechanism::as_str),
            client_name: client.connection_name.clone(),
            client_properties: client.properties.raw().clone(),
            connected_at_ms: crate::host::wall_clock_ms(),
            frame_max: u32::try_from(frame_max).unwrap_or(u32::MAX),
            channel_max,
            heartbeat: u16::try_from(heartbeat_s).unwrap_or(u16::MAX),
            state: Mutex::new("running"),
            received: Default::default(),
            sent: Default::default(),
            channels: Mutex::new(BTreeMap::new()),
        });
        self.broker.registry().add(Arc::clone(&entry));
        self.broker.metrics().connections.add(1);
        self.broker.metrics().counts.connections_opened.add(1);
        info!(
            parent: &Span::current(),
            user = %self.user,
            vhost = %self.vhost,
            name = entry.client_name.as_deref().unwrap_or(""),
            "connection opened"
        );
        self.entry = Some(entry);
        self.note_expiry();
    }

    /// What follows from who it is.
    fn become_user(&mut self, user: Identity) {
        self.may_impersonate = user.has_tag(&self.broker.catalog(), "impersonator");
        self.user = user;
    }

    /// A token is good until it expires, and the connection with it.
    fn note_expiry(&mut self) {
        let left = self.user.expires_in();
        self.expires_at = left.and_then(|left| self.now.checked_add(left));
    }

    /// The token of the login has expired.
    pub(super) fn expire(&mut self) {
        self.expires_at = None;
        warn!(user = %self.user, "token has expired");
        self.report_all_confirms();
        if self.conn.force_close("credential expired", self.now) {
            self.drop_channels();
        }
    }

    /// `connection.update-secret`: the user keeps only what it may still have. Of a user of the catalog, as with RabbitMQ's
    /// internal backend, nothing depends on the secret itself, because passwords do not expire. It is not compared with the
    /// password either: that takes its time, and whoever asks thousands of times would keep others of its address from logging in.
    /// A token has to be followed by another one of the same user. Until that is checked nothing else of the client is read.
    pub(super) fn update_secret(&mut self, secret: Bytes) {
        if self.user.is_stored() {
            self.secret_updated();
            return;
        }
        self.refreshing = true;
        let login = Login {
            user: String::new(),
            password: Some(secret.to_vec()),
            address: self.ends.peer.ip(),
            door: Door::Amqp,
        };
        let broker = Arc::clone(&self.broker);
        let check = async move { broker.authenticate(login).await };
        self.run(check, |session, result| {
            session.refreshing = false;
            let refused = match result {
                Ok(user) if user.name() == session.user.name() => {
                    session.become_user(user);
                    session.note_expiry();
                    session.secret_updated();
                    return;
                }
                Ok(other) => {
                    warn!(user = %session.user, %other, "new token is of another user");
                    "New secret was refused by one of the backends"
                }
                Err(error) => {
                    warn!(user = %session.user, %error, "new token refused");
                    match error {
                        AuthError::Token(
                            TokenError::Form | TokenError::Audience { .. } | TokenError::NoAudience,
                        ) => "Secret update failed",
                        _ => "New secret was refused by one of the backends",
                    }
                }
            };
            session.refuse_secret(refused.into());
        });
    }

    fn refuse_secret(&mut self, text: String) {
        let (class_id, method_id) = UPDATE_SECRET;
        self.connection_error(&Connection::vhost_error(text).of(class_id, method_id));
    }

    /// The user keeps what it may have with the new secret.
    fn secret_updated(&mut self) {
        if !self.user.may_open(&self.broker.catalog(), &self.vhost) {
            self.refuse_secret(access_refused(self.user.name(), &self.vhost));
            return;
        }
        for channel in self.channels.values_mut() {
            channel.routes.clear();
        }
        self.withdraw_unreadable();
        self.conn.secret_updated();
    }

    /// Cancels the consumers of queues that the user may no longer read.
    fn withdraw_unreadable(&mut self) {
        let unreadable = |consumer: &Consumer| {
            let queue = self.queue_resource(&consumer.queue_name);
            !is_reply_queue(&queue.name) && self.check_permission(Permission::Read, &queue).is_err()
        };
        let withdrawn: Vec<ConsumerId> = self
            .consumers
            .iter()
            .filter(|(_, consumer)| unreadable(consumer))
            .map(|(id, _)| *id)
            .collect();
        for id in withdrawn {
            self.withdraw(id);
        }
    }
}

/// A user's name in the log: who mistakes the fields may have shown a token there.
fn shown(name: &str) -> &str {
    if is_one(name.as_bytes()) {
        "(a token)"
    } else {
        name
    }
}

fn access_refused(user: &str, vhost: &str) -> String {
    format!("access to vhost '{vhost}' refused for user '{user}'")
}

/// How many connections a vhost and a user may have.
struct ConnectionLimits {
    vhost: Option<u64>,
    user: Option<u64>,
}

/// Whether a user may open a vhost at all.
fn check_access(
    broker: &dyn Services,
    user: &Identity,
    vhost: &str,
) -> Result<ConnectionLimits, ProtocolError> {
    let catalog = broker.catalog();
    let Some(record) = catalog.vhost(vhost) else {
        return Err(Connection::vhost_error(format!("vhost {vhost} not found")));
    };
    if !user.may_open(&catalog, vhost) {
        return Err(Connection::vhost_error(access_refused(user.name(), vhost)));
    }
    let user = catalog
        .user(user.name())
        .and_then(|user| user.limits.max_connections);
    Ok(ConnectionLimits {
        vhost: record.limits.max_connections,
        user,
    })
}

/// Whether there is room for one more connection. Other nodes are asked only where a limit is set.
async fn check_limits(
    broker: &dyn Services,
    user: &str,
    vhost: &str,
    limits: ConnectionLimits,
) -> Result<(), ProtocolError> {
    if let Some(limit) = broker.config().limits.connections
        && broker.registry().connection_count() >= limit as usize
    {
        return Err(Connection::vhost_error(format!(
            "connection refused: node connection limit ({limit}) is reached"
        )));
    }
    if limits.vhost.is_none() && limits.user.is_none() {
        return Ok(());
    }
    let (of_user, of_vhost) = broker.open_of(user, vhost).await;
    if let Some(limit) = limits.vhost
        && of_vhost >= limit
    {
        return Err(Connection::vhost_error(format!(
            "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
        )));
    }
    if let Some(limit) = limits.user
        && of_user >= limit
    {
        return Err(Connection::vhost_error(format!(
            "connection refused for user '{user}': user connection limit ({limit}) is reached"
        )));
    }
    Ok(())
}
