//! `run`: producers and consumers against a broker, for a time or a number of messages.

mod phases;
mod progress;
mod report;
mod topology;

use crate::args::RunArgs;
use crate::output;

pub(crate) use phases::execute;
pub(crate) use report::RunResult;
pub(crate) use topology::{declare_method, queue_name};

/// Runs and prints the result.
pub(crate) fn main(args: &RunArgs) -> anyhow::Result<()> {
    let watched = output::is_watched() && !args.quiet;
    let result = execute(args, watched)?;
    if args.target.json {
        output::json(&result)
    } else {
        report::print(&result);
        Ok(())
    }
}
