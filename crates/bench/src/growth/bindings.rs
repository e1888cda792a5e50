//! Many bindings of one exchange.

use std::ops::Range;

use amqp_codec::{FieldTable, Method, ShortStr};

use crate::client::{CHANNEL, Connection, Uri};

/// Bindings that may await their answer.
const UNDER_WAY: u64 = 64;

/// An exchange with a queue that takes all bindings but the one that messages go by.
pub(super) struct Bindings {
    control: Connection,
    exchange: ShortStr,
    queue: ShortStr,
    topic: bool,
    count: u64,
}

impl Bindings {
    /// Declares the exchange and the queue.
    pub(super) fn declare(uri: &Uri, exchange: &str, topic: bool) -> anyhow::Result<Self> {
        let mut control = Connection::open(uri, "bindings")?;
        control.open_channel()?;
        let kind = if topic { "topic" } else { "direct" };
        let (exchange, queue) = (
            ShortStr::try_from(exchange)?,
            ShortStr::try_from("bound often")?,
        );
        control.call(
            CHANNEL,
            &Method::ExchangeDeclare {
                exchange: exchange.clone(),
                kind: ShortStr::try_from(kind)?,
                passive: false,
                durable: true,
                auto_delete: false,
                internal: false,
                no_wait: false,
                arguments: FieldTable::empty(),
            },
        )?;
        control.call(
            CHANNEL,
            &Method::QueueDeclare {
                queue: queue.clone(),
                passive: false,
                durable: true,
                exclusive: false,
                auto_delete: false,
                no_wait: false,
                arguments: FieldTable::empty(),
            },
        )?;
        Ok(Self {
            control,
            exchange,
            queue,
            topic,
            count: 0,
        })
    }

    /// Adds bindings until there are so many.
    pub(super) fn grow(&mut self, count: u64) -> anyhow::Result<()> {
        let Range { start, end } = self.count..count;
        let mut waiting = 0;
        for index in start..end {
            if waiting == UNDER_WAY {
                self.control.receive()?;
                waiting -= 1;
            }
            let routing_key = key(index, self.topic);
            self.control.send(
                CHANNEL,
                &Method::QueueBind {
                    queue: self.queue.clone(),
                    exchange: self.exchange.clone(),
                    routing_key: ShortStr::try_from(routing_key.as_str())?,
                    no_wait: false,
                    arguments: FieldTable::empty(),
                },
            )?;
            waiting += 1;
        }
        for _ in 0..waiting {
            self.control.receive()?;
        }
        self.count = self.count.max(count);
        Ok(())
    }
}

/// No key matches that of the measured queue, but patterns must be looked at to know.
fn key(index: u64, topic: bool) -> String {
    match (topic, index % 3) {
        (false, _) => format!("key {index}"),
        (true, 0) => format!("*.{index}.#"),
        (true, 1) => format!("#.{index}"),
        (true, _) => format!("area {index}.*.end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ() {
        for topic in [false, true] {
            let mut keys: Vec<_> = (0..1000).map(|index| key(index, topic)).collect();
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), 1000);
        }
    }
}
