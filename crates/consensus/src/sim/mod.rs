//! Clusters in one process over a simulated network and simulated disks, for tests.
//!
//! The network delays, loses, and cuts as a seed says; a crash loses what the log had not synced.
//! openraft, the log storage and the adapters are the real ones.

// Seeds and timings are for whoever reads a failed run.
#![allow(clippy::print_stdout)]

mod cluster;

mod machine;
mod net;
mod nodes;

pub(crate) use cluster::{SimCluster, SimOptions};
pub(crate) use machine::{SimDisk, SimMachine};

mod basic;
mod chaos;
mod far_apart;
mod half_changed;
mod interrupted;
mod life;
mod lost_parts;
mod moved;
mod overload;
mod recovered;
mod reverted;
mod room;
mod stand_still;
mod store_suite;
mod unwilling;
