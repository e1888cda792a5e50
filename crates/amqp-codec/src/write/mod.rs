//! Writing whole frames, fast where it is done for every message.
//!
//! All writers append to a [`FrameSink`]: a buffer that copies bodies, or [`Segments`] that keeps
//! large ones as they are for vectored writes.
//!
//! Not here: decoding (`frame`, `method`, `properties`).

mod segments;

use bytes::{BufMut, Bytes, BytesMut};

use crate::frame::{FRAME_END, FRAME_OVERHEAD, FrameKind, HEADER_LEN};
use crate::method::{Method, class};
use crate::properties::{ContentHeader, Property};

pub use segments::Segments;

/// Where frames are written to.
pub trait FrameSink {
    /// The buffer for everything that is copied. What is appended follows all that was written.
    fn buffer(&mut self) -> &mut BytesMut;

    /// Appends a body, or a part of one.
    fn put_body(&mut self, body: Bytes);

    /// Appends a whole body in one frame's payload without taking a reference if it is copied.
    fn put_whole_body(&mut self, body: &Bytes) {
        self.put_body(body.clone());
    }
}

impl FrameSink for BytesMut {
    fn buffer(&mut self) -> &mut BytesMut {
        self
    }

    fn put_body(&mut self, body: Bytes) {
        self.put_slice(&body);
    }

    fn put_whole_body(&mut self, body: &Bytes) {
        self.put_slice(body);
    }
}

/// Properties and body of a message, as received.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// Property flags and values.
    pub properties: &'a [u8],
    /// The body.
    pub body: &'a Bytes,
}

/// A message on its way to a consumer. Texts are at most 255 bytes of UTF-8.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The consumer.
    pub consumer_tag: &'a [u8],
    /// Number of the delivery on this channel.
    pub delivery_tag: u64,
    /// May have been delivered before.
    pub redelivered: bool,
    /// Exchange it was published to.
    pub exchange: &'a [u8],
    /// Its routing key.
    pub routing_key: &'a [u8],
    /// The message.
    pub content: Content<'a>,
}

/// Appends a method frame.
pub fn write_method(out: &mut impl FrameSink, channel: u16, method: &Method) {
    let out = out.buffer();
    let start = out.len();
    put_frame_head(out, FrameKind::Method, channel, 0);
    method.encode(out);
    let payload_len = out.len() - start - HEADER_LEN;
    if let Some(len) = out.get_mut(start + 3..start + HEADER_LEN) {
        len.copy_from_slice(&frame_len(payload_len).to_be_bytes());
    }
    out.put_u8(FRAME_END);
}

/// Appends a heartbeat.
pub fn write_heartbeat(out: &mut impl FrameSink) {
    out.buffer()
        .put_slice(&[FrameKind::Heartbeat as u8, 0, 0, 0, 0, 0, 0, FRAME_END]);
}

/// Appends basic.deliver with its content.
pub fn write_delivery(
    out: &mut impl FrameSink,
    channel: u16,
    frame_max: usize,
    delivery: &Delivery<'_>,
) {
    let Delivery {
        consumer_tag,
        delivery_tag,
        redelivered,
        exchange,
        routing_key,
        content,
    } = *delivery;
    let buffer = out.buffer();
    let payload_len = 16 + consumer_tag.len() + exchange.len() + routing_key.len();
    buffer.reserve(
        payload_len + content.properties.len() + ContentHeader::FIXED_LEN + 4 * FRAME_OVERHEAD,
    );
    put_frame_head(buffer, FrameKind::Method, channel, payload_len);
    buffer.put_slice(&[0, 60, 0, 60]);
    put_text(buffer, consumer_tag);
    buffer.put_u64(delivery_tag);
    buffer.put_u8(u8::from(redelivered));
    put_text(buffer, exchange);
    put_text(buffer, routing_key);
    buffer.put_u8(FRAME_END);
    write_content(out, channel, frame_max, content);
}

/// Appends basic.publish with its content.
pub fn write_publish(
    out: &mut impl FrameSink,
    channel: u16,
    frame_max: usize,
    exchange: &[u8],
    routing_key: &[u8],
    mandatory: bool,
    content: Content<'_>,
) {
    let buffer = out.buffer();
    put_frame_head(
        buffer,
        FrameKind::Method,
        channel,
        9 + exchange.len() + routing_key.len(),
    );
    buffer.put_slice(&[0, 60, 0, 40, 0, 0]);
    put_text(buffer, exchange);
    put_text(buffer, routing_key);
    buffer.put_u8(u8::from(mandatory));
    buffer.put_u8(FRAME_END);
    write_content(out, channel, frame_max, content);
}

/// Appends a header frame and the body frames, as few as `frame_max` allows; no body frame if the
/// body is empty.
///
/// The header cannot be split: with more properties than fit into `frame_max` it is larger. A mark is
/// left out: it is not the peer's.
pub fn write_content(
    out: &mut impl FrameSink,
    channel: u16,
    frame_max: usize,
    content: Content<'_>,
) {
    let Content { properties, body } = content;
    let buffer = out.buffer();
    put_frame_head(
        buffer,
        FrameKind::Header,
        channel,
        ContentHeader::FIXED_LEN + properties.len(),
    );
    buffer.put_u16(class::BASIC);
    buffer.put_u16(0);
    buffer.put_u64(body.len() as u64);
    let start = buffer.len();
    buffer.put_slice(properties);
    if let Some(low_flags) = buffer.get_mut(start + 1) {
        *low_flags &= !(Property::MARK as u8);
    }
    buffer.put_u8(FRAME_END);

    let payload_max = frame_max.saturating_sub(FRAME_OVERHEAD).max(1);
    if body.is_empty() {
        return;
    }
    if body.len() <= payload_max {
        put_frame_head(buffer, FrameKind::Body, channel, body.len());
        out.put_whole_body(body);
        out.buffer().put_u8(FRAME_END);
        return;
    }
    let mut start = 0;
    while start < body.len() {
        let end = body.len().min(start + payload_max);
        put_frame_head(out.buffer(), FrameKind::Body, channel, end - start);
        out.put_body(body.slice(start..end));
        out.buffer().put_u8(FRAME_END);
        start = end;
    }
}

/// Appends basic.ack.
pub fn write_ack(out: &mut impl FrameSink, channel: u16, delivery_tag: u64, multiple: bool) {
    write_settle(out, channel, 80, delivery_tag, u8::from(multiple));
}

/// Appends basic.nack.
pub fn write_nack(
    out: &mut impl FrameSink,
    channel: u16,
    delivery_tag: u64,
    multiple: bool,
    requeue: bool,
) {
    write_settle(
        out,
        channel,
        120,
        delivery_tag,
        u8::from(multiple) | u8::from(requeue) << 1,
    );
}

/// Appends basic.reject.
pub fn write_reject(out: &mut impl FrameSink, channel: u16, delivery_tag: u64, requeue: bool) {
    write_settle(out, channel, 90, delivery_tag, u8::from(requeue));
}

fn write_settle(out: &mut impl FrameSink, channel: u16, method_id: u8, tag: u64, bits: u8) {
    let [c0, c1] = channel.to_be_bytes();
    let [t0, t1, t2, t3, t4, t5, t6, t7] = tag.to_be_bytes();
    out.buffer().put_slice(&[
        1, c0, c1, 0, 0, 0, 13, 0, 60, 0, method_id, t0, t1, t2, t3, t4, t5, t6, t7, bits,
        FRAME_END,
    ]);
}

fn put_frame_head(out: &mut BytesMut, kind: FrameKind, channel: u16, payload_len: usize) {
    let [c0, c1] = channel.to_be_bytes();
    let [l0, l1, l2, l3] = frame_len(payload_len).to_be_bytes();
    out.put_slice(&[kind as u8, c0, c1, l0, l1, l2, l3]);
}

/// Our own payloads are far below 4 GiB; that they are is the writers' duty, not the peer's.
fn frame_len(payload_len: usize) -> u32 {
    debug_assert!(
        u32::try_from(payload_len).is_ok(),
        "a frame holds less than 4 GiB"
    );
    u32::try_from(payload_len).unwrap_or(u32::MAX)
}

/// Appends a short string whose size the frame's head has announced already.
fn put_text(out: &mut BytesMut, text: &[u8]) {
    debug_assert!(text.len() <= 255, "a short string holds at most 255 bytes");
    out.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.put_slice(text);
}

#[cfg(test)]
mod tests;
