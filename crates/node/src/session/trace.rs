//! The firehose: while a virtual host is traced, copies of what its clients publish and get go to the exchange
//! `amq.rabbitmq.trace`, as RabbitMQ's do: keys `publish.<exchange>` and `deliver.<queue>`, the body as it is, and headers that tell
//! where it came from. Copies are published without confirms; what publishers without confirms may have under way bounds them too.

use super::channel::ChannelKey;
use super::publish::{Checked, detached};
use super::route::{Route, find_inside};
use super::state::Session;
use crate::config::Config;
use amqp_codec::{FieldArray, FieldTable, FieldValue, Properties, PropertiesView, TableBuilder};
use broker_model::ids::Placement;
use broker_model::message::Message;
use broker_model::op::Op;
use broker_model::protocol::Delivery;
use bytes::Bytes;

/// Where copies go. Clients cannot publish there.
const EXCHANGE: &str = "amq.rabbitmq.trace";
/// The longest short string.
const KEY_MAX: usize = 255;

/// Whether the virtual host was traced at a version of the catalog.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traced {
    version: u64,
    on: bool,
}

impl Session {
    /// Whether the virtual host is traced now.
    pub(super) fn is_traced(&mut self) -> bool {
        // Read before the catalog: what is found may be newer, never older.
        let version = self.broker.catalog_version();
        if self.traced.version != version {
            let catalog = self.broker.catalog();
            let on = catalog
                .vhost(&self.vhost)
                .is_some_and(|vhost| vhost.tracing);
            self.traced = Traced { version, on };
        }
        self.traced.on
    }

    /// Copies a publish that has passed all checks.
    pub(super) fn trace_publish(&mut self, key: ChannelKey, checked: &Checked) {
        let publish = &checked.publish;
        let Some(route) = self.trace_route("publish", publish.exchange.as_str()) else {
            return;
        };
        let more = checked.looked.more_keys.iter().map(String::as_str);
        let keys = std::iter::once(publish.routing_key.as_str()).chain(more);
        let queues = checked.route.places.iter().flat_map(|place| &place.queues);
        // Stores of delays and histories are not queues that clients know.
        let queues = queues.filter(|queue| queue.settings().store.is_none());
        let mut headers = self.about(publish.exchange.as_str(), texts(keys), &publish.properties);
        self.whose(&mut headers, key);
        headers.push(
            "routed_queues",
            &FieldValue::Array(texts(queues.map(|queue| &*queue.name))),
        );
        self.send_copy(route, &headers.finish(), &publish.body);
    }

    /// Copies messages as they are handed to the client; `queue` is where they come from.
    pub(super) fn trace_delivery(&mut self, key: ChannelKey, queue: &str, delivery: &Delivery) {
        let message = &delivery.message;
        if message.exchange == EXCHANGE.as_bytes() {
            return;
        }
        let Some(route) = self.trace_route("deliver", queue) else {
            return;
        };
        let (exchange, routing_key) = (text(&message.exchange), text(&message.routing_key));
        let mut headers = self.about(&exchange, texts([&*routing_key]), &message.properties);
        headers.push("redelivered", &FieldValue::I32(delivery.redelivered.into()));
        self.whose(&mut headers, key);
        self.send_copy(route, &headers.finish(), &message.body);
    }

    /// Where copies of this kind go, and their key; `None` where nobody listens.
    fn trace_route(&self, kind: &str, of: &str) -> Option<(Route, String)> {
        let mut key = format!("{kind}.{of}");
        key.truncate(key.floor_char_boundary(KEY_MAX));
        let is_here = |placement| self.broker.is_here(placement);
        let catalog = self.broker.catalog();
        let route = find_inside(&catalog, &self.vhost, EXCHANGE, &key, &is_here)?;
        (!route.places.is_empty()).then_some((route, key))
    }

    /// What is told of every message.
    fn about(&self, exchange: &str, keys: FieldArray, properties: &Bytes) -> TableBuilder {
        let node = Config::node_name(self.broker.origin().node);
        let mut headers = TableBuilder::new();
        headers
            .push("exchange_name", &FieldValue::text(exchange))
            .push("routing_keys", &FieldValue::Array(keys))
            .push("properties", &FieldValue::Table(table(properties)))
            .push("node", &FieldValue::text(&node));
        headers
    }

    /// Whose channel it passed through.
    fn whose(&self, headers: &mut TableBuilder, key: ChannelKey) {
        let connection = self.entry.as_ref().map(|entry| entry.name());
        let connection = connection.unwrap_or_default();
        headers
            .push("vhost", &FieldValue::text(&self.vhost))
            .push("connection", &FieldValue::text(&connection))
            .push("channel", &FieldValue::I32(key.number.into()))
            .push("user", &FieldValue::text(self.user.name()));
    }

    fn send_copy(&mut self, (route, key): (Route, String), headers: &FieldTable, body: &Bytes) {
        let properties = Properties {
            headers: Some(headers.clone()),
            ..Properties::default()
        };
        let message = Message {
            exchange: Bytes::from_static(EXCHANGE.as_bytes()),
            routing_key: key.into_bytes().into(),
            properties: properties.encode(),
            body: body.clone(),
        };
        let own = Placement::Host(self.broker.origin().node);
        for place in &route.places {
            let view = PropertiesView::new(&message.properties);
            let targets = place.targets(None, None, view);
            let message = if place.placement == own {
                detached(&message)
            } else {
                message.clone()
            };
            let bytes = message.weight() + size_of_val(&targets[..]);
            let publish = Op::Publish { targets, message };
            self.outbox.publish(place.placement, publish, bytes, None);
        }
    }
}

/// The properties of a message as a table, under their names.
fn table(raw: &Bytes) -> FieldTable {
    let view = PropertiesView::new(raw);
    let mut table = TableBuilder::new();
    if let Some(headers) = view.headers() {
        table.push("headers", &FieldValue::Table(headers));
    }
    for (name, value) in [
        ("content_type", view.content_type()),
        ("content_encoding", view.content_encoding()),
        ("correlation_id", view.correlation_id()),
        ("reply_to", view.reply_to()),
        ("expiration", view.expiration()),
        ("message_id", view.message_id()),
        ("type", view.kind()),
        ("user_id", view.user_id()),
        ("app_id", view.app_id()),
        ("cluster_id", view.cluster_id()),
    ] {
        if let Some(value) = value {
            table.push(name, &FieldValue::LongStr(Bytes::copy_from_slice(value)));
        }
    }
    for (name, value) in [
        ("delivery_mode", view.delivery_mode()),
        ("priority", view.priority()),
    ] {
        if let Some(value) = value {
            table.push(name, &FieldValue::I32(value.into()));
        }
    }
    if let Some(time) = view.timestamp() {
        table.push("timestamp", &FieldValue::I64(time.cast_signed()));
    }
    table.finish()
}

fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> FieldArray {
    texts.into_iter().map(FieldValue::text).collect()
}

fn text(bytes: &Bytes) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
