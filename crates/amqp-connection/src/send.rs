//! What the driver sends. What is meant for a channel that is no longer open is dropped: the client
//! has been told, or will not look.

use amqp_codec::{
    Content, Delivery, Method, ReplyCode, ShortStr, write_ack, write_content, write_delivery,
    write_heartbeat, write_method, write_nack,
};

use crate::confirms::Confirm;
use crate::connection::Connection;

impl Connection {
    /// Sends a method without content.
    pub fn send_method(&mut self, channel: u16, method: &Method) {
        if self.is_channel_heard(channel) {
            self.write_method(channel, method);
        }
    }

    /// Sends `basic.deliver`, but not to a client that closes the connection; returns the number of bytes that
    /// were queued.
    pub fn send_delivery(&mut self, channel: u16, delivery: &Delivery<'_>) -> usize {
        if !self.is_open() || !self.is_channel_heard(channel) {
            return 0;
        }
        let before = self.output.len();
        write_delivery(&mut self.output, channel, self.frame_max, delivery);
        self.output.len() - before
    }

    /// Sends `basic.get-ok` with its content.
    pub fn send_get_ok(&mut self, channel: u16, delivery: &Delivery<'_>, message_count: u32) {
        let get_ok = Method::BasicGetOk {
            delivery_tag: delivery.delivery_tag,
            redelivered: delivery.redelivered,
            exchange: text(delivery.exchange),
            routing_key: text(delivery.routing_key),
            message_count,
        };
        self.send_with_content(channel, &get_ok, delivery.content);
    }

    /// Sends `basic.return` with its content. The text is the name of the code.
    pub fn send_return(
        &mut self,
        channel: u16,
        code: ReplyCode,
        exchange: &ShortStr,
        routing_key: &ShortStr,
        content: Content<'_>,
    ) {
        let returned = Method::BasicReturn {
            reply_code: code.0,
            reply_text: amqp_codec::reply_text(code, ""),
            exchange: exchange.clone(),
            routing_key: routing_key.clone(),
        };
        self.send_with_content(channel, &returned, content);
    }

    /// Sends a publisher confirm.
    pub fn send_confirm(&mut self, channel: u16, confirm: Confirm) {
        let Confirm {
            tag,
            multiple,
            accepted,
        } = confirm;
        if !self.is_channel_heard(channel) {
            return;
        }
        if accepted {
            write_ack(&mut self.output, channel, tag, multiple);
        } else {
            write_nack(&mut self.output, channel, tag, multiple, false);
        }
    }

    /// Tells a client that wants to know that its publishes are not read for now. The driver then
    /// stops to read, see [`Self::set_reading`].
    pub fn send_blocked(&mut self, reason: &str) {
        if self.is_open() && self.client.connection_blocked {
            let reason = ShortStr::truncated(reason);
            self.write_method(0, &Method::ConnectionBlocked { reason });
        }
    }

    /// The opposite.
    pub fn send_unblocked(&mut self) {
        if self.is_open() && self.client.connection_blocked {
            self.write_method(0, &Method::ConnectionUnblocked {});
        }
    }

    fn send_with_content(&mut self, channel: u16, method: &Method, content: Content<'_>) {
        if self.is_channel_heard(channel) {
            self.write_method(channel, method);
            write_content(&mut self.output, channel, self.frame_max, content);
        }
    }

    pub(crate) fn write_method(&mut self, channel: u16, method: &Method) {
        write_method(&mut self.output, channel, method);
    }

    pub(crate) fn write_heartbeat(&mut self) {
        write_heartbeat(&mut self.output);
    }
}

fn text(bytes: &[u8]) -> ShortStr {
    ShortStr::from_utf8_lossy(bytes::Bytes::copy_from_slice(bytes))
}
