//! Hosts of queues: the leader's side of links.
//!
//! [`shard`] hosts the durable queues of one shard while this node leads it; [`local`] hosts the
//! queues that live in this node's memory. Both drive the same pure parts of `broker-model`.

mod ahead;
pub mod attached;
pub(crate) mod backlogs;
mod browse;
mod clock;
mod context;
pub mod deaths;
pub mod local;
pub mod local_store;
pub mod persist;
pub mod proposer;
pub mod replica;
mod report;
pub mod shard;
mod spill;
pub(crate) mod streams;

pub use clock::{HostClock, wall_clock_ms};
pub use context::HostContext;
pub use report::{ConsumerReport, QueueReport, TallyReport};

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
        /// What is damaged, if that is why.
        damage: Option<String>,
    },
    /// Settings of a queue from the catalog; `None`: the queue is gone.
    Settings {
        /// Queue.
        queue: QueueId,
        /// Settings in force.
        settings: Option<Arc<QueueSettings>>,
    },
    /// A queue that was deleted has been declared again, under another id and maybe in another place.
    Replaced {
        /// The queue as it was.
        former: QueueId,
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
    /// What the consumer of a stream wants was read from the state store.
    StreamRead {
        /// What was asked for.
        wanted: streams::Wanted,
        /// What came of it.
        outcome: streams::Outcome,
    },
    /// Messages of local queues are on disk, or cannot be written there.
    Spilled {
        /// What came of it.
        result: Result<(), String>,
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
