//! A consumer: receives, stamps the latencies, acknowledges.

use std::time::Duration;

use amqp_codec::{FieldTable, FrameKind, FrameSlice, Method, ShortStr, write_ack};
use anyhow::bail;
use bytes::BytesMut;

use super::ledger::Order;
use super::shared::Shared;
use super::stamp::{Origin, Stamp};
use crate::client::{CHANNEL, Connection, Uri, checked_method, is_tick, write_all};
use crate::measure::{Latency, now_ns};

/// What a consumer does.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerConfig {
    /// Its number from 0.
    pub(crate) index: usize,
    /// The queue's name and number.
    pub(crate) queue: String,
    pub(crate) queue_index: usize,
    /// 0 is none.
    pub(crate) prefetch: u16,
    /// Acknowledge after this many; `None` consumes without acknowledgements.
    pub(crate) ack_every: Option<u32>,
}

/// What a consumer has done.
#[derive(Debug)]
pub(crate) struct Consumed {
    pub(crate) received: u64,
    /// Left over from another run; not in `received`.
    pub(crate) foreign: u64,
    pub(crate) out_of_order: u64,
    pub(crate) redelivered: u64,
    pub(crate) end_to_end: Latency,
}

/// A connected consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    connection: Connection,
    config: ConsumerConfig,
    assembly: Assembly,
    acks: Acks,
    order: Order,
    batch: Vec<Origin>,
    received: u64,
    foreign: u64,
    end_to_end: Latency,
}

impl Consumer {
    /// How long a broker may take no acknowledgements.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Connects and starts to consume.
    pub(crate) fn open(uri: &Uri, config: ConsumerConfig) -> anyhow::Result<Self> {
        let mut connection = Connection::open(uri, &format!("consumer {}", config.index))?;
        connection.open_channel()?;
        if config.prefetch > 0 && config.ack_every.is_some() {
            connection.call(
                CHANNEL,
                &Method::BasicQos {
                    prefetch_size: 0,
                    prefetch_count: config.prefetch,
                    global: false,
                },
            )?;
        }
        connection.call(
            CHANNEL,
            &Method::BasicConsume {
                queue: ShortStr::try_from(config.queue.as_str())?,
                consumer_tag: ShortStr::from_static("c"),
                no_local: false,
                no_ack: config.ack_every.is_none(),
                exclusive: false,
                no_wait: false,
                arguments: FieldTable::empty(),
            },
        )?;
        Ok(Self {
            connection,
            assembly: Assembly::default(),
            acks: Acks::new(config.ack_every),
            order: Order::default(),
            batch: Vec::new(),
            received: 0,
            foreign: 0,
            end_to_end: Latency::new(),
            config,
        })
    }

    /// Consumes until told to stop.
    pub(crate) fn run(mut self, shared: &Shared) -> anyhow::Result<Consumed> {
        loop {
            match self.connection.input.fill(&mut self.connection.stream) {
                Ok(()) => self.handle_input(shared)?,
                Err(error) if is_tick(&error) => self.acks.complete(),
                Err(error) => return Err(error.into()),
            }
            let stopping = shared.stop_consuming.is_set() || shared.abort.is_set();
            if stopping {
                self.acks.complete();
            }
            if !self.acks.output.is_empty() {
                let stream = &mut self.connection.stream;
                write_all(stream, &self.acks.output, Consumer::PATIENCE, || {
                    shared.abort.is_set()
                })?;
                self.acks.output.clear();
            }
            if stopping {
                break;
            }
        }
        if !shared.abort.is_set() {
            self.connection.close()?;
        }
        Ok(Consumed {
            received: self.received,
            foreign: self.foreign,
            out_of_order: self.order.out_of_order,
            redelivered: self.order.redelivered,
            end_to_end: self.end_to_end,
        })
    }

    /// Handles all that one read has brought, with one look at the clock.
    fn handle_input(&mut self, shared: &Shared) -> anyhow::Result<()> {
        let now = now_ns();
        let (run, measuring) = (shared.run, shared.measuring.is_set());
        let mut count = 0;
        while let Some(frame) = self.connection.input.next()? {
            let Some(delivery) = self.assembly.frame(frame)? else {
                continue;
            };
            self.acks.delivered(delivery.tag);
            let foreign = |stamp: Stamp| stamp.origin.is_some_and(|origin| origin.run != run);
            if delivery.stamp.is_some_and(foreign) {
                self.foreign += 1;
                continue;
            }
            count += 1;
            let Some(stamp) = delivery.stamp else {
                continue;
            };
            if measuring {
                self.end_to_end.record(now.saturating_sub(stamp.sent_ns));
            }
            if let Some(origin) = stamp.origin {
                self.order.enter(origin, delivery.redelivered);
                self.batch.push(origin);
            }
        }
        if count > 0 {
            shared.ledger.enter(self.config.queue_index, &self.batch);
            self.batch.clear();
            self.received += count;
            shared.received.add(count);
        }
        Ok(())
    }
}

/// A delivery that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Delivered {
    tag: u64,
    redelivered: bool,
    stamp: Option<Stamp>,
}

/// Puts deliveries together from their frames; of a body only the stamp is looked at.
#[derive(Debug, Default)]
struct Assembly {
    tag: u64,
    redelivered: bool,
    /// How much of the body is still to come.
    body_left: u64,
    stamp: Option<Stamp>,
}

impl Assembly {
    /// Takes the next frame; the last one of a delivery completes it.
    fn frame(&mut self, frame: FrameSlice<'_>) -> anyhow::Result<Option<Delivered>> {
        match frame.kind {
            FrameKind::Method => {
                match frame.payload {
                    [0, 60, 0, 60, rest @ ..] => self.deliver(rest)?,
                    _ => self.other_method(frame)?,
                }
                Ok(None)
            }
            FrameKind::Header => {
                let Some([size @ .., _, _]) = frame
                    .payload
                    .get(4..)
                    .and_then(|rest| rest.first_chunk::<10>())
                else {
                    bail!("a content header is too short");
                };
                self.body_left = size
                    .iter()
                    .fold(0, |size, byte| size << 8 | u64::from(*byte));
                self.stamp = None;
                Ok(self.completed())
            }
            FrameKind::Body => {
                if self.stamp.is_none() {
                    self.stamp = Stamp::read(frame.payload);
                }
                self.body_left = self.body_left.saturating_sub(frame.payload.len() as u64);
                Ok(self.completed())
            }
            FrameKind::Heartbeat => Ok(None),
        }
    }

    fn completed(&self) -> Option<Delivered> {
        let Self {
            tag,
            redelivered,
            stamp,
            ..
        } = *self;
        (self.body_left == 0).then_some(Delivered {
            tag,
            redelivered,
            stamp,
        })
    }

    /// The arguments of basic.deliver: consumer tag, delivery tag, redelivered.
    fn deliver(&mut self, arguments: &[u8]) -> anyhow::Result<()> {
        let parsed = arguments.split_first().and_then(|(len, rest)| {
            let (tag, rest) = rest.get(usize::from(*len)..)?.split_first_chunk::<8>()?;
            Some((u64::from_be_bytes(*tag), rest.first()? & 1 != 0))
        });
        let Some((tag, redelivered)) = parsed else {
            bail!("a basic.deliver is too short")
        };
        (self.tag, self.redelivered) = (tag, redelivered);
        Ok(())
    }

    fn other_method(&mut self, frame: FrameSlice<'_>) -> anyhow::Result<()> {
        match checked_method(frame)? {
            Method::BasicCancel { .. } => bail!("the broker cancelled a consumer"),
            _ => Ok(()),
        }
    }
}

/// Acknowledgements that are due.
#[derive(Debug)]
struct Acks {
    every: Option<u32>,
    /// Deliveries since the last acknowledgement.
    pending: u32,
    last_tag: u64,
    output: BytesMut,
}

impl Acks {
    fn new(every: Option<u32>) -> Self {
        Self {
            every,
            pending: 0,
            last_tag: 0,
            output: BytesMut::new(),
        }
    }

    fn delivered(&mut self, tag: u64) {
        let Some(every) = self.every else { return };
        self.last_tag = tag;
        self.pending += 1;
        if self.pending >= every {
            self.complete();
        }
    }

    /// Acknowledges whatever is pending.
    fn complete(&mut self) {
        if self.pending > 0 {
            write_ack(&mut self.output, CHANNEL, self.last_tag, self.pending > 1);
            self.pending = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp_codec::{Content, Delivery, NO_PROPERTIES, peek, write_delivery};
    use bytes::Bytes;

    fn assemble(bytes: &[u8]) -> Vec<Delivered> {
        let (mut assembly, mut rest, mut deliveries) = (Assembly::default(), bytes, Vec::new());
        while let Some(frame) = peek(rest, 131_072).unwrap() {
            rest = &rest[frame.len_bytes()..];
            deliveries.extend(assembly.frame(frame).unwrap());
        }
        deliveries
    }

    #[test]
    fn deliveries_of_any_size() {
        let mut bytes = BytesMut::new();
        let sizes = [0, 8, 16, 5000, 20_000, 1];
        for (n, size) in sizes.into_iter().enumerate() {
            let mut body = vec![0; size];
            let origin = Origin {
                run: 5,
                producer: 2,
                sequence: n as u64,
            };
            Stamp::write(origin, 77, &mut body);
            let delivery = Delivery {
                consumer_tag: b"a-longer-tag",
                delivery_tag: n as u64 + 1,
                redelivered: n == 2,
                exchange: b"",
                routing_key: b"q",
                content: Content {
                    properties: &NO_PROPERTIES,
                    body: &Bytes::from(body),
                },
            };
            write_delivery(&mut bytes, CHANNEL, 4096, &delivery);
            amqp_codec::write_heartbeat(&mut bytes);
        }
        let deliveries = assemble(&bytes);
        assert_eq!(deliveries.len(), sizes.len());
        for (n, (delivery, size)) in deliveries.into_iter().zip(sizes).enumerate() {
            let origin = (size >= 16).then_some(Origin {
                run: 5,
                producer: 2,
                sequence: n as u64,
            });
            let stamp = (size >= 8).then_some(Stamp {
                sent_ns: 77,
                origin,
            });
            assert_eq!(
                delivery,
                Delivered {
                    tag: n as u64 + 1,
                    redelivered: n == 2,
                    stamp
                }
            );
        }
    }

    #[test]
    fn what_ends_a_run() {
        for method in [
            Method::BasicCancel {
                consumer_tag: ShortStr::from_static("c"),
                no_wait: true,
            },
            Method::ChannelClose {
                reply_code: 404,
                reply_text: ShortStr::from_static("NOT_FOUND"),
                class_id: 0,
                method_id: 0,
            },
        ] {
            let mut bytes = BytesMut::new();
            amqp_codec::write_method(&mut bytes, CHANNEL, &method);
            let frame = peek(&bytes, 4096).unwrap().unwrap();
            assert!(
                Assembly::default().frame(frame).is_err(),
                "{}",
                method.name()
            );
        }
    }

    #[test]
    fn acknowledgements() {
        let mut acks = Acks::new(Some(3));
        (1..=7).for_each(|tag| acks.delivered(tag));
        acks.complete();
        let mut expected = BytesMut::new();
        write_ack(&mut expected, CHANNEL, 3, true);
        write_ack(&mut expected, CHANNEL, 6, true);
        write_ack(&mut expected, CHANNEL, 7, false);
        assert_eq!(acks.output, expected);
        let mut none = Acks::new(None);
        none.delivered(1);
        none.complete();
        assert!(none.output.is_empty());
    }
}
