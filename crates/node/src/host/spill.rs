//! Where messages of local queues go that memory has no room for.
//!
//! When the messages of all local queues together take more than a bound, the oldest of the longest queues are written to a
//! store of their own ([`super::local_store`]), a part at a time, and are read from there as they are wanted. Nothing waits for the
//! disk meanwhile; only when publishers are faster than it are their batches answered late ([`Spill::is_behind`]).
//!
//! What is stored ends with the process: the store is removed when it is opened, and when a node starts.

use super::HostInput;
use super::local_store::{LOCAL, LocalStore};
use super::persist::{self, MESSAGES_AT_ONCE, Message, Shelf, Stretches};
use broker_model::dispatch::Load;
use broker_model::shard::{CheckpointToken, ShardMachine};
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::error;

/// Parts of [`MESSAGES_AT_ONCE`] messages that wait for the thread that writes.
const PARTS_AHEAD: usize = 2;

/// What is under way.
enum Work {
    Nothing,
    /// Messages go to the thread that writes.
    Sending {
        token: CheckpointToken,
        stretches: Stretches,
        parts: mpsc::Sender<Vec<Message>>,
    },
    /// That has all of them.
    Writing(CheckpointToken),
    /// They are stored, and go from memory a few at a time.
    Ending(CheckpointToken),
    /// The store could not be written: what is not there stays in memory.
    Failed,
}

/// Moves messages between the memory of local queues and a store.
pub(super) struct Spill {
    store: Arc<LocalStore>,
    limit: usize,
    work: Work,
    /// The last look found nothing to move: no other one before the next housekeeping.
    rests: bool,
    inbox: mpsc::WeakUnboundedSender<HostInput>,
}

impl Spill {
    /// `inbox` is the host's own.
    pub(super) fn new(store: Arc<LocalStore>, inbox: mpsc::WeakUnboundedSender<HostInput>) -> Self {
        let to_clear = Arc::clone(&store);
        tokio::task::spawn_blocking(move || to_clear.clear());
        Self {
            limit: store.memory_bytes().max(1),
            store,
            work: Work::Nothing,
            rests: false,
            inbox,
        }
    }

    /// Whether publishers are faster than the disk: their batches are to be answered when it has caught up.
    pub(super) fn is_behind(&self, machine: &ShardMachine) -> bool {
        self.is_under_way() && machine.tail_bytes() > self.limit.saturating_mul(2)
    }

    fn is_under_way(&self) -> bool {
        !matches!(self.work, Work::Nothing | Work::Failed)
    }

    /// Goes on with what is under way, or begins when there is too much in memory. Returns whether it is to be called again
    /// at once.
    pub(super) fn go_on(&mut self, machine: &mut ShardMachine) -> bool {
        match self.work {
            Work::Ending(token) => {
                if machine.end_checkpoint(token, MESSAGES_AT_ONCE) {
                    return true;
                }
                self.work = Work::Nothing;
                self.begin_if_full(machine)
            }
            Work::Nothing => self.begin_if_full(machine),
            _ => false,
        }
    }

    fn begin_if_full(&mut self, machine: &mut ShardMachine) -> bool {
        let is_full = machine.tail_bytes() > self.limit;
        if is_full && !self.rests {
            let part = (self.limit / 2).max(1);
            self.rests = !self.store.has_room(part) || !self.begin(machine, part);
        }
        false
    }

    /// Now and then: gives memory back, and the disk what has died there.
    pub(super) fn keep_house(&mut self, machine: &mut ShardMachine) {
        self.rests = false;
        let has_garbage = machine.trim();
        if has_garbage && matches!(self.work, Work::Nothing) {
            self.begin(machine, 0);
        }
    }

    /// Returns false if there was nothing to do.
    fn begin(&mut self, machine: &mut ShardMachine, room: usize) -> bool {
        let mut delta = machine.begin_spill(room);
        let token = delta.token;
        let stretches = std::mem::take(&mut delta.stretches);
        if stretches.is_empty() && delta.deletes.is_empty() && delta.dropped_queues.is_empty() {
            machine.end_checkpoint(token, 1);
            return false;
        }
        let (parts, receiver) = mpsc::channel(PARTS_AHEAD);
        let store = Arc::clone(&self.store);
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            let writing = tokio::task::spawn_blocking(move || {
                let store = store.open()?;
                let checkpoint = persist::stored(delta, Parts::new(receiver));
                store.write_checkpoint(LOCAL.0, checkpoint, &[])
            });
            let result = match writing.await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            // Closed when the node ends.
            if let Some(inbox) = inbox.upgrade() {
                let _ = inbox.send(HostInput::Spilled { result });
            }
        });
        self.work = Work::Sending {
            token,
            stretches: Stretches::new(stretches),
            parts,
        };
        true
    }

    /// Whether messages wait to go to the thread that writes.
    pub(super) fn is_sending(&self) -> bool {
        matches!(self.work, Work::Sending { .. })
    }

    /// Waits until that thread takes more.
    pub(super) async fn writable(&self) {
        match &self.work {
            Work::Sending { parts, .. } => drop(parts.reserve().await),
            _ => std::future::pending().await,
        }
    }

    /// Sends it the next ones.
    pub(super) fn send(&mut self, machine: &ShardMachine) {
        let Work::Sending {
            token,
            stretches,
            parts,
        } = &mut self.work
        else {
            return;
        };
        let part = stretches.take(machine);
        let is_last = part.is_empty();
        // It fails when the thread has given up, which tells why.
        if is_last || parts.try_send(part).is_err() {
            self.work = Work::Writing(*token);
        }
    }

    /// The thread that writes has ended.
    pub(super) fn written(&mut self, result: Result<(), String>) {
        let token = match &self.work {
            Work::Sending { token, .. } | Work::Writing(token) => *token,
            _ => return,
        };
        self.work = match result {
            Ok(()) => Work::Ending(token),
            Err(error) => {
                error!(
                    error,
                    dir = %self.store.dir().display(),
                    "messages of local queues cannot be written to disk: what comes from now on stays in memory until this node is \
                     started again"
                );
                Work::Failed
            }
        };
    }

    /// Reads what is wanted, in the background.
    pub(super) fn load(&self, load: Load) {
        if let (Some(shelf), Some(inbox)) = (self.store.shelf(), self.inbox.upgrade()) {
            persist::load_messages(shelf, load, inbox);
        }
    }

    /// Where messages are that are not in memory.
    pub(super) fn shelf(&self) -> Option<Shelf> {
        self.store.shelf()
    }

    /// The host's own inbox, while the node runs.
    pub(super) fn inbox(&self) -> Option<mpsc::UnboundedSender<HostInput>> {
        self.inbox.upgrade()
    }
}

/// Messages as they come from the host.
struct Parts {
    receiver: mpsc::Receiver<Vec<Message>>,
    taken: std::vec::IntoIter<Message>,
}

impl Parts {
    fn new(receiver: mpsc::Receiver<Vec<Message>>) -> Self {
        Self {
            receiver,
            taken: Vec::new().into_iter(),
        }
    }
}

impl Iterator for Parts {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(next) = self.taken.next() {
                return Some(next);
            }
            self.taken = self.receiver.blocking_recv()?.into_iter();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::local_store::LocalStoreOptions;
    use super::*;
    use broker_model::ids::{QueueId, Sequence};
    use broker_model::message::Message as Content;
    use broker_model::op::{Op, Target};
    use bytes::Bytes;
    use std::path::Path;
    use storage::StateOptions;

    const QUEUE: QueueId = QueueId(1 << 16);
    const SIZE: usize = 1000;

    struct Host {
        spill: Spill,
        machine: ShardMachine,
        inbox: mpsc::UnboundedReceiver<HostInput>,
        _to_self: mpsc::UnboundedSender<HostInput>,
    }

    impl Host {
        fn new(dir: &Path) -> Self {
            let (to_self, inbox) = mpsc::unbounded_channel();
            let options = LocalStoreOptions {
                dir: dir.to_owned(),
                memory_bytes: 10 * SIZE,
                store: StateOptions {
                    write_buffer_bytes: 1 << 20,
                    block_cache_bytes: 1 << 20,
                    ..StateOptions::default()
                },
            };
            Self {
                spill: Spill::new(Arc::new(LocalStore::new(options)), to_self.downgrade()),
                machine: ShardMachine::new(),
                inbox,
                _to_self: to_self,
            }
        }

        fn publish(&mut self, count: u32) {
            for _ in 0..count {
                let op = Op::Publish {
                    targets: smallvec::smallvec![Target::plain(QUEUE)],
                    message: Content {
                        body: Bytes::from(vec![b'x'; SIZE]),
                        ..Content::default()
                    },
                };
                self.machine.apply_op(1, None, op, &mut Vec::new());
            }
        }

        /// As the host does, until nothing is under way.
        async fn work(&mut self) {
            loop {
                while self.spill.go_on(&mut self.machine) {}
                if self.spill.is_sending() {
                    self.spill.writable().await;
                    self.spill.send(&self.machine);
                } else if !self.spill.is_under_way() {
                    return;
                } else if let Some(HostInput::Spilled { result }) = self.inbox.recv().await {
                    self.spill.written(result);
                }
            }
        }

        async fn load(&mut self, from: u64, to: u64) -> usize {
            self.spill.load(Load {
                queue: QUEUE,
                level: 0,
                from: Sequence(from),
                to: Sequence(to),
                max_count: 1000,
                max_bytes: usize::MAX,
            });
            match self.inbox.recv().await {
                Some(HostInput::Loaded { messages, .. }) => messages.len(),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn what_is_too_much_is_found_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Host::new(&dir.path().join("local"));
        host.publish(5);
        host.work().await;
        assert_eq!(host.machine.queue(QUEUE).unwrap().alive_in_memory().0, 5);
        assert!(
            host.spill.shelf().is_none(),
            "there is no store without need"
        );
        host.publish(200);
        host.spill.go_on(&mut host.machine);
        assert!(host.spill.is_behind(&host.machine));
        host.work().await;
        assert!(!host.spill.is_behind(&host.machine));
        let (in_memory, _) = host.machine.queue(QUEUE).unwrap().alive_in_memory();
        assert!((1..10).contains(&in_memory), "{in_memory}");
        assert_eq!(host.load(1, 205).await as u64 + in_memory, 205);
        // What died there is deleted when it is looked after.
        let settle = Op::Settle {
            queue: QUEUE,
            sequences: smallvec::smallvec![(Sequence(1), Sequence(100))],
        };
        host.machine.apply_op(1, None, settle, &mut Vec::new());
        host.spill.keep_house(&mut host.machine);
        host.work().await;
        assert_eq!(host.load(1, 100).await, 0);
    }

    #[tokio::test]
    async fn nothing_is_left_of_an_earlier_start() {
        let dir = tempfile::tempdir().unwrap();
        let local = dir.path().join("local");
        std::fs::create_dir(&local).unwrap();
        std::fs::write(local.join("CURRENT"), "no store").unwrap();
        let mut host = Host::new(&local);
        host.publish(50);
        host.work().await;
        assert!(host.load(1, 40).await > 30);
    }

    #[tokio::test]
    async fn without_a_store_messages_stay_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let no_dir = dir.path().join("file");
        std::fs::write(&no_dir, "a file").unwrap();
        let mut host = Host::new(&no_dir.join("local"));
        host.publish(50);
        host.work().await;
        assert!(matches!(host.spill.work, Work::Failed));
        host.publish(50);
        host.work().await;
        assert_eq!(host.machine.queue(QUEUE).unwrap().alive_in_memory().0, 100);
        assert!(!host.spill.is_behind(&host.machine), "nobody waits for it");
        host.spill.keep_house(&mut host.machine);
    }
}
