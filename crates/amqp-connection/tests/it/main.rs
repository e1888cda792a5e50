//! Scripted conversations with the connection machine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod channels;
mod closing;
mod content;
mod handshake;
mod peer;
mod properties;
