//! The catalog: everything the cluster knows except messages.

pub mod settings;

pub use settings::{Deduplication, Overflow, QueueSettings, QueueType};
