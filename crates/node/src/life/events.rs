//! Carries what the catalog and the hosts report to whom it concerns.

use crate::broker::Broker;
use crate::dead_letter::DeadLetterSender;
use crate::host::{HostEvent, HostInput};
use crate::hub::api::SessionId;
use crate::life::deleted::Deleted;
use broker_model::catalog::record::QueueRecord;
use broker_model::catalog::{CatalogCommand, CatalogEvent};
use broker_model::ids::{Placement, QueueId};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, info};

/// Consumers of auto-delete queues that were moved have followed after so long.
const SETTLE: Duration = Duration::from_secs(10);

/// Why a connection ends that has lost its exclusive queues.
const TAKEN_FOR_LOST: &str =
    "this node was silent and taken for lost: exclusive queues of this connection are gone";

/// Follows the catalog until the node stops.
pub async fn follow_catalog(
    broker: Arc<Broker>,
    mut events: mpsc::UnboundedReceiver<Vec<CatalogEvent>>,
    dead_letters: DeadLetterSender,
) {
    let mut moved = Vec::new();
    let mut deleted = Deleted::default();
    while let Some(list) = events.recv().await {
        for event in list {
            match &event {
                CatalogEvent::QueueDeleted(record) => {
                    dead_letters.gone(record);
                    deleted.note(record);
                }
                CatalogEvent::QueueDeclared(record) => {
                    tell_replaced(&broker, &mut deleted, record);
                }
                _ => {}
            }
            on_catalog_event(&broker, event, &mut moved);
        }
    }
}

/// What nodes that are behind send for the queues that this one takes the place of must not be taken there.
fn tell_replaced(broker: &Broker, deleted: &mut Deleted, record: &QueueRecord) {
    for (former, placement) in deleted.take(record) {
        if let Some(inbox) = broker.hosts.inbox(placement) {
            let _ = inbox.send(HostInput::Replaced { former });
        }
    }
}

/// `moved`: local queues with new ids (as they were, as they are) of hosts that have lost their
/// memory, until that is told of the host.
fn on_catalog_event(
    broker: &Arc<Broker>,
    event: CatalogEvent,
    moved: &mut Vec<(Arc<QueueRecord>, Arc<QueueRecord>)>,
) {
    match event {
        CatalogEvent::QueueDeclared(record) | CatalogEvent::QueueSettingsChanged(record) => {
            // Hosts look a new queue up when it is first used: only settings that changed are told.
            tell_settings(broker, &record);
        }
        CatalogEvent::QueueDeleted(record) => {
            let gone = HostInput::Settings {
                queue: record.id,
                settings: None,
            };
            if let Some(inbox) = broker.hosts.inbox(record.placement) {
                let _ = inbox.send(gone);
            }
        }
        CatalogEvent::QueueRehosted { old, new } => {
            debug!(queue = %new.name, from = ?old.placement, to = ?new.placement, "local queue moved");
            tell_settings(broker, &new);
            if let Placement::Host(from) = old.placement {
                broker.hub.queue_moved(old.id, from, new.id, new.placement);
            }
            moved.push((old, new));
        }
        CatalogEvent::MemoryLost { node, start } => {
            broker.hub.memory_lost(node, start);
            let from_there = |(old, _): &mut (Arc<QueueRecord>, Arc<QueueRecord>)| {
                old.placement == Placement::Host(node)
            };
            let queues: Vec<_> = moved.extract_if(.., from_there).collect();
            if !queues.is_empty() {
                info!(%node, queues = queues.len(), "local queues have moved");
                settle_in(broker, &queues);
            }
        }
        CatalogEvent::ExclusiveQueuesLost { owner } => {
            if owner.origin == broker.origin
                && broker
                    .hub
                    .close_session(SessionId(owner.serial), TAKEN_FOR_LOST)
            {
                info!(connection = owner.serial, "{TAKEN_FOR_LOST}");
            }
        }
        CatalogEvent::ParameterChanged { component, .. } => {
            if *component == *crate::shovels::COMPONENT {
                broker.shovels.look();
            }
        }
        CatalogEvent::VhostDeleted { name } => {
            // Its shovels are gone with it.
            broker.shovels.look();
            let reason = format!("vhost '{name}' is deleted");
            for session in broker.registry.matching(|entry| entry.vhost == name) {
                broker.hub.close_session(session, &reason);
            }
        }
        CatalogEvent::UserDeleted { name } => {
            let reason = format!("user '{name}' is deleted");
            for session in broker.registry.matching(|entry| entry.user == name) {
                broker.hub.close_session(session, &reason);
            }
        }
        CatalogEvent::Bootstrapped
        | CatalogEvent::ExchangeDeleted { .. }
        | CatalogEvent::PolicyChanged { .. }
        | CatalogEvent::UserChanged { .. }
        | CatalogEvent::PermissionsChanged { .. }
        | CatalogEvent::VhostCreated { .. }
        | CatalogEvent::VhostLimitsChanged { .. }
        | CatalogEvent::NodeChanged { .. } => {}
    }
}

/// Links know by now that these queues have new ids: what is left of the old ones here goes; and
/// auto-delete queues that were moved here go too if no consumer has followed.
fn settle_in(broker: &Arc<Broker>, queues: &[(Arc<QueueRecord>, Arc<QueueRecord>)]) {
    let mut unused = Vec::new();
    for (old, new) in queues {
        if let Some(inbox) = broker.hosts.inbox(old.placement) {
            let _ = inbox.send(HostInput::Settings {
                queue: old.id,
                settings: None,
            });
        }
        if new.auto_delete && new.placement == Placement::Host(broker.origin.node) {
            unused.push(new.id);
        }
    }
    if unused.is_empty() {
        return;
    }
    let broker = Arc::clone(broker);
    tokio::spawn(async move {
        tokio::time::sleep(SETTLE).await;
        let here = Placement::Host(broker.origin.node);
        let reports = broker
            .queries
            .queues(broker.origin.node, here, &unused)
            .await;
        // Not answered: they stay, which is the smaller mistake.
        if reports.is_empty() {
            return;
        }
        let used: HashSet<u64> = reports
            .iter()
            .filter(|report| !report.consumers.is_empty())
            .map(|report| report.queue)
            .collect();
        for queue in unused.into_iter().filter(|queue| !used.contains(&queue.0)) {
            let record = broker.catalog().queue_by_id(queue).cloned();
            if let Some(record) = record {
                let command = delete_command(&record);
                if let Err(error) = broker.catalog_write(command).await {
                    debug!(queue = %record.name, %error, "unused queue not deleted");
                }
            }
        }
    });
}

fn delete_command(record: &QueueRecord) -> CatalogCommand {
    CatalogCommand::DeleteQueue {
        vhost: Arc::clone(&record.vhost),
        name: Arc::clone(&record.name),
        expected: Some(record.id),
    }
}

fn tell_settings(broker: &Broker, record: &QueueRecord) {
    let Some(inbox) = broker.hosts.inbox(record.placement) else {
        return;
    };
    let settings = {
        let catalog = broker.catalog();
        // The event may be older than the catalog: what is there now counts.
        catalog
            .queue_by_id(record.id)
            .map(|record| catalog.queue_settings(record))
    };
    let _ = inbox.send(HostInput::Settings {
        queue: record.id,
        settings,
    });
}

/// Follows the hosts of this node until it stops.
pub async fn follow_hosts(
    broker: Arc<Broker>,
    mut events: mpsc::UnboundedReceiver<HostEvent>,
    dead_letters: DeadLetterSender,
) {
    let deleting: Arc<parking_lot::Mutex<HashSet<QueueId>>> = Arc::default();
    while let Some(event) = events.recv().await {
        match event {
            HostEvent::DeadLetter { placement, letter } => dead_letters.send(placement, letter),
            HostEvent::Unused { queue } => delete_queue(&broker, queue, "unused", &deleting),
            HostEvent::Expired { queue } => delete_queue(&broker, queue, "expired", &deleting),
        }
    }
}

/// Deletes a queue in the background. A failure is harmless: the host reports again.
fn delete_queue(
    broker: &Arc<Broker>,
    queue: QueueId,
    why: &'static str,
    deleting: &Arc<parking_lot::Mutex<HashSet<QueueId>>>,
) {
    let record = broker.catalog().queue_by_id(queue).cloned();
    let Some(record) = record else { return };
    if !deleting.lock().insert(queue) {
        return;
    }
    let (broker, deleting) = (Arc::clone(broker), Arc::clone(deleting));
    tokio::spawn(async move {
        debug!(queue = %record.name, why, "deleting queue");
        let command = delete_command(&record);
        if let Err(error) = broker.catalog_write(command).await {
            debug!(queue = %record.name, %error, "queue not deleted");
        }
        deleting.lock().remove(&queue);
    });
}
