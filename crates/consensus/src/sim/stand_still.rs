//! Groups that stand still although they could go on, and what becomes of them.

use super::cluster::{SimCluster, SimOptions};
use crate::config::Timing;
use std::time::Duration;

/// Founding with nobody listening yet, as when the other nodes' groups are still being opened: the
/// first election fails, and here openraft's own timer never starts another.
#[tokio::test(start_paused = true)]
async fn a_group_that_elects_nobody_is_made_to() {
    let cluster = SimCluster::unformed(1, SimOptions::default()).await;
    for other in 2..=3 {
        cluster.net.cut(1, other);
        cluster.net.cut(other, 1);
    }
    for (_, running) in cluster.running() {
        let raft = running.group.0.raft().unwrap();
        raft.runtime_config().elect(false);
    }
    cluster.form().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let leadership = *cluster.group(1).leadership().borrow();
    assert_eq!((leadership.term, leadership.leader), (1, None));
    cluster.net.heal();
    assert!(
        cluster
            .leader_within(Duration::from_secs(10))
            .await
            .is_some(),
        "nobody was elected"
    );
    cluster.put(1).await;
    assert_eq!(cluster.converged(1).await, [1]);
    assert!(cluster.aborts.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_core_that_answers_nothing_ends_the_process() {
    let options = SimOptions {
        timing: Timing {
            core_answer: Duration::from_secs(5),
            ..Timing::default()
        },
        ..SimOptions::default()
    };
    let cluster = SimCluster::start(2, options).await;
    cluster.put(1).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(cluster.aborts.lock().is_empty(), "all is well");
    // Its disk hangs, and it is asked for a vote: openraft waits for that inside its core.
    let stuck = cluster.leader().await % 3 + 1;
    cluster.nodes[&stuck].log.set_manual(true);
    let raft = cluster.group(stuck).0.raft().unwrap();
    raft.trigger().elect(false).await.unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    let aborts = cluster.aborts.lock().clone();
    assert_eq!(aborts.len(), 1, "{aborts:?}");
    assert!(
        aborts[0].starts_with(&format!("node {stuck}:"))
            && aborts[0].contains("its core has not answered for 5s"),
        "{aborts:?}"
    );
    // The others go on.
    cluster.put(2).await;
}

/// Its core cannot save the next leader's vote, and knows of no leader but itself; whoever asks the node is told.
#[tokio::test(start_paused = true)]
async fn a_leader_whose_disk_hangs_knows_of_the_one_that_follows_it() {
    let cluster = SimCluster::start(3, SimOptions::default()).await;
    cluster.put(1).await;
    let stuck = cluster.leader().await;
    let heir = stuck % 3 + 1;
    cluster.nodes[&stuck].log.set_manual(true);
    let group = cluster.group(stuck);
    let _ = group.transfer_leader(heir, Duration::from_secs(2)).await;
    let mut leadership = group.leadership();
    let told = leadership.wait_for(|now| now.leader.is_some_and(|now| now.node() == heir));
    tokio::time::timeout(Duration::from_secs(2), told)
        .await
        .expect("the node knows the next leader")
        .unwrap();
    assert!(
        cluster.nodes[&stuck].log.unsynced() > 0,
        "its disk still hangs"
    );
    assert!(!group.leadership().borrow().ready);
    cluster.put(2).await;
    cluster.nodes[&stuck].log.set_manual(false);
    assert_eq!(cluster.converged(2).await, [1, 2]);
    assert!(cluster.aborts.lock().is_empty());
}

/// A process that was frozen: whichever of its tasks runs first may be one that hands messages out.
#[tokio::test(start_paused = true)]
async fn a_leader_that_stood_still_does_not_lead_before_it_has_looked() {
    let cluster = SimCluster::start(4, SimOptions::default()).await;
    cluster.put(1).await;
    let group = cluster.group(cluster.leader().await);
    let mut leadership = group.leadership();
    leadership.wait_for(|now| now.ready).await.unwrap();
    assert!(group.leads_now());
    // Time passes, and nothing else runs.
    let frozen = std::pin::pin!(tokio::time::advance(Duration::from_secs(10)));
    assert!(futures::poll!(frozen).is_pending());
    assert!(leadership.borrow().ready, "nobody has looked yet");
    assert!(!group.leads_now());
    // It is told, and then somebody leads.
    tokio::time::timeout(
        Duration::from_secs(5),
        leadership.wait_for(|now| !now.ready),
    )
    .await
    .expect("it is told")
    .unwrap();
    cluster.put(2).await;
    let group = cluster.group(cluster.leader().await);
    group.leadership().wait_for(|now| now.ready).await.unwrap();
    // What waited in its sockets has been read by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(group.leads_now());
}

/// What waits in its sockets is as old as its sleep was long.
#[tokio::test(start_paused = true)]
async fn a_member_that_stood_still_asks_before_it_takes_itself_for_recent() {
    let cluster = SimCluster::start(5, SimOptions::default()).await;
    cluster.put(1).await;
    let leader = cluster.leader().await;
    for member in [leader, leader % 3 + 1] {
        let group = cluster.group(member);
        let soon = Duration::from_secs(5);
        assert!(!group.is_recent(), "{member}: nobody was asked yet");
        assert!(group.freshen(soon).await);
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(group.is_recent(), "{member}: heartbeats say so");
        }
        // Time passes, and nothing else runs.
        let frozen = std::pin::pin!(tokio::time::advance(Duration::from_secs(10)));
        assert!(futures::poll!(frozen).is_pending());
        assert!(!group.is_recent(), "{member}");
        cluster.leader_within(Duration::from_secs(10)).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!group.is_recent(), "{member}: heartbeats prove nothing now");
        assert!(group.freshen(soon).await && group.is_recent());
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_cut_off_is_not_recent_for_long() {
    let cluster = SimCluster::start(6, SimOptions::default()).await;
    cluster.put(1).await;
    let cut = cluster.leader().await;
    let group = cluster.group(cut);
    assert!(group.freshen(Duration::from_secs(5)).await);
    for other in (1..=3).filter(|other| *other != cut) {
        cluster.net.cut(cut, other);
        cluster.net.cut(other, cut);
    }
    tokio::time::sleep(crate::RECENT * 2).await;
    assert!(!group.is_recent());
    assert!(
        !group.freshen(Duration::from_secs(1)).await,
        "nobody answers"
    );
    cluster.put(2).await;
    cluster.net.heal();
    assert!(group.freshen(Duration::from_secs(10)).await);
    let applied = group.applied().borrow().map(|applied| applied.index);
    assert!(
        applied
            >= cluster
                .group(cut % 3 + 1)
                .applied()
                .borrow()
                .map(|applied| applied.index)
    );
}
