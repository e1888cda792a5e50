//! Answers remembered for requests that may be repeated.

use super::command::{CatalogReply, RequestKey};
use crate::ids::{NodeId, Origin};
use std::collections::{BTreeMap, VecDeque};

/// Answers remembered per start of a node. A node repeats a request within seconds and has far
/// fewer under way.
const REMEMBERED_MAX: usize = 2048;

/// The last answers to each start of each node.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Replays {
    by_origin: BTreeMap<Origin, VecDeque<(u64, CatalogReply)>>,
}

impl Replays {
    /// The answer given to `key` before.
    pub(crate) fn get(&self, key: RequestKey) -> Option<&CatalogReply> {
        let answers = self.by_origin.get(&key.origin)?;
        // Repetitions are of late requests.
        answers
            .iter()
            .rev()
            .find(|(number, _)| *number == key.number)
            .map(|(_, reply)| reply)
    }

    /// Remembers an answer; the oldest gives way.
    pub(crate) fn insert(&mut self, key: RequestKey, reply: CatalogReply) {
        let answers = self.by_origin.entry(key.origin).or_default();
        if answers.len() == REMEMBERED_MAX {
            answers.pop_front();
        }
        answers.push_back((key.number, reply));
    }

    /// Forgets starts of `node` before `incarnation`.
    pub(crate) fn forget_before(&mut self, node: NodeId, incarnation: u64) {
        self.by_origin
            .retain(|origin, _| origin.node != node || origin.incarnation >= incarnation);
    }

    /// Everything, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RequestKey, &CatalogReply)> {
        self.by_origin.iter().flat_map(|(origin, answers)| {
            answers.iter().map(|(number, reply)| {
                (
                    RequestKey {
                        origin: *origin,
                        number: *number,
                    },
                    reply,
                )
            })
        })
    }
}
