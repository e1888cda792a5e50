//! `x-recent-history`: what is bound to such an exchange gets its last messages.
//!
//! Done by whoever made the binding, after it is visible on every node and before the client hears
//! so: the messages are copied from the exchange's store and published to the new destination. A
//! message that is published in between may come twice, and none is missing.

use super::operator::Desk;
use super::services::Services;
use crate::target::{add_headers, target_for};
use amqp_codec::PropertiesView;
use amqp_connection::ProtocolError;
use broker_model::catalog::record::QueueRecord;
use broker_model::catalog::{BindingSpec, Destination, Store};
use broker_model::ids::Placement;
use broker_model::message::Message;
use broker_model::op::{Op, Target};
use broker_model::routing::{Effort, RouteInput};
use broker_model::wire::StoredMessage;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tracing::debug;

/// Histories that are copied at a time: each is in memory for a moment.
static COPIES: Semaphore = Semaphore::const_new(4);

/// Gives a new binding its history. Without a majority for it the binding is made all the same: the
/// messages are a courtesy, and asking again would find the binding there.
pub(super) async fn follow(broker: &dyn Services, binding: &BindingSpec) {
    let store = broker
        .catalog()
        .exchange(&binding.vhost, &binding.source)
        .and_then(|exchange| exchange.store.clone())
        .filter(|store| store.settings().store == Some(Store::History));
    let Some(store) = store else { return };
    let bound = broker.config().timing.publish_timeout;
    let Ok(Ok(_copying)) = tokio::time::timeout(bound, COPIES.acquire()).await else {
        return;
    };
    if let Err(error) = replay(broker, binding, &store).await {
        debug!(exchange = %binding.source, error = error.text, "history not replayed");
    }
}

async fn replay(
    broker: &dyn Services,
    binding: &BindingSpec,
    store: &QueueRecord,
) -> Result<(), ProtocolError> {
    let mut desk = Desk::new(broker);
    let messages = desk.browse(store, u32::MAX, u64::MAX).await?;
    let mut ops: BTreeMap<Placement, Vec<Op>> = BTreeMap::new();
    for StoredMessage { message, .. } in messages {
        for (placement, targets) in targets(broker, binding, &message) {
            ops.entry(placement).or_default().push(Op::Publish {
                targets,
                message: message.clone(),
            });
        }
    }
    desk.submit_all(ops).await;
    Ok(())
}

/// Where the new binding leads a message of the history.
fn targets(
    broker: &dyn Services,
    binding: &BindingSpec,
    message: &Message,
) -> BTreeMap<Placement, SmallVec<[Target; 1]>> {
    let catalog = broker.catalog();
    let properties = PropertiesView::new(&message.properties);
    let mut queues: Vec<Arc<QueueRecord>> = Vec::new();
    match &binding.destination {
        Destination::Queue(name) => queues.extend(catalog.queue(&binding.vhost, name).cloned()),
        Destination::Exchange(name) => {
            let routing_key = String::from_utf8_lossy(&message.routing_key);
            let input = RouteInput {
                routing_key: &routing_key,
                more_keys: &[],
                properties: &properties,
                random: rand::random(),
                is_here: &|placement| broker.is_here(placement),
            };
            // The exchange may be gone again.
            let mut effort = Effort::at_once();
            if let Err(error) =
                catalog.route(&binding.vhost, name, &input, &mut effort, &mut queues)
            {
                debug!(exchange = %binding.source, %error, "message not replayed");
                queues.clear();
            }
        }
    }
    let expiration_ms = properties
        .expiration()
        .and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    let headers = properties.headers();
    let exchange = catalog.exchange(&binding.vhost, &binding.source);
    let mut targets: BTreeMap<Placement, SmallVec<[Target; 1]>> = BTreeMap::new();
    for queue in queues {
        let mut target = target_for(&queue, properties.priority(), expiration_ms);
        add_headers(
            &mut target,
            &queue,
            exchange.map(|exchange| &**exchange),
            headers.as_ref(),
        );
        targets.entry(queue.placement).or_default().push(target);
    }
    targets
}
