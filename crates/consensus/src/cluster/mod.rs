//! The life of the cluster: founding it, joining it, returning with an empty disk, leaving it.
//!
//! - **Founding.** The first cluster is formed by the nodes of the static peer list, in any order of
//!   starts. When all of them have said hello, none knows a cluster and all have the same list, the
//!   one with the lowest id makes up the cluster's id, tells the others, and makes all of them voters
//!   of all groups. It notes on disk that it is founding until that is done.
//! - **Restarting** needs no peers: the disk knows.
//! - **Joining.** A node without a cluster whose peers have one asks the leader of the catalog. The
//!   leader gives it a generation that none of its disks had before, so an earlier vote of that node
//!   is never confused with what it says now; then it is made a learner and a voter of every group,
//!   and earlier generations go.
//! - **Removal** takes a node out of all groups, the catalog last. One that is still joining and is removed stays outside: it
//!   asks again, and is told so.

mod change;
mod enter;
mod service;
mod waiting;
mod whereabouts;

pub(crate) use self::change::{Admissions, is_known, remove};
pub(crate) use self::service::ClusterService;

use self::enter::{enter_cluster, finish_founding, finish_joining, is_alone};
use crate::consensus::{Consensus, Inner};
use crate::identity::Standing;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between two tries of anything.
const RETRY: Duration = Duration::from_millis(200);
/// Between two looks at the members.
const LOOK: Duration = Duration::from_millis(400);
/// For a call that only asks.
const ASK: Duration = Duration::from_secs(2);
/// A node that is no member any more is forgotten after this time.
const FORGET: Duration = Duration::from_secs(10);

/// The task that brings this node into a cluster and keeps track of the members.
pub(crate) async fn take_part(consensus: Consensus) {
    let inner = &consensus.inner;
    if let Err(error) = enter_cluster(inner).await {
        inner.fail(error);
        return;
    }
    if inner.standing() == Standing::Founding
        && let Err(error) = finish_founding(inner).await
    {
        inner.fail(error);
        return;
    }
    tokio::spawn(whereabouts::keep_known(Arc::downgrade(inner)));
    if inner.standing() == Standing::Joining {
        let joining = Arc::clone(inner);
        tokio::spawn(async move { finish_joining(&joining).await });
    }
    follow_members(inner).await;
}

/// Connects to new members, forgets former ones.
async fn follow_members(inner: &Arc<Inner>) {
    let mut absent: HashMap<u64, Instant> = HashMap::new();
    let mut looks = crate::ticks::every(LOOK);
    loop {
        looks.tick().await;
        inner.know_members();
        let members = inner.member_nodes();
        if inner.standing() != Standing::Member || members.len() <= 1 && !is_alone(&inner.config) {
            continue;
        }
        let known = inner.peers.addresses();
        absent.retain(|node, _| known.contains_key(node) && !members.contains_key(node));
        for node in known.into_keys().filter(|node| !members.contains_key(node)) {
            let since = *absent.entry(node).or_insert_with(Instant::now);
            if since.elapsed() >= FORGET {
                tracing::info!(peer = node, "no member any more");
                inner.peers.remove_peer(node);
            }
        }
    }
}
