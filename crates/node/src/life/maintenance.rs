//! Maintenance: a node that serves no clients and leads nothing, and goes on as a member, until it is taken back
//! or starts anew.
//!
//! Its leaderships go first and its clients then, so that they find all leaders elsewhere. Local queues stay: the node may
//! be back at once, and when it stops they are given to another.

use super::hearing;
use crate::broker::Broker;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::info;

/// How often it is looked for leaderships and clients that have come all the same.
const LOOK: Duration = Duration::from_millis(400);
/// How long leaderships may take to move.
const TRANSFER: Duration = Duration::from_secs(2);
/// What clients are told, as by RabbitMQ.
const CLOSED: &str = "Node was put into maintenance mode";

/// Whether this node is in maintenance.
#[derive(Debug, Default)]
pub(crate) struct Maintenance(watch::Sender<bool>);

impl Maintenance {
    /// Whether it is.
    pub(crate) fn is_on(&self) -> bool {
        *self.0.borrow()
    }

    /// Begins or ends it; returns whether that is a change.
    pub(crate) fn set(&self, on: bool) -> bool {
        self.0.send_replace(on) != on
    }
}

/// Runs until the node stops.
pub(crate) async fn watch(broker: Arc<Broker>, maintenance: Arc<Maintenance>) {
    let mut on = maintenance.0.subscribe();
    while on.wait_for(|on| *on).await.is_ok() {
        info!("in maintenance: other nodes lead, and clients are sent to them");
        while *on.borrow_and_update() {
            if hearing::leads_any(&broker) {
                let well = hearing::well_others(&broker).await;
                let wanted = |node| well.contains(&broker_model::ids::NodeId(node));
                broker.consensus.hand_over_to(wanted, TRANSFER).await;
            }
            broker.hub.close_all_sessions(CLOSED);
            let _ = tokio::time::timeout(LOOK, on.changed()).await;
        }
        info!("maintenance is over: clients are welcome, and leaderships come back by and by");
    }
}
