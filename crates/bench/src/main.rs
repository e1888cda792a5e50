//! `warren-bench`: loads any AMQP 0-9-1 broker and says what a message costs.
//!
//! Threads and blocking sockets, one thread a connection: the least work per message that there is,
//! because client and broker share the cores of the machine that measures.
//!
//! - `client`: one connection: socket, frames, handshake.
//! - `load`: producers and consumers, and what they share.
//! - `measure`: clock, latencies, processor time, results.
//! - `run`, `declare`, `connections`, `compare`: the subcommands.

mod args;
mod client;
mod compare;
mod connections;
mod declare;
mod load;
mod measure;
mod output;
mod run;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Run(args) => run::main(&args),
        Command::Connections(args) => connections::main(&args),
        Command::Declare(args) => declare::main(&args),
        Command::Compare(args) => compare::main(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
