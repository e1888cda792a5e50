//! `warren-bench`: loads any AMQP 0-9-1 broker and says what a message costs.
//!
//! Threads and blocking sockets, one thread a connection: the least work per message that there is,
//! because client and broker share the cores of the machine that measures.
//!
//! - `client`: one connection: socket, frames, handshake.
//! - `load`: producers and consumers, and what they share.
//! - `measure`: clock, latencies, processor time, results.
//! - `brokers`: nodes on this machine.
//! - `run`, `declare`, `connections`, `compare`, `growth`: the subcommands.

mod args;
mod brokers;
mod client;
mod compare;
mod connections;
mod declare;
mod growth;
mod load;
mod measure;
mod output;
mod run;

use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    allow_many_sockets();
    let outcome = match args.command {
        Command::Run(args) => run::main(&args),
        Command::Connections(args) => connections::main(&args),
        Command::Declare(args) => declare::main(&args),
        Command::Compare(args) => compare::main(&args),
        Command::Growth(args) => growth::main(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Raises the limit of open files as far as it goes: every connection is one.
fn allow_many_sockets() {
    let limit = getrlimit(Resource::Nofile);
    // Where that is not allowed, opening too many sockets says so.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
}
