//! What operators do to queues by hand: a session without a client, for one request.
//!
//! Permissions have been checked by whoever asks, except for publishes, which are checked as they
//! are routed.

use super::catalog_calls::{catalog_error, check_takes, look, usable_queue, write};
use super::history;
use super::properties::{look as look_at, told, without_bcc};
use super::queue::refusal;
use super::route::{self, Publisher, Sought};
use super::services::Services;
use crate::catalog::writer::WriteError;
use crate::hub::SessionHandle;
use crate::hub::api::{Ask, Held, SessionEvent, SubBatch};
use crate::hub::mailbox::SessionEvents;
use crate::identity::Identity;
use amqp_codec::{PropertiesView, ReplyCode};
use amqp_connection::ProtocolError;
use broker_model::catalog::record::QueueRecord;
use broker_model::catalog::{BindingSpec, CatalogAnswer, CatalogCommand, Resource};
use broker_model::ids::{ConnectionId, ConsumerId, Placement, QueueId, Sequence};
use broker_model::message::Message;
use broker_model::op::{DeathReason, Op, SequenceRanges};
use broker_model::protocol::{Delivery, Refused};
use broker_model::routing::Effort;
use broker_model::wire::StoredMessage;
use std::sync::Arc;
use tokio::time::Instant;

/// Bytes of delayed messages that one look shows.
const DELAYED_BYTES_MAX: u64 = 16 << 20;
/// With so many bytes of bodies no further message is taken: whoever asks gets all of them in one answer, which may be
/// several times as large.
const TAKEN_BYTES_MAX: usize = 16 << 20;

/// What becomes of messages that were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// They go back to their places.
    Return {
        /// As a failed delivery.
        counted: bool,
    },
    /// They are gone.
    Settle,
    /// They are rejected: dead-lettered, or gone.
    Reject,
}

/// A message that was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The message.
    pub delivery: Delivery,
    /// Ready messages left behind it.
    pub left: u64,
}

/// Removes the ready messages of a queue; returns how many there were.
///
/// # Errors
/// As `queue.purge`.
pub async fn purge(broker: &dyn Services, vhost: &str, name: &str) -> Result<u64, ProtocolError> {
    let mut desk = Desk::new(broker);
    let record = usable_queue(broker, vhost, name, desk.connection()).await?;
    check_takes(&record, "queue.purge")?;
    let request = broker.hub().next_request();
    match desk
        .ask(
            &record,
            Ask::Purge {
                request,
                queue: record.id,
            },
        )
        .await?
    {
        SessionEvent::Counts { ready, .. } => Ok(ready),
        _ => Err(no_answer(&resource(&record))),
    }
}

/// Deletes a queue.
///
/// # Errors
/// As `queue.delete`.
pub async fn delete(
    broker: &dyn Services,
    vhost: &str,
    name: &str,
    if_unused: bool,
    if_empty: bool,
) -> Result<(), ProtocolError> {
    // Exclusive queues too: whom that is refused was told before.
    let find = look(broker, |catalog| {
        catalog.queue(vhost, name).cloned().ok_or_else(|| {
            broker_model::catalog::CatalogError::NotFound(Resource::queue(vhost, name))
        })
    });
    let record = find.await?;
    // Without conditions nobody needs to be asked, so that a queue without a leader can go.
    if if_unused || if_empty {
        let request = broker.hub().next_request();
        let ask = Ask::CheckDelete {
            request,
            queue: record.id,
            if_unused,
            if_empty,
        };
        Desk::new(broker).ask(&record, ask).await?;
    }
    let command = CatalogCommand::DeleteQueue {
        vhost: Arc::clone(&record.vhost),
        name: Arc::clone(&record.name),
        expected: Some(record.id),
    };
    write(broker, command).await?;
    broker.metrics().counts.queues_deleted.add(1);
    Ok(())
}

/// Takes up to `count` messages, fewer where they are large, and does with all of them what `fate` says.
///
/// # Errors
/// As `basic.get`.
pub async fn take(
    broker: &dyn Services,
    vhost: &str,
    name: &str,
    count: u32,
    fate: Fate,
) -> Result<Vec<Taken>, ProtocolError> {
    let mut desk = Desk::new(broker);
    let record = usable_queue(broker, vhost, name, desk.connection()).await?;
    check_takes(&record, "basic.get")?;
    desk.takes_from = Some((record.placement, record.id));
    let mut taken: Vec<Taken> = Vec::new();
    let mut bytes = 0;
    for _ in 0..count {
        if bytes >= TAKEN_BYTES_MAX {
            break;
        }
        let request = broker.hub().next_request();
        let get = Ask::Get {
            request,
            queue: record.id,
            no_ack: false,
        };
        match desk.ask(&record, get).await? {
            SessionEvent::Got {
                delivery: Some((delivery, left)),
                ..
            } => {
                desk.hold(&record, delivery.sequence);
                let mut delivery = *delivery;
                bytes += delivery.message.body.len();
                delivery.message.properties = told(&delivery.message.properties).into_owned();
                taken.push(Taken { delivery, left });
            }
            SessionEvent::Got { delivery: None, .. } => break,
            _ => return Err(no_answer(&resource(&record))),
        }
    }
    let sequences = ranges(taken.iter().map(|taken| taken.delivery.sequence).collect());
    if !sequences.is_empty() {
        let queue = record.id;
        let op = match fate {
            Fate::Return { counted } => Op::Return {
                queue,
                sequences,
                counted,
            },
            Fate::Settle => Op::Settle { queue, sequences },
            Fate::Reject => Op::Kill {
                queue,
                sequences,
                reason: DeathReason::Rejected,
                dead_letter: record.settings().dead_letter_exchange.is_some(),
            },
        };
        desk.submit(vec![(record.placement, op)]).await;
    }
    Ok(taken)
}

/// Copies of the last messages that wait in an exchange's store, at most `count` and as many bytes as
/// one answer may have. What is due first comes first.
///
/// # Errors
/// No leader, or no majority.
pub async fn delayed(
    broker: &dyn Services,
    store: &QueueRecord,
    count: u32,
) -> Result<Vec<StoredMessage>, ProtocolError> {
    let mut waiting = Desk::new(broker)
        .browse(store, count, DELAYED_BYTES_MAX)
        .await?;
    waiting.sort_by_key(|stored| stored.expires_at_ms);
    Ok(waiting)
}

/// Publishes a message; returns whether any queue took it.
///
/// # Errors
/// As `basic.publish`. A refusal by a full queue is 406, no majority 541.
pub async fn publish(
    broker: &dyn Services,
    user: &Identity,
    vhost: &str,
    mut message: Message,
) -> Result<bool, ProtocolError> {
    let exchange = String::from_utf8_lossy(&message.exchange).into_owned();
    let routing_key = String::from_utf8_lossy(&message.routing_key).into_owned();
    let looked = look_at(&message.properties, user.name(), false)?;
    let mut keys: Vec<&str> = vec![&routing_key];
    keys.extend(looked.more_keys.iter().map(String::as_str));
    let route = look(broker, |catalog| {
        let properties = PropertiesView::new(&message.properties);
        let sought = Sought {
            exchange: &exchange,
            keys: &keys,
            properties,
            is_here: &|placement| broker.is_here(placement),
        };
        let publisher = Publisher { user, vhost };
        route::find(catalog, publisher, &sought, &mut Effort::at_once())
    });
    let (route, _) = route.await?;
    let whole = message.properties.clone();
    if looked.has_bcc {
        message.properties = without_bcc(&whole);
    }
    let ops: Vec<(Placement, Op)> = route
        .places
        .iter()
        .map(|place| {
            let properties = PropertiesView::new(&whole);
            let targets = place.targets(looked.priority, looked.expiration_ms, properties);
            let mut message = message.clone();
            if place.keeps_keys {
                message.properties = whole.clone();
            }
            (place.placement, Op::Publish { targets, message })
        })
        .collect();
    if ops.is_empty() {
        return Ok(false);
    }
    let counts = &broker.metrics().counts;
    counts.published.add(1);
    counts.routed.add(u64::from(route.is_routed));
    if Desk::new(broker).submit(ops).await {
        Ok(route.is_routed)
    } else {
        let text = "the message was not accepted: a queue is full, or has no majority";
        Err(ProtocolError::new(
            amqp_codec::ReplyCode::PRECONDITION_FAILED,
            text,
        ))
    }
}

fn resource(record: &QueueRecord) -> Resource {
    Resource::queue(&record.vhost, &record.name)
}

/// Makes a binding.
///
/// # Errors
/// As `queue.bind`, permissions aside.
pub async fn bind(broker: &dyn Services, binding: BindingSpec) -> Result<bool, WriteError> {
    let command = CatalogCommand::Bind(binding.clone());
    let answer = broker.catalog_write(command).await?;
    let made = answer == CatalogAnswer::Done { created: true };
    if made {
        history::follow(broker, &binding).await;
    }
    Ok(made)
}

/// A session for one request.
pub(super) struct Desk {
    session: SessionHandle,
    events: SessionEvents,
    deadline: Instant,
    held: Vec<Held>,
    /// Where all that is held is from.
    takes_from: Option<(Placement, QueueId)>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.return_all();
    }
}

impl Desk {
    pub(super) fn new(broker: &dyn Services) -> Self {
        let (session, events) = broker.hub().attach();
        let deadline = Instant::now() + broker.config().timing.publish_timeout;
        Self {
            session,
            events,
            deadline,
            held: Vec::new(),
            takes_from: None,
        }
    }

    /// Not a client's: so it owns no exclusive queues.
    fn connection(&self) -> ConnectionId {
        ConnectionId {
            origin: self.session.hub().origin(),
            serial: self.session.id().0,
        }
    }

    fn hold(&mut self, record: &QueueRecord, sequence: Sequence) {
        let sequences: SequenceRanges = smallvec::smallvec![(sequence, sequence)];
        self.held.push(Held {
            consumer: ConsumerId(0),
            queue: record.id,
            sequences,
        });
    }

    /// Returns what is still held: whoever asked has gone, or was told of an error.
    fn return_all(&mut self) {
        let Some((placement, queue)) = self.takes_from.take() else {
            return;
        };
        self.events.close();
        let mut sequences: Vec<Sequence> = std::mem::take(&mut self.held)
            .into_iter()
            .flat_map(|held| held.sequences)
            .map(|(sequence, _)| sequence)
            .collect();
        while let Some(event) = self.events.try_recv() {
            if let SessionEvent::Got {
                delivery: Some((delivery, _)),
                ..
            } = event
            {
                sequences.push(delivery.sequence);
            }
        }
        if !sequences.is_empty() {
            let op = Op::Return {
                queue,
                sequences: ranges(sequences),
                counted: false,
            };
            let ops = vec![op];
            self.session.submit(placement, SubBatch { token: 0, ops });
        }
    }

    /// The next event that is not about a new leader.
    async fn next(&mut self) -> Option<SessionEvent> {
        loop {
            match tokio::time::timeout_at(self.deadline, self.events.recv())
                .await
                .ok()??
            {
                SessionEvent::Resume { reply, .. } => {
                    let _ = reply.send(self.held.clone());
                }
                // It holds nothing for long.
                SessionEvent::Lost { .. } => {}
                event => return Some(event),
            }
        }
    }

    /// Asks the queue's host, and waits for the answer.
    async fn ask(&mut self, record: &QueueRecord, ask: Ask) -> Result<SessionEvent, ProtocolError> {
        self.session.ask(record.placement, ask);
        loop {
            match self.next().await {
                Some(SessionEvent::Refused {
                    why: Refused::NoQueue,
                    ..
                })
                | Some(SessionEvent::RequestFailed { .. })
                | None => return Err(no_answer(&resource(record))),
                Some(SessionEvent::Refused { why, .. }) => {
                    return Err(catalog_error(&refusal(why, resource(record))));
                }
                Some(
                    event @ (SessionEvent::Got { .. }
                    | SessionEvent::Counts { .. }
                    | SessionEvent::Browsed { .. }),
                ) => return Ok(event),
                Some(_) => {}
            }
        }
    }

    /// Copies of the last messages of a store, no more than these and than the store is allowed
    /// to have. The oldest first.
    pub(super) async fn browse(
        &mut self,
        store: &QueueRecord,
        count: u32,
        bytes: u64,
    ) -> Result<Vec<StoredMessage>, ProtocolError> {
        let request = self.session.hub().next_request();
        let settings = store.settings();
        let ask = Ask::Browse {
            request,
            queue: store.id,
            count: settings
                .max_length
                .and_then(|length| u32::try_from(length).ok())
                .map_or(count, |length| length.min(count)),
            bytes: settings
                .max_length_bytes
                .map_or(bytes, |length| length.min(bytes)),
        };
        match self.ask(store, ask).await? {
            SessionEvent::Browsed { messages, .. } => Ok(messages),
            _ => Err(no_answer(&resource(store))),
        }
    }

    /// Hands over operations, each to its place; returns whether all were accepted.
    async fn submit(&mut self, ops: Vec<(Placement, Op)>) -> bool {
        self.submit_all(ops.into_iter().map(|(placement, op)| (placement, vec![op])))
            .await
    }

    /// Hands over lists of operations (none empty), each to its place; returns whether all were
    /// accepted.
    pub(super) async fn submit_all(
        &mut self,
        ops: impl IntoIterator<Item = (Placement, Vec<Op>)>,
    ) -> bool {
        let mut open = 0_usize;
        // What is held leaves in one operation, and is the link's to claim until that is sent.
        self.held.clear();
        self.takes_from = None;
        for (token, (placement, ops)) in (1..).zip(ops) {
            open += 1;
            self.session.submit(placement, SubBatch { token, ops });
        }
        let mut accepted = true;
        while open > 0 {
            match self.next().await {
                Some(SessionEvent::Outcome {
                    refused_ops,
                    given_up,
                    ..
                }) => {
                    open -= 1;
                    accepted &= refused_ops.is_empty() && !given_up;
                    if open == 0 {
                        self.held.clear();
                    }
                }
                Some(_) => {}
                None => return false,
            }
        }
        accepted
    }
}

/// Sorted, neighbours merged.
fn ranges(mut sequences: Vec<Sequence>) -> SequenceRanges {
    sequences.sort_unstable();
    let mut ranges = SequenceRanges::new();
    for sequence in sequences {
        match ranges.last_mut() {
            Some((_, last)) if sequence.0 <= last.0 + 1 => *last = sequence,
            _ => ranges.push((sequence, sequence)),
        }
    }
    ranges
}

/// The queue's leader was not found within the bound. Where a client is told 404, as by RabbitMQ, whoever asks over HTTP
/// must not take it for missing.
fn no_answer(resource: &Resource) -> ProtocolError {
    ProtocolError::new(
        ReplyCode::INTERNAL_ERROR,
        super::consume::unavailable(resource).text,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_become_ranges() {
        for (sequences, expected) in [
            (vec![], vec![]),
            (vec![4], vec![(4, 4)]),
            (vec![3, 1, 2, 7, 8, 5], vec![(1, 3), (5, 5), (7, 8)]),
        ] {
            let made = ranges(sequences.iter().copied().map(Sequence).collect());
            let made: Vec<(u64, u64)> = made.iter().map(|(from, to)| (from.0, to.0)).collect();
            assert_eq!(made, expected, "{sequences:?}");
        }
    }
}
