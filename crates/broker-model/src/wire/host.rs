//! The stream between a node and the leader (host) of queues.

use super::cursor::{put_bool, put_bytes, put_message, put_origin, put_ranges};
use super::head::{put_batch_head, read_batch_head};
use super::stored::{put_stored, read_stored};
use super::{Cursor, VERSION, WireError, put_varint};
use crate::ids::{ConsumerId, NodeId, QueueId, RequestId, Sequence};
use crate::op::{BatchOutcome, BatchStatus};
use crate::protocol::{
    CREDIT_BYTES_MIN, ConsumerSpec, Delivery, FromHost, ReadFrom, Refused, Resume, Subject, ToHost,
};
use bytes::{BufMut, Bytes, BytesMut};

/// Consumer, queue, sequence, flag, count, four empty parts.
const DELIVERY_MIN_LEN: usize = 23;
/// A flag, four empty parts.
const STORED_MIN_LEN: usize = 5;

mod to {
    pub(super) const BATCH: u8 = 1;
    pub(super) const CONSUME: u8 = 2;
    pub(super) const HOLD: u8 = 3;
    pub(super) const RESUMED: u8 = 4;
    pub(super) const CANCEL: u8 = 5;
    pub(super) const CREDIT: u8 = 6;
    pub(super) const REVOKE: u8 = 7;
    pub(super) const GET: u8 = 8;
    pub(super) const COUNT: u8 = 9;
    pub(super) const PURGE: u8 = 10;
    pub(super) const CHECK_DELETE: u8 = 11;
    pub(super) const BROWSE: u8 = 12;
    pub(super) const READ: u8 = 13;
    pub(super) const CREDIT_BYTES: u8 = 14;
}

mod from {
    pub(super) const OUTCOME: u8 = 1;
    pub(super) const CONSUME_OK: u8 = 2;
    pub(super) const REFUSED: u8 = 3;
    pub(super) const CANCELLED: u8 = 4;
    pub(super) const DELIVER: u8 = 5;
    pub(super) const REVOKED: u8 = 6;
    pub(super) const STARVED: u8 = 7;
    pub(super) const GOT: u8 = 8;
    pub(super) const COUNTS: u8 = 9;
    pub(super) const NOT_LEADER: u8 = 10;
    pub(super) const BROWSED: u8 = 11;
    pub(super) const ACTIVE: u8 = 12;
    pub(super) const READ: u8 = 13;
    pub(super) const TOO_LARGE: u8 = 14;
}

/// Encodes for the stream to a host.
pub fn encode_to_host(message: &ToHost, out: &mut BytesMut) {
    out.put_u8(VERSION);
    match message {
        ToHost::Batch { head, ops } => {
            out.put_u8(to::BATCH);
            put_batch_head(out, head);
            out.put_slice(ops);
        }
        ToHost::Consume {
            consumer,
            queue,
            spec,
            credit,
            resume,
        } => {
            out.put_u8(to::CONSUME);
            put_consumer(out, *consumer, *queue);
            put_spec(out, spec);
            put_varint(out, u64::from(*credit));
            put_bool(out, resume.is_some());
            if let Some(resume) = resume {
                put_ranges(out, &resume.sequences);
                put_varint(out, resume.order);
                put_varint(out, resume.active_since);
            }
        }
        ToHost::Hold { queue, sequences } => {
            out.put_u8(to::HOLD);
            out.put_u64_le(queue.0);
            put_ranges(out, sequences);
        }
        ToHost::Resumed => out.put_u8(to::RESUMED),
        ToHost::Cancel { consumer, queue } => {
            out.put_u8(to::CANCEL);
            put_consumer(out, *consumer, *queue);
        }
        ToHost::Credit {
            consumer,
            queue,
            more,
            bytes,
        } => {
            let large = *bytes > CREDIT_BYTES_MIN;
            out.put_u8(if large { to::CREDIT_BYTES } else { to::CREDIT });
            put_consumer(out, *consumer, *queue);
            put_varint(out, u64::from(*more));
            if large {
                put_varint(out, u64::from(*bytes));
            }
        }
        ToHost::Revoke { consumer, queue } => {
            out.put_u8(to::REVOKE);
            put_consumer(out, *consumer, *queue);
        }
        ToHost::Get {
            request,
            queue,
            no_ack,
        } => {
            out.put_u8(to::GET);
            put_request(out, *request, *queue);
            put_bool(out, *no_ack);
        }
        ToHost::Count {
            request,
            queue,
            used,
        } => {
            out.put_u8(to::COUNT);
            put_request(out, *request, *queue);
            put_bool(out, *used);
        }
        ToHost::Purge { request, queue } => {
            out.put_u8(to::PURGE);
            put_request(out, *request, *queue);
        }
        ToHost::CheckDelete {
            request,
            queue,
            if_unused,
            if_empty,
        } => {
            out.put_u8(to::CHECK_DELETE);
            put_request(out, *request, *queue);
            put_bool(out, *if_unused);
            put_bool(out, *if_empty);
        }
        ToHost::Browse {
            request,
            queue,
            count,
            bytes,
        } => {
            out.put_u8(to::BROWSE);
            put_request(out, *request, *queue);
            put_varint(out, u64::from(*count));
            put_varint(out, *bytes);
        }
        ToHost::Read {
            consumer,
            queue,
            from,
            count,
            bytes,
        } => {
            out.put_u8(to::READ);
            put_consumer(out, *consumer, *queue);
            let (kind, value) = match from {
                ReadFrom::First => (0, 0),
                ReadFrom::Last => (1, 0),
                ReadFrom::Next => (2, 0),
                ReadFrom::Since(ms) => (3, *ms),
                ReadFrom::Number(number) => (4, *number),
            };
            out.put_u8(kind);
            put_varint(out, value);
            put_varint(out, u64::from(*count));
            put_varint(out, *bytes);
        }
    }
}

/// Decodes; the parts are slices of `bytes`.
///
/// # Errors
/// The bytes are not one whole message.
pub fn decode_to_host(bytes: Bytes) -> Result<ToHost, WireError> {
    let mut cursor = Cursor::versioned(&bytes)?;
    let cursor = &mut cursor;
    let message = match cursor.u8()? {
        to::BATCH => ToHost::Batch {
            head: read_batch_head(cursor)?,
            ops: cursor.rest(),
        },
        to::CONSUME => ToHost::Consume {
            consumer: ConsumerId(cursor.varint()?),
            queue: cursor.queue()?,
            spec: read_spec(cursor)?,
            credit: cursor.varint_u32()?,
            resume: if cursor.bool()? {
                Some(Resume {
                    sequences: cursor.ranges()?,
                    order: cursor.varint()?,
                    active_since: cursor.varint()?,
                })
            } else {
                None
            },
        },
        to::HOLD => ToHost::Hold {
            queue: cursor.queue()?,
            sequences: cursor.ranges()?,
        },
        to::RESUMED => ToHost::Resumed,
        to::CANCEL => ToHost::Cancel {
            consumer: ConsumerId(cursor.varint()?),
            queue: cursor.queue()?,
        },
        to::CREDIT => ToHost::Credit {
            consumer: ConsumerId(cursor.varint()?),
            queue: cursor.queue()?,
            more: cursor.varint_u32()?,
            bytes: CREDIT_BYTES_MIN,
        },
        to::CREDIT_BYTES => ToHost::Credit {
            consumer: ConsumerId(cursor.varint()?),
            queue: cursor.queue()?,
            more: cursor.varint_u32()?,
            bytes: cursor.varint_u32()?.max(CREDIT_BYTES_MIN),
        },
        to::REVOKE => ToHost::Revoke {
            consumer: ConsumerId(cursor.varint()?),
            queue: cursor.queue()?,
        },
        to::GET => ToHost::Get {
            request: RequestId(cursor.varint()?),
            queue: cursor.queue()?,
            no_ack: cursor.bool()?,
        },
        to::COUNT => ToHost::Count {
            request: RequestId(cursor.varint()?),
            queue: cursor.queue()?,
            used: cursor.bool()?,
        },
        to::PURGE => ToHost::Purge {
            request: RequestId(cursor.varint()?),
            queue: cursor.queue()?,
        },
        to::CHECK_DELETE => ToHost::CheckDelete {
            request: RequestId(cursor.varint()?),
            queue: cursor.queue()?,
            if_unused: cursor.bool()?,
            if_empty: cursor.bool()?,
        },
        to::BROWSE => ToHost::Browse {
            request: RequestId(cursor.varint()?),
            queue: cursor.queue()?,
            count: cursor.varint_u32()?,
            bytes: cursor.varint()?,
        },
        to::READ => ToHost::Read {
            consumer: ConsumerId(cursor.varint()?),
            queue: cursor.queue()?,
            from: match (cursor.u8()?, cursor.varint()?) {
                (0, _) => ReadFrom::First,
                (1, _) => ReadFrom::Last,
                (2, _) => ReadFrom::Next,
                (3, ms) => ReadFrom::Since(ms),
                (4, number) => ReadFrom::Number(number),
                _ => return Err(WireError::Malformed("place in a stream")),
            },
            count: cursor.varint_u32()?,
            bytes: cursor.varint()?,
        },
        _ => return Err(WireError::Malformed("message to a host")),
    };
    cursor.end()?;
    Ok(message)
}

/// Encodes for the stream from a host.
pub fn encode_from_host(message: &FromHost, out: &mut BytesMut) {
    out.put_u8(VERSION);
    match message {
        FromHost::Outcome(outcome) => {
            out.put_u8(from::OUTCOME);
            put_outcome(out, outcome);
        }
        FromHost::ConsumeOk { consumer, order } => {
            out.put_u8(from::CONSUME_OK);
            put_varint(out, consumer.0);
            put_varint(out, *order);
        }
        FromHost::Active { consumer, since } => {
            out.put_u8(from::ACTIVE);
            put_varint(out, consumer.0);
            put_varint(out, *since);
        }
        FromHost::Refused { subject, why } => {
            out.put_u8(from::REFUSED);
            let (kind, number) = match subject {
                Subject::Consumer(consumer) => (0, consumer.0),
                Subject::Request(request) => (1, request.0),
            };
            out.put_u8(kind);
            put_varint(out, number);
            out.put_u8(match why {
                Refused::NoQueue => 0,
                Refused::ExclusiveUse => 1,
                Refused::InUse => 2,
                Refused::NotEmpty => 3,
            });
        }
        FromHost::Cancelled { consumer, by_host } => {
            out.put_u8(from::CANCELLED);
            put_varint(out, consumer.0);
            put_bool(out, *by_host);
        }
        FromHost::Deliver(deliveries) => {
            out.put_u8(from::DELIVER);
            put_varint(out, deliveries.len() as u64);
            for delivery in deliveries {
                put_delivery(out, delivery);
            }
        }
        FromHost::Revoked { consumer, unused } => {
            out.put_u8(from::REVOKED);
            put_varint(out, consumer.0);
            put_varint(out, u64::from(*unused));
        }
        FromHost::TooLarge {
            consumer,
            unused,
            size,
        } => {
            out.put_u8(from::TOO_LARGE);
            put_varint(out, consumer.0);
            put_varint(out, u64::from(*unused));
            put_varint(out, u64::from(*size));
        }
        FromHost::Starved { consumer } => {
            out.put_u8(from::STARVED);
            put_varint(out, consumer.0);
        }
        FromHost::Got { request, delivery } => {
            out.put_u8(from::GOT);
            put_varint(out, request.0);
            put_bool(out, delivery.is_some());
            if let Some((delivery, left)) = delivery {
                put_delivery(out, delivery);
                put_varint(out, *left);
            }
        }
        FromHost::Counts {
            request,
            ready,
            unacked,
            consumers,
            ready_bytes,
        } => {
            out.put_u8(from::COUNTS);
            for number in [request.0, *ready, *unacked, *consumers, *ready_bytes] {
                put_varint(out, number);
            }
        }
        FromHost::Browsed { request, messages } => {
            out.put_u8(from::BROWSED);
            put_varint(out, request.0);
            put_varint(out, messages.len() as u64);
            messages.iter().for_each(|message| put_stored(out, message));
        }
        FromHost::Read {
            consumer,
            next,
            messages,
        } => {
            out.put_u8(from::READ);
            put_varint(out, consumer.0);
            put_varint(out, *next);
            put_varint(out, messages.len() as u64);
            for (number, message) in messages {
                put_varint(out, *number);
                put_stored(out, message);
            }
        }
        FromHost::NotLeader { leader } => {
            out.put_u8(from::NOT_LEADER);
            put_bool(out, leader.is_some());
            if let Some(leader) = leader {
                put_varint(out, leader.0);
            }
        }
    }
}

/// Decodes; the parts are slices of `bytes`.
///
/// # Errors
/// The bytes are not one whole message.
pub fn decode_from_host(bytes: Bytes) -> Result<FromHost, WireError> {
    let mut cursor = Cursor::versioned(&bytes)?;
    let cursor = &mut cursor;
    let message = match cursor.u8()? {
        from::OUTCOME => FromHost::Outcome(read_outcome(cursor)?),
        from::CONSUME_OK => FromHost::ConsumeOk {
            consumer: ConsumerId(cursor.varint()?),
            order: cursor.varint()?,
        },
        from::ACTIVE => FromHost::Active {
            consumer: ConsumerId(cursor.varint()?),
            since: cursor.varint()?,
        },
        from::REFUSED => FromHost::Refused {
            subject: match cursor.u8()? {
                0 => Subject::Consumer(ConsumerId(cursor.varint()?)),
                1 => Subject::Request(RequestId(cursor.varint()?)),
                _ => return Err(WireError::Malformed("subject")),
            },
            why: match cursor.u8()? {
                0 => Refused::NoQueue,
                1 => Refused::ExclusiveUse,
                2 => Refused::InUse,
                3 => Refused::NotEmpty,
                _ => return Err(WireError::Malformed("refusal")),
            },
        },
        from::CANCELLED => FromHost::Cancelled {
            consumer: ConsumerId(cursor.varint()?),
            by_host: cursor.bool()?,
        },
        from::DELIVER => {
            let count = cursor.count(DELIVERY_MIN_LEN)?;
            // A delivery takes several times its smallest encoding: grow as the input proves itself.
            let mut deliveries = Vec::with_capacity(count.min(1024));
            for _ in 0..count {
                deliveries.push(read_delivery(cursor)?);
            }
            FromHost::Deliver(deliveries)
        }
        from::REVOKED => FromHost::Revoked {
            consumer: ConsumerId(cursor.varint()?),
            unused: cursor.varint_u32()?,
        },
        from::TOO_LARGE => FromHost::TooLarge {
            consumer: ConsumerId(cursor.varint()?),
            unused: cursor.varint_u32()?,
            size: cursor.varint_u32()?,
        },
        from::STARVED => FromHost::Starved {
            consumer: ConsumerId(cursor.varint()?),
        },
        from::GOT => FromHost::Got {
            request: RequestId(cursor.varint()?),
            delivery: if cursor.bool()? {
                Some((Box::new(read_delivery(cursor)?), cursor.varint()?))
            } else {
                None
            },
        },
        from::COUNTS => FromHost::Counts {
            request: RequestId(cursor.varint()?),
            ready: cursor.varint()?,
            unacked: cursor.varint()?,
            consumers: cursor.varint()?,
            ready_bytes: cursor.varint()?,
        },
        from::BROWSED => {
            let request = RequestId(cursor.varint()?);
            let count = cursor.count(STORED_MIN_LEN)?;
            // As with deliveries.
            let mut messages = Vec::with_capacity(count.min(1024));
            for _ in 0..count {
                messages.push(read_stored(cursor)?);
            }
            FromHost::Browsed { request, messages }
        }
        from::READ => {
            let consumer = ConsumerId(cursor.varint()?);
            let next = cursor.varint()?;
            let count = cursor.count(1 + STORED_MIN_LEN)?;
            // As with deliveries.
            let mut messages = Vec::with_capacity(count.min(1024));
            for _ in 0..count {
                messages.push((cursor.varint()?, read_stored(cursor)?));
            }
            FromHost::Read {
                consumer,
                next,
                messages,
            }
        }
        from::NOT_LEADER => FromHost::NotLeader {
            leader: if cursor.bool()? {
                Some(NodeId(cursor.varint()?))
            } else {
                None
            },
        },
        _ => return Err(WireError::Malformed("message from a host")),
    };
    cursor.end()?;
    Ok(message)
}

fn put_consumer(out: &mut BytesMut, consumer: ConsumerId, queue: QueueId) {
    put_varint(out, consumer.0);
    out.put_u64_le(queue.0);
}

fn put_request(out: &mut BytesMut, request: RequestId, queue: QueueId) {
    put_varint(out, request.0);
    out.put_u64_le(queue.0);
}

fn put_spec(out: &mut BytesMut, spec: &ConsumerSpec) {
    put_bytes(out, &spec.tag);
    put_bool(out, spec.no_ack);
    put_bool(out, spec.exclusive);
    out.put_i32_le(spec.priority);
    put_varint(out, u64::from(spec.prefetch));
    put_varint(out, spec.connection);
    put_varint(out, u64::from(spec.channel));
}

fn read_spec(cursor: &mut Cursor<'_>) -> Result<ConsumerSpec, WireError> {
    Ok(ConsumerSpec {
        tag: cursor.bytes()?,
        no_ack: cursor.bool()?,
        exclusive: cursor.bool()?,
        priority: cursor.u32()?.cast_signed(),
        prefetch: cursor.varint_u32()?,
        connection: cursor.varint()?,
        channel: u16::try_from(cursor.varint()?).map_err(|_| WireError::Malformed("channel"))?,
    })
}

fn put_outcome(out: &mut BytesMut, outcome: &BatchOutcome) {
    put_origin(out, outcome.origin);
    put_varint(out, outcome.number);
    out.put_u8(match outcome.status {
        BatchStatus::Applied => 0,
        BatchStatus::Duplicate => 1,
        BatchStatus::Gap => 2,
        BatchStatus::Stale => 3,
    });
    put_varint(out, outcome.refused_ops.len() as u64);
    for op in &outcome.refused_ops {
        put_varint(out, u64::from(*op));
    }
}

fn read_outcome(cursor: &mut Cursor<'_>) -> Result<BatchOutcome, WireError> {
    let origin = cursor.origin()?;
    let number = cursor.varint()?;
    let status = match cursor.u8()? {
        0 => BatchStatus::Applied,
        1 => BatchStatus::Duplicate,
        2 => BatchStatus::Gap,
        3 => BatchStatus::Stale,
        _ => return Err(WireError::Malformed("batch status")),
    };
    let count = cursor.count(1)?;
    let mut refused_ops = Vec::with_capacity(count);
    for _ in 0..count {
        refused_ops.push(cursor.varint_u32()?);
    }
    Ok(BatchOutcome {
        origin,
        number,
        status,
        refused_ops,
    })
}

fn put_delivery(out: &mut BytesMut, delivery: &Delivery) {
    put_varint(out, delivery.consumer.0);
    out.put_u64_le(delivery.queue.0);
    out.put_u64_le(delivery.sequence.0);
    put_bool(out, delivery.redelivered);
    put_varint(out, u64::from(delivery.delivery_count));
    put_message(out, &delivery.message);
}

fn read_delivery(cursor: &mut Cursor<'_>) -> Result<Delivery, WireError> {
    Ok(Delivery {
        consumer: ConsumerId(cursor.varint()?),
        queue: cursor.queue()?,
        sequence: Sequence(cursor.u64()?),
        redelivered: cursor.bool()?,
        delivery_count: cursor.varint_u32()?,
        message: cursor.message()?,
    })
}
