//! Hosts of queues: the leader's side of links.
//!
//! [`shard`] hosts the durable queues of one shard while this node leads it; [`local`] hosts the
//! queues that live in this node's memory. Both drive the same pure parts of `broker-model`.

mod ahead;
pub mod attached;
pub(crate) mod backlogs;
mod browse;
pub mod deaths;
pub mod local;
pub mod persist;
pub mod proposer;
pub mod replica;
pub mod shard;

use crate::hub::attachment::{AttachmentId, BatchOps};
use broker_model::catalog::settings::QueueSettings;
use broker_model::dispatch::{DeadLetter, Load};
use broker_model::ids::{NodeId, Origin, Placement, QueueId, Sequence, ShardId};
use broker_model::op::{BatchHead, BatchOutcome};
use broker_model::protocol::{FromHost, ToHost};
use broker_model::wire::StoredMessage;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};

/// What a host is told.
#[derive(Debug)]
pub enum HostInput {
    /// A link opens.
    Attach {
        /// Number of this attachment.
        attachment: AttachmentId,
        /// Node and start that it is of.
        origin: Origin,
        /// Answers go here; dropping it tells the link that the attachment is over.
        replies: mpsc::UnboundedSender<Vec<FromHost>>,
    },
    /// The link's stream is over.
    Detach {
        /// Which.
        attachment: AttachmentId,
    },
    /// A batch of operations.
    Batch {
        /// From which link.
        attachment: AttachmentId,
        /// Its identity.
        head: BatchHead,
        /// The operations.
        ops: BatchOps,
    },
    /// Anything else from a link.
    Message {
        /// From which link.
        attachment: AttachmentId,
        /// The message.
        message: ToHost,
    },
    /// Entries were applied here; their effects are with the dispatcher.
    Applied {
        /// What became of their batches.
        outcomes: Vec<BatchOutcome>,
    },
    /// A read from the state store is done.
    Loaded {
        /// What was asked for.
        load: Load,
        /// What was found.
        messages: Vec<(Sequence, StoredMessage)>,
    },
    /// A read from the state store failed.
    LoadFailed {
        /// What was asked for.
        load: Load,
    },
    /// Settings of a queue from the catalog; `None`: the queue is gone.
    Settings {
        /// Queue.
        queue: QueueId,
        /// Settings in force.
        settings: Option<Arc<QueueSettings>>,
    },
    /// The dead letter publisher is done with a message.
    DeadLettered {
        /// Queue in which it died.
        queue: QueueId,
        /// The message.
        sequence: Sequence,
    },
    /// The dead letter publisher had no room for a message, and has now: it is to be offered again.
    DeadLetterPutOff {
        /// Queue in which it died.
        queue: QueueId,
        /// The message.
        sequence: Sequence,
    },
    /// A browse is done that had to read from the state store.
    Browsed {
        /// Who asked.
        attachment: AttachmentId,
        /// The answer.
        answer: FromHost,
    },
    /// A node's process is known to be dead, or was silent for long.
    NodeLost {
        /// Node.
        node: NodeId,
    },
    /// Counts of queues, for the operator's view.
    Report {
        /// Which; all if empty.
        queues: Vec<QueueId>,
        /// Where to.
        reply: oneshot::Sender<Vec<QueueReport>>,
    },
}

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
    /// Messages that died and wait for their dead letter targets. Nodes of an older version do not say.
    #[serde(default)]
    pub dying: u64,
    /// Their body bytes, about.
    #[serde(default)]
    pub dying_bytes: u64,
    /// Consumers.
    pub consumers: Vec<ConsumerReport>,
    /// What has been done since its host serves it. Nodes of an older version do not say.
    #[serde(default)]
    pub tally: TallyReport,
}

/// [`Tally`] between nodes.
///
/// [`Tally`]: broker_model::dispatch::Tally
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
    /// Of those handed out: flagged as redelivered.
    pub redelivered: u64,
    /// Acknowledged.
    pub acknowledged: u64,
}

impl From<broker_model::dispatch::Tally> for TallyReport {
    fn from(tally: broker_model::dispatch::Tally) -> Self {
        Self {
            published: tally.published,
            delivered: tally.delivered,
            delivered_no_ack: tally.delivered_no_ack,
            got: tally.got,
            got_no_ack: tally.got_no_ack,
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

/// What hosts tell the rest of the node.
#[derive(Debug)]
pub enum HostEvent {
    /// Publish this dead letter, then tell the host with [`HostInput::DeadLettered`].
    DeadLetter {
        /// Where it died.
        placement: Placement,
        /// The message and its fate.
        letter: Box<DeadLetter>,
    },
    /// An auto-delete queue has lost its last consumer.
    Unused {
        /// Queue.
        queue: QueueId,
    },
    /// A queue was unused for as long as `x-expires` allows.
    Expired {
        /// Queue.
        queue: QueueId,
    },
}

/// Finds the hosts of this node.
#[derive(Debug)]
pub struct HostDirectory {
    node: NodeId,
    start: AtomicU64,
    next_attachment: AtomicU64,
    local: mpsc::UnboundedSender<HostInput>,
    shards: RwLock<HashMap<ShardId, mpsc::UnboundedSender<HostInput>>>,
}

impl HostDirectory {
    /// A directory that knows the host of local queues.
    #[must_use]
    pub fn new(node: NodeId, local: mpsc::UnboundedSender<HostInput>) -> Self {
        Self {
            node,
            start: AtomicU64::new(0),
            next_attachment: AtomicU64::new(1),
            local,
            shards: RwLock::new(HashMap::new()),
        }
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// This start of the node; 0 until it is known.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start.load(Ordering::Acquire)
    }

    /// Says which start of the node this is.
    pub fn set_start(&self, incarnation: u64) {
        self.start.store(incarnation, Ordering::Release);
    }

    /// Adds the host of a shard.
    pub fn add_shard(&self, shard: ShardId, inbox: mpsc::UnboundedSender<HostInput>) {
        self.shards.write().insert(shard, inbox);
    }

    /// Inbox of the host of a placement, if it is in this process.
    #[must_use]
    pub fn inbox(&self, placement: Placement) -> Option<mpsc::UnboundedSender<HostInput>> {
        match placement {
            Placement::Host(node) => (node == self.node).then(|| self.local.clone()),
            Placement::Shard(shard) => self.shards.read().get(&shard).cloned(),
        }
    }

    /// Tells every host of this node.
    pub fn broadcast(&self, input: impl Fn() -> HostInput) {
        let _ = self.local.send(input());
        for inbox in self.shards.read().values() {
            let _ = inbox.send(input());
        }
    }

    /// A number for a new attachment.
    pub fn next_attachment(&self) -> AttachmentId {
        AttachmentId(self.next_attachment.fetch_add(1, Ordering::Relaxed))
    }
}

/// Milliseconds since the Unix epoch by the wall clock.
#[must_use]
pub fn wall_clock_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
