//! An AMQP client that speaks frames.

use amqp_codec::{
    Content, ContentHeader, FieldTable, FrameKind, Method, Properties, ShortStr, decode,
    write_method, write_publish,
};
use bytes::{Bytes, BytesMut};
use consensus::Wired;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const FRAME_MAX: usize = 131_072;
/// A node answers anything within its own bounds, which are shorter.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client hears.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) method: Method,
    pub(crate) body: Bytes,
}

pub(crate) struct Client {
    stream: Box<dyn Wired>,
    input: BytesMut,
    output: BytesMut,
    partial: Option<(Heard, u64)>,
}

/// The connection is of no use any more.
#[derive(Debug)]
pub(crate) struct Gone;

pub(crate) type Usable<T> = Result<T, Gone>;

pub(crate) fn text(text: &str) -> ShortStr {
    ShortStr::truncated(text)
}

impl Client {
    /// Logs in and opens channel 1.
    pub(crate) async fn open(stream: Box<dyn Wired>) -> Usable<Self> {
        let mut this = Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::from(&b"AMQP\x00\x00\x09\x01"[..]),
            partial: None,
        };
        this.flush().await?;
        this.expect(|m| matches!(m, Method::ConnectionStart { .. }))
            .await?;
        this.queue(
            0,
            &Method::ConnectionStartOk {
                client_properties: FieldTable::default(),
                mechanism: text("PLAIN"),
                response: Bytes::from_static(b"\0guest\0guest"),
                locale: text("en_US"),
            },
        );
        this.flush().await?;
        this.expect(|m| matches!(m, Method::ConnectionTune { .. }))
            .await?;
        this.queue(
            0,
            &Method::ConnectionTuneOk {
                channel_max: 10,
                frame_max: FRAME_MAX as u32,
                heartbeat: 0,
            },
        );
        this.queue(
            0,
            &Method::ConnectionOpen {
                virtual_host: text("/"),
            },
        );
        this.flush().await?;
        this.expect(|m| matches!(m, Method::ConnectionOpenOk {}))
            .await?;
        this.queue(1, &Method::ChannelOpen {});
        this.flush().await?;
        this.expect(|m| matches!(m, Method::ChannelOpenOk {}))
            .await?;
        Ok(this)
    }

    pub(crate) fn queue(&mut self, channel: u16, method: &Method) {
        write_method(&mut self.output, channel, method);
    }

    pub(crate) fn queue_publish(&mut self, key: &str, body: &Bytes) {
        let properties = Properties {
            delivery_mode: Some(2),
            ..Properties::default()
        };
        let content = Content {
            properties: &properties.encode(),
            body,
        };
        write_publish(
            &mut self.output,
            1,
            FRAME_MAX,
            b"",
            key.as_bytes(),
            false,
            content,
        );
    }

    pub(crate) async fn flush(&mut self) -> Usable<()> {
        let output = self.output.split();
        match timeout(PATIENCE, self.stream.write_all(&output)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Declares a durable queue, or only looks at it; its ready messages.
    pub(crate) fn queue_declare(&mut self, queue: &str, passive: bool) {
        let declare = Method::QueueDeclare {
            queue: text(queue),
            passive,
            durable: true,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments: FieldTable::default(),
        };
        self.queue(1, &declare);
    }

    /// The next method must be the one that is wanted.
    pub(crate) async fn expect(&mut self, wanted: impl Fn(&Method) -> bool) -> Usable<Heard> {
        let heard = timeout(PATIENCE, self.next()).await.map_err(|_| Gone)??;
        if wanted(&heard.method) {
            Ok(heard)
        } else {
            Err(Gone)
        }
    }

    /// What comes next; may be dropped before it has come.
    pub(crate) async fn next(&mut self) -> Usable<Heard> {
        loop {
            while let Some(frame) = decode(&mut self.input, FRAME_MAX).map_err(|_| Gone)? {
                match frame.kind {
                    FrameKind::Method => {
                        let method = Method::decode(frame.payload).map_err(|_| Gone)?;
                        let has_content = method.is_content();
                        let next = Heard {
                            method,
                            body: Bytes::new(),
                        };
                        if !has_content {
                            return Ok(next);
                        }
                        self.partial = Some((next, u64::MAX));
                    }
                    FrameKind::Header => {
                        let header = ContentHeader::decode(frame.payload).map_err(|_| Gone)?;
                        if let Some((_, left)) = &mut self.partial {
                            *left = header.body_size;
                        }
                    }
                    FrameKind::Body => {
                        if let Some((heard, left)) = &mut self.partial {
                            *left -= frame.payload.len() as u64;
                            heard.body = if heard.body.is_empty() {
                                frame.payload
                            } else {
                                [&heard.body[..], &frame.payload].concat().into()
                            };
                        }
                    }
                    FrameKind::Heartbeat => {}
                }
                if let Some((heard, _)) = self.partial.take_if(|(_, left)| *left == 0) {
                    return Ok(heard);
                }
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return Err(Gone),
                Ok(_) => {}
            }
        }
    }
}
