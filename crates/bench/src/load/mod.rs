//! The load: producers and consumers, each a thread with a connection, and what they share.
//!
//! Not here: how a run is composed of them (`run`).

mod confirms;
mod consumer;
mod ledger;
mod pace;
mod producer;
mod shared;
mod stamp;
mod template;

pub(crate) use consumer::{Consumed, Consumer, ConsumerConfig};
pub(crate) use ledger::{Ledger, Verdict};
pub(crate) use producer::{Produced, Producer, ProducerConfig};
pub(crate) use shared::Shared;
pub(crate) use stamp::Stamp;
