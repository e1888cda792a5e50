//! Which batches of which node have been applied.
//!
//! Per node only its newest start is known. Refused operations are remembered until the sender has
//! said that the answer arrived, so a batch that is re-sent gets the answer of its first time.
//! Bounded by the number of nodes and by each sender's unanswered batches.

use crate::ids::NodeId;
use crate::op::{BatchHead, BatchStatus};
use crate::wire::{Cursor, WireError, put_varint};
use bytes::BytesMut;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origins {
    nodes: BTreeMap<NodeId, Start>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Start {
    incarnation: u64,
    /// Number of the last applied batch.
    last: u64,
    /// Refused operations of batches above `answered`.
    refused: BTreeMap<u64, Vec<u32>>,
}

impl Origins {
    pub(super) fn last(&self, node: NodeId) -> Option<(u64, u64)> {
        self.nodes
            .get(&node)
            .map(|start| (start.incarnation, start.last))
    }

    /// What is to become of a batch; for a duplicate also what was refused the first time. If it is
    /// to be applied, it counts as applied from now on.
    pub(super) fn admit(&mut self, head: &BatchHead) -> (BatchStatus, Vec<u32>) {
        let start = self.nodes.entry(head.origin.node).or_default();
        if head.origin.incarnation < start.incarnation {
            return (BatchStatus::Stale, Vec::new());
        }
        if head.origin.incarnation > start.incarnation {
            *start = Start {
                incarnation: head.origin.incarnation,
                ..Start::default()
            };
        }
        let answer = if head.number <= start.last {
            (
                BatchStatus::Duplicate,
                start.refused.get(&head.number).cloned().unwrap_or_default(),
            )
        } else if head.previous > start.last {
            (BatchStatus::Gap, Vec::new())
        } else {
            start.last = head.number;
            (BatchStatus::Applied, Vec::new())
        };
        if start
            .refused
            .first_key_value()
            .is_some_and(|(number, _)| *number <= head.answered)
        {
            start.refused = start.refused.split_off(&head.answered.saturating_add(1));
        }
        answer
    }

    /// Remembers what was refused of a batch that was applied now.
    pub(super) fn remember(&mut self, head: &BatchHead, refused_ops: &[u32]) {
        if !refused_ops.is_empty()
            && let Some(start) = self.nodes.get_mut(&head.origin.node)
        {
            start.refused.insert(head.number, refused_ops.to_vec());
        }
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        put_varint(out, self.nodes.len() as u64);
        for (node, start) in &self.nodes {
            put_varint(out, node.0);
            put_varint(out, start.incarnation);
            put_varint(out, start.last);
            put_varint(out, start.refused.len() as u64);
            for (number, ops) in &start.refused {
                put_varint(out, *number);
                put_varint(out, ops.len() as u64);
                ops.iter().for_each(|op| put_varint(out, u64::from(*op)));
            }
        }
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let mut origins = Self::default();
        for _ in 0..cursor.count(4)? {
            let node = NodeId(cursor.varint()?);
            let mut start = Start {
                incarnation: cursor.varint()?,
                last: cursor.varint()?,
                refused: BTreeMap::new(),
            };
            for _ in 0..cursor.count(2)? {
                let number = cursor.varint()?;
                let count = cursor.count(1)?;
                let mut ops = Vec::with_capacity(count);
                for _ in 0..count {
                    ops.push(cursor.varint_u32()?);
                }
                start.refused.insert(number, ops);
            }
            origins.nodes.insert(node, start);
        }
        Ok(origins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Origin;

    fn head(incarnation: u64, previous: u64, number: u64, answered: u64) -> BatchHead {
        BatchHead {
            origin: Origin {
                node: NodeId(1),
                incarnation,
            },
            previous,
            number,
            answered,
        }
    }

    #[test]
    fn what_becomes_of_batches() {
        let mut origins = Origins::default();
        for (head, expected, why) in [
            (head(5, 0, 1, 0), BatchStatus::Applied, "the first"),
            (head(5, 0, 1, 0), BatchStatus::Duplicate, "sent again"),
            (head(5, 2, 3, 0), BatchStatus::Gap, "2 is missing"),
            (head(5, 1, 3, 0), BatchStatus::Applied, "2 was given up"),
            (
                head(5, 1, 2, 0),
                BatchStatus::Duplicate,
                "2 comes too late and is not applied",
            ),
            (
                head(5, 2, 4, 0),
                BatchStatus::Applied,
                "the sender does not count 3, but it is in",
            ),
            (
                head(6, 0, 1, 0),
                BatchStatus::Applied,
                "a new start counts anew",
            ),
            (head(5, 4, 5, 0), BatchStatus::Stale, "its former start"),
            (
                head(7, 3, 4, 0),
                BatchStatus::Gap,
                "a new start of which nothing came yet",
            ),
        ] {
            assert_eq!(origins.admit(&head).0, expected, "{why}");
        }
    }

    #[test]
    fn refusals_are_kept_until_answered() {
        let mut origins = Origins::default();
        let first = head(1, 0, 1, 0);
        origins.admit(&first);
        origins.remember(&first, &[2, 5]);
        assert_eq!(origins.admit(&first), (BatchStatus::Duplicate, vec![2, 5]));
        origins.admit(&head(1, 1, 2, 1));
        assert_eq!(origins.admit(&first), (BatchStatus::Duplicate, vec![]));
        assert!(origins.nodes.values().all(|start| start.refused.is_empty()));
    }
}
