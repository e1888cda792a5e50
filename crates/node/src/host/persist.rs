//! Between a shard's state and the state store: checkpoints, restore, reads of stored messages,
//! views for followers that are too far behind.
//!
//! Everything here blocks, except [`load_messages`], which moves the read to a blocking thread.

use super::HostInput;
use super::replica::ShardReplica;
use broker_model::dispatch::Load;
use broker_model::ids::{QueueId, Sequence, ShardId};
use broker_model::shard::{CheckpointDelta, ShardMachine, Stretch};
use broker_model::wire::{StoredMessage, decode_stored_message, encode_stored_message};
use bytes::{Bytes, BytesMut};
use consensus::{MachineError, SnapshotReader, SnapshotWriter};
use std::sync::Arc;
use std::time::Duration;
use storage::{Checkpoint, DeadRange, Existing, MessageKey, ShardState, StateStore, StorageError};
use tokio::sync::mpsc;
use tracing::error;

/// Between two attempts to read messages that cannot be read.
const LOAD_AGAIN: Duration = Duration::from_secs(1);

fn failed(error: impl std::fmt::Display) -> MachineError {
    MachineError::new(error.to_string())
}

/// The shard as of its last checkpoint, and the applied state stored with it.
pub(super) fn load(
    state: &StateStore,
    shard: ShardId,
) -> Result<(ShardMachine, Option<Bytes>), MachineError> {
    match state.load_shard(shard.0).map_err(failed)? {
        None => Ok((ShardMachine::new(), None)),
        Some(stored) => {
            let applied = stored.applied.clone();
            Ok((restore(stored)?, Some(applied)))
        }
    }
}

fn restore(stored: ShardState) -> Result<ShardMachine, MachineError> {
    let records = stored
        .queue_records
        .into_iter()
        .map(|(queue, record)| (QueueId(queue), record));
    ShardMachine::restore(records, Some(&stored.origins)).map_err(failed)
}

/// Messages that are taken out of the machine, or dropped from it, while nothing is applied.
pub(super) const MESSAGES_AT_ONCE: usize = 2048;

/// Writes a checkpoint, and ends it when it is on disk.
pub(super) fn write(
    replica: &ShardReplica,
    mut delta: CheckpointDelta,
    applied: Bytes,
) -> Result<(), MachineError> {
    let token = delta.token;
    let messages = Messages {
        replica,
        stretches: Stretches::new(std::mem::take(&mut delta.stretches)),
        taken: Vec::new().into_iter(),
    };
    replica
        .state_store()
        .write_checkpoint(replica.shard().0, stored(delta, messages), &applied)
        .map_err(failed)?;
    while replica
        .lock()
        .machine
        .end_checkpoint(token, MESSAGES_AT_ONCE)
    {}
    Ok(())
}

/// A checkpoint as the store wants it. `messages` are those of its stretches.
pub(super) fn stored(
    delta: CheckpointDelta,
    messages: impl Iterator<Item = Message>,
) -> Checkpoint<impl Iterator<Item = (MessageKey, Bytes)>> {
    let mut buffer = BytesMut::new();
    let puts = messages.map(move |(key, message)| {
        buffer.clear();
        encode_stored_message(&message, &mut buffer);
        let key = MessageKey {
            queue: key.queue.0,
            level: key.level,
            sequence: key.sequence.0,
        };
        (key, buffer.split().freeze())
    });
    Checkpoint {
        puts,
        origins: delta.origins,
        dropped_queues: delta.dropped_queues.iter().map(|queue| queue.0).collect(),
        queue_records: delta
            .queue_records
            .into_iter()
            .map(|(queue, record)| (queue.0, record))
            .collect(),
        deletes: delta
            .deletes
            .iter()
            .map(|range| DeadRange {
                queue: range.queue.0,
                level: range.level,
                from: range.from.0,
                to: range.to.0,
            })
            .collect(),
    }
}

/// Stretches of messages that are taken out of a machine one part after the other.
pub(super) struct Stretches {
    left: std::vec::IntoIter<Stretch>,
    /// The one that is worked on.
    current: Option<Stretch>,
}

impl Stretches {
    pub(super) fn new(stretches: Vec<Stretch>) -> Self {
        Self {
            left: stretches.into_iter(),
            current: None,
        }
    }

    /// The next messages; none when all have been taken.
    pub(super) fn take(&mut self, machine: &ShardMachine) -> Vec<Message> {
        let mut taken = Vec::with_capacity(MESSAGES_AT_ONCE);
        // Stretches of many queues may be short.
        while taken.len() < MESSAGES_AT_ONCE
            && let Some(mut stretch) = self.current.take().or_else(|| self.left.next())
        {
            let room = MESSAGES_AT_ONCE - taken.len();
            if machine.take_messages(&mut stretch, room, &mut taken) {
                self.current = Some(stretch);
            }
        }
        taken
    }
}

/// The messages of a checkpoint, taken out a few at a time.
struct Messages<'a> {
    replica: &'a ShardReplica,
    stretches: Stretches,
    taken: std::vec::IntoIter<Message>,
}

/// A message and where it is found.
pub(super) type Message = (broker_model::shard::MessageKey, StoredMessage);

impl Iterator for Messages<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(next) = self.taken.next() {
                return Some(next);
            }
            let taken = self.stretches.take(&self.replica.lock().machine);
            if taken.is_empty() {
                return None;
            }
            self.taken = taken.into_iter();
        }
    }
}

/// Where the messages of a host are stored.
#[derive(Clone)]
pub(super) struct Shelf {
    pub(super) store: Arc<StateStore>,
    pub(super) shard: ShardId,
}

/// Reads stored messages in the background and tells the host.
pub(super) fn load_messages(shelf: Shelf, load: Load, inbox: mpsc::UnboundedSender<HostInput>) {
    tokio::spawn(async move {
        let reading = tokio::task::spawn_blocking(move || {
            let found = read(&shelf, &load);
            (load, found)
        });
        // Only interrupted when the node ends.
        let Ok((load, found)) = reading.await else {
            return;
        };
        match found {
            Ok(messages) => {
                let _ = inbox.send(HostInput::Loaded { load, messages });
            }
            Err(error) => {
                error!(queue = load.queue.0, %error, "stored messages cannot be read");
                let damage = damage(&error);
                if damage.is_none() {
                    // The host asks again as soon as it hears of it.
                    tokio::time::sleep(LOAD_AGAIN).await;
                }
                let _ = inbox.send(HostInput::LoadFailed { load, damage });
            }
        }
    });
}

pub(super) fn read(
    shelf: &Shelf,
    load: &Load,
) -> Result<Vec<(Sequence, StoredMessage)>, StorageError> {
    let found = shelf.store.read_messages(
        shelf.shard.0,
        load.queue.0,
        load.level,
        load.from.0..=load.to.0,
        load.max_count,
        load.max_bytes,
    )?;
    found
        .into_iter()
        .map(|(sequence, bytes)| {
            let message = decode_stored_message(&bytes).map_err(|error| StorageError::Corrupt {
                what: format!("message {sequence} of queue {}", load.queue.0),
                problem: error.to_string(),
            })?;
            Ok((Sequence(sequence), message))
        })
        .collect()
}

/// What is to be said of a store that is damaged, where that is why it could not be read: reading again does not help,
/// and the other nodes have good copies.
pub(super) fn damage(error: &StorageError) -> Option<String> {
    matches!(error, StorageError::Corrupt { .. }).then(|| error.to_string())
}

/// A view of the last checkpoint.
pub(super) fn view(
    state: &StateStore,
    shard: ShardId,
) -> Result<Box<dyn SnapshotReader>, MachineError> {
    let view = state
        .view(shard.0, existing)
        .map_err(failed)?
        .ok_or_else(|| MachineError::new("there is no checkpoint of this shard yet"))?;
    Ok(Box::new(View(view)))
}

/// Which stored messages of a queue exist, alive or dying.
fn existing(queue: u64, record: Option<Bytes>) -> Result<Existing, StorageError> {
    let queue = QueueId(queue);
    let records = record.map(|record| (queue, record));
    let machine = ShardMachine::restore(records, None).map_err(|error| StorageError::Corrupt {
        what: format!("record of queue {}", queue.0),
        problem: error.to_string(),
    })?;
    Ok(Box::new(move |key| {
        let state = machine.queue(queue);
        state.is_some_and(|state| state.exists(Sequence(key.sequence)))
    }))
}

struct View(storage::ShardView);

impl SnapshotReader for View {
    fn applied(&self) -> Bytes {
        self.0.applied().clone()
    }

    fn next_chunk(&mut self) -> Result<Option<Bytes>, MachineError> {
        self.0.next_chunk().map_err(failed)
    }
}

/// Receives a view of another replica's checkpoint.
pub(super) struct InstallSink {
    replica: Arc<ShardReplica>,
    install: storage::ShardInstall,
}

impl InstallSink {
    pub(super) fn begin(replica: Arc<ShardReplica>) -> Result<Self, MachineError> {
        let install = replica
            .state_store()
            .install(replica.shard().0)
            .map_err(failed)?;
        Ok(Self { replica, install })
    }
}

impl SnapshotWriter for InstallSink {
    fn write(&mut self, chunk: Bytes) -> Result<(), MachineError> {
        self.install.write(chunk).map_err(failed)
    }

    fn finish(self: Box<Self>, applied: Bytes) -> Result<(), MachineError> {
        let Self { replica, install } = *self;
        install.finish(&applied).map_err(failed)?;
        let stored = replica
            .state_store()
            .load_shard(replica.shard().0)
            .map_err(failed)?
            .ok_or_else(|| MachineError::new("the installed checkpoint is not there"))?;
        replica.replace(restore(stored)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_exists_of_a_queue_without_a_record() {
        let key = MessageKey {
            queue: 1,
            level: 0,
            sequence: 1,
        };
        assert!(!existing(1, None).unwrap()(key));
        let malformed = existing(1, Some(Bytes::from_static(b"?"))).map(|_| ());
        let damaged = malformed.unwrap_err();
        assert!(damage(&damaged).unwrap().contains("queue 1"));
        let passing = StorageError::Read("a disk that is slow to answer".to_owned());
        assert_eq!(damage(&passing), None);
    }
}
