//! Delayed messages whose time has come: what they look like, and where they go.

use super::header::keys_of;
use super::{Routed, find};
use crate::broker::Broker;
use crate::target::{add_headers, target_for};
use amqp_codec::{FieldTable, PropertiesView, Rewrite};
use broker_model::catalog::Catalog;
use broker_model::catalog::record::QueueRecord;
use broker_model::dispatch::DeadLetter;
use broker_model::message::Message;
use broker_model::routing::without_delay;

/// Routes a message of `store` through the bindings of the exchange that the store belongs to.
pub(super) fn route(
    broker: &Broker,
    catalog: &Catalog,
    store: &QueueRecord,
    letter: &DeadLetter,
) -> Option<Routed> {
    let (message, keys) = due(&letter.message);
    let queues = find(broker, catalog, store, &store.name, &keys, &message);
    let properties = PropertiesView::new(&message.properties);
    let expiration_ms = properties
        .expiration()
        .and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    let headers = properties.headers();
    let mut routed = Routed::new(message.clone());
    for queue in &queues {
        let mut target = target_for(queue, properties.priority(), expiration_ms);
        add_headers(&mut target, queue, None, headers.as_ref());
        target.identities = std::mem::take(&mut target.identities)
            .into_iter()
            .chain(letter.identity)
            .collect();
        routed.add(queue, target);
    }
    Some(routed)
}

/// The message when its delay is over, and all of its routing keys. Its `BCC` stays with it, as with one that was not
/// delayed and may die: no client is told of it.
fn due(message: &Message) -> (Message, Vec<String>) {
    let properties = PropertiesView::new(&message.properties);
    let headers = properties.headers().unwrap_or_else(FieldTable::empty);
    let keys = keys_of(message, &headers);
    let over = without_delay(&headers);
    let message = Message {
        properties: Rewrite::new(&message.properties)
            .headers(Some(over))
            .finish(),
        ..message.clone()
    };
    (message, keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp_codec::{FieldValue, TableBuilder};
    use bytes::Bytes;

    #[test]
    fn a_message_that_is_due() {
        let keys = |key: &str| FieldValue::Array([FieldValue::text(key)].into_iter().collect());
        let headers = TableBuilder::new()
            .push("x-delay", &FieldValue::I64(500))
            .push("CC", &keys("second"))
            .push("BCC", &keys("third"))
            .push("own", &FieldValue::Bool(true))
            .finish();
        let empty = amqp_codec::NO_PROPERTIES;
        let message = Message {
            exchange: Bytes::from_static(b"delayed"),
            routing_key: Bytes::from_static(b"first"),
            properties: Rewrite::new(&empty).headers(Some(headers)).finish(),
            body: Bytes::from_static(b"body"),
        };
        let (due, keys) = due(&message);
        assert_eq!(keys, ["first", "second", "third"]);
        let headers = PropertiesView::new(&due.properties).headers().unwrap();
        assert_eq!(headers.get("x-delay"), Some(FieldValue::I32(-500)));
        let names: Vec<String> = headers
            .iter()
            .map(|entry| entry.key().as_str().to_owned())
            .collect();
        assert_eq!(names, ["x-delay", "CC", "BCC", "own"]);
        assert_eq!((due.exchange, due.body), (message.exchange, message.body));
    }
}
