//! What applied operations did.

use crate::ids::{Origin, QueueId, Sequence};
use crate::op::{DeathReason, SequenceRanges};
use crate::queue::push_range;

/// What an applied operation did, for the leader's dispatcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Messages `first..=last` of one level were appended.
    Enqueued {
        /// Queue.
        queue: QueueId,
        /// First new message.
        first: Sequence,
        /// Last new message, of the same level.
        last: Sequence,
    },
    /// These messages existed and exist no longer.
    Settled {
        /// Queue.
        queue: QueueId,
        /// Messages, exactly those that existed.
        sequences: SequenceRanges,
    },
    /// These messages came back.
    Returned {
        /// Queue.
        queue: QueueId,
        /// Messages, exactly those that are alive.
        sequences: SequenceRanges,
        /// Whether they count as a failed delivery.
        counted: bool,
        /// Who returned them; `None`: the leader. Who does not hold a message cannot return it.
        by: Option<Origin>,
    },
    /// These messages died. With `dead_letter` they are kept aside for the dead letter publisher.
    Killed {
        /// Queue.
        queue: QueueId,
        /// Messages, exactly those that existed.
        sequences: SequenceRanges,
        /// Why.
        reason: DeathReason,
        /// Whether they wait for the dead letter publisher now.
        dead_letter: bool,
    },
    /// The queue and all its messages are forgotten.
    Deleted {
        /// Queue.
        queue: QueueId,
    },
    /// Messages up to this one may be handed out.
    Marked {
        /// Queue.
        queue: QueueId,
        /// Highest sequence of its level that may be delivered.
        upto: Sequence,
    },
}

/// Adds an append; one that follows on the last effect extends it.
pub(super) fn enqueued(effects: &mut Vec<Effect>, queue: QueueId, sequence: Sequence) {
    if let Some(Effect::Enqueued {
        queue: last_queue,
        last,
        ..
    }) = effects.last_mut()
        && *last_queue == queue
        && last.0 + 1 == sequence.0
    {
        *last = sequence;
        return;
    }
    effects.push(Effect::Enqueued {
        queue,
        first: sequence,
        last: sequence,
    });
}

/// Adds a settle; one of the same queue as the last effect joins it.
pub(super) fn settled(effects: &mut Vec<Effect>, queue: QueueId, sequences: SequenceRanges) {
    if sequences.is_empty() {
        return;
    }
    if let Some(Effect::Settled {
        queue: last_queue,
        sequences: last,
    }) = effects.last_mut()
        && *last_queue == queue
    {
        for (from, to) in sequences {
            push_range(last, from, to);
        }
        return;
    }
    effects.push(Effect::Settled { queue, sequences });
}
