//! Data directories that have lost a part of what belongs together, and first starts that were interrupted.

use super::nodes::{Node, Nodes, payload};
use crate::error::StartError;
use crate::identity::{IdentityFile, Standing};
use crate::log_mark;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use storage::{LogOptions, LogStore};

fn identity_of(node: &Node) -> PathBuf {
    node.config.data_dir.join("identity")
}

/// A node that is a cluster of its own.
fn alone() -> Node {
    let mut node = Node::new(7, &BTreeMap::new(), true);
    node.config.join = Vec::new();
    node
}

#[test]
fn a_member_without_its_identity_founds_and_joins_nothing() {
    let mut node = alone();
    node.start();
    node.formed();
    let group = node.group(1);
    node.block_on(async {
        let mut leadership = group.leadership();
        leadership.wait_for(|now| now.ready).await.unwrap();
        group.propose(payload(1)).await.unwrap();
    });
    drop(group);
    node.kill();
    let kept = std::fs::read(identity_of(&node)).unwrap();
    std::fs::remove_file(identity_of(&node)).unwrap();
    // The first try leaves an identity that names no cluster.
    for _ in 0..2 {
        let refused = node.try_start().unwrap_err();
        assert!(matches!(refused, StartError::Identity { .. }), "{refused}");
        assert!(
            refused.to_string().contains("Restore the file"),
            "{refused}"
        );
    }
    std::fs::write(identity_of(&node), kept).unwrap();
    node.start();
    node.formed();
    assert_eq!(node.machine(1).numbers(), [1]);
}

/// Where the first start of a node may be interrupted.
#[derive(Debug, Clone, Copy)]
enum Before {
    /// The log's directory is there, the identity is not.
    Identity,
    /// The identity names no cluster.
    Mark,
    /// The log is marked, the identity names no cluster yet.
    Cluster,
    /// The identity names the cluster; no group was opened.
    Groups,
}

#[test]
fn a_first_start_that_was_interrupted_is_repeated() {
    use Before::{Cluster, Groups, Identity, Mark};
    for at in [Identity, Mark, Cluster, Groups] {
        let mut node = alone();
        let dir = node.config.data_dir.clone();
        let log = LogStore::open(dir.join("log"), LogOptions::default()).unwrap();
        if !matches!(at, Identity) {
            let mut file = IdentityFile::open(&dir, node.id).unwrap();
            file.identity.cluster = Some(5);
            file.identity.shards = 2;
            file.standing = Standing::Founding;
            if !matches!(at, Mark) {
                futures::executor::block_on(log_mark::write(&log, &file.identity)).unwrap();
            }
            if matches!(at, Groups) {
                file.save().unwrap();
            }
        }
        drop(log);
        node.start();
        node.formed();
        let founded = node.consensus().identity().cluster;
        assert_eq!(founded == Some(5), matches!(at, Groups), "{at:?}");
        node.kill();
        node.start();
        node.formed();
        assert_eq!(node.consensus().identity().cluster, founded, "{at:?}");
    }
}

#[test]
fn a_founder_that_was_done_waits_for_nobody() {
    let mut nodes = Nodes::new(3, true).started();
    nodes.put(1, 0);
    nodes.node(1).kill();
    let dir = nodes.node(1).config.data_dir.clone();
    let mut file = IdentityFile::open(&dir, 1).unwrap();
    file.standing = Standing::Founding;
    file.save().unwrap();
    nodes.node(3).kill();
    nodes.node(1).start();
    let until = Instant::now() + Duration::from_secs(20);
    while nodes.node(1).consensus().inner.standing() != Standing::Member {
        assert!(Instant::now() < until, "it is waiting");
        std::thread::sleep(Duration::from_millis(5));
    }
    nodes.put(1, 1);
    nodes.no_aborts();
}

#[test]
fn a_state_without_its_log_is_refused() {
    let mut nodes = Nodes::new(3, true).started();
    nodes.put(1, 0);
    nodes.converged(1, 1);
    let group = nodes.node(2).group(1);
    group.trigger_checkpoint();
    let until = Instant::now() + Duration::from_secs(20);
    while group.status().checkpoint.is_none() {
        assert!(Instant::now() < until, "no checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(group);
    let node = nodes.node(2);
    node.kill();
    node.lose_log();
    std::fs::remove_file(identity_of(node)).unwrap();
    node.start();
    let formed = node.consensus().formed();
    let refused = node.block_on(formed).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("the log knows nothing of this group"),
        "{refused}"
    );
    // And so it is at the next start, which knows the cluster.
    node.kill();
    let refused = node.try_start().unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("the log knows nothing of this group"),
        "{refused}"
    );
    node.wipe();
    node.start();
    node.formed();
    nodes.put(1, 1);
    assert_eq!(nodes.converged(1, 2), [0, 1]);
}
