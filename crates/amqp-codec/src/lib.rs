//! AMQP 0-9-1 on the wire: bytes to frames, methods, field tables and properties, and back.
//!
//! Everything here is pure and zero-copy: no sockets, no clock, no state between calls. Decoded
//! values are slices of the received buffer. Decoding checks form, never meaning.
//!
//! Not here: which method is legal when (`amqp-connection`), what it does (`node`, `broker-model`).

mod args;
mod error;
mod frame;
mod method;
mod properties;
mod reply;
mod short_str;
mod table;
mod write;

#[cfg(test)]
mod tests;

pub use error::{DecodeError, ValueError};
pub use frame::{
    FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD, FrameBatch, FrameKind, FrameRef, FrameSlice, Frames,
    HEADER_LEN, INITIAL_FRAME_MAX, PROTOCOL_HEADER, ProtocolHeader, RawFrame, decode,
    parse_protocol_header, peek, take_frames,
};
pub use method::{BasicPublishRef, Method, class};
pub use properties::{
    BODY_SIZE_MAX, ContentHeader, NO_PROPERTIES, Properties, PropertiesView, Property, Rewrite,
    validate_properties,
};
pub use reply::{REPLY_TEXT_MAX, ReplyCode, reply_text};
pub use short_str::{LongStr, ShortStr, TooLong};
pub use table::{Entries, Entry, FieldArray, FieldTable, FieldValue, MAX_NESTING, TableBuilder};
pub use write::{
    Content, Delivery, FrameSink, Segments, write_ack, write_content, write_delivery,
    write_heartbeat, write_method, write_nack, write_publish, write_reject,
};
