//! Streams of messages both ways over gRPC, without copies of what is large in them.
//!
//! tonic encodes a message into one buffer and collects what it receives in another: two copies of every body that goes
//! from node to node. The same bytes on the wire can be sent in pieces and taken as they come: a field of many bytes is
//! sent from where it is, as an HTTP/2 frame of its own, and the message that is decoded shares the frame's memory.
//! Whoever speaks gRPC understands the one and the other; what is short of [`SHARED`] is copied as ever.

mod call;
mod read;
mod rope;
mod scatter;
mod serve;
#[cfg(test)]
mod tests;
mod write;

pub use self::call::call;
pub use self::read::Messages;
pub use self::scatter::{Pieces, Scatter};
pub use self::serve::{BothWays, Serve};

/// Fields of so many bytes are not copied: a frame of their own costs a system call, a copy of 16 KiB about as much.
pub const SHARED: usize = 16 << 10;
/// Flag and length before every message (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;
