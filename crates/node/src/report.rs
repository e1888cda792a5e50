//! What a node says about itself.

use crate::life::alarms::Watermarks;
use crate::life::maintenance::Maintenance;
use crate::life::process;
use crate::metrics::Metrics;
use crate::queries::{GroupReport, ListenerReport, NodeReport};
use broker_model::ids::NodeId;
use consensus::{Consensus, Group, Position};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Makes the closure that reports on this node.
#[must_use]
pub(crate) fn reporter(
    node: NodeId,
    started: Instant,
    marks: Watermarks,
    consensus: Consensus,
    metrics: Arc<Metrics>,
    maintenance: Arc<Maintenance>,
    listeners: Vec<(&'static str, SocketAddr)>,
) -> Box<dyn Fn() -> NodeReport + Send + Sync> {
    let listener = |(protocol, address): (&str, SocketAddr)| ListenerReport {
        protocol: protocol.to_owned(),
        address,
    };
    let listeners: Vec<ListenerReport> = listeners.into_iter().map(listener).collect();
    Box::new(move || {
        let (alarms, _) = marks.look();
        let (fd_used, fd_total) = process::open_files();
        NodeReport {
            node: node.0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: started.elapsed().as_millis() as u64,
            memory_used: process::resident_bytes(),
            memory_limit: marks.memory_bytes,
            memory_alarm: alarms.memory,
            disk_free: process::disk_free(&marks.data_dir).unwrap_or(0),
            disk_free_limit: marks.disk_free_bytes,
            disk_alarm: alarms.disk,
            connections: metrics.connections.value().max(0) as u64,
            fd_used,
            fd_total,
            maintenance: maintenance.is_on(),
            listeners: listeners.clone(),
            groups: consensus.groups().iter().map(group_report).collect(),
            counts: metrics
                .counts
                .values()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        }
    })
}

fn group_report(group: &Group) -> GroupReport {
    let status = group.status();
    let index = |position: Option<Position>| position.map_or(0, |position| position.index);
    GroupReport {
        group: group.id().0,
        term: status.leadership.term,
        leader: status.leadership.leader.map(|leader| leader.node()),
        ready: status.leadership.ready,
        committed: index(status.committed),
        applied: index(status.applied),
        last_log: index(status.last_log),
        checkpoint: index(status.checkpoint),
        purged: index(status.purged),
        voters: status.voters.iter().map(|voter| voter.node()).collect(),
        learners: status
            .learners
            .iter()
            .map(|learner| learner.node())
            .collect(),
    }
}
