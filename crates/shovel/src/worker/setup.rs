//! Declares and checks what a shovel needs on both sides, and begins to consume.

use crate::client::{Client, Error};
use crate::config::{AckMode, Definition, DeleteAfter, From};
use amqp_codec::{FieldTable, Method, ReplyCode, ShortStr};
use std::time::Duration;

/// The channel that everything goes through.
pub(super) const CHANNEL: u16 = 1;
/// One for questions whose answer may be that it is closed.
const ASIDE: u16 = 2;

/// Both ends, ready.
pub(super) struct Begun {
    pub(super) source: Client,
    pub(super) destination: Client,
    pub(super) source_uri: String,
    pub(super) destination_uri: String,
    /// Messages to be moved; `None`: no end to it.
    pub(super) remaining: Option<u64>,
}

impl Begun {
    /// Ends both connections, each within `patience`. The destination's first: what was sent there has to be there before it is
    /// gone from the source. False if that is not sure.
    pub(super) async fn close(self, patience: Duration) -> bool {
        let is_there = self.destination.close(patience).await;
        // What was acknowledged is, or comes again.
        self.source.close(patience).await;
        is_there
    }
}

/// Prepares for publishes.
pub(super) async fn destination(client: &mut Client, definition: &Definition) -> Result<(), Error> {
    client.call(CHANNEL, &Method::ChannelOpen {}).await?;
    let to = &definition.destination;
    if let Some(queue) = &to.queue {
        ensure_queue(client, queue, &to.queue_arguments, to.predeclared).await?;
    }
    if definition.ack_mode == AckMode::OnConfirm {
        let select = Method::ConfirmSelect { no_wait: false };
        client.call(CHANNEL, &select).await?;
    }
    Ok(())
}

/// Begins to consume; returns how many messages are to be moved.
pub(super) async fn source(
    client: &mut Client,
    definition: &Definition,
) -> Result<Option<u64>, Error> {
    client.call(CHANNEL, &Method::ChannelOpen {}).await?;
    let from = &definition.source;
    let queue = match &from.from {
        From::Queue {
            name,
            arguments,
            predeclared,
        } => {
            ensure_queue(client, name, arguments, *predeclared).await?;
            name.clone()
        }
        From::Exchange { name, key } => bound_queue(client, name, key).await?,
    };
    let remaining = match from.delete_after {
        DeleteAfter::Never => None,
        DeleteAfter::Count(count) => Some(count),
        DeleteAfter::QueueLength => Some(length(client, &queue).await?),
    };
    if remaining == Some(0) {
        return Ok(remaining);
    }
    let acknowledges = definition.acknowledges();
    if acknowledges {
        let wanted = remaining.and_then(|count| u16::try_from(count).ok());
        let qos = Method::BasicQos {
            prefetch_size: 0,
            prefetch_count: wanted.unwrap_or(u16::MAX).min(from.prefetch),
            global: false,
        };
        client.call(CHANNEL, &qos).await?;
    }
    let consume = Method::BasicConsume {
        queue,
        consumer_tag: from.consumer_tag.clone(),
        no_local: false,
        no_ack: !acknowledges,
        exclusive: false,
        no_wait: false,
        arguments: from.consumer_args.clone(),
    };
    client.call(CHANNEL, &consume).await?;
    Ok(remaining)
}

fn declare(queue: &ShortStr, passive: bool, arguments: &FieldTable) -> Method {
    Method::QueueDeclare {
        queue: queue.clone(),
        passive,
        durable: !passive,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: arguments.clone(),
    }
}

/// The queue exists, whatever its arguments are; or it is declared, unless it has to be there.
async fn ensure_queue(
    client: &mut Client,
    queue: &ShortStr,
    arguments: &FieldTable,
    predeclared: bool,
) -> Result<(), Error> {
    client.call(ASIDE, &Method::ChannelOpen {}).await?;
    let look = declare(queue, true, &FieldTable::default());
    match client.call(ASIDE, &look).await {
        Ok(_) => {}
        Err(Error::ChannelClosed { code, .. })
            if code == ReplyCode::NOT_FOUND.0 && !predeclared =>
        {
            client.call(ASIDE, &Method::ChannelOpen {}).await?;
            client
                .call(ASIDE, &declare(queue, false, arguments))
                .await?;
        }
        Err(error) => return Err(error),
    }
    let close = Method::ChannelClose {
        reply_code: ReplyCode::REPLY_SUCCESS.0,
        reply_text: ShortStr::default(),
        class_id: 0,
        method_id: 0,
    };
    client.call(ASIDE, &close).await?;
    Ok(())
}

/// A queue of the shovel's own that gets what an exchange gets.
async fn bound_queue(
    client: &mut Client,
    exchange: &ShortStr,
    key: &ShortStr,
) -> Result<ShortStr, Error> {
    let own = Method::QueueDeclare {
        queue: ShortStr::default(),
        passive: false,
        durable: false,
        exclusive: true,
        auto_delete: false,
        no_wait: false,
        arguments: FieldTable::default(),
    };
    let Method::QueueDeclareOk { queue, .. } = client.call(CHANNEL, &own).await? else {
        return Err(Error::Unexpected("answer to queue.declare"));
    };
    let bind = Method::QueueBind {
        queue: queue.clone(),
        exchange: exchange.clone(),
        routing_key: key.clone(),
        no_wait: false,
        arguments: FieldTable::default(),
    };
    client.call(CHANNEL, &bind).await?;
    Ok(queue.detached())
}

async fn length(client: &mut Client, queue: &ShortStr) -> Result<u64, Error> {
    let look = declare(queue, true, &FieldTable::default());
    match client.call(CHANNEL, &look).await? {
        Method::QueueDeclareOk { message_count, .. } => Ok(u64::from(message_count)),
        _ => Err(Error::Unexpected("answer to queue.declare")),
    }
}
