//! What a message is published with: its own properties, and what the definition sets or adds.

use crate::config::{Definition, From, PublishProperties};
use amqp_codec::{FieldArray, FieldTable, FieldValue, Properties, TableBuilder, ValueError};
use bytes::Bytes;

/// Header that says by which shovels a message has come, the last one first.
const SHOVELLED: &str = "x-shovelled";
/// Header that says when, in seconds.
const TIMESTAMP: &str = "x-shovelled-timestamp";
/// Shovels that a message remembers: two that move it round and round must not make it grow for ever.
const HOPS_MAX: usize = 64;

/// Rewrites properties.
#[derive(Debug, Clone)]
pub struct Rewriter {
    set: PublishProperties,
    /// One entry of the header, if it is to be added.
    hop: Option<FieldTable>,
    timestamp: bool,
}

/// Where a shovel is, for the header.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// The virtual host of its definition.
    pub vhost: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The source, without credentials.
    pub source_uri: &'a str,
    /// The destination, without credentials.
    pub destination_uri: &'a str,
}

impl Rewriter {
    /// For a definition, run at a place.
    #[must_use]
    pub fn new(definition: &Definition, place: Place<'_>) -> Self {
        let to = &definition.destination;
        Self {
            set: to.properties.clone(),
            hop: to.forward_headers.then(|| hop(definition, place)),
            timestamp: to.timestamp_header,
        }
    }

    /// The properties of a message, as it is to be published at `now_s`.
    ///
    /// # Errors
    /// They cannot be decoded.
    pub fn rewrite(&self, raw: &Bytes, now_s: u64) -> Result<Bytes, ValueError> {
        if self.hop.is_none() && !self.timestamp && self.set == PublishProperties::default() {
            return Ok(raw.clone());
        }
        let mut properties = Properties::decode(raw)?;
        self.set.put_into(&mut properties);
        if let Some(hop) = &self.hop {
            let headers = properties.headers.take().unwrap_or_default();
            properties.headers = Some(with_hop(&headers, hop));
        }
        if self.timestamp {
            let headers = properties.headers.take().unwrap_or_default();
            let seconds = i64::try_from(now_s).unwrap_or(i64::MAX);
            let mut builder = TableBuilder::from_table(&headers);
            builder.set(TIMESTAMP, &FieldValue::I64(seconds));
            properties.headers = Some(builder.finish());
        }
        Ok(properties.encode())
    }
}

impl PublishProperties {
    fn put_into(&self, properties: &mut Properties) {
        let text = |to: &mut Option<Bytes>, from: &Option<Bytes>| {
            if from.is_some() {
                to.clone_from(from);
            }
        };
        text(&mut properties.content_type, &self.content_type);
        text(&mut properties.content_encoding, &self.content_encoding);
        text(&mut properties.correlation_id, &self.correlation_id);
        text(&mut properties.reply_to, &self.reply_to);
        text(&mut properties.expiration, &self.expiration);
        text(&mut properties.message_id, &self.message_id);
        text(&mut properties.kind, &self.kind);
        text(&mut properties.user_id, &self.user_id);
        text(&mut properties.app_id, &self.app_id);
        text(&mut properties.cluster_id, &self.cluster_id);
        properties.delivery_mode = self.delivery_mode.or(properties.delivery_mode);
        properties.priority = self.priority.or(properties.priority);
        properties.timestamp = self.timestamp.or(properties.timestamp);
    }
}

fn with_hop(headers: &FieldTable, hop: &FieldTable) -> FieldTable {
    let before: Vec<FieldValue> = match headers.get(SHOVELLED) {
        Some(FieldValue::Array(hops)) => hops.iter().take(HOPS_MAX - 1).collect(),
        _ => Vec::new(),
    };
    let hops: FieldArray = [FieldValue::Table(hop.clone())]
        .into_iter()
        .chain(before)
        .collect();
    let mut builder = TableBuilder::from_table(headers);
    builder.set(SHOVELLED, &FieldValue::Array(hops));
    builder.finish()
}

fn hop(definition: &Definition, place: Place<'_>) -> FieldTable {
    let mut table = TableBuilder::new();
    let mut put = |key: &str, text: &str| {
        table.push(key, &FieldValue::text(text));
    };
    put("shovelled-by", place.cluster);
    put("shovel-type", "dynamic");
    put("shovel-name", place.name);
    put("shovel-vhost", place.vhost);
    put("src-uri", place.source_uri);
    put("dest-uri", place.destination_uri);
    match &definition.source.from {
        From::Queue { name, .. } => put("src-queue", name.as_str()),
        From::Exchange { name, key } => {
            put("src-exchange", name.as_str());
            put("src-exchange-key", key.as_str());
        }
    }
    let to = &definition.destination;
    match &to.queue {
        Some(queue) => put("dest-queue", queue.as_str()),
        None => {
            if let Some(exchange) = &to.exchange {
                put("dest-exchange", exchange.as_str());
            }
            if let Some(key) = &to.key {
                put("dest-exchange-key", key.as_str());
            }
        }
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn rewriter(changes: &[(&str, Value)]) -> Rewriter {
        let mut value = json!({ "src-uri": "amqp://u:p@h", "src-queue": "a",
                                "dest-uri": "amqp://", "dest-queue": "b" });
        for (key, change) in changes {
            value[*key] = change.clone();
        }
        let definition = Definition::parse("s", &value).unwrap();
        let place = Place {
            cluster: "c",
            vhost: "/",
            name: "s",
            source_uri: "amqp://h",
            destination_uri: "amqp://",
        };
        Rewriter::new(&definition, place)
    }

    fn message() -> Bytes {
        let mut headers = TableBuilder::new();
        headers.push("mine", &FieldValue::I32(1));
        Properties {
            headers: Some(headers.finish()),
            delivery_mode: Some(1),
            message_id: Some(Bytes::from_static(b"id")),
            ..Properties::default()
        }
        .encode()
    }

    #[test]
    fn untouched_without_reason() {
        let raw = message();
        assert_eq!(rewriter(&[]).rewrite(&raw, 5).unwrap(), raw);
    }

    #[test]
    fn properties_are_set() {
        let set = json!({ "delivery_mode": 2, "type": "t" });
        let made = rewriter(&[("dest-publish-properties", set)])
            .rewrite(&message(), 5)
            .unwrap();
        let made = Properties::decode(&made).unwrap();
        assert_eq!(made.delivery_mode, Some(2));
        assert_eq!(made.kind.as_deref(), Some(&b"t"[..]));
        assert_eq!(made.message_id.as_deref(), Some(&b"id"[..]));
    }

    #[test]
    fn the_way_of_a_message() {
        let rewriter = rewriter(&[
            ("dest-add-forward-headers", true.into()),
            ("dest-add-timestamp-header", true.into()),
        ]);
        let mut raw = message();
        for _ in 0..HOPS_MAX + 3 {
            raw = rewriter.rewrite(&raw, 5).unwrap();
        }
        let headers = Properties::decode(&raw).unwrap().headers.unwrap();
        assert_eq!(headers.get("mine"), Some(FieldValue::I32(1)));
        assert_eq!(headers.get(TIMESTAMP), Some(FieldValue::I64(5)));
        let hops = headers.get(SHOVELLED).unwrap();
        let hops: Vec<FieldValue> = hops.as_array().unwrap().iter().collect();
        assert_eq!(hops.len(), HOPS_MAX);
        let hop = hops[0].as_table().unwrap();
        for (key, value) in [
            ("shovelled-by", "c"),
            ("shovel-type", "dynamic"),
            ("shovel-name", "s"),
            ("shovel-vhost", "/"),
            ("src-uri", "amqp://h"),
            ("dest-uri", "amqp://"),
            ("src-queue", "a"),
            ("dest-queue", "b"),
        ] {
            assert_eq!(hop.get(key), Some(FieldValue::text(value)), "{key}");
        }
    }
}
