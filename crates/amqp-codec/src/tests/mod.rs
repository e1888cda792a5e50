//! What tests of several modules share, and the tests that span the crate.

mod differential;
mod fuzz;
mod sample;

pub(crate) use sample::{Sample, Sampler};
