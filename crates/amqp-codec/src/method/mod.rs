//! Methods: the commands of the protocol, one variant each, in the order of the specification.
//!
//! Not here: content headers and bodies (`properties`, `write`), what a method means.

mod macros;
mod publish;

use bytes::{BufMut, Bytes, BytesMut};

use crate::args::{ArgReader, ArgWriter, Argument, take_array};
use crate::error::{DecodeError, ValueError};
use crate::short_str::{LongStr, ShortStr};
use crate::table::FieldTable;
use macros::methods;

pub use publish::BasicPublishRef;

/// The numbers of the classes.
pub mod class {
    /// Connection negotiation and life cycle.
    pub const CONNECTION: u16 = 10;
    /// Channels.
    pub const CHANNEL: u16 = 20;
    /// Realms of AMQP 0-8, answered for old clients.
    pub const ACCESS: u16 = 30;
    /// Exchanges.
    pub const EXCHANGE: u16 = 40;
    /// Queues.
    pub const QUEUE: u16 = 50;
    /// Messages.
    pub const BASIC: u16 = 60;
    /// Publisher confirms.
    pub const CONFIRM: u16 = 85;
    /// Transactions.
    pub const TX: u16 = 90;
}

#[cfg(test)]
pub(crate) type MethodCase = (
    u16,
    u16,
    &'static str,
    fn(&mut crate::tests::Sampler) -> Method,
);

impl Method {
    /// Decodes the payload of a method frame. Strings and tables are slices of it.
    ///
    /// # Errors
    /// [`DecodeError::UnknownMethod`] if there is no such method, [`DecodeError::Arguments`] if its
    /// arguments cannot be decoded.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the caller is done with the payload"
    )]
    pub fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        Self::decode_part(&payload, &payload)
    }

    /// Like [`Method::decode`], for a payload that is a part of a larger buffer: costs a reference
    /// count only for each string that is kept.
    ///
    /// # Errors
    /// As [`Method::decode`].
    pub fn decode_part(source: &Bytes, payload: &[u8]) -> Result<Self, DecodeError> {
        let mut rest = payload;
        let no_method = |_| DecodeError::NoMethod {
            payload_len: payload.len(),
        };
        let class_id = u16::from_be_bytes(take_array(&mut rest).map_err(no_method)?);
        let method_id = u16::from_be_bytes(take_array(&mut rest).map_err(no_method)?);
        Self::decode_arguments(class_id, method_id, source, rest)
    }

    /// The same with memory of its own: a decoded one keeps the whole receive buffer alive. Also tells how many bytes
    /// it has on the wire.
    #[must_use]
    pub fn detached(self) -> (Self, usize) {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        let len = out.len();
        // What has been encoded can be decoded.
        (Self::decode(out.freeze()).unwrap_or(self), len)
    }

    /// Whether a content header and body follow it.
    #[must_use]
    pub fn is_content(&self) -> bool {
        matches!(
            self,
            Self::BasicPublish { .. }
                | Self::BasicReturn { .. }
                | Self::BasicDeliver { .. }
                | Self::BasicGetOk { .. }
        )
    }
}

methods! {
    /// The server opens the negotiation.
    ConnectionStart = 10, 10, "connection.start", [] {
        /// Major version of the protocol: 0.
        version_major: u8,
        /// Minor version of the protocol: 9.
        version_minor: u8,
        /// Product, version, capabilities.
        server_properties: FieldTable,
        /// SASL mechanisms, separated by spaces.
        mechanisms: LongStr,
        /// Locales, separated by spaces.
        locales: LongStr,
    } [];
    /// The client chooses a mechanism and authenticates.
    ConnectionStartOk = 10, 11, "connection.start-ok", [] {
        /// Product, version, capabilities, connection name.
        client_properties: FieldTable,
        /// The SASL mechanism.
        mechanism: ShortStr,
        /// Its first response.
        response: LongStr,
        /// The locale.
        locale: ShortStr,
    } [];
    /// The server asks for another SASL response.
    ConnectionSecure = 10, 20, "connection.secure", [] {
        /// The challenge.
        challenge: LongStr,
    } [];
    /// The client answers the challenge.
    ConnectionSecureOk = 10, 21, "connection.secure-ok", [] {
        /// The response.
        response: LongStr,
    } [];
    /// The server proposes limits.
    ConnectionTune = 10, 30, "connection.tune", [] {
        /// Highest channel number.
        channel_max: u16,
        /// Largest frame in bytes, overhead included.
        frame_max: u32,
        /// Heartbeat interval in seconds; 0 is off.
        heartbeat: u16,
    } [];
    /// The client settles the limits.
    ConnectionTuneOk = 10, 31, "connection.tune-ok", [] {
        /// Highest channel number.
        channel_max: u16,
        /// Largest frame in bytes, overhead included.
        frame_max: u32,
        /// Heartbeat interval in seconds; 0 is off.
        heartbeat: u16,
    } [];
    /// The client chooses a virtual host.
    ConnectionOpen = 10, 40, "connection.open", [] {
        /// Name of the virtual host.
        virtual_host: ShortStr,
    } [ShortStr, bool];
    /// The connection is open.
    ConnectionOpenOk = 10, 41, "connection.open-ok", [] {} [ShortStr];
    /// Either side closes the connection.
    ConnectionClose = 10, 50, "connection.close", [] {
        /// Why, as a [`crate::ReplyCode`].
        reply_code: u16,
        /// Why, as text.
        reply_text: ShortStr,
        /// Class of the method that failed, or 0.
        class_id: u16,
        /// The method that failed, or 0.
        method_id: u16,
    } [];
    /// The other side has seen the close.
    ConnectionCloseOk = 10, 51, "connection.close-ok", [] {} [];
    /// The server stops reading what this connection publishes.
    ConnectionBlocked = 10, 60, "connection.blocked", [] {
        /// Why.
        reason: ShortStr,
    } [];
    /// The server reads again.
    ConnectionUnblocked = 10, 61, "connection.unblocked", [] {} [];
    /// The client renews its credentials.
    ConnectionUpdateSecret = 10, 70, "connection.update-secret", [] {
        /// The new secret.
        new_secret: LongStr,
        /// Why, for the log.
        reason: ShortStr,
    } [];
    /// The new secret is in force.
    ConnectionUpdateSecretOk = 10, 71, "connection.update-secret-ok", [] {} [];

    /// The client opens a channel.
    ChannelOpen = 20, 10, "channel.open", [] {} [ShortStr];
    /// The channel is open.
    ChannelOpenOk = 20, 11, "channel.open-ok", [] {} [LongStr];
    /// Either side asks the other to pause or continue content.
    ChannelFlow = 20, 20, "channel.flow", [] {
        /// Whether content may flow.
        active: bool,
    } [];
    /// The answer to flow.
    ChannelFlowOk = 20, 21, "channel.flow-ok", [] {
        /// Whether content may flow.
        active: bool,
    } [];
    /// Either side closes the channel.
    ChannelClose = 20, 40, "channel.close", [] {
        /// Why, as a [`crate::ReplyCode`].
        reply_code: u16,
        /// Why, as text.
        reply_text: ShortStr,
        /// Class of the method that failed, or 0.
        class_id: u16,
        /// The method that failed, or 0.
        method_id: u16,
    } [];
    /// The other side has seen the close.
    ChannelCloseOk = 20, 41, "channel.close-ok", [] {} [];

    /// AMQP 0-8: asks for a ticket.
    AccessRequest = 30, 10, "access.request", [] {
        /// The realm.
        realm: ShortStr,
        /// Exclusive access.
        exclusive: bool,
        /// Passive access.
        passive: bool,
        /// Access for administration.
        active: bool,
        /// Access for writing.
        write: bool,
        /// Access for reading.
        read: bool,
    } [];
    /// AMQP 0-8: grants a ticket.
    AccessRequestOk = 30, 11, "access.request-ok", [] {
        /// The ticket; always 1.
        ticket: u16,
    } [];

    /// Creates or checks an exchange.
    ExchangeDeclare = 40, 10, "exchange.declare", [u16] {
        /// Name.
        exchange: ShortStr,
        /// Type, like `direct`.
        kind: ShortStr,
        /// Only check that it exists.
        passive: bool,
        /// Survives a restart.
        durable: bool,
        /// Goes with its last binding.
        auto_delete: bool,
        /// Only reachable through bindings.
        internal: bool,
        /// Send no answer.
        no_wait: bool,
        /// Arguments of the type and extensions.
        arguments: FieldTable,
    } [];
    /// The exchange exists.
    ExchangeDeclareOk = 40, 11, "exchange.declare-ok", [] {} [];
    /// Deletes an exchange.
    ExchangeDelete = 40, 20, "exchange.delete", [u16] {
        /// Name.
        exchange: ShortStr,
        /// Only if nothing is bound to it.
        if_unused: bool,
        /// Send no answer.
        no_wait: bool,
    } [];
    /// The exchange is gone.
    ExchangeDeleteOk = 40, 21, "exchange.delete-ok", [] {} [];
    /// Binds an exchange to an exchange.
    ExchangeBind = 40, 30, "exchange.bind", [u16] {
        /// Where messages go.
        destination: ShortStr,
        /// Where messages come from.
        source: ShortStr,
        /// Binding key.
        routing_key: ShortStr,
        /// Send no answer.
        no_wait: bool,
        /// Arguments of the binding.
        arguments: FieldTable,
    } [];
    /// The binding exists.
    ExchangeBindOk = 40, 31, "exchange.bind-ok", [] {} [];
    /// Removes a binding between exchanges.
    ExchangeUnbind = 40, 40, "exchange.unbind", [u16] {
        /// Where messages go.
        destination: ShortStr,
        /// Where messages come from.
        source: ShortStr,
        /// Binding key.
        routing_key: ShortStr,
        /// Send no answer.
        no_wait: bool,
        /// Arguments of the binding.
        arguments: FieldTable,
    } [];
    /// The binding is gone. Its number breaks the pattern on purpose: clients know it as 51.
    ExchangeUnbindOk = 40, 51, "exchange.unbind-ok", [] {} [];

    /// Creates or checks a queue.
    QueueDeclare = 50, 10, "queue.declare", [u16] {
        /// Name; empty lets the server choose.
        queue: ShortStr,
        /// Only check that it exists.
        passive: bool,
        /// Survives a restart.
        durable: bool,
        /// Only for this connection, and gone with it.
        exclusive: bool,
        /// Goes with its last consumer.
        auto_delete: bool,
        /// Send no answer.
        no_wait: bool,
        /// The `x-` arguments.
        arguments: FieldTable,
    } [];
    /// The queue exists.
    QueueDeclareOk = 50, 11, "queue.declare-ok", [] {
        /// Name.
        queue: ShortStr,
        /// Ready messages.
        message_count: u32,
        /// Consumers.
        consumer_count: u32,
    } [];
    /// Binds a queue to an exchange.
    QueueBind = 50, 20, "queue.bind", [u16] {
        /// Queue; empty for the last declared one.
        queue: ShortStr,
        /// Exchange.
        exchange: ShortStr,
        /// Binding key.
        routing_key: ShortStr,
        /// Send no answer.
        no_wait: bool,
        /// Arguments of the binding.
        arguments: FieldTable,
    } [];
    /// The binding exists.
    QueueBindOk = 50, 21, "queue.bind-ok", [] {} [];
    /// Removes all ready messages.
    QueuePurge = 50, 30, "queue.purge", [u16] {
        /// Queue; empty for the last declared one.
        queue: ShortStr,
        /// Send no answer.
        no_wait: bool,
    } [];
    /// The queue is purged.
    QueuePurgeOk = 50, 31, "queue.purge-ok", [] {
        /// Messages removed.
        message_count: u32,
    } [];
    /// Deletes a queue.
    QueueDelete = 50, 40, "queue.delete", [u16] {
        /// Queue; empty for the last declared one.
        queue: ShortStr,
        /// Only without consumers.
        if_unused: bool,
        /// Only without messages.
        if_empty: bool,
        /// Send no answer.
        no_wait: bool,
    } [];
    /// The queue is gone.
    QueueDeleteOk = 50, 41, "queue.delete-ok", [] {
        /// Messages that were in it.
        message_count: u32,
    } [];
    /// Removes a binding of a queue.
    QueueUnbind = 50, 50, "queue.unbind", [u16] {
        /// Queue; empty for the last declared one.
        queue: ShortStr,
        /// Exchange.
        exchange: ShortStr,
        /// Binding key.
        routing_key: ShortStr,
        /// Arguments of the binding.
        arguments: FieldTable,
    } [];
    /// The binding is gone.
    QueueUnbindOk = 50, 51, "queue.unbind-ok", [] {} [];

    /// Sets the prefetch limit.
    BasicQos = 60, 10, "basic.qos", [] {
        /// Limit in bytes; only 0 is implemented.
        prefetch_size: u32,
        /// Limit in messages; 0 is none.
        prefetch_count: u16,
        /// For the channel as a whole instead of each consumer.
        global: bool,
    } [];
    /// The limit is in force.
    BasicQosOk = 60, 11, "basic.qos-ok", [] {} [];
    /// Starts a consumer.
    BasicConsume = 60, 20, "basic.consume", [u16] {
        /// Queue; empty for the last declared one.
        queue: ShortStr,
        /// Tag; empty lets the server choose.
        consumer_tag: ShortStr,
        /// Not what this connection published; ignored.
        no_local: bool,
        /// Deliveries need no acknowledgement.
        no_ack: bool,
        /// No other consumer of this queue.
        exclusive: bool,
        /// Send no answer.
        no_wait: bool,
        /// Priority and extensions.
        arguments: FieldTable,
    } [];
    /// The consumer has started.
    BasicConsumeOk = 60, 21, "basic.consume-ok", [] {
        /// Its tag.
        consumer_tag: ShortStr,
    } [];
    /// Ends a consumer; from the server: it has ended.
    BasicCancel = 60, 30, "basic.cancel", [] {
        /// Its tag.
        consumer_tag: ShortStr,
        /// Send no answer.
        no_wait: bool,
    } [];
    /// The consumer has ended.
    BasicCancelOk = 60, 31, "basic.cancel-ok", [] {
        /// Its tag.
        consumer_tag: ShortStr,
    } [];
    /// Publishes a message. See [`BasicPublishRef`] for the hot path.
    BasicPublish = 60, 40, "basic.publish", [u16] {
        /// Exchange; empty is the default one.
        exchange: ShortStr,
        /// Routing key.
        routing_key: ShortStr,
        /// Return it if no queue gets it.
        mandatory: bool,
        /// Not implemented.
        immediate: bool,
    } [];
    /// A message that could not be routed comes back.
    BasicReturn = 60, 50, "basic.return", [] {
        /// Why, as a [`crate::ReplyCode`].
        reply_code: u16,
        /// Why, as text.
        reply_text: ShortStr,
        /// Exchange it was published to.
        exchange: ShortStr,
        /// Its routing key.
        routing_key: ShortStr,
    } [];
    /// A message for a consumer. See [`crate::write_delivery`] for the hot path.
    BasicDeliver = 60, 60, "basic.deliver", [] {
        /// The consumer.
        consumer_tag: ShortStr,
        /// Number of the delivery on this channel.
        delivery_tag: u64,
        /// May have been delivered before.
        redelivered: bool,
        /// Exchange it was published to.
        exchange: ShortStr,
        /// Its routing key.
        routing_key: ShortStr,
    } [];
    /// Asks for one message.
    BasicGet = 60, 70, "basic.get", [u16] {
        /// Queue; empty for the last declared one.
        queue: ShortStr,
        /// The delivery needs no acknowledgement.
        no_ack: bool,
    } [];
    /// The message asked for.
    BasicGetOk = 60, 71, "basic.get-ok", [] {
        /// Number of the delivery on this channel.
        delivery_tag: u64,
        /// May have been delivered before.
        redelivered: bool,
        /// Exchange it was published to.
        exchange: ShortStr,
        /// Its routing key.
        routing_key: ShortStr,
        /// Ready messages left.
        message_count: u32,
    } [];
    /// The queue has no ready message.
    BasicGetEmpty = 60, 72, "basic.get-empty", [] {} [ShortStr];
    /// Acknowledges deliveries; from the server: confirms publishes.
    BasicAck = 60, 80, "basic.ack", [] {
        /// The delivery or publish.
        delivery_tag: u64,
        /// With all before it.
        multiple: bool,
    } [];
    /// Refuses one delivery.
    BasicReject = 60, 90, "basic.reject", [] {
        /// The delivery.
        delivery_tag: u64,
        /// Back to the queue instead of dead-lettered.
        requeue: bool,
    } [];
    /// Takes all unacknowledged deliveries back, without an answer.
    BasicRecoverAsync = 60, 100, "basic.recover-async", [] {
        /// Back to the queue; the only kind that is implemented.
        requeue: bool,
    } [];
    /// Takes all unacknowledged deliveries back.
    BasicRecover = 60, 110, "basic.recover", [] {
        /// Back to the queue; the only kind that is implemented.
        requeue: bool,
    } [];
    /// They are back.
    BasicRecoverOk = 60, 111, "basic.recover-ok", [] {} [];
    /// Refuses deliveries; from the server: publishes that were not accepted.
    BasicNack = 60, 120, "basic.nack", [] {
        /// The delivery or publish.
        delivery_tag: u64,
        /// With all before it.
        multiple: bool,
        /// Back to the queue instead of dead-lettered.
        requeue: bool,
    } [];

    /// Turns publisher confirms on.
    ConfirmSelect = 85, 10, "confirm.select", [] {
        /// Send no answer.
        no_wait: bool,
    } [];
    /// Confirms are on.
    ConfirmSelectOk = 85, 11, "confirm.select-ok", [] {} [];

    /// Turns transactions on.
    TxSelect = 90, 10, "tx.select", [] {} [];
    /// Transactions are on.
    TxSelectOk = 90, 11, "tx.select-ok", [] {} [];
    /// Commits.
    TxCommit = 90, 20, "tx.commit", [] {} [];
    /// Committed.
    TxCommitOk = 90, 21, "tx.commit-ok", [] {} [];
    /// Rolls back.
    TxRollback = 90, 30, "tx.rollback", [] {} [];
    /// Rolled back.
    TxRollbackOk = 90, 31, "tx.rollback-ok", [] {} [];
}

#[cfg(test)]
mod tests;
