//! Measuring: time, latencies, processor time and memory of the broker, and the results.
//!
//! Not here: what produces the load (`load`).

mod clock;
mod latency;
mod process;
mod result;

pub(crate) use clock::now_ns;
pub(crate) use latency::{Latency, LatencySummary};
pub(crate) use process::{Usage, cpu_of_self, usage_of};
pub(crate) use result::{Phase, Snapshot};
