//! The links that are attached to one host, and what is known of their nodes.

use crate::hub::attachment::AttachmentId;
use broker_model::ids::{NodeId, Origin};
use broker_model::op::BatchOutcome;
use broker_model::protocol::FromHost;
use std::collections::HashMap;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// One attached link.
#[derive(Debug)]
struct Attached {
    id: AttachmentId,
    origin: Origin,
    replies: mpsc::UnboundedSender<Vec<FromHost>>,
    /// Highest batch number received and not yet answered.
    last_batch: u64,
    /// `Resumed` was received and waits until this batch is applied.
    resume_after: Option<u64>,
}

/// All of them, one per node.
#[derive(Debug, Default)]
pub struct AttachedLinks {
    by_node: HashMap<NodeId, Attached>,
    /// Nodes whose link has gone, with what was known of them, since when.
    lost: HashMap<NodeId, (Origin, Instant)>,
}

impl AttachedLinks {
    /// A link opens. Returns an earlier start of that node, which is over for good.
    pub fn attach(
        &mut self,
        id: AttachmentId,
        origin: Origin,
        replies: mpsc::UnboundedSender<Vec<FromHost>>,
    ) -> Option<Origin> {
        let attached = Attached {
            id,
            origin,
            replies,
            last_batch: 0,
            resume_after: None,
        };
        let before = self
            .by_node
            .insert(origin.node, attached)
            .map(|old| old.origin);
        let before = before.or(self.lost.remove(&origin.node).map(|(origin, _)| origin));
        self.lost.remove(&origin.node);
        before.filter(|before| before.incarnation != origin.incarnation)
    }

    /// The link is over, unless another has taken its place.
    pub fn detach(&mut self, id: AttachmentId) {
        let node = self
            .by_node
            .iter()
            .find(|(_, a)| a.id == id)
            .map(|(node, _)| *node);
        if let Some(node) = node
            && let Some(gone) = self.by_node.remove(&node)
        {
            self.lost.insert(node, (gone.origin, Instant::now()));
        }
    }

    /// Origin of an attachment, if it is the current one of its node.
    #[must_use]
    pub fn origin(&self, id: AttachmentId) -> Option<Origin> {
        self.by_node.values().find(|a| a.id == id).map(|a| a.origin)
    }

    /// Whether a link of this node is attached.
    #[must_use]
    pub fn is_attached(&self, node: NodeId) -> bool {
        self.by_node.contains_key(&node)
    }

    /// A batch has come in on an attachment.
    pub fn batch_received(&mut self, id: AttachmentId, number: u64) {
        if let Some(attached) = self.by_node.values_mut().find(|a| a.id == id) {
            attached.last_batch = number;
        }
    }

    /// Whether `Resumed` may be passed on now; else it is kept until the batches before it are
    /// applied.
    pub fn resume_now(&mut self, id: AttachmentId, answered: impl Fn(Origin) -> u64) -> bool {
        let Some(attached) = self.by_node.values_mut().find(|a| a.id == id) else {
            return false;
        };
        if attached.last_batch > answered(attached.origin) {
            attached.resume_after = Some(attached.last_batch);
            return false;
        }
        true
    }

    /// Passes an outcome on; true if a kept `Resumed` of that node is due now.
    pub fn outcome(&mut self, outcome: BatchOutcome, out: &mut Replies) -> bool {
        let Some(attached) = self.by_node.get_mut(&outcome.origin.node) else {
            return false;
        };
        if attached.origin != outcome.origin {
            return false;
        }
        let due = attached
            .resume_after
            .is_some_and(|number| number <= outcome.number);
        if due {
            attached.resume_after = None;
        }
        out.push(outcome.origin, FromHost::Outcome(outcome));
        due
    }

    /// Sends what was gathered.
    pub fn send(&self, replies: &mut Replies) {
        for (origin, messages) in replies.by_origin.drain(..) {
            if let Some(attached) = self.by_node.get(&origin.node)
                && attached.origin == origin
            {
                // A link that is gone is noticed by its detach.
                let _ = attached.replies.send(messages);
            }
        }
    }

    /// Ends all links: they attach to the next leader.
    pub fn dismiss(&mut self, leader: Option<NodeId>) {
        for (_, attached) in self.by_node.drain() {
            let _ = attached.replies.send(vec![FromHost::NotLeader { leader }]);
        }
        self.lost.clear();
    }

    /// A node is dead: its start, if its link has gone.
    pub fn lost_now(&mut self, node: NodeId) -> Option<Origin> {
        self.lost.remove(&node).map(|(origin, _)| origin)
    }

    /// Whether there are nodes whose links have gone.
    #[must_use]
    pub fn any_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Starts whose links have been gone since before `before`.
    pub fn lost_before(&mut self, before: Instant) -> Vec<Origin> {
        let late: Vec<NodeId> = self
            .lost
            .iter()
            .filter(|(_, (_, since))| *since <= before)
            .map(|(node, _)| *node)
            .collect();
        late.into_iter()
            .filter_map(|node| self.lost.remove(&node))
            .map(|(origin, _)| origin)
            .collect()
    }
}

/// Messages to nodes, in order per node.
#[derive(Debug, Default)]
pub struct Replies {
    by_origin: Vec<(Origin, Vec<FromHost>)>,
}

impl Replies {
    /// Adds a message; deliveries are joined to lists.
    pub fn push(&mut self, to: Origin, message: FromHost) {
        let at = self.by_origin.iter().position(|(origin, _)| *origin == to);
        let list = match at.and_then(|at| self.by_origin.get_mut(at)) {
            Some((_, list)) => list,
            None => {
                self.by_origin.push((to, vec![message]));
                return;
            }
        };
        match (list.last_mut(), message) {
            (Some(FromHost::Deliver(before)), FromHost::Deliver(more)) => before.extend(more),
            (_, message) => list.push(message),
        }
    }

    /// Takes back what is for `origin`.
    pub fn forget(&mut self, origin: Origin) {
        self.by_origin.retain(|(to, _)| *to != origin);
    }

    /// Nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_origin.is_empty()
    }
}
