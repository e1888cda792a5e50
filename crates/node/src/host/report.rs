//! The operator's view of queues at their host, as it goes between nodes.

use broker_model::dispatch::{Dispatcher, Tally};
use broker_model::ids::QueueId;
use broker_model::queue::QueueState;
use broker_model::shard::ShardMachine;

/// Counts of one queue at its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct QueueReport {
    /// Queue id.
    pub queue: u64,
    /// Messages that can be delivered.
    pub ready: u64,
    /// Messages handed out and not settled.
    pub unacked: u64,
    /// Body bytes of ready messages.
    pub ready_bytes: u64,
    /// Body bytes of messages handed out and not settled. Nodes of an older version do not say.
    #[serde(default)]
    pub unacked_bytes: u64,
    /// Messages that came back and wait before they are handed out again. Nodes of an older version have none.
    #[serde(default)]
    pub delayed: u64,
    /// Their body bytes.
    #[serde(default)]
    pub delayed_bytes: u64,
    /// When the next of them is ready, and when the last, ms since the Unix epoch.
    #[serde(default)]
    pub delayed_ms: Option<(u64, u64)>,
    /// Messages that died and wait for their dead letter targets. Nodes of an older version do not say.
    #[serde(default)]
    pub dying: u64,
    /// Their body bytes, about.
    #[serde(default)]
    pub dying_bytes: u64,
    /// Those of all messages that are in memory, and their body bytes: the others are on disk. Nodes of an older version
    /// do not say.
    #[serde(default)]
    pub in_memory: Option<(u64, u64)>,
    /// Consumers.
    pub consumers: Vec<ConsumerReport>,
    /// What has been done since its host serves it. Nodes of an older version do not say.
    #[serde(default)]
    pub tally: TallyReport,
}

impl QueueReport {
    /// All messages that are there: ready, handed out, or waiting to be ready again.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.ready + self.delayed + self.unacked
    }

    /// Body bytes of all messages that are not handed out.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.ready_bytes + self.delayed_bytes
    }
}

/// [`Tally`] between nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TallyReport {
    /// Messages appended.
    pub published: u64,
    /// Handed to consumers that acknowledge.
    pub delivered: u64,
    /// Handed to consumers that do not.
    pub delivered_no_ack: u64,
    /// Got, to be acknowledged.
    pub got: u64,
    /// Got for good.
    pub got_no_ack: u64,
    /// Gets that found nothing. Nodes of an older version do not say.
    #[serde(default)]
    pub got_nothing: u64,
    /// Of those handed out: flagged as redelivered.
    pub redelivered: u64,
    /// Acknowledged.
    pub acknowledged: u64,
}

impl From<Tally> for TallyReport {
    fn from(tally: Tally) -> Self {
        Self {
            published: tally.published,
            delivered: tally.delivered,
            delivered_no_ack: tally.delivered_no_ack,
            got: tally.got,
            got_no_ack: tally.got_no_ack,
            got_nothing: tally.got_nothing,
            redelivered: tally.redelivered,
            acknowledged: tally.acknowledged,
        }
    }
}

/// One consumer at its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ConsumerReport {
    /// Node that its client is connected to.
    pub node: u64,
    /// Serial of the connection there.
    pub connection: u64,
    /// Channel number.
    pub channel: u16,
    /// Consumer tag.
    pub tag: String,
    /// Needs acknowledgements.
    pub ack_required: bool,
    /// Has the queue exclusively.
    pub exclusive: bool,
    /// Prefetch.
    pub prefetch: u32,
    /// Priority.
    pub priority: i32,
    /// Gets messages (false: waits behind a single active consumer).
    pub active: bool,
}

/// Counts of `queues` (all, if empty) as the dispatcher knows them.
pub(super) fn reports(
    dispatcher: &Dispatcher,
    machine: &ShardMachine,
    queues: &[QueueId],
) -> Vec<QueueReport> {
    let mut reports = Vec::new();
    dispatcher.counts(machine, queues, |queue, counts, consumers| {
        let in_memory = machine.queue(queue).map(QueueState::alive_in_memory);
        reports.push(QueueReport {
            queue: queue.0,
            ready: counts.ready,
            unacked: counts.unacked,
            ready_bytes: counts.ready_bytes,
            unacked_bytes: counts.unacked_bytes,
            delayed: counts.delayed,
            delayed_bytes: counts.delayed_bytes,
            delayed_ms: counts.delayed_ms,
            dying: counts.dying,
            dying_bytes: counts.dying_bytes,
            in_memory: Some(in_memory.unwrap_or_default()),
            tally: counts.tally.into(),
            consumers: consumers
                .iter()
                .map(|consumer| ConsumerReport {
                    node: consumer.origin.node.0,
                    connection: consumer.spec.connection,
                    channel: consumer.spec.channel,
                    tag: String::from_utf8_lossy(&consumer.spec.tag).into_owned(),
                    ack_required: !consumer.spec.no_ack,
                    exclusive: consumer.spec.exclusive,
                    prefetch: consumer.spec.prefetch,
                    priority: consumer.spec.priority,
                    active: consumer.active,
                })
                .collect(),
        });
    });
    reports
}
