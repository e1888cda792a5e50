//! Copies of the last messages of a queue, for those who want to see them and not to have them.
//!
//! What is in memory is copied at once (no body is); what is in the state store is read on a blocking
//! thread. A message that ends meanwhile may be missing.

use super::persist;
use super::replica::ShardReplica;
use broker_model::dispatch::Load;
use broker_model::ids::{QueueId, Sequence};
use broker_model::message::Message;
use broker_model::shard::ShardMachine;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tracing::warn;

/// The last messages of a queue.
#[derive(Debug, Default)]
pub(super) struct Last {
    /// Those in memory.
    pub(super) found: BTreeMap<Sequence, Message>,
    /// Those in the state store, ascending.
    stored: Vec<Sequence>,
}

/// The last `count` messages, and of those in memory no more than `bytes` (but at least one).
pub(super) fn last(machine: &ShardMachine, queue: QueueId, count: u32, bytes: u64) -> Last {
    let mut last = Last::default();
    let Some(state) = machine.queue(queue) else {
        return last;
    };
    // Of every level the last ones; a queue that is browsed has one level.
    let mut sequences = VecDeque::new();
    for level in state.levels() {
        let mut at = 0;
        while let Some((from, to)) = state.alive_from(level, at) {
            // A long stretch counts with its end only.
            for number in from.max(to.saturating_sub(u64::from(count)))..=to {
                sequences.push_back(Sequence::new(level, number));
                if sequences.len() > count as usize {
                    sequences.pop_front();
                }
            }
            at = to + 1;
        }
    }
    let mut left = bytes;
    for sequence in sequences.into_iter().rev() {
        match state.in_memory(sequence) {
            Some(stored) => {
                let weight = stored.message.weight() as u64;
                if weight > left && !last.found.is_empty() {
                    break;
                }
                left = left.saturating_sub(weight);
                last.found.insert(sequence, stored.message.clone());
            }
            None => last.stored.push(sequence),
        }
    }
    last.stored.reverse();
    last
}

/// Hands all of `last` to `done`, the oldest first, after reading what is not in memory.
pub(super) fn answer(
    replica: Arc<ShardReplica>,
    queue: QueueId,
    last: Last,
    bytes: u64,
    done: impl FnOnce(Vec<Message>) + Send + 'static,
) {
    let Last { mut found, stored } = last;
    let (Some(from), Some(to)) = (stored.first().copied(), stored.last().copied()) else {
        return done(found.into_values().collect());
    };
    tokio::task::spawn_blocking(move || {
        let load = Load {
            queue,
            level: from.level(),
            from,
            to,
            max_count: stored.len(),
            max_bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        match persist::read(&replica, &load) {
            Ok(messages) => {
                let wanted = messages
                    .into_iter()
                    .filter(|(sequence, _)| stored.binary_search(sequence).is_ok());
                found.extend(wanted.map(|(sequence, stored)| (sequence, stored.message)));
            }
            Err(error) => warn!(queue = queue.0, %error, "stored messages cannot be read"),
        }
        // Together they are no more than was asked for: the oldest go.
        let mut left = bytes;
        let kept = found.iter().rev().take_while(|(_, message)| {
            let weight = message.weight() as u64;
            let fits = weight <= left;
            left = left.saturating_sub(weight);
            fits
        });
        let skipped = found.len() - kept.count();
        done(found.into_values().skip(skipped).collect());
    });
}
