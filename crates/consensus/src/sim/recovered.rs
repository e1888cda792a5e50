//! One disk of three is left, and goes on alone.

use super::nodes::{Node, Nodes};
use crate::error::StartError;
use crate::identity::{Identity, Standing};
use crate::recover::{go_on_alone, survey};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::{LogBackend, LogOptions, LogStore};

fn log_of(node: &Node) -> Arc<dyn LogBackend> {
    let dir = node.config.data_dir.join("log");
    Arc::new(LogStore::open(dir, LogOptions::default()).unwrap())
}

fn recover(node: &Node) -> Result<Identity, StartError> {
    let address = node.config.listen.to_string();
    let log = log_of(node);
    futures::executor::block_on(go_on_alone(&node.config.data_dir, node.id, &address, &log))
}

/// Waits until a node has its votes, and knows.
fn is_member(node: &Node) {
    let until = Instant::now() + Duration::from_secs(60);
    while node.consensus().inner.standing() != Standing::Member {
        assert!(Instant::now() < until, "node {} has no votes", node.id);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_one_disk_has_is_kept_and_others_come_with_empty_ones() {
    let mut nodes = Nodes::new(3, true).started();
    for number in 0..20 {
        nodes.put(1, number);
    }
    nodes.converged(1, 20);
    for id in 1..=3 {
        nodes.node(id).kill();
    }
    let old = nodes.node(3).copy();
    let before = survey(
        &nodes.node(2).config.data_dir.clone(),
        2,
        &log_of(nodes.node(2)),
    )
    .unwrap();
    assert_eq!(before.last.len(), 3);
    assert!(before.last.iter().all(|(_, last)| last.index > 0));

    let after = recover(nodes.node(2)).unwrap();
    assert_ne!(after.cluster, before.identity.cluster);
    assert!(after.incarnation > before.identity.incarnation);
    nodes.node(2).start();
    nodes.node(2).formed();
    // Alone, it accepts what only a majority may.
    nodes.put(1, 20);
    nodes.put(2, 21);

    // A disk that was taken for lost belongs to another cluster now.
    let mut stranger = old;
    stranger.config.listen = nodes.node(3).config.listen;
    stranger.start();
    let refused = |node: &Node| {
        node.consensus()
            .group(crate::GroupId(1))
            .unwrap()
            .status()
            .applied
    };
    let had = refused(&stranger);
    nodes.put(1, 22);
    assert_eq!(refused(&stranger), had);
    stranger.kill();

    for id in [1, 3] {
        nodes.node(id).wipe();
        nodes.node(id).start();
    }
    for id in [1, 3] {
        nodes.node(id).formed();
    }
    assert_eq!(nodes.converged(1, 22).len(), 22);
    // They have votes again: any of them may go.
    for id in [1, 3] {
        is_member(nodes.node(id));
    }
    nodes.node(2).kill();
    nodes.put(1, 23);
    nodes.no_aborts();
}

#[test]
fn an_interrupted_recovery_is_repeated() {
    let mut nodes = Nodes::new(3, true).started();
    nodes.put(1, 7);
    nodes.converged(1, 1);
    is_member(nodes.node(1));
    for id in 1..=3 {
        nodes.node(id).kill();
    }
    let node = nodes.node(1);
    let identity = node.config.data_dir.join("identity");
    let log = node.config.data_dir.join("log");
    let kept = tempfile::tempdir().unwrap();
    super::nodes::copy_files(&log, kept.path());
    recover(node).unwrap();
    // The identity was written, the log not.
    std::fs::remove_dir_all(&log).unwrap();
    super::nodes::copy_files(kept.path(), &log);
    let refused = node.try_start().unwrap_err();
    assert!(refused.to_string().contains("run it again"), "{refused}");
    recover(node).unwrap();
    node.start();
    node.formed();
    nodes.put(1, 8);
    assert_eq!(nodes.node(1).machine(1).numbers(), [7, 8]);
    assert!(identity.is_file());
    nodes.no_aborts();
}

#[test]
fn only_a_members_disk_can_go_on() {
    let mut nodes = Nodes::new(3, true);
    let node = nodes.node(1);
    // It waits for the others.
    node.start();
    node.kill();
    let refused = recover(node).unwrap_err();
    assert!(
        refused.to_string().contains("nothing to go on with"),
        "{refused}"
    );
    // Without its log there is nothing to go on with either, nor with another's.
    let mut nodes = nodes.started();
    for id in 1..=3 {
        is_member(nodes.node(id));
    }
    for id in 1..=3 {
        nodes.node(id).kill();
    }
    let other = nodes.node(2).config.data_dir.join("log");
    let node = nodes.node(1);
    node.lose_log();
    let refused = recover(node).unwrap_err();
    assert!(
        refused.to_string().contains("knows nothing of this group"),
        "{refused}"
    );
    node.lose_log();
    super::nodes::copy_files(&other, &node.config.data_dir.join("log"));
    let refused = recover(node).unwrap_err();
    assert!(refused.to_string().contains("is not the one"), "{refused}");
    let log = log_of(node);
    let refused = survey(&node.config.data_dir, 2, &log).unwrap_err();
    assert!(
        refused.to_string().contains("belongs to node 1"),
        "{refused}"
    );
}
