//! The replicated catalog on this node: its copy, its machine, and how it is written to.

mod gather;
pub mod machine;
pub mod sequencer;
pub mod shown;
pub mod writer;
