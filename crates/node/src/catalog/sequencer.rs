//! The catalog's leader gathers what all nodes propose while a round is under way into one entry for
//! the next.
//!
//! A round costs every node a sync and several messages, whatever it carries: declarations that arrive
//! from three nodes at the same time share it, and so do the questions whether all nodes show it.

use super::gather::Gather;
use super::shown::Shown;
use crate::vital::Vital;
use broker_model::catalog::{CatalogEntry, CatalogReply, CatalogRequest, decode_replies};
use consensus::{Group, Payload, ProposeError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

/// Requests merged into one entry, at most: so many of the largest still fit a message between nodes.
pub(super) const ENTRY_REQUESTS: usize = 128;
/// How long others wait for a round that finds no majority.
const ROUND: Duration = Duration::from_secs(5);
/// How long the next round waits until all nodes show this one, so that more of those who ask one thing
/// after the other ask together. A node that lags behind does not hold the others up.
const LOCKSTEP: Duration = Duration::from_millis(3);

/// Committed, and shown by every live node.
#[derive(Debug)]
pub struct Sequenced {
    /// Index of the entry.
    pub index: u64,
    /// One for each request.
    pub replies: Vec<CatalogReply>,
}

type Outcome = Result<Sequenced, ProposeError>;

struct Proposal {
    requests: Vec<CatalogRequest>,
    reply: oneshot::Sender<Outcome>,
}

/// Proposes to this node's member of the catalog's group; of use where it leads.
pub struct Sequencer {
    queue: mpsc::UnboundedSender<Proposal>,
}

impl Sequencer {
    /// Runs until it is dropped.
    pub fn start(group: Group, shown: Arc<Shown>, vital: &Vital) -> Arc<Self> {
        let (queue, proposals) = mpsc::unbounded_channel();
        vital.spawn("the sequencer of the catalog", run(group, shown, proposals));
        Arc::new(Self { queue })
    }

    /// Returns when the requests are committed and every live node shows it.
    ///
    /// # Errors
    /// As of [`Group::propose`].
    pub async fn propose(&self, requests: Vec<CatalogRequest>) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        self.queue
            .send(Proposal { requests, reply })
            .map_err(|_| ProposeError::Stopped)?;
        outcome.await.unwrap_or(Err(ProposeError::Stopped))
    }
}

async fn run(group: Group, shown: Arc<Shown>, mut queue: mpsc::UnboundedReceiver<Proposal>) {
    let mut left = None;
    let mut gather = Gather::default();
    while let Some(first) = match left.take() {
        Some(left) => Some(left),
        None => queue.recv().await,
    } {
        let mut round = Round::default();
        round.add(first);
        while let Some(proposal) = next(&mut queue, &gather, &round).await {
            if !round.has_room_for(&proposal) {
                left = Some(proposal);
                break;
            }
            round.add(proposal);
        }
        let proposers = round.proposers.len();
        gather.begins(proposers);
        if !round.requests.is_empty() {
            round.carry(&group, &shown).await;
        }
        let waiting = queue.len() + usize::from(left.is_some());
        gather.ended(Instant::now(), proposers, waiting);
    }
}

/// A proposal that is there, or worth waiting for.
async fn next(
    queue: &mut mpsc::UnboundedReceiver<Proposal>,
    gather: &Gather,
    round: &Round,
) -> Option<Proposal> {
    if let Ok(proposal) = queue.try_recv() {
        return Some(proposal);
    }
    let until = gather.wait(Instant::now(), round.proposers.len())?;
    timeout_at(until, queue.recv()).await.ok().flatten()
}

/// The proposals that share an entry.
#[derive(Default)]
struct Round {
    requests: Vec<CatalogRequest>,
    /// Who made them, with how many each.
    proposers: Vec<(usize, oneshot::Sender<Outcome>)>,
}

impl Round {
    fn has_room_for(&self, proposal: &Proposal) -> bool {
        self.requests.len() + proposal.requests.len() <= ENTRY_REQUESTS
    }

    fn add(&mut self, proposal: Proposal) {
        // Whoever waits no longer will ask again, if at all.
        if !proposal.reply.is_closed() {
            self.proposers
                .push((proposal.requests.len(), proposal.reply));
            self.requests.extend(proposal.requests);
        }
    }

    /// Returns when it is committed here, and all nodes show it or take long; whoever waits is answered when
    /// they do.
    async fn carry(self, group: &Group, shown: &Arc<Shown>) {
        let count = self.requests.len();
        let requests = self.requests;
        let entry = CatalogEntry { requests }.encode();
        let proposed = tokio::time::timeout(ROUND, group.propose(Payload::one(entry))).await;
        let done = match proposed {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => return refuse(self.proposers, &error),
            Err(_) => return refuse(self.proposers, &ProposeError::Unknown),
        };
        let replies = match decode_replies(done.reply) {
            Ok(replies) if replies.len() == count => replies,
            Ok(_) | Err(_) => {
                warn!(
                    index = done.index,
                    "the catalog's replies to an entry cannot be read"
                );
                return refuse(self.proposers, &ProposeError::Unknown);
            }
        };
        let shown = Arc::clone(shown);
        let answered = tokio::spawn(async move {
            shown.everywhere(done.index).await;
            let mut replies = replies.into_iter();
            for (count, proposer) in self.proposers {
                let _ = proposer.send(Ok(Sequenced {
                    index: done.index,
                    replies: replies.by_ref().take(count).collect(),
                }));
            }
        });
        let _ = tokio::time::timeout(LOCKSTEP, answered).await;
    }
}

fn refuse(proposers: Vec<(usize, oneshot::Sender<Outcome>)>, error: &ProposeError) {
    for (_, proposer) in proposers {
        let _ = proposer.send(Err(error.clone()));
    }
}
