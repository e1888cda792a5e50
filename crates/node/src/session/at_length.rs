//! Publishes whose way takes long to find: very many routing keys, or very many bindings that may fit.
//!
//! They are looked for on a thread of their own, one after the other on a node, so that one client which sends such messages
//! takes a part of one core and waits itself, and nobody else does.

use super::channel::ChannelKey;
use super::properties::Looked;
use super::publish::{PUBLISH, detached_publish, find_for};
use super::route::Publisher;
use super::state::{Session, internal};
use amqp_codec::ReplyCode;
use amqp_connection::{ProtocolError, Publish};
use broker_model::routing::Effort;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Whose turn it is.
static TURN: Semaphore = Semaphore::const_new(1);

impl Session {
    /// Looks for the way of a publish, then publishes it. The channel waits.
    pub(super) fn route_at_length(
        &mut self,
        key: ChannelKey,
        publish: Publish,
        looked: Looked,
        asked: bool,
    ) {
        let broker = Arc::clone(&self.broker);
        let (user, vhost) = (self.user.clone(), self.vhost.clone());
        // It may wait for many others.
        let held = self.holding(&publish);
        let publish = detached_publish(publish);
        let looking = async move {
            let patience = broker.config().timing.publish_timeout;
            let turn = timeout(patience, TURN.acquire()).await;
            let turn = turn.map_err(|_| no_turn())?;
            let look = move || {
                // Given back when it is done, also when nobody waits for it any more.
                let _turn = turn;
                let publisher = Publisher {
                    user: &user,
                    vhost: &vhost,
                };
                let mut effort = Effort::at_length();
                let found = find_for(&*broker, publisher, &publish, &looked, &mut effort);
                (publish, found)
            };
            let done = tokio::task::spawn_blocking(look).await;
            done.map_err(|_| internal("looking for the queues of a message failed"))
        };
        self.later(
            key,
            PUBLISH,
            looking,
            move |session, key, (publish, found)| {
                drop(held);
                session.publish_as_known(key, publish, asked, Some(found))
            },
        );
    }
}

fn no_turn() -> ProtocolError {
    let text =
        "finding the queues of this message takes many steps, and too many others wait for theirs";
    ProtocolError::new(ReplyCode::PRECONDITION_FAILED, text)
}
