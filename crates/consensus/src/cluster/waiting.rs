//! What a node says while it waits for those that are to form the cluster with it: who is missing and why, and who wants
//! another cluster.

use super::enter::Hellos;
use crate::consensus::{Inner, wire_members};
use cluster_proto::v1;

/// Says what is waited for.
pub(super) fn tell(inner: &Inner, hellos: &Hellos) {
    let them = || {
        hellos
            .answers
            .iter()
            .filter_map(|(_, hello)| hello.me.as_ref())
    };
    let heard: Vec<u64> = them().map(|them| them.node).collect();
    tracing::info!(?heard, wanted = ?inner.config.peers.keys(), "waiting for the nodes that form the cluster");
    for (address, reason) in &hellos.silent {
        tracing::info!(address, reason, "no answer yet");
    }
    for (node, why) in disagreements(&wire_members(&inner.config.peers), them()) {
        tracing::warn!(node, why, "the cluster cannot be formed");
    }
}

/// Nodes that are to form another cluster than this one, which has the peers `mine`.
fn disagreements<'a>(
    mine: &[v1::Member],
    them: impl Iterator<Item = &'a v1::NodeIdentity>,
) -> Vec<(u64, String)> {
    if mine.is_empty() {
        // It joins whatever they form.
        return Vec::new();
    }
    let shown = |peers: &[v1::Member]| {
        let peers = peers
            .iter()
            .map(|peer| format!("{}={}", peer.member, peer.address));
        peers.collect::<Vec<String>>().join(",")
    };
    them.filter(|them| them.cluster.is_none() && them.peers != mine)
        .map(|them| {
            let why = format!(
                "its peers are '{}', this node's are '{}': give all nodes the same list, with the same addresses",
                shown(&them.peers),
                shown(mine),
            );
            (them.node, why)
        })
        .collect()
}

/// What lies at the bottom of an error: that a name does not resolve, that a connection is refused.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn members(list: &[(u64, &str)]) -> Vec<v1::Member> {
        let member = |&(member, address): &(u64, &str)| v1::Member {
            member,
            address: address.to_owned(),
        };
        list.iter().map(member).collect()
    }

    #[test]
    fn who_wants_another_cluster() {
        let mine = members(&[(1, "a:1"), (2, "b:1")]);
        for (cluster, peers, differs) in [
            (None, members(&[(1, "a:1"), (2, "b:1")]), false),
            (None, members(&[(1, "a:1"), (2, "10.0.0.2:1")]), true),
            (None, members(&[(1, "a:1"), (2, "b:1"), (3, "c:1")]), true),
            (None, Vec::new(), true),
            // It has one, which this node joins.
            (Some(7), Vec::new(), false),
        ] {
            let them = v1::NodeIdentity {
                node: 2,
                cluster,
                peers: peers.clone(),
                ..v1::NodeIdentity::default()
            };
            let found = disagreements(&mine, [&them].into_iter());
            assert_eq!(found.len(), usize::from(differs), "{peers:?}");
            for (node, why) in found {
                assert_eq!(node, 2);
                assert!(why.contains("'1=a:1,2=b:1'"), "{why}");
            }
            assert!(disagreements(&[], [&them].into_iter()).is_empty());
        }
    }

    #[test]
    fn the_cause_at_the_bottom() {
        let inner = io::Error::other("Name or service not known");
        let outer = io::Error::other(io::Error::other(inner));
        assert_eq!(root_cause(&outer), "Name or service not known");
        assert_eq!(root_cause(&io::Error::other("plain")), "plain");
    }
}
