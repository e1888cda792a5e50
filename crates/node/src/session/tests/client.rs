//! A client that does what it is told.

use amqp_codec::{
    Content, ContentHeader, FieldTable, FieldValue, FrameKind, Method, Properties, ShortStr,
    TableBuilder, decode, write_method, write_publish,
};
use bytes::{Bytes, BytesMut};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const FRAME_MAX: usize = 131_072;
const PATIENCE: Duration = Duration::from_secs(5);

/// What a client hears.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Heard {
    pub(super) channel: u16,
    pub(super) method: Method,
    pub(super) body: Bytes,
    pub(super) properties: Bytes,
}

impl Heard {
    pub(super) fn delivery_tag(&self) -> u64 {
        match &self.method {
            Method::BasicDeliver { delivery_tag, .. } | Method::BasicGetOk { delivery_tag, .. } => {
                *delivery_tag
            }
            other => panic!("no delivery: {other:?}"),
        }
    }

    pub(super) fn redelivered(&self) -> bool {
        match &self.method {
            Method::BasicDeliver { redelivered, .. } | Method::BasicGetOk { redelivered, .. } => {
                *redelivered
            }
            other => panic!("no delivery: {other:?}"),
        }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn headers(&self) -> FieldTable {
        Properties::decode(&self.properties)
            .unwrap()
            .headers
            .unwrap_or_default()
    }
}

pub(super) struct Client {
    stream: DuplexStream,
    input: BytesMut,
    output: BytesMut,
    /// Understands `basic.cancel` of the server.
    pub(super) cancel_notify: bool,
}

pub(super) fn text(text: &str) -> ShortStr {
    ShortStr::truncated(text)
}

impl Client {
    pub(super) fn new(stream: DuplexStream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            cancel_notify: true,
        }
    }

    pub(super) async fn handshake(&mut self) {
        self.open_as("guest", "guest").await;
    }

    pub(super) async fn open_as(&mut self, user: &str, password: &str) {
        self.handshake_as(user, password).await;
        self.expect(|method| matches!(method, Method::ConnectionTune { .. }))
            .await;
        self.send(
            0,
            &Method::ConnectionTuneOk {
                channel_max: 2047,
                frame_max: 131_072,
                heartbeat: 0,
            },
        )
        .await;
        self.send(
            0,
            &Method::ConnectionOpen {
                virtual_host: text("/"),
            },
        )
        .await;
        self.expect(|method| matches!(method, Method::ConnectionOpenOk {}))
            .await;
    }

    pub(super) async fn handshake_as(&mut self, user: &str, password: &str) {
        self.stream
            .write_all(b"AMQP\x00\x00\x09\x01")
            .await
            .unwrap();
        self.expect(|method| matches!(method, Method::ConnectionStart { .. }))
            .await;
        let mut capabilities = TableBuilder::new();
        for name in [
            "consumer_cancel_notify",
            "connection.blocked",
            "authentication_failure_close",
        ] {
            let told = self.cancel_notify || name != "consumer_cancel_notify";
            capabilities.push(name, &FieldValue::Bool(told));
        }
        let mut properties = TableBuilder::new();
        properties.push("capabilities", &FieldValue::Table(capabilities.finish()));
        let start_ok = Method::ConnectionStartOk {
            client_properties: properties.finish(),
            mechanism: text("PLAIN"),
            response: Bytes::from(format!("\0{user}\0{password}")),
            locale: text("en_US"),
        };
        self.send(0, &start_ok).await;
    }

    /// Queues a frame; it is sent with the next one that is sent.
    pub(super) fn queue(&mut self, channel: u16, method: &Method) {
        write_method(&mut self.output, channel, method);
    }

    pub(super) async fn send(&mut self, channel: u16, method: &Method) {
        self.queue(channel, method);
        self.flush().await;
    }

    pub(super) async fn flush(&mut self) {
        let output = self.output.split();
        tokio::time::timeout(PATIENCE, self.stream.write_all(&output))
            .await
            .expect("the session reads")
            .unwrap();
    }

    pub(super) fn queue_publish(&mut self, channel: u16, exchange: &str, key: &str, body: &str) {
        self.queue_content(
            channel,
            exchange,
            key,
            &Properties::default(),
            body.as_bytes(),
            false,
        );
    }

    pub(super) fn queue_content(
        &mut self,
        channel: u16,
        exchange: &str,
        key: &str,
        properties: &Properties,
        body: &[u8],
        mandatory: bool,
    ) {
        let body = Bytes::copy_from_slice(body);
        let content = Content {
            properties: &properties.encode(),
            body: &body,
        };
        let (exchange, key) = (exchange.as_bytes(), key.as_bytes());
        write_publish(
            &mut self.output,
            channel,
            FRAME_MAX,
            exchange,
            key,
            mandatory,
            content,
        );
    }

    pub(super) async fn publish(&mut self, channel: u16, key: &str, body: &str) {
        self.queue_publish(channel, "", key, body);
        self.flush().await;
    }

    /// What comes next.
    pub(super) async fn hear(&mut self) -> Heard {
        tokio::time::timeout(PATIENCE, self.next())
            .await
            .expect("something to be heard")
            .expect("an open stream")
    }

    /// What comes within a moment, if anything.
    pub(super) async fn hear_soon(&mut self) -> Option<Heard> {
        tokio::time::timeout(Duration::from_millis(100), self.next())
            .await
            .ok()
            .flatten()
    }

    /// Whether the stream ends.
    pub(super) async fn ends(&mut self) -> bool {
        matches!(tokio::time::timeout(PATIENCE, self.next()).await, Ok(None))
    }

    async fn next(&mut self) -> Option<Heard> {
        let mut heard: Option<(Heard, u64)> = None;
        loop {
            while let Some(frame) = decode(&mut self.input, FRAME_MAX).unwrap() {
                match frame.kind {
                    FrameKind::Method => {
                        let method = Method::decode(frame.payload).unwrap();
                        let has_content = method.is_content();
                        let channel = frame.channel;
                        let next = Heard {
                            channel,
                            method,
                            body: Bytes::new(),
                            properties: Bytes::new(),
                        };
                        if !has_content {
                            return Some(next);
                        }
                        heard = Some((next, 0));
                    }
                    FrameKind::Header => {
                        let header = ContentHeader::decode(frame.payload).unwrap();
                        let (heard, left) = heard.as_mut().unwrap();
                        heard.properties = header.properties;
                        *left = header.body_size;
                    }
                    FrameKind::Body => {
                        let (heard, left) = heard.as_mut().unwrap();
                        heard.body = [&heard.body[..], &frame.payload].concat().into();
                        *left -= frame.payload.len() as u64;
                    }
                    FrameKind::Heartbeat => continue,
                }
                if let Some((_, 0)) = heard
                    && frame_ends_content(frame.kind)
                {
                    return heard.map(|(heard, _)| heard);
                }
            }
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
        }
    }

    pub(super) async fn expect(&mut self, wanted: impl Fn(&Method) -> bool) -> Heard {
        let heard = self.hear().await;
        assert!(wanted(&heard.method), "not expected: {heard:?}");
        heard
    }

    /// Sends a method and returns what comes back.
    pub(super) async fn call(&mut self, channel: u16, method: &Method) -> Method {
        self.send(channel, method).await;
        let heard = self.hear().await;
        assert_eq!(heard.channel, channel, "{heard:?}");
        heard.method
    }

    pub(super) async fn open_channel(&mut self, channel: u16) {
        assert_eq!(
            self.call(channel, &Method::ChannelOpen {}).await,
            Method::ChannelOpenOk {}
        );
    }

    /// Everything before it has been acted on.
    pub(super) async fn sync(&mut self, channel: u16) {
        let flow = Method::ChannelFlow { active: true };
        assert_eq!(
            self.call(channel, &flow).await,
            Method::ChannelFlowOk { active: true }
        );
    }

    pub(super) async fn declare(&mut self, channel: u16, queue: &str, durable: bool) {
        self.declare_with(channel, &declare(queue, durable)).await;
    }

    /// Returns name, messages and consumers.
    pub(super) async fn declare_with(
        &mut self,
        channel: u16,
        declare: &Method,
    ) -> (String, u32, u32) {
        match self.call(channel, declare).await {
            Method::QueueDeclareOk {
                queue,
                message_count,
                consumer_count,
            } => (queue.to_string(), message_count, consumer_count),
            other => panic!("{other:?}"),
        }
    }

    /// Ready messages of a queue.
    pub(super) async fn ready(&mut self, channel: u16, queue: &str) -> u32 {
        let passive = Method::QueueDeclare {
            queue: text(queue),
            passive: true,
            durable: false,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments: FieldTable::default(),
        };
        self.declare_with(channel, &passive).await.1
    }

    /// Waits until so many messages are ready.
    pub(super) async fn has_ready(&mut self, channel: u16, queue: &str, count: u32) {
        for _ in 0..500 {
            if self.ready(channel, queue).await == count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("never {count} messages in {queue}");
    }

    pub(super) async fn bind(&mut self, channel: u16, queue: &str, exchange: &str, key: &str) {
        let bind = Method::QueueBind {
            queue: text(queue),
            exchange: text(exchange),
            routing_key: text(key),
            no_wait: false,
            arguments: FieldTable::default(),
        };
        let answer = self.call(channel, &bind).await;
        assert_eq!(answer, Method::QueueBindOk {});
    }

    pub(super) async fn confirm_select(&mut self, channel: u16) {
        let select = Method::ConfirmSelect { no_wait: false };
        assert_eq!(
            self.call(channel, &select).await,
            Method::ConfirmSelectOk {}
        );
    }

    pub(super) async fn qos(&mut self, channel: u16, prefetch_count: u16, global: bool) {
        let qos = Method::BasicQos {
            prefetch_size: 0,
            prefetch_count,
            global,
        };
        assert_eq!(self.call(channel, &qos).await, Method::BasicQosOk {});
    }

    pub(super) async fn consume(&mut self, channel: u16, queue: &str, tag: &str, no_ack: bool) {
        let consume_ok = Method::BasicConsumeOk {
            consumer_tag: text(tag),
        };
        assert_eq!(
            self.call(channel, &consume(queue, tag, no_ack)).await,
            consume_ok
        );
    }

    pub(super) async fn delivery(&mut self) -> Heard {
        self.expect(|method| matches!(method, Method::BasicDeliver { .. }))
            .await
    }

    pub(super) async fn deliveries(&mut self, count: usize) -> Vec<Heard> {
        let mut deliveries = Vec::new();
        for _ in 0..count {
            deliveries.push(self.delivery().await);
        }
        deliveries
    }

    pub(super) async fn get(&mut self, channel: u16, queue: &str, no_ack: bool) -> Option<Heard> {
        self.send(
            channel,
            &Method::BasicGet {
                queue: text(queue),
                no_ack,
            },
        )
        .await;
        let heard = self.hear().await;
        match heard.method {
            Method::BasicGetEmpty {} => None,
            Method::BasicGetOk { .. } => Some(heard),
            _ => panic!("{heard:?}"),
        }
    }

    pub(super) async fn ack(&mut self, channel: u16, delivery_tag: u64) {
        self.send(
            channel,
            &Method::BasicAck {
                delivery_tag,
                multiple: false,
            },
        )
        .await;
    }

    pub(super) async fn close_channel(&mut self, channel: u16) {
        let close = Method::ChannelClose {
            reply_code: 200,
            reply_text: text(""),
            class_id: 0,
            method_id: 0,
        };
        self.send(channel, &close).await;
        loop {
            let heard = self.hear().await;
            if heard.method == (Method::ChannelCloseOk {}) {
                return;
            }
        }
    }

    /// Closes the connection: AMQP first, then the stream, as the client is left to do.
    pub(super) async fn close(&mut self) {
        self.close_amqp().await;
        self.stream.shutdown().await.unwrap();
        assert!(self.ends().await);
    }

    pub(super) async fn close_amqp(&mut self) {
        let close = Method::ConnectionClose {
            reply_code: 200,
            reply_text: text(""),
            class_id: 0,
            method_id: 0,
        };
        self.send(0, &close).await;
        while self.hear().await.method != (Method::ConnectionCloseOk {}) {}
    }

    /// The error that closes a channel, which is answered: its number is free again.
    pub(super) async fn channel_error(&mut self, channel: u16) -> (u16, String, (u16, u16)) {
        match self.hear().await {
            Heard {
                channel: of,
                method:
                    Method::ChannelClose {
                        reply_code,
                        reply_text,
                        class_id,
                        method_id,
                    },
                ..
            } if of == channel => {
                self.send(channel, &Method::ChannelCloseOk {}).await;
                (reply_code, reply_text.to_string(), (class_id, method_id))
            }
            other => panic!("{other:?}"),
        }
    }

    /// The error that closes the connection, which is answered.
    pub(super) async fn connection_error(&mut self) -> (u16, String, (u16, u16)) {
        loop {
            let heard = self.hear().await;
            if let Method::ConnectionClose {
                reply_code,
                reply_text,
                class_id,
                method_id,
            } = heard.method
            {
                self.send(0, &Method::ConnectionCloseOk {}).await;
                assert!(self.ends().await);
                return (reply_code, reply_text.to_string(), (class_id, method_id));
            }
        }
    }
}

fn frame_ends_content(kind: FrameKind) -> bool {
    matches!(kind, FrameKind::Header | FrameKind::Body)
}

pub(super) fn declare(queue: &str, durable: bool) -> Method {
    declare_as(queue, durable, FieldTable::default())
}

/// A queue with a limit far away: its deliveries say how often they have failed.
pub(super) fn declare_counting(queue: &str, durable: bool) -> Method {
    let mut arguments = TableBuilder::new();
    arguments.push("x-delivery-limit", &FieldValue::I64(100));
    declare_as(queue, durable, arguments.finish())
}

pub(super) fn declare_as(queue: &str, durable: bool, arguments: FieldTable) -> Method {
    Method::QueueDeclare {
        queue: text(queue),
        passive: false,
        durable,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments,
    }
}

pub(super) fn consume(queue: &str, tag: &str, no_ack: bool) -> Method {
    Method::BasicConsume {
        queue: text(queue),
        consumer_tag: text(tag),
        no_local: false,
        no_ack,
        exclusive: false,
        no_wait: false,
        arguments: FieldTable::default(),
    }
}
