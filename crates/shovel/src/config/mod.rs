//! What a shovel is to do: the value of a parameter of the component `shovel`.
//!
//! Not here: which values are refused, and with which words (`validate`).

mod erlang;
mod json;
mod validate;

pub use validate::{Access, closed_vhost, validate};

use crate::uri::{Uri, without_credentials};
use amqp_codec::{FieldTable, ShortStr};
use bytes::Bytes;
use serde_json::{Map, Value};
use std::time::Duration;

/// Seconds between two tries, where the definition does not say.
const RECONNECT_DELAY_S: u64 = 5;
/// Deliveries that may be unacknowledged, where the definition does not say.
const PREFETCH: u64 = 1000;
/// A shovel with a time to live is given at least so many seconds.
const DURATION_MIN_S: u64 = 60;
/// Keys whose values hold URIs.
const URI_KEYS: [&str; 2] = ["src-uri", "dest-uri"];

/// When a message is acknowledged at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AckMode {
    /// After the destination has confirmed it: nothing is lost.
    #[default]
    OnConfirm,
    /// After it was sent to the destination.
    OnPublish,
    /// Before it is sent here.
    NoAck,
}

/// When a shovel ends by itself, and its definition with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeleteAfter {
    /// Never.
    #[default]
    Never,
    /// After as many messages as waited when it started.
    QueueLength,
    /// After so many messages.
    Count(u64),
}

/// How an end is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// AMQP 0-9-1, over the network or not.
    Amqp091,
    /// AMQP 0-9-1 within this cluster; of the URI only the login and the virtual host count.
    Local,
}

impl Protocol {
    /// RabbitMQ's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amqp091 => "amqp091",
            Self::Local => "local",
        }
    }
}

/// Where messages come from.
#[derive(Debug, Clone)]
pub enum From {
    /// A queue.
    Queue {
        /// Its name.
        name: ShortStr,
        /// Arguments to declare it with, if it does not exist.
        arguments: FieldTable,
        /// It has to exist.
        predeclared: bool,
    },
    /// An exchange: by a queue of the shovel's own.
    Exchange {
        /// Its name.
        name: ShortStr,
        /// Key of the binding.
        key: ShortStr,
    },
}

/// The source.
#[derive(Debug, Clone)]
pub struct Source {
    /// How it is reached.
    pub protocol: Protocol,
    /// Brokers that have it.
    pub uris: Vec<Uri>,
    /// What is consumed.
    pub from: From,
    /// Deliveries that may be unacknowledged.
    pub prefetch: u16,
    /// Arguments of the consumer.
    pub consumer_args: FieldTable,
    /// Tag of the consumer.
    pub consumer_tag: ShortStr,
    /// When the shovel has done its work.
    pub delete_after: DeleteAfter,
    /// It ends after so long in any case.
    pub delete_after_duration: Option<Duration>,
}

/// The destination.
#[derive(Debug, Clone)]
pub struct Destination {
    /// How it is reached.
    pub protocol: Protocol,
    /// Brokers that have it.
    pub uris: Vec<Uri>,
    /// A queue; then the exchange is the default one.
    pub queue: Option<ShortStr>,
    /// Arguments to declare it with, if it does not exist.
    pub queue_arguments: FieldTable,
    /// It has to exist.
    pub predeclared: bool,
    /// The exchange; `None`: as the message had it.
    pub exchange: Option<ShortStr>,
    /// The routing key; `None`: as the message had it.
    pub key: Option<ShortStr>,
    /// Properties that are set.
    pub properties: PublishProperties,
    /// Add `x-shovelled`.
    pub forward_headers: bool,
    /// Add `x-shovelled-timestamp`.
    pub timestamp_header: bool,
}

/// Properties that every message is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PublishProperties {
    pub content_type: Option<Bytes>,
    pub content_encoding: Option<Bytes>,
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<Bytes>,
    pub reply_to: Option<Bytes>,
    pub expiration: Option<Bytes>,
    pub message_id: Option<Bytes>,
    pub timestamp: Option<u64>,
    pub kind: Option<Bytes>,
    pub user_id: Option<Bytes>,
    pub app_id: Option<Bytes>,
    pub cluster_id: Option<Bytes>,
}

/// A shovel.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Where messages come from.
    pub source: Source,
    /// Where they go.
    pub destination: Destination,
    /// When they are acknowledged.
    pub ack_mode: AckMode,
    /// Pause before the next try; `None`: there is none.
    pub reconnect_delay: Option<Duration>,
}

impl Definition {
    /// Reads a definition that [`validate`] accepts.
    ///
    /// # Errors
    /// The first thing that is wrong with it, as [`validate`] tells it: it may have been stored by something that did not ask.
    pub fn parse(name: &str, value: &Value) -> Result<Self, String> {
        if let Some(first) = validate(name, value, &Access::Everything)
            .into_iter()
            .next()
        {
            return Err(first);
        }
        let empty = Map::new();
        let fields = Fields(value.as_object().unwrap_or(&empty));
        let unreadable = |error: amqp_codec::TooLong| error.to_string();
        let delay = fields.0.get("reconnect-delay");
        let delay_s = delay.map_or(Some(RECONNECT_DELAY_S), Value::as_u64);
        Ok(Self {
            source: fields.source().map_err(unreadable)?,
            destination: fields.destination().map_err(unreadable)?,
            ack_mode: match fields.text("ack-mode") {
                Some("on-publish") => AckMode::OnPublish,
                Some("no-ack") => AckMode::NoAck,
                _ => AckMode::OnConfirm,
            },
            // As RabbitMQ: 0, and what is no whole number, means not to try again.
            reconnect_delay: delay_s.filter(|s| *s > 0).map(Duration::from_secs),
        })
    }

    /// Whether messages have to be acknowledged at the source. Also without `ack-mode` where only some are taken: what the
    /// source had sent beyond would be lost.
    #[must_use]
    pub fn acknowledges(&self) -> bool {
        self.ack_mode != AckMode::NoAck || self.source.delete_after != DeleteAfter::Never
    }
}

/// Whether a definition says that it belongs to something else, and is not to be deleted by itself.
#[must_use]
pub fn is_internal(value: &Value) -> bool {
    value.get("internal").and_then(Value::as_bool) == Some(true)
}

/// The definition without what its URIs have of credentials.
#[must_use]
pub fn redacted(value: &Value) -> Value {
    let mut shown = value.clone();
    for key in URI_KEYS {
        match shown.get_mut(key) {
            Some(Value::String(uri)) => *uri = without_credentials(uri),
            Some(Value::Array(uris)) => {
                for uri in uris {
                    if let Value::String(uri) = uri {
                        *uri = without_credentials(uri);
                    }
                }
            }
            _ => {}
        }
    }
    shown
}

struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).and_then(Value::as_str)
    }

    fn name(&self, key: &str) -> Result<Option<ShortStr>, amqp_codec::TooLong> {
        self.text(key).map(ShortStr::try_from).transpose()
    }

    fn flag(&self, key: &str, older: &str) -> bool {
        let given = self.0.get(key).or_else(|| self.0.get(older));
        given.and_then(Value::as_bool).unwrap_or(false)
    }

    fn table(&self, key: &str) -> FieldTable {
        json::table(self.0.get(key).and_then(Value::as_object))
    }

    fn uris(&self, key: &str) -> Vec<Uri> {
        let texts: Vec<&str> = match self.0.get(key) {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        texts
            .into_iter()
            .filter_map(|text| Uri::parse(text).ok())
            .collect()
    }

    fn protocol(&self, key: &str) -> Protocol {
        match self.text(key) {
            Some("local") => Protocol::Local,
            _ => Protocol::Amqp091,
        }
    }

    fn source(&self) -> Result<Source, amqp_codec::TooLong> {
        let older = |key: &str, older: &str| self.0.get(key).or_else(|| self.0.get(older));
        let from = match self.name("src-queue")? {
            Some(name) => From::Queue {
                name,
                arguments: self.table("src-queue-args"),
                predeclared: self.flag("src-predeclared", ""),
            },
            None => From::Exchange {
                name: self.name("src-exchange")?.unwrap_or_default(),
                key: self.name("src-exchange-key")?.unwrap_or_default(),
            },
        };
        let prefetch = older("src-prefetch-count", "prefetch-count");
        let prefetch = prefetch.and_then(Value::as_u64).unwrap_or(PREFETCH);
        let duration = self.0.get("src-delete-after-duration");
        Ok(Source {
            protocol: self.protocol("src-protocol"),
            uris: self.uris("src-uri"),
            from,
            // Without a limit everything that waits would come into this process.
            prefetch: u16::try_from(prefetch)
                .ok()
                .filter(|count| *count > 0)
                .unwrap_or(u16::MAX),
            consumer_args: self.table("src-consumer-args"),
            consumer_tag: self.name("src-consumer-name")?.unwrap_or_default(),
            delete_after: match older("src-delete-after", "delete-after") {
                Some(Value::String(text)) if text == "queue-length" => DeleteAfter::QueueLength,
                Some(Value::Number(count)) => DeleteAfter::Count(count.as_u64().unwrap_or(0)),
                _ => DeleteAfter::Never,
            },
            delete_after_duration: duration
                .and_then(Value::as_u64)
                .map(|s| Duration::from_secs(s.max(DURATION_MIN_S))),
        })
    }

    fn destination(&self) -> Result<Destination, amqp_codec::TooLong> {
        let queue = self.name("dest-queue")?;
        let (exchange, key) = match &queue {
            Some(queue) => (Some(ShortStr::default()), Some(queue.clone())),
            None => (self.name("dest-exchange")?, self.name("dest-exchange-key")?),
        };
        let properties = self.0.get("dest-publish-properties");
        let properties = properties.or_else(|| self.0.get("publish-properties"));
        Ok(Destination {
            protocol: self.protocol("dest-protocol"),
            uris: self.uris("dest-uri"),
            queue,
            queue_arguments: self.table("dest-queue-args"),
            predeclared: self.flag("dest-predeclared", ""),
            exchange,
            key,
            properties: PublishProperties::read(properties.and_then(Value::as_object)),
            forward_headers: self.flag("dest-add-forward-headers", "add-forward-headers"),
            timestamp_header: self.flag("dest-add-timestamp-header", "add-timestamp-header"),
        })
    }
}

impl PublishProperties {
    fn read(fields: Option<&Map<String, Value>>) -> Self {
        let Some(fields) = fields else {
            return Self::default();
        };
        let text = |key: &str| {
            let text = fields.get(key).and_then(Value::as_str);
            text.map(|text| Bytes::copy_from_slice(text.as_bytes()))
        };
        let number = |key: &str| fields.get(key).and_then(Value::as_u64);
        let octet = |key: &str| number(key).and_then(|number| u8::try_from(number).ok());
        Self {
            content_type: text("content_type"),
            content_encoding: text("content_encoding"),
            delivery_mode: octet("delivery_mode"),
            priority: octet("priority"),
            correlation_id: text("correlation_id"),
            reply_to: text("reply_to"),
            expiration: text("expiration"),
            message_id: text("message_id"),
            timestamp: number("timestamp"),
            kind: text("type"),
            user_id: text("user_id"),
            app_id: text("app_id"),
            cluster_id: text("cluster_id"),
        }
    }
}

#[cfg(test)]
mod tests;
