//! Messages about queues that this node's catalog does not have yet: the sender's is ahead of it.
//!
//! To refuse them would cancel consumers of a queue that exists. They wait, and what follows them on the same
//! attachment waits behind them.

use crate::hub::attachment::AttachmentId;
use broker_model::protocol::ToHost;
use std::collections::VecDeque;

/// Messages kept, at most; more are taken as they are.
const KEPT_MAX: usize = 64 * 1024;

/// The messages that wait.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    kept: VecDeque<(AttachmentId, ToHost)>,
}

impl Ahead {
    /// Keeps a message if it is ahead of the catalog or behind one that is; else returns it.
    pub(super) fn keep(
        &mut self,
        attachment: AttachmentId,
        message: ToHost,
        is_ahead: bool,
    ) -> Option<ToHost> {
        let keeps = is_ahead || self.kept.iter().any(|(of, _)| *of == attachment);
        if !keeps || self.kept.len() >= KEPT_MAX {
            return Some(message);
        }
        self.kept.push_back((attachment, message));
        None
    }

    /// Everything that waits, in order, to be tried again.
    pub(super) fn take(&mut self) -> VecDeque<(AttachmentId, ToHost)> {
        std::mem::take(&mut self.kept)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}
