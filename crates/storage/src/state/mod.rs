//! The state store: stored messages, queue records and applied positions of all shards of a node.
//!
//! Owns one database without a write-ahead log. What is flushed is durable, and a flush takes all
//! families at one moment; the Raft log replays what came after. Values are opaque.
//!
//! Not here: which messages are alive (`broker-model` keeps that in the queue records), when to
//! checkpoint (`consensus`).

mod blob_key;
mod blobs;
mod checkpoint;
mod chunk;
mod damage;
mod inner;
mod install;
mod load;
mod message_key;
mod messages;
mod options;
mod reclaim;
mod record_key;
mod shared_flush;
mod space;
mod store;
mod view;
mod whole_files;

pub use checkpoint::Checkpoint;
pub use chunk::MAX_CHUNK_BYTES;
pub use install::ShardInstall;
pub use load::ShardState;
pub use message_key::MessageKey;
pub use messages::DeadRange;
pub use options::StateOptions;
pub use store::StateStore;
pub use view::{Existing, ShardView};
