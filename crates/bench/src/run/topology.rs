//! The queues and the exchange of a run.

use amqp_codec::{FieldTable, FieldValue, Method, ShortStr, TableBuilder};
use anyhow::bail;

use crate::args::{QueueArgs, RunArgs};
use crate::client::{CHANNEL, Connection, Uri};

/// The name of queue `index`.
pub(crate) fn queue_name(args: &QueueArgs, index: usize) -> String {
    if args.queue.contains("%i") || args.queues == 1 {
        args.queue.replace("%i", &index.to_string())
    } else {
        format!("{}-{index}", args.queue)
    }
}

/// The arguments that queues are declared with.
pub(crate) fn queue_arguments(args: &QueueArgs) -> anyhow::Result<FieldTable> {
    let mut table = TableBuilder::new();
    if let Some(kind) = &args.queue_type {
        table.push("x-queue-type", &FieldValue::text(kind));
    }
    for argument in &args.arguments {
        let Some((name, value)) = argument.split_once('=') else {
            bail!("the argument '{argument}' has no value");
        };
        match (value.parse(), value.parse()) {
            (Ok(number), _) => table.push(name, &FieldValue::I64(number)),
            (_, Ok(truth)) => table.push(name, &FieldValue::Bool(truth)),
            _ => table.push(name, &FieldValue::text(value)),
        };
    }
    Ok(table.finish())
}

/// The declaration of queue `index`.
pub(crate) fn declare_method(args: &QueueArgs, index: usize) -> anyhow::Result<Method> {
    Ok(Method::QueueDeclare {
        queue: ShortStr::try_from(queue_name(args, index))?,
        passive: false,
        durable: args.durable,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: queue_arguments(args)?,
    })
}

/// What has been declared for a run, and the connection that did it.
#[derive(Debug)]
pub(super) struct Topology {
    control: Connection,
    /// Names of the queues.
    pub(super) queues: Vec<String>,
    exchange: Option<String>,
    keep: bool,
}

impl Topology {
    /// Deletes what is left of earlier runs and declares everything anew.
    pub(super) fn declare(args: &RunArgs, uri: &Uri) -> anyhow::Result<Self> {
        let mut control = Connection::open(uri, "control")?;
        control.open_channel()?;
        let queues = (0..args.queue.queues)
            .map(|index| queue_name(&args.queue, index))
            .collect();
        let mut topology = Self {
            control,
            queues,
            exchange: args.exchange.clone(),
            keep: args.keep,
        };
        if !args.keep {
            topology.delete_all()?;
        }
        for index in 0..args.queue.queues {
            topology
                .control
                .call(CHANNEL, &declare_method(&args.queue, index)?)?;
        }
        if let Some(exchange) = &args.exchange {
            topology.declare_exchange(exchange, args)?;
        }
        Ok(topology)
    }

    fn declare_exchange(&mut self, exchange: &str, args: &RunArgs) -> anyhow::Result<()> {
        let exchange = ShortStr::try_from(exchange)?;
        self.control.call(
            CHANNEL,
            &Method::ExchangeDeclare {
                exchange: exchange.clone(),
                kind: ShortStr::try_from(args.exchange_type.as_str())?,
                passive: false,
                durable: args.queue.durable,
                auto_delete: false,
                internal: false,
                no_wait: false,
                arguments: FieldTable::empty(),
            },
        )?;
        for queue in &self.queues {
            let queue = ShortStr::try_from(queue.as_str())?;
            self.control.call(
                CHANNEL,
                &Method::QueueBind {
                    queue: queue.clone(),
                    exchange: exchange.clone(),
                    routing_key: queue,
                    no_wait: false,
                    arguments: FieldTable::empty(),
                },
            )?;
        }
        Ok(())
    }

    fn delete_all(&mut self) -> anyhow::Result<()> {
        for queue in &self.queues {
            self.control.call(
                CHANNEL,
                &Method::QueueDelete {
                    queue: ShortStr::try_from(queue.as_str())?,
                    if_unused: false,
                    if_empty: false,
                    no_wait: false,
                },
            )?;
        }
        if let Some(exchange) = &self.exchange {
            self.control.call(
                CHANNEL,
                &Method::ExchangeDelete {
                    exchange: ShortStr::try_from(exchange.as_str())?,
                    if_unused: false,
                    no_wait: false,
                },
            )?;
        }
        Ok(())
    }

    /// Deletes everything, unless it shall be kept.
    pub(super) fn remove(mut self) -> anyhow::Result<()> {
        if !self.keep {
            self.delete_all()?;
        }
        self.control.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(queue: &str, queues: usize, arguments: &[&str]) -> QueueArgs {
        QueueArgs {
            queue: queue.to_owned(),
            queues,
            durable: true,
            queue_type: Some("quorum".to_owned()),
            arguments: arguments
                .iter()
                .map(|&argument| argument.to_owned())
                .collect(),
        }
    }

    #[test]
    fn names() {
        for (pattern, queues, expected) in [
            ("q", 1, "q"),
            ("q", 3, "q-2"),
            ("q%i-x", 3, "q2-x"),
            ("q%i", 1, "q2"),
        ] {
            assert_eq!(queue_name(&args(pattern, queues, &[]), 2), expected);
        }
    }

    #[test]
    fn arguments() {
        let arguments = [
            "x-max-length=10",
            "x-single-active-consumer=true",
            "x-overflow=a=b",
        ];
        let table = queue_arguments(&args("q", 1, &arguments)).unwrap();
        for (name, value) in [
            ("x-queue-type", FieldValue::text("quorum")),
            ("x-max-length", FieldValue::I64(10)),
            ("x-single-active-consumer", FieldValue::Bool(true)),
            ("x-overflow", FieldValue::text("a=b")),
        ] {
            assert_eq!(table.get(name), Some(value));
        }
        assert!(queue_arguments(&args("q", 1, &["x"])).is_err());
    }
}
