//! Consumers of streams: each reads from where it wants to, as far as its prefetch goes.
//!
//! A stream's messages are copied and not handed out, so its leader knows nothing of what a consumer has: the place
//! is kept here, and the session asks for what comes next, one question at a time, which waits at the leader
//! where there is nothing yet. An acknowledgement, of whatever kind, makes room for the next message and
//! does nothing to the stream.
//!
//! Not here: how much it may ask for (`credit`), reading (the host).

use super::channel::Channel;
use super::credit::MEAN_BYTES_FIRST;
use super::large_reads::Large;
use super::state::Session;
use crate::hub::api::Ask;
use amqp_codec::{FieldTable, FieldValue, PropertiesView, ReplyCode};
use amqp_connection::ProtocolError;
use broker_model::catalog::{Resource, StreamOffset};
use broker_model::ids::{ConsumerId, Sequence};
use broker_model::message::Message;
use broker_model::protocol::{ANNOUNCE, Delivery, ReadFrom};
use broker_model::wire::StoredMessage;
use std::time::{SystemTime, UNIX_EPOCH};

/// Messages that are looked through at a time where there is a filter: those that are left out take no credit.
const FILTERED_AT_ONCE: u32 = 1024;

/// The header that a filter goes by.
const FILTER_VALUE: &str = "x-stream-filter-value";

/// What the consumer of a stream reads.
#[derive(Debug)]
pub(super) struct Reader {
    /// Where it goes on.
    from: ReadFrom,
    /// The leader has been asked and has not answered.
    waits: bool,
    /// What it has to do with a message that is too large to come at once.
    pub(super) large: Large,
    /// There was nothing to fetch: the next question waits until there is something.
    at_end: bool,
    filter: Option<Filter>,
}

/// Which messages of a stream a consumer wants (`x-stream-filter`).
#[derive(Debug)]
struct Filter {
    values: Vec<String>,
    /// Those without a value, too.
    and_unfiltered: bool,
}

impl Reader {
    /// What the arguments of `basic.consume` ask for, which have been checked.
    pub(super) fn new(arguments: &FieldTable) -> Self {
        let offset = arguments.get("x-stream-offset");
        let offset = offset.and_then(|value| StreamOffset::read(&value));
        let from = match offset.unwrap_or(StreamOffset::Next) {
            StreamOffset::First => ReadFrom::First,
            StreamOffset::Last => ReadFrom::Last,
            StreamOffset::Next => ReadFrom::Next,
            StreamOffset::Number(offset) => ReadFrom::Number(number_of(offset)),
            StreamOffset::Since(ms) => ReadFrom::Since(ms),
            StreamOffset::Within(ms) => ReadFrom::Since(now_ms().saturating_sub(ms)),
        };
        Self {
            from,
            waits: false,
            large: Large::No,
            at_end: false,
            filter: Filter::read(arguments),
        }
    }

    /// Whether messages may come although nothing more is asked for.
    pub(super) fn is_waiting(&self) -> bool {
        self.waits
    }

    fn has_place(&self) -> bool {
        matches!(self.from, ReadFrom::Number(_))
    }

    fn wants(&self, message: &Message) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| filter.matches(message))
    }
}

impl Filter {
    fn read(arguments: &FieldTable) -> Option<Self> {
        let values = match arguments.get("x-stream-filter")? {
            FieldValue::Array(values) => values
                .iter()
                .filter_map(|value| value.as_text().map(str::to_owned))
                .collect(),
            value => vec![value.as_text()?.to_owned()],
        };
        let and_unfiltered = arguments
            .get("x-stream-match-unfiltered")
            .and_then(|value| value.as_bool())
            .unwrap_or(false);
        Some(Self {
            values,
            and_unfiltered,
        })
    }

    fn matches(&self, message: &Message) -> bool {
        let headers = PropertiesView::new(&message.properties).headers();
        match headers.and_then(|headers| headers.get(FILTER_VALUE)) {
            Some(value) => value
                .as_text()
                .is_some_and(|value| self.values.iter().any(|wanted| wanted == value)),
            None => self.and_unfiltered,
        }
    }
}

/// The offset that clients know a message of a stream by: 0 for the first.
pub(super) fn offset_of(sequence: Sequence) -> u64 {
    sequence.number().saturating_sub(1)
}

/// The number of the message with this offset.
fn number_of(offset: u64) -> u64 {
    offset.min(Sequence::MAX_NUMBER - 1) + 1
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    })
}

/// What a consumer of a stream must have, as with RabbitMQ.
pub(super) fn check_stream_consumer(
    queue: &Resource,
    channel: &Channel,
    no_ack: bool,
) -> Result<(), ProtocolError> {
    let (code, text) = if channel.prefetch == 0 {
        let text = format!("consumer prefetch count is not set for stream {queue}");
        (ReplyCode::PRECONDITION_FAILED, text)
    } else if no_ack {
        let text = format!("automatic acknowledgement not supported by stream {queue}");
        (ReplyCode::NOT_IMPLEMENTED, text)
    } else if channel.window.limit > 0 {
        let text = format!("{queue} does not support global qos");
        (ReplyCode::NOT_IMPLEMENTED, text)
    } else {
        return Ok(());
    };
    Err(ProtocolError::new(code, text))
}

impl Session {
    /// Asks where a consumer that begins has its place, if it is one that must know. Returns whether it does.
    pub(super) fn finds_place(&mut self, id: ConsumerId) -> bool {
        let unknown = self
            .consumers
            .get(&id)
            .filter(|consumer| consumer.starting.is_some())
            .and_then(|consumer| consumer.reader.as_ref())
            .is_some_and(|reader| !reader.has_place());
        if unknown {
            self.ask_to_read(id, 0, 0);
        }
        unknown
    }

    /// Asks for what comes next, unless that has been done.
    pub(super) fn read_on(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get(&id) else {
            return;
        };
        let Some(reader) = consumer.reader.as_ref() else {
            return;
        };
        if reader.waits || consumer.granted == 0 || consumer.starting.is_some() {
            return;
        }
        let count = match reader.filter {
            Some(_) => consumer.granted.max(FILTERED_AT_ONCE),
            None => consumer.granted,
        };
        let bytes = self.at_once_bytes();
        let was_large = consumer.mean_bytes > bytes && consumer.mean_bytes > MEAN_BYTES_FIRST;
        match reader.large {
            // So may the next one be, if there is one.
            Large::No if was_large && !reader.at_end => {
                self.announce_large(id);
                return;
            }
            Large::No => {}
            Large::Announced | Large::Fetched(_) => return,
        }
        if self.is_choked() {
            self.choked = true;
            return;
        }
        self.ask_to_read(id, count, u64::from(bytes) | ANNOUNCE);
    }

    pub(super) fn ask_to_read(&mut self, id: ConsumerId, count: u32, bytes: u64) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let Some(reader) = &mut consumer.reader else {
            return;
        };
        reader.waits = true;
        let read = Ask::Read {
            consumer: id,
            queue: consumer.queue,
            from: reader.from,
            count,
            bytes,
        };
        self.handle.ask(consumer.placement, read);
    }

    /// The leader of a stream has answered.
    pub(super) fn has_read(
        &mut self,
        id: ConsumerId,
        next: u64,
        messages: Vec<(u64, StoredMessage)>,
    ) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let queue = consumer.queue;
        let Some(reader) = &mut consumer.reader else {
            return;
        };
        // What was not asked for was answered before.
        if !std::mem::take(&mut reader.waits) {
            return;
        }
        let large = std::mem::take(&mut reader.large);
        let nothing = messages.is_empty() && reader.from == ReadFrom::Number(next);
        let fetched = matches!(large, Large::Fetched(_));
        reader.at_end = nothing && fetched;
        let size = messages.first().map(|(_, stored)| stored.message.weight());
        reader.from = ReadFrom::Number(next);
        let mut deliveries: Vec<Delivery> = Vec::new();
        for (number, stored) in messages {
            if !reader.wants(&stored.message) {
                continue;
            }
            if deliveries.len() == consumer.granted as usize {
                // More of them than there is room for: it goes on here.
                reader.from = ReadFrom::Number(number);
                break;
            }
            deliveries.push(Delivery {
                consumer: id,
                queue,
                sequence: Sequence::new(0, number),
                redelivered: false,
                delivery_count: 0,
                message: stored.message,
            });
        }
        let begins = consumer.starting.is_some() && !consumer.cancelling;
        self.large_is_here(large, size);
        if begins {
            self.has_begun(id);
            return;
        }
        if nothing && !fetched {
            self.announce_large(id);
            return;
        }
        self.deliver(deliveries);
        self.touch_consumer(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp_codec::{FieldArray, Properties, TableBuilder};

    fn table(entries: &[(&str, FieldValue)]) -> FieldTable {
        let mut table = TableBuilder::new();
        for (key, value) in entries {
            table.push(key, value);
        }
        table.finish()
    }

    fn message(value: Option<&str>) -> Message {
        let headers = value.map(|value| table(&[(FILTER_VALUE, FieldValue::text(value))]));
        let properties = Properties {
            headers,
            ..Properties::default()
        };
        Message {
            properties: properties.encode(),
            ..Message::default()
        }
    }

    #[test]
    fn filters() {
        let values: FieldArray = ["a", "b"].map(FieldValue::text).into_iter().collect();
        let one = ("x-stream-filter", FieldValue::text("a"));
        let two = ("x-stream-filter", FieldValue::Array(values));
        let unfiltered = ("x-stream-match-unfiltered", FieldValue::Bool(true));
        for (arguments, expected) in [
            (vec![], [true, true, true, true]),
            (vec![one.clone()], [true, false, false, false]),
            (vec![two], [true, true, false, false]),
            (vec![one, unfiltered.clone()], [true, false, false, true]),
            (vec![unfiltered], [true, true, true, true]),
        ] {
            let reader = Reader::new(&table(&arguments));
            let found =
                [Some("a"), Some("b"), Some("c"), None].map(|value| reader.wants(&message(value)));
            assert_eq!(found, expected, "{arguments:?}");
        }
    }

    #[test]
    fn places() {
        for (value, expected) in [
            (None, ReadFrom::Next),
            (Some(FieldValue::text("first")), ReadFrom::First),
            (Some(FieldValue::text("last")), ReadFrom::Last),
            (Some(FieldValue::I32(0)), ReadFrom::Number(1)),
            (
                Some(FieldValue::I64(i64::MAX)),
                ReadFrom::Number(Sequence::MAX_NUMBER),
            ),
            (Some(FieldValue::Timestamp(7)), ReadFrom::Since(7000)),
        ] {
            let arguments: Vec<_> = value
                .iter()
                .map(|value| ("x-stream-offset", value.clone()))
                .collect();
            assert_eq!(Reader::new(&table(&arguments)).from, expected, "{value:?}");
        }
        let hour = table(&[("x-stream-offset", FieldValue::text("1h"))]);
        let ReadFrom::Since(ms) = Reader::new(&hour).from else {
            panic!("an interval is a time");
        };
        assert!(now_ms().abs_diff(ms + 3_600_000) < 60_000);
    }
}
