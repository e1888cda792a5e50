//! The life of a node among others: start, catalog duties, leadership spread, alarms, a disk that stands still, clean stop.

pub mod alarms;
pub mod balance;
mod deleted;
pub mod disk;
pub mod events;
mod hearing;
pub(crate) mod maintenance;
pub mod membership;
pub mod partial_cut;
pub mod process;
pub mod readiness;
pub(crate) mod stall;
pub(crate) mod syncs;
