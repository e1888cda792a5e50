//! Frames: taking whole frames off the front of received bytes.
//!
//! Two ways: [`decode`] takes one frame, for handshakes and tests; [`take_frames`] takes all whole
//! frames of a read at once, and iterating over them allocates nothing and counts no references.
//!
//! Not here: what a payload means (`method`, `properties`).

use bytes::{Buf, Bytes, BytesMut};

use crate::error::DecodeError;

/// Octets before the payload: kind, channel, size.
pub const HEADER_LEN: usize = 7;
/// Octets of a frame around its payload.
pub const FRAME_OVERHEAD: usize = HEADER_LEN + 1;
/// The octet that ends every frame.
pub const FRAME_END: u8 = 0xCE;
/// Largest frame before tune-ok: large tokens of OAuth need it.
pub const INITIAL_FRAME_MAX: usize = 8192;
/// Smallest `frame_max` that a client may ask for.
pub const FRAME_MIN_SIZE: usize = 4096;

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// A method.
    Method = 1,
    /// The properties and size of a content.
    Header = 2,
    /// A part of a content's body.
    Body = 3,
    /// A sign of life.
    Heartbeat = 8,
}

impl TryFrom<u8> for FrameKind {
    type Error = DecodeError;

    fn try_from(kind: u8) -> Result<Self, DecodeError> {
        match kind {
            1 => Ok(Self::Method),
            2 => Ok(Self::Header),
            3 => Ok(Self::Body),
            8 => Ok(Self::Heartbeat),
            _ => Err(DecodeError::UnknownFrameKind { kind }),
        }
    }
}

/// A whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// What the payload is.
    pub kind: FrameKind,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// The payload, a slice of the received buffer.
    pub payload: Bytes,
}

/// The fixed front of a frame, checked against the limit.
struct FrameHead {
    kind: FrameKind,
    channel: u16,
    payload_len: usize,
}

impl FrameHead {
    /// Reads the head, or returns `None` until it has arrived. Checks the size before the payload
    /// arrives: a peer cannot make us buffer more than was negotiated.
    fn parse(input: &[u8], frame_max: usize) -> Result<Option<Self>, DecodeError> {
        let Some(&[kind, c0, c1, l0, l1, l2, l3]) = input.first_chunk::<HEADER_LEN>() else {
            // Something that is no frame is refused at its first octet.
            return match input.first() {
                Some(&kind) => FrameKind::try_from(kind).map(|_| None),
                None => Ok(None),
            };
        };
        let kind = FrameKind::try_from(kind)?;
        let payload_len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        // Clients take frame_max for the size of the payload; like RabbitMQ we let that pass.
        if payload_len > frame_max {
            return Err(DecodeError::FrameTooLarge {
                payload_len,
                frame_max,
            });
        }
        Ok(Some(Self {
            kind,
            channel: u16::from_be_bytes([c0, c1]),
            payload_len,
        }))
    }

    /// The payload at the front of `input`, or `None` until the whole frame has arrived.
    fn payload<'a>(&self, input: &'a [u8]) -> Result<Option<&'a [u8]>, DecodeError> {
        let end = HEADER_LEN + self.payload_len;
        match (input.get(HEADER_LEN..end), input.get(end)) {
            (Some(payload), Some(&FRAME_END)) => Ok(Some(payload)),
            (Some(_), Some(&found)) => Err(DecodeError::MissingFrameEnd { found }),
            _ => Ok(None),
        }
    }
}

/// A whole frame at the front of borrowed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSlice<'a> {
    /// What the payload is.
    pub kind: FrameKind,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// The payload.
    pub payload: &'a [u8],
}

impl FrameSlice<'_> {
    /// Size of the whole frame in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.payload.len() + FRAME_OVERHEAD
    }
}

/// Looks at the frame at the front of `input`, or returns `None` until a whole one has arrived.
///
/// # Errors
/// As [`decode`].
pub fn peek(input: &[u8], frame_max: usize) -> Result<Option<FrameSlice<'_>>, DecodeError> {
    let Some(head) = FrameHead::parse(input, frame_max)? else {
        return Ok(None);
    };
    let payload = head.payload(input)?;
    Ok(payload.map(|payload| FrameSlice {
        kind: head.kind,
        channel: head.channel,
        payload,
    }))
}

/// Takes one frame off the front of `input`, or returns `None` until a whole one has arrived.
///
/// # Errors
/// The bytes are no frame, or a larger one than `frame_max` allows; the connection cannot go on.
pub fn decode(input: &mut BytesMut, frame_max: usize) -> Result<Option<RawFrame>, DecodeError> {
    let Some(head) = FrameHead::parse(input, frame_max)? else {
        return Ok(None);
    };
    if head.payload(input)?.is_none() {
        return Ok(None);
    }
    let mut payload = input.split_to(head.payload_len + FRAME_OVERHEAD).freeze();
    payload.advance(HEADER_LEN);
    payload.truncate(head.payload_len);
    Ok(Some(RawFrame {
        kind: head.kind,
        channel: head.channel,
        payload,
    }))
}

/// Takes all whole frames off the front of `input` at once; `None` until there is one.
///
/// Frames before a broken one are returned first; the next call reports the broken one.
///
/// # Errors
/// As [`decode`], for the first frame of `input`.
pub fn take_frames(
    input: &mut BytesMut,
    frame_max: usize,
) -> Result<Option<FrameBatch>, DecodeError> {
    let mut rest: &[u8] = input;
    let mut len = 0;
    loop {
        match peek(rest, frame_max) {
            Ok(Some(frame)) => {
                len += frame.len_bytes();
                rest = rest.get(frame.len_bytes()..).unwrap_or_default();
            }
            Ok(None) => break,
            Err(error) if len == 0 => return Err(error),
            Err(_) => break,
        }
    }
    if len == 0 {
        return Ok(None);
    }
    Ok(Some(FrameBatch {
        bytes: input.split_to(len).freeze(),
    }))
}

/// Whole frames, one after the other, in one buffer.
#[derive(Debug, Clone)]
pub struct FrameBatch {
    bytes: Bytes,
}

impl FrameBatch {
    /// The frames in order.
    #[must_use]
    pub fn frames(&self) -> Frames<'_> {
        Frames {
            source: &self.bytes,
            rest: &self.bytes,
        }
    }

    /// The frames from `offset` on, which must be 0 or the end of a frame: the end of the frames
    /// seen before, each of which takes its payload and [`FRAME_OVERHEAD`].
    #[must_use]
    pub fn frames_from(&self, offset: usize) -> Frames<'_> {
        Frames {
            source: &self.bytes,
            rest: self.bytes.get(offset..).unwrap_or_default(),
        }
    }

    /// Size of all frames in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Iterates over the frames of a [`FrameBatch`].
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    source: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = FrameRef<'a>;

    fn next(&mut self) -> Option<FrameRef<'a>> {
        // `take_frames` has checked every frame, so what is wrong here can only be the end.
        let head = FrameHead::parse(self.rest, usize::MAX).ok().flatten()?;
        let payload = self.rest.get(HEADER_LEN..HEADER_LEN + head.payload_len)?;
        self.rest = self.rest.get(head.payload_len + FRAME_OVERHEAD..)?;
        Some(FrameRef {
            kind: head.kind,
            channel: head.channel,
            payload,
            source: self.source,
        })
    }
}

/// A frame inside a [`FrameBatch`].
#[derive(Debug, Clone, Copy)]
pub struct FrameRef<'a> {
    /// What the payload is.
    pub kind: FrameKind,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// The payload.
    pub payload: &'a [u8],
    /// The buffer that the payload is a part of.
    pub source: &'a Bytes,
}

impl FrameRef<'_> {
    /// The payload by reference count, to keep it.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.source.slice_ref(self.payload)
    }

    /// The frame as [`decode`] would have returned it.
    #[must_use]
    pub fn to_raw(&self) -> RawFrame {
        RawFrame {
            kind: self.kind,
            channel: self.channel,
            payload: self.to_bytes(),
        }
    }
}

/// What a client sends first, and what a server answers to anything else.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// The first eight bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolHeader {
    /// AMQP 0-9-1.
    V091,
    /// AMQP 0-9: accepted, and answered with version 0-9.
    V09,
    /// Anything else: answer with [`PROTOCOL_HEADER`] and close.
    Other([u8; 8]),
}

/// Takes the protocol header off the front of `input`, or returns `None` until it has arrived.
///
/// Anything that cannot become a protocol header is reported as soon as that is certain, padded
/// with zeros: a peer that speaks something else may be waiting for an answer.
pub fn parse_protocol_header(input: &mut BytesMut) -> Option<ProtocolHeader> {
    const MAGIC: &[u8] = b"AMQP";
    let Some(&header) = input.first_chunk::<8>() else {
        let known = input.len().min(MAGIC.len());
        if input.get(..known) == MAGIC.get(..known) {
            return None;
        }
        let mut padded = [0; 8];
        padded
            .iter_mut()
            .zip(input.iter())
            .for_each(|(to, from)| *to = *from);
        input.clear();
        return Some(ProtocolHeader::Other(padded));
    };
    input.advance(header.len());
    Some(match &header {
        b"AMQP\x00\x00\x09\x01" => ProtocolHeader::V091,
        b"AMQP\x01\x01\x00\x09" => ProtocolHeader::V09,
        _ => ProtocolHeader::Other(header),
    })
}

#[cfg(test)]
mod tests;
