//! lapin as an application uses it.
//! Command line and lines: `README.md` one folder up.

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind};
use std::collections::HashSet;
use std::time::Duration;

/// Publishes in flight.
const WINDOW: u32 = 10;
/// Attempts to connect, all ports in turn.
const TRIES: usize = 300;
/// No confirm, delivery or answer within this time is a lost connection.
const PATIENCE: Duration = Duration::from_secs(30);

struct Work {
    ports: Vec<u16>,
    queue: String,
    count: u32,
    /// Next port to try.
    node: usize,
    /// The refusals have been told.
    told: bool,
    /// Messages below this number are confirmed.
    confirmed: u32,
    seen: HashSet<u32>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, mode, ports, queue, count] = arguments.as_slice() else {
        bail!("usage: lapin-client publish|consume PORTS QUEUE COUNT");
    };
    let mut work = Work {
        ports: ports
            .split(',')
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()?,
        queue: queue.clone(),
        count: count.parse()?,
        node: 0,
        told: false,
        confirmed: 0,
        seen: HashSet::new(),
    };
    loop {
        let connection = work.connect().await?;
        let done = match mode.as_str() {
            "publish" => work.publish(&connection).await,
            "consume" => work.consume(&connection).await,
            _ => bail!("publish or consume"),
        };
        match done {
            Ok(()) => {
                connection.close(200, ShortString::from("bye")).await?;
                println!("done");
                return Ok(());
            }
            Err(error) if error.is::<lapin::Error>() || error.is::<Lost>() => {
                println!("reconnecting");
                work.node += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Closes a channel and waits for it: lapin fails to close a connection while a dropped channel of it
/// is still closing.
async fn leave(channel: &Channel) -> Result<()> {
    Ok(channel.close(200, ShortString::from("bye")).await?)
}

/// Nothing was heard in time, or a stream ended.
#[derive(Debug, thiserror::Error)]
#[error("the connection was lost")]
struct Lost;

impl Work {
    /// The first node that answers.
    async fn connect(&mut self) -> Result<Connection> {
        let mut tries = 0;
        loop {
            let port = self.ports[self.node % self.ports.len()];
            let address = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
            match Connection::connect(&address, ConnectionProperties::default()).await {
                Ok(connection) => return Ok(connection),
                Err(error) if tries > TRIES => return Err(error.into()),
                Err(_) => tries += 1,
            }
            self.node += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn declare(&self, channel: &Channel) -> Result<()> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(1_000_000));
        let options = QueueDeclareOptions::durable();
        channel
            .queue_declare(self.queue.as_str().into(), options, arguments)
            .await?;
        Ok(())
    }

    async fn publish(&mut self, connection: &Connection) -> Result<()> {
        let channel = connection.create_channel().await?;
        self.declare(&channel).await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        if !self.told {
            self.refusals(connection, &channel).await?;
            self.told = true;
        }
        while self.confirmed < self.count {
            let last = (self.confirmed + WINDOW).min(self.count);
            let mut confirms = Vec::new();
            for number in self.confirmed..last {
                let mut headers = FieldTable::default();
                headers.insert("number".into(), AMQPValue::LongUInt(number));
                let properties = BasicProperties::default()
                    .with_delivery_mode(2)
                    .with_headers(headers);
                let confirm = channel
                    .basic_publish(
                        "".into(),
                        self.queue.as_str().into(),
                        BasicPublishOptions::default(),
                        number.to_string().as_bytes(),
                        properties,
                    )
                    .await?;
                confirms.push(confirm);
            }
            for confirm in confirms {
                let confirm = tokio::time::timeout(PATIENCE, confirm)
                    .await
                    .map_err(|_| Lost)??;
                if confirm != Confirmation::Ack(None) {
                    bail!(Lost);
                }
            }
            self.confirmed = last;
            if last.is_multiple_of(100) {
                println!("confirmed {last}");
            }
        }
        leave(&channel).await
    }

    async fn refusals(&self, connection: &Connection, channel: &Channel) -> Result<()> {
        let missing = format!("{}-missing", self.queue);
        let refused = connection
            .create_channel()
            .await?
            .queue_declare(
                missing.as_str().into(),
                QueueDeclareOptions::durable().passive(),
                FieldTable::default(),
            )
            .await
            .err()
            .context("the queue should be missing")?;
        let ErrorKind::ProtocolError(error) = refused.kind() else {
            return Err(refused.into());
        };
        println!("missing {} {}", error.get_id(), error.get_message());
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let properties = BasicProperties::default();
        let confirm = channel
            .basic_publish(
                "".into(),
                missing.as_str().into(),
                options,
                b"nobody",
                properties,
            )
            .await?
            .await?;
        let returned = confirm.take_message().context("it should come back")?;
        println!("returned {} {}", returned.reply_code, returned.reply_text);
        Ok(())
    }

    async fn consume(&mut self, connection: &Connection) -> Result<()> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(20, BasicQosOptions::default()).await?;
        self.declare(&channel).await?;
        let mut deliveries = channel
            .basic_consume(
                self.queue.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        while self.seen.len() < self.count as usize {
            let delivery = tokio::time::timeout(PATIENCE, deliveries.next())
                .await
                .map_err(|_| Lost)?
                .ok_or(Lost)??;
            let number: u32 = std::str::from_utf8(&delivery.data)?.parse()?;
            let header = delivery
                .properties
                .headers()
                .as_ref()
                .and_then(|headers| headers.inner().get("number"));
            ensure!(
                header == Some(&AMQPValue::LongUInt(number)),
                "header {header:?} of {number}"
            );
            delivery.ack(BasicAckOptions::default()).await?;
            if self.seen.insert(number) && self.seen.len().is_multiple_of(100) {
                println!("received {}", self.seen.len());
            }
        }
        leave(&channel).await
    }
}
