//! Publishing: checks, the way to the queues, returns, and what becomes of each message.

use super::catalog_calls::{becomes_recent, catalog_error, cut_off};
use super::channel::{Channel, ChannelKey, Mode};
use super::held::Held;
use super::names::is_reply_address;
use super::properties::{Looked, look, with_reply_to, without_bcc};
use super::route::{self, BELIEF, Publisher, Route, Sought, find};
use super::services::Services;
use super::state::Session;
use amqp_codec::{Content, PropertiesView, ReplyCode};
use amqp_connection::{ProtocolError, Publish};
use broker_model::catalog::{CatalogError, is_reply_queue};
use broker_model::ids::Placement;
use broker_model::message::Message;
use broker_model::op::Op;
use broker_model::routing::Effort;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

/// `basic.publish`.
pub(super) const PUBLISH: (u16, u16) = (60, 40);

/// Bodies up to this size are copied where they wait, in queues in this node's memory for one: a small message that
/// waits must not keep a whole read buffer.
const COPY_MAX: usize = 16 * 1024;

/// Routing keys in properties take so many times as much when they are taken apart.
const KEYS_APART: usize = 8;

/// A publish that has passed all checks and knows its way.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) publish: Publish,
    pub(super) looked: Looked,
    pub(super) route: Arc<Route>,
    /// The catalog here may be old: a node that is cut off does not know what was declared and bound elsewhere, and cannot
    /// say that these are all queues, or that there is none.
    unsure: bool,
}

impl Checked {
    /// Memory it takes while it waits.
    pub(super) fn weight(&self) -> usize {
        self.publish.body.len() + self.publish.properties.len() + 256
    }

    /// The same, with memory of its own.
    pub(super) fn detached(self) -> Self {
        Self {
            publish: detached_publish(self.publish),
            ..self
        }
    }
}

/// A publish that waits, without references to the buffer that it was read into, unless it fills it.
pub(super) fn detached_publish(publish: Publish) -> Publish {
    let (properties, body) = owned(&publish.properties, &publish.body);
    Publish {
        properties,
        body,
        ..publish
    }
}

/// A way that was found.
pub(super) struct Way {
    route: Route,
    /// It depends on exchange and key only.
    by_key_only: bool,
    /// The catalog that it was found in is this, or newer.
    version: u64,
}

/// What came of looking for a way.
pub(super) type Found = Result<Way, CatalogError>;

/// Looks for the way of a publish.
pub(super) fn find_for(
    broker: &dyn Services,
    publisher: Publisher<'_>,
    publish: &Publish,
    looked: &Looked,
    effort: &mut Effort,
) -> Found {
    let mut keys = Vec::with_capacity(1 + looked.more_keys.len());
    keys.push(publish.routing_key.as_str());
    keys.extend(looked.more_keys.iter().map(String::as_str));
    let sought = Sought {
        exchange: &publish.exchange,
        keys: &keys,
        properties: PropertiesView::new(&publish.properties),
        is_here: &|placement| broker.is_here(placement),
    };
    // Read before the catalog: what is found may be newer, never older.
    let version = broker.catalog_version();
    let (route, by_key_only) = find(&broker.catalog(), publisher, &sought, effort)?;
    Ok(Way {
        route,
        by_key_only,
        version,
    })
}

impl Session {
    /// A message of a client.
    pub(super) fn publish(
        &mut self,
        key: ChannelKey,
        publish: Publish,
    ) -> Result<(), ProtocolError> {
        if publish.immediate {
            return Err(ProtocolError::new(
                ReplyCode::NOT_IMPLEMENTED,
                "immediate=true",
            ));
        }
        self.publish_as_known(key, publish, false, None)
    }

    /// Publishes it; `asked`: the others were asked a moment ago, if they could be. `way`: what was found at length.
    pub(super) fn publish_as_known(
        &mut self,
        key: ChannelKey,
        publish: Publish,
        asked: bool,
        way: Option<Found>,
    ) -> Result<(), ProtocolError> {
        let Some(checked) = self.check_publish(key, publish, asked, way)? else {
            return Ok(());
        };
        if checked.route.traced {
            self.trace_publish(key, &checked);
        }
        let Some(channel) = self.channel(key) else {
            return Ok(());
        };
        if let Mode::Tx(tx) = &mut channel.mode {
            return tx.publish(checked);
        }
        self.send_publish(key, checked);
        Ok(())
    }

    /// Checks a publish and finds its way. `None`: the catalog is brought up to date first, or the way is looked for at
    /// length, then it is published.
    fn check_publish(
        &mut self,
        key: ChannelKey,
        mut publish: Publish,
        asked: bool,
        way: Option<Found>,
    ) -> Result<Option<Checked>, ProtocolError> {
        let at_length = way.is_some();
        let (looked, found) = self.look_and_route(key, &publish, way);
        if matches!(found, Err(CatalogError::TooCostly)) && !at_length {
            self.route_at_length(key, publish, looked?, asked);
            return Ok(None);
        }
        let missing = match &found {
            Ok(route) => looked.is_ok() && !route.is_routed,
            Err(error) => matches!(
                error,
                CatalogError::NotFound(_) | CatalogError::AccessRefused { .. }
            ),
        };
        // The default exchange leads where one key says, and that queue is found: nothing is missing.
        let more_keys = looked
            .as_ref()
            .is_ok_and(|looked| !looked.more_keys.is_empty());
        let old = found.is_ok()
            && (!publish.exchange.is_empty() || more_keys)
            && !self.broker.catalog_is_recent();
        if !asked && (missing && !self.believes(key) || old && !self.has_waited(key)) {
            self.bring_up_to_date(key, publish, old);
            return Ok(None);
        }
        let route = match found {
            // Nacked, as what finds no queue is while that is not sure.
            Err(CatalogError::NotFound(_)) if self.is_unsure(key) => {
                if !self.is_confirming(key) {
                    return Err(cut_off());
                }
                Arc::default()
            }
            found => found.map_err(|error| catalog_error(&error))?,
        };
        let looked = looked?;
        if looked.direct_reply {
            let channel = self.channel(key);
            let reply = channel.and_then(|channel| channel.reply_consumer.as_ref());
            let reply = reply.ok_or_else(no_reply_consumer)?;
            publish.properties = with_reply_to(&publish.properties, &reply.queue);
        }
        let unsure = (old || !route.is_routed) && self.is_unsure(key);
        Ok(Some(Checked {
            publish,
            looked,
            route,
            unsure,
        }))
    }

    /// Publishes it when the catalog is up to date, or nobody could be asked whether it is. `old`: what was found may be too
    /// little; that is waited for as long as a queue's leader would be, if somebody hears of the outcome.
    fn bring_up_to_date(&mut self, key: ChannelKey, publish: Publish, old: bool) {
        let held = self.holding(&publish);
        let broker = Arc::clone(&self.broker);
        let patient = self.is_answered(key);
        let sync = async move {
            let sure = match old {
                true if patient => becomes_recent(&*broker).await,
                true => broker.catalog_freshen().await,
                false => broker.catalog_sync().await,
            };
            Ok(sure)
        };
        let began = self.now;
        self.later(key, PUBLISH, sync, move |session, key, sure| {
            drop(held);
            let at = if sure { began } else { session.now };
            let version = session.broker.catalog_version();
            if let Some(channel) = session.channel(key) {
                channel.routes.note_synced(version, at, sure);
            }
            session.publish_as_known(key, publish, true, None)
        });
    }

    /// Counts a publish that waits: above a bound the client is not read, on whatever channels its publishes wait.
    pub(super) fn holding(&self, publish: &Publish) -> Held {
        let mut held = Held::of(&self.waiting_publishes);
        // Routing keys of the headers are taken apart.
        let bytes = publish.body.len() + KEYS_APART * publish.properties.len();
        held.more(bytes as u64);
        held
    }

    /// What matters in the properties, and the way. What is wrong with the exchange is told first, so
    /// that it is looked at even if the properties are wrong.
    fn look_and_route(
        &mut self,
        key: ChannelKey,
        publish: &Publish,
        way: Option<Found>,
    ) -> (
        Result<Looked, ProtocolError>,
        Result<Arc<Route>, CatalogError>,
    ) {
        let looked = look(&publish.properties, self.user.name(), self.may_impersonate);
        let found = match &looked {
            Ok(looked) => self.route(key, publish, looked, way),
            Err(_) => {
                let (user, vhost) = (&self.user, &self.vhost);
                route::check(
                    &self.broker.catalog(),
                    Publisher { user, vhost },
                    &publish.exchange,
                )
                .map(|_| Arc::default())
            }
        };
        (looked, found)
    }

    /// Whether what is missing here may be there, because the others could not be asked.
    fn is_unsure(&self, key: ChannelKey) -> bool {
        self.channels
            .get(&key.number)
            .is_some_and(|channel| channel.routes.is_unsure())
    }

    fn is_confirming(&self, key: ChannelKey) -> bool {
        self.channels
            .get(&key.number)
            .is_some_and(|channel| matches!(channel.mode, Mode::Confirm))
    }

    /// Whether the client hears what becomes of its publishes on this channel.
    fn is_answered(&self, key: ChannelKey) -> bool {
        self.channels
            .get(&key.number)
            .is_some_and(|channel| !matches!(channel.mode, Mode::Plain))
    }

    /// Whether it was tried a moment ago, in vain, to bring an old catalog up to date. Who hears nothing of its publishes
    /// is not held up again and again.
    fn has_waited(&self, key: ChannelKey) -> bool {
        let patience = match self.is_answered(key) {
            true => BELIEF,
            false => self.broker.config().timing.publish_timeout.max(BELIEF),
        };
        self.channels
            .get(&key.number)
            .is_some_and(|channel| channel.routes.was_in_vain(patience, self.now))
    }

    fn believes(&self, key: ChannelKey) -> bool {
        let version = self.broker.catalog_version();
        self.channels
            .get(&key.number)
            .is_none_or(|channel| channel.routes.believes(version, self.now))
    }

    /// The way of a publish: known, found before (`way`), or found now if that takes little.
    fn route(
        &mut self,
        key: ChannelKey,
        publish: &Publish,
        looked: &Looked,
        way: Option<Found>,
    ) -> Result<Arc<Route>, CatalogError> {
        let Self {
            broker,
            channels,
            user,
            vhost,
            flow,
            ..
        } = self;
        let Some(channel) = channels.get_mut(&key.number) else {
            return Ok(Arc::default());
        };
        let one_key = looked.more_keys.is_empty();
        if one_key
            && let Some(route) = channel.routes.get(
                broker.catalog_version(),
                &publish.exchange,
                &publish.routing_key,
            )
        {
            return Ok(route);
        }
        let publisher = Publisher { user, vhost };
        let found = way.unwrap_or_else(|| {
            let mut effort = Effort::at_once();
            find_for(&**broker, publisher, publish, looked, &mut effort)
        });
        let Way {
            mut route,
            by_key_only,
            version,
        } = found?;
        let catalog = broker.catalog();
        let record = catalog.exchange(vhost, &publish.exchange);
        route.flow = record.map(|record| flow.of(&broker.registry().exchanges, &catalog, record));
        drop(catalog);
        let route = Arc::new(route);
        // An unroutable one is looked for again: a queue may be declared any moment.
        if one_key && by_key_only {
            channel
                .routes
                .put(version, &publish.exchange, &publish.routing_key, &route);
        }
        Ok(route)
    }

    /// Sends a publish on its way: at once, or with the commit of its transaction.
    pub(super) fn send_publish(&mut self, key: ChannelKey, checked: Checked) {
        let Checked {
            mut publish,
            looked,
            route,
            unsure,
        } = checked;
        let Self {
            broker,
            channels,
            outbox,
            conn,
            tally,
            flow,
            ..
        } = self;
        let Some(channel) = channels.get_mut(&key.number) else {
            return;
        };
        let counts = &channel.entry.counts;
        counts.published.add_alone(1);
        if let Some(counted) = &route.flow {
            flow.count(counted, route.queues);
        }
        tally.published += 1;
        tally.sizes.see(publish.body.len());
        // As with RabbitMQ, whether the one who asked is still there to hear a direct reply is nobody's concern: not
        // even a mandatory one comes back, unless its address is none.
        let replies = publish.exchange.is_empty() && is_reply_queue(publish.routing_key.as_str());
        let is_address = replies && is_reply_address(publish.routing_key.as_str());
        let awaited = match channel.mode {
            Mode::Plain => None,
            Mode::Confirm | Mode::Tx(_) => {
                tally.published_confirm += u64::from(matches!(channel.mode, Mode::Confirm));
                let awaited = match route.places.len() {
                    _ if unsure => 1,
                    _ if replies => 0,
                    places => places,
                };
                let places = u32::try_from(awaited).unwrap_or(u32::MAX);
                let number = channel.confirms.publish(places);
                if unsure {
                    channel.confirms.rejected(number);
                }
                Some((key, number))
            }
        };
        // Who is told that it was not taken need not hear that there is no queue; and it goes to none.
        let refused = unsure && awaited.is_some();
        if refused {
            // Counted when its answer is.
        } else if !route.is_routed && !is_address {
            if publish.mandatory {
                tally.unroutable_returned += 1;
                counts.unroutable_returned.add_alone(1);
                if looked.has_bcc {
                    publish.properties = without_bcc(&publish.properties);
                }
                let content = Content {
                    properties: &publish.properties,
                    body: &publish.body,
                };
                conn.send_return(
                    key.number,
                    ReplyCode::NO_ROUTE,
                    &publish.exchange,
                    &publish.routing_key,
                    content,
                );
            } else {
                tally.unroutable_dropped += 1;
                counts.unroutable_dropped.add_alone(1);
            }
        } else {
            tally.routed += 1;
        }
        if !route.places.is_empty() && !refused {
            let own = Placement::Host(broker.origin().node);
            let with_bcc = looked.has_bcc.then(|| publish.properties.clone());
            let message = message(publish, &looked);
            for place in &route.places {
                let whole = with_bcc.as_ref().unwrap_or(&message.properties);
                let properties = PropertiesView::new(whole);
                let targets = place.targets(looked.priority, looked.expiration_ms, properties);
                let kept = with_bcc.as_ref().filter(|_| place.keeps_keys);
                // It is routed by all of its keys when its time has come, or when it dies.
                let kept = kept.map(|whole| Message {
                    properties: whole.clone(),
                    ..message.clone()
                });
                let message = kept.as_ref().unwrap_or(&message);
                let message = if place.placement == own {
                    detached(message)
                } else {
                    message.clone()
                };
                // A small message for very many queues is large.
                let bytes = message.weight() + size_of_val(&targets[..]);
                outbox.publish(
                    place.placement,
                    Op::Publish { targets, message },
                    bytes,
                    awaited.filter(|_| !replies),
                );
            }
        }
        if !route.is_routed || refused {
            // Each by itself, before the next one is returned: nobody has to be waited for, and clients count on a frame for each.
            self.report_confirms(key);
        }
        self.touch(key);
    }

    /// One place has answered a publish.
    pub(super) fn publish_answered(&mut self, key: ChannelKey, publish: u64, accepted: bool) {
        let Some(channel) = self
            .channels
            .get_mut(&key.number)
            .filter(|channel| channel.key == key)
        else {
            return;
        };
        if accepted {
            channel.confirms.done(publish);
        } else {
            channel.confirms.rejected(publish);
        }
        if !channel.touched {
            self.touch(key);
        }
    }

    /// `confirm.select`.
    pub(super) fn select_confirms(&mut self, key: ChannelKey) -> Result<(), ProtocolError> {
        let Some(Channel { mode, .. }) = self.channel(key) else {
            return Ok(());
        };
        if matches!(mode, Mode::Tx(_)) {
            let text = "cannot switch from tx to confirm mode";
            return Err(ProtocolError::new(ReplyCode::PRECONDITION_FAILED, text));
        }
        *mode = Mode::Confirm;
        self.wants_confirms = true;
        self.touch(key);
        Ok(())
    }
}

fn no_reply_consumer() -> ProtocolError {
    let text = "fast reply consumer does not exist";
    ProtocolError::new(ReplyCode::PRECONDITION_FAILED, text)
}

fn message(publish: Publish, looked: &Looked) -> Message {
    let properties = if looked.has_bcc {
        without_bcc(&publish.properties)
    } else {
        publish.properties
    };
    Message {
        exchange: publish.exchange.into_bytes(),
        routing_key: publish.routing_key.into_bytes(),
        properties,
        body: publish.body,
    }
}

/// The message without references to the buffer that it was read into, unless it fills it.
pub(super) fn detached(message: &Message) -> Message {
    let (properties, body) = owned(&message.properties, &message.body);
    Message {
        exchange: message.exchange.clone(),
        routing_key: message.routing_key.clone(),
        properties,
        body,
    }
}

/// Copies of properties and body; a large body stays what it is.
fn owned(properties: &Bytes, body: &Bytes) -> (Bytes, Bytes) {
    let body_kept = body.len() > COPY_MAX;
    let copied = properties.len() + if body_kept { 0 } else { body.len() };
    // One allocation for both.
    let mut copy = BytesMut::with_capacity(copied);
    copy.extend_from_slice(properties);
    let properties = copy.split().freeze();
    let body = if body_kept {
        body.clone()
    } else {
        copy.extend_from_slice(body);
        copy.freeze()
    };
    (properties, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tx::Tx;

    /// Of a read buffer of which the rest is gone, a small message that waits keeps nothing.
    #[test]
    fn a_publish_that_waits_for_its_commit_keeps_no_read_buffer() {
        let read = Bytes::from(vec![b'x'; 256 * 1024]);
        let publish = Publish {
            channel: 1,
            exchange: Default::default(),
            routing_key: Default::default(),
            mandatory: false,
            immediate: false,
            properties: read.slice(..2),
            body: read.slice(2..100),
        };
        let mut tx = Tx::within(u64::MAX);
        tx.publish(Checked {
            publish,
            looked: Looked::default(),
            route: Arc::default(),
            unsure: false,
        })
        .expect("there is room");
        assert!(read.is_unique());
    }
}
