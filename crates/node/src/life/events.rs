//! Carries what the catalog and the hosts report to whom it concerns.

use crate::broker::Broker;
use crate::dead_letter::DeadLetterSender;
use crate::host::{HostEvent, HostInput};
use broker_model::catalog::record::QueueRecord;
use broker_model::catalog::{CatalogCommand, CatalogEvent};
use broker_model::ids::{Placement, QueueId};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::{debug, info};

/// Follows the catalog until the node stops.
pub async fn follow_catalog(
    broker: Arc<Broker>,
    mut events: mpsc::UnboundedReceiver<Vec<CatalogEvent>>,
) {
    while let Some(list) = events.recv().await {
        for event in list {
            on_catalog_event(&broker, event).await;
        }
    }
}

async fn on_catalog_event(broker: &Arc<Broker>, event: CatalogEvent) {
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
            info!(queue = %new.name, from = ?old.placement, to = ?new.placement, "local queue moved");
            if let Some(inbox) = broker.hosts.inbox(old.placement) {
                let _ = inbox.send(HostInput::Settings {
                    queue: old.id,
                    settings: None,
                });
            }
            tell_settings(broker, &new);
            if let Placement::Host(from) = old.placement {
                broker
                    .hub
                    .queue_moved(old.id, from, new.id, new.placement)
                    .await;
            }
        }
        CatalogEvent::VhostDeleted { name } => {
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
            HostEvent::DeadLetter { placement, letter } => dead_letters.send(placement, *letter),
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
        let command = CatalogCommand::DeleteQueue {
            vhost: Arc::clone(&record.vhost),
            name: Arc::clone(&record.name),
            expected: Some(queue),
        };
        if let Err(error) = broker.catalog_write(command).await {
            debug!(queue = %record.name, %error, "queue not deleted");
        }
        deleting.lock().remove(&queue);
    });
}
