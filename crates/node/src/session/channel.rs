//! A channel: its mode, its books, what waits on it.

use super::credit_plan::Window;
use super::publish::detached_publish;
use super::reply_to::ReplyConsumer;
use super::route::RouteCache;
use super::tx::Tx;
use crate::registry::ChannelEntry;
use amqp_codec::{FieldTable, Method, ShortStr};
use amqp_connection::{ConfirmLedger, DeliveryLedger, ProtocolError, Publish};
use broker_model::ids::{ConsumerId, Placement, QueueId, Sequence};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A channel for as long as it is open: numbers are used again, keys are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ChannelKey {
    pub(super) number: u16,
    pub(super) opening: u64,
}

/// What the client sent on a channel.
#[derive(Debug)]
pub(super) enum Input {
    Method(Method),
    Publish(Publish),
    /// `channel.close`.
    Close,
    /// What cannot be taken, and closes the channel.
    Fail(ProtocolError),
}

/// What an input takes apart from what the client has sent.
const INPUT_OVERHEAD: usize = 256;

/// Input that waits. It has memory of its own: what was read with it is gone when its turn comes.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) input: Input,
    /// Memory it takes.
    pub(super) weight: usize,
}

impl Waiting {
    pub(super) fn new(input: Input) -> Self {
        let (input, bytes) = match input {
            Input::Publish(publish) => {
                let bytes = publish.body.len() + publish.properties.len();
                (Input::Publish(detached_publish(publish)), bytes)
            }
            Input::Method(method) => {
                let (method, bytes) = method.detached();
                (Input::Method(method), bytes)
            }
            input @ (Input::Close | Input::Fail(_)) => (input, 0),
        };
        Self {
            input,
            weight: bytes + INPUT_OVERHEAD,
        }
    }
}

/// What publishing on a channel leads to.
#[derive(Debug)]
pub(super) enum Mode {
    /// No answers.
    Plain,
    /// Publisher confirms.
    Confirm,
    /// Everything waits for `tx.commit`.
    Tx(Box<Tx>),
}

/// Arguments of a consumer up to so many bytes are kept for the operator's view.
const ARGUMENTS_SHOWN: usize = 1024;

/// The consumer of what `basic.get` took.
pub(super) const GET: ConsumerId = ConsumerId(0);

/// A delivery that awaits its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unacked {
    /// Consumer; [`GET`] for a get.
    pub(super) consumer: ConsumerId,
    pub(super) queue: QueueId,
    pub(super) placement: Placement,
    pub(super) sequence: Sequence,
    /// Seconds since the session began.
    pub(super) delivered_s: u32,
    /// It was given to somebody else meanwhile: there is nothing to give back.
    pub(super) lost: bool,
}

/// An open channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) key: ChannelKey,
    /// A method waits for something: later input waits for it.
    pub(super) busy: bool,
    pub(super) backlog: VecDeque<Waiting>,
    pub(super) mode: Mode,
    /// Publishes that are not answered (in confirm and transaction mode).
    pub(super) confirms: ConfirmLedger,
    pub(super) unacked: DeliveryLedger<Unacked>,
    /// Consumers by tag.
    pub(super) consumers: BTreeMap<ShortStr, ConsumerId>,
    /// Consumers whose queue has gone while the channel was busy: the client is told after the answer
    /// that it waits for, which may be that of its own `queue.delete`.
    pub(super) gone: Vec<ShortStr>,
    /// Prefetch of consumers to come; 0 is none.
    pub(super) prefetch: u32,
    /// The window that all consumers share.
    pub(super) window: Window,
    /// What an empty queue name stands for.
    pub(super) last_queue: Option<Arc<str>>,
    pub(super) routes: RouteCache,
    pub(super) reply_consumer: Option<ReplyConsumer>,
    pub(super) entry: Arc<ChannelEntry>,
    /// To be looked at when the turn ends.
    pub(super) touched: bool,
    /// Whose credit is to be looked at then.
    pub(super) changed: Changed,
}

/// Consumers of a channel whose credit is to be looked at.
#[derive(Debug)]
pub(super) enum Changed {
    /// These; each once, by its flag `changed`.
    Some(Vec<ConsumerId>),
    /// All of them: what they share has changed, or nothing could be granted for a while.
    All,
}

impl Channel {
    pub(super) fn new(key: ChannelKey) -> Self {
        Self {
            key,
            busy: false,
            backlog: VecDeque::new(),
            mode: Mode::Plain,
            confirms: ConfirmLedger::new(),
            unacked: DeliveryLedger::new(),
            consumers: BTreeMap::new(),
            gone: Vec::new(),
            prefetch: 0,
            window: Window::default(),
            last_queue: None,
            routes: RouteCache::default(),
            reply_consumer: None,
            entry: Arc::new(ChannelEntry {
                number: key.number,
                ..ChannelEntry::default()
            }),
            touched: false,
            changed: Changed::Some(Vec::new()),
        }
    }

    /// A consumer begins.
    pub(super) fn add_consumer(&mut self, tag: &ShortStr, id: ConsumerId, arguments: &FieldTable) {
        self.consumers.insert(tag.clone(), id);
        let len = arguments.raw().len();
        if len > 0 && len <= ARGUMENTS_SHOWN {
            let arguments = arguments.detached().raw().clone();
            self.entry.arguments.lock().insert(tag.clone(), arguments);
        }
    }

    /// A consumer is over.
    pub(super) fn remove_consumer(&mut self, tag: &ShortStr) {
        self.consumers.remove(tag);
        self.entry.arguments.lock().remove(tag);
    }

    /// Brings the operator's view up to date.
    pub(super) fn show(&self) {
        self.entry.consumers.set(self.consumers.len() as i64);
        self.entry.prefetch.set(i64::from(self.window.limit));
        self.entry.unacked.set(self.unacked.outstanding() as i64);
        self.entry
            .unconfirmed
            .set(self.confirms.unconfirmed() as i64);
        self.entry
            .confirms
            .set(i64::from(matches!(self.mode, Mode::Confirm)));
        self.entry
            .transactional
            .set(i64::from(matches!(self.mode, Mode::Tx(_))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp_codec::{FieldValue, TableBuilder};
    use bytes::BytesMut;

    /// A few bytes of each of many reads may wait for a channel that is busy.
    #[test]
    fn what_waits_keeps_no_read_buffer_and_is_counted_as_it_is() {
        let mut arguments = TableBuilder::new();
        arguments.push("x", &FieldValue::LongStr(vec![b'x'; 100_000].into()));
        let declare = Method::QueueDeclare {
            queue: ShortStr::truncated("q"),
            passive: false,
            durable: false,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments: arguments.finish(),
        };
        let mut read = BytesMut::new();
        declare.encode(&mut read);
        let read = read.freeze();
        let method = Method::decode_part(&read, &read).expect("a method");
        let publish = Publish {
            channel: 1,
            exchange: ShortStr::empty(),
            routing_key: ShortStr::empty(),
            mandatory: false,
            immediate: false,
            properties: read.slice(..2),
            body: read.slice(2..1000),
        };
        let waiting =
            [Input::Method(method), Input::Publish(publish), Input::Close].map(Waiting::new);
        assert!(read.is_unique());
        let [method, publish, close] = waiting.map(|waiting| waiting.weight);
        assert!(method > 100_000 && (1000..2000).contains(&publish) && close > 0);
    }
}
