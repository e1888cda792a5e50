//! The end of a turn: what the turn led to is sent off, once for all of it.

use super::channel::{Changed, ChannelKey, Mode};
use super::services::Services;
use super::state::Session;
use amqp_codec::Method;
use broker_model::ids::{ConsumerId, Placement, QueueId};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes that a client without confirms may have on their way to queues. It does not wait for anything, so this is always full, and
/// all of it stands in front of what the queues' consumers acknowledge: with more they fall behind, with less publishers wait.
const PLAIN_UNANSWERED: usize = 1 << 20;
/// How often held deliveries are compared with the consumer timeout.
const TIMEOUT_LOOK: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 10_000 });

impl Session {
    /// Has a channel looked at when the turn ends.
    pub(super) fn touch(&mut self, key: ChannelKey) {
        if let Some(channel) = self.channels.get_mut(&key.number)
            && channel.key == key
            && !channel.touched
        {
            channel.touched = true;
            self.touched.push(key);
        }
    }

    /// Has the credit of a consumer looked at when the turn ends.
    pub(super) fn touch_consumer(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let key = consumer.channel;
        if !consumer.changed
            && let Some(channel) = self.channels.get_mut(&key.number)
            && let Changed::Some(changed) = &mut channel.changed
        {
            consumer.changed = true;
            changed.push(id);
        }
        self.touch(key);
    }

    pub(super) fn end_turn(&mut self) {
        self.flush();
        self.count_written();
        self.tally.count(self.broker.metrics());
        self.flow.tell();
        if self.choked && self.conn.output_len() <= self.output_limit() / 2 {
            self.choked = false;
            self.gets.kept = Vec::new();
            let all: Vec<ChannelKey> = self.channels.values().map(|channel| channel.key).collect();
            for key in all {
                if let Some(channel) = self.channel(key) {
                    channel.changed = Changed::All;
                }
                self.touch(key);
            }
        }
        self.admit_large();
        let mut rounds = 0;
        // Looking at one may touch another; what remains is for the next turn, which the driver begins by itself.
        while !self.touched.is_empty() && rounds < 4 {
            rounds += 1;
            for key in std::mem::take(&mut self.touched) {
                if let Some(channel) = self.channel(key) {
                    channel.touched = false;
                    self.finish_channel(key);
                }
            }
        }
        self.pass_large();
        self.admit_large();
        self.fetch_large();
        self.flush();
        let waiting = self.waiting_publishes.load(Ordering::Relaxed) as usize;
        let unanswered = self.outbox.unanswered_bytes() + waiting;
        if self.paused {
            self.paused = unanswered > self.unanswered_limit() / 2;
        } else if unanswered > self.unanswered_limit() {
            self.paused = true;
        }
    }

    /// Whether the turn has left something for another one.
    pub(super) fn has_more_to_do(&self) -> bool {
        !self.touched.is_empty()
    }

    fn count_written(&mut self) {
        let written = self.conn.bytes_written();
        let more = written - std::mem::replace(&mut self.counted_written, written);
        if more > 0 {
            self.broker.metrics().counts.bytes_sent.add(more);
            if let Some(entry) = &self.entry {
                entry.sent.add(more);
            }
        }
    }

    fn finish_channel(&mut self, key: ChannelKey) {
        self.report_confirms(key);
        self.finish_commit(key);
        self.replenish(key);
        if let Some(channel) = self.channel(key) {
            channel.show();
        }
    }

    /// Tells the client which publishes are confirmed, on all channels: it will hear nothing more.
    pub(super) fn report_all_confirms(&mut self) {
        let all: Vec<ChannelKey> = self.channels.values().map(|channel| channel.key).collect();
        for key in all {
            self.report_confirms(key);
        }
    }

    /// Tells the client which publishes are confirmed. Before a channel ends this does not wait for the end of the turn.
    pub(super) fn report_confirms(&mut self, key: ChannelKey) {
        let Some(channel) = self
            .channels
            .get_mut(&key.number)
            .filter(|channel| channel.key == key)
        else {
            return;
        };
        if !matches!(channel.mode, Mode::Confirm) || !channel.confirms.has_news() {
            return;
        }
        let before = channel.confirms.unconfirmed();
        channel.confirms.report(&mut self.confirms);
        let done = before - channel.confirms.unconfirmed();
        let nacked = self
            .confirms
            .iter()
            .filter(|confirm| !confirm.accepted)
            .count();
        for confirm in self.confirms.drain(..) {
            self.conn.send_confirm(key.number, confirm);
        }
        let confirmed = done.saturating_sub(nacked) as u64;
        channel.entry.counts.confirmed.add_alone(confirmed);
        self.tally.confirmed += confirmed;
        self.tally.nacked += nacked as u64;
    }

    /// Submits everything that is gathered.
    pub(super) fn flush(&mut self) {
        let Self {
            outbox,
            handle,
            broker,
            ..
        } = self;
        outbox.flush_all(handle, |queue| has_dead_letters(&**broker, queue));
    }

    /// Submits what is gathered for one place.
    pub(super) fn flush_place(&mut self, placement: Placement) {
        let Self {
            outbox,
            handle,
            broker,
            ..
        } = self;
        outbox.flush(placement, handle, |queue| {
            has_dead_letters(&**broker, queue)
        });
    }

    pub(super) fn output_limit(&self) -> usize {
        self.broker.config().limits.connection_output_bytes
    }

    /// With more output than this a client that only writes is not read any more.
    pub(super) fn output_max(&self) -> usize {
        4 * self.output_limit()
    }

    /// Bytes on their way to queues above which the client is not read.
    pub(super) fn unanswered_limit(&self) -> usize {
        let most = self.broker.config().limits.connection_unconfirmed_bytes;
        match self.wants_confirms {
            true => most,
            false => most.min(PLAIN_UNANSWERED),
        }
    }

    /// Bytes of input behind methods that take their time above which the client is not read.
    pub(super) fn backlog_limit(&self) -> usize {
        self.broker.config().limits.connection_unconfirmed_bytes
    }

    /// Sends the answer to a method, unless the client wants none.
    pub(super) fn reply(&mut self, key: ChannelKey, no_wait: bool, method: &Method) {
        if !no_wait {
            self.conn.send_method(key.number, method);
        }
    }

    /// Has the held deliveries looked at from time to time.
    pub(super) fn look_at_timeouts(&mut self) {
        if self.look_at.is_none() {
            self.look_at = Some(self.now + TIMEOUT_LOOK);
        }
    }
}

fn has_dead_letters(broker: &dyn Services, queue: QueueId) -> bool {
    broker
        .catalog()
        .queue_by_id(queue)
        .is_some_and(|record| record.settings().dead_letter_exchange.is_some())
}
