//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand};

use crate::client::Uri;

/// Loads any AMQP 0-9-1 broker and says what a message costs.
#[derive(Debug, Parser)]
#[command(name = "warren-bench", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish and consume; print rates, latencies and processor time per message.
    Run(RunArgs),
    /// Open connections, each with a channel and an exclusive queue, and hold them.
    Connections(ConnectionsArgs),
    /// Declare queues as fast as the broker allows.
    Declare(DeclareArgs),
    /// Run the scenarios against RabbitMQ and Warren alternately and print them side by side.
    Compare(CompareArgs),
    /// Measure how the cost of a message grows with sizes and counts, and draw it.
    Growth(GrowthArgs),
}

/// Where the broker is, and what is known about its processes.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct TargetArgs {
    /// Brokers, separated by commas; connections take turns.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2F"
    )]
    pub(crate) uris: Vec<Uri>,
    /// Process ids of the broker's nodes on this machine, for processor time and memory.
    #[arg(long, value_delimiter = ',')]
    pub(crate) broker_pids: Vec<u32>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What queues are declared as.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct QueueArgs {
    /// Name of the queues; `%i` stands for their number from 0.
    #[arg(long, default_value = "bench-%i")]
    pub(crate) queue: String,
    /// How many queues.
    #[arg(long, default_value_t = 1)]
    pub(crate) queues: usize,
    /// Queues survive a restart.
    #[arg(long)]
    pub(crate) durable: bool,
    /// The argument `x-queue-type`, such as `quorum`.
    #[arg(long)]
    pub(crate) queue_type: Option<String>,
    /// Further arguments of the queues, as `name=value`; whole numbers are sent as such.
    #[arg(long = "argument", value_name = "NAME=VALUE")]
    pub(crate) arguments: Vec<String>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Brokers of the producers, instead of --uris.
    #[arg(long, value_delimiter = ',')]
    pub(crate) producer_uris: Vec<Uri>,
    /// Brokers of the consumers, instead of --uris.
    #[arg(long, value_delimiter = ',')]
    pub(crate) consumer_uris: Vec<Uri>,
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
    /// Leave the queues (and exchange) as they are: neither delete before nor after.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Publish to this exchange, to which all queues are bound, instead of the default one.
    #[arg(long)]
    pub(crate) exchange: Option<String>,
    /// Type of that exchange; with any but fanout the queue's name is the key.
    #[arg(long, default_value = "fanout", requires = "exchange")]
    pub(crate) exchange_type: String,
    /// Messages ask for persistence.
    #[arg(long)]
    pub(crate) persistent: bool,
    /// Size of a body in bytes; latency is measured from 8, order from 16.
    #[arg(long, default_value_t = 1024)]
    pub(crate) size: usize,
    /// Producers, each with a connection and channel.
    #[arg(long, default_value_t = 1)]
    pub(crate) producers: usize,
    /// Consumers, each with a connection and channel.
    #[arg(long, default_value_t = 1)]
    pub(crate) consumers: usize,
    /// Publishes of one producer that may await their confirm; 0 publishes without confirms.
    #[arg(long, default_value_t = 0)]
    pub(crate) confirm_window: usize,
    /// Prefetch of a consumer; 0 is none.
    #[arg(long, default_value_t = 1000)]
    pub(crate) prefetch: u16,
    /// Acknowledge after this many deliveries, with `multiple`.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) ack_every: u32,
    /// Consume without acknowledgements.
    #[arg(long)]
    pub(crate) auto_ack: bool,
    /// Messages a second of all producers; latencies count from when a message was due.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// How long to measure, in seconds.
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// How long to run before measuring, in seconds.
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// Publish this many in all instead of for a time; measures from the first to the last.
    #[arg(long, conflicts_with_all = ["fill", "duration", "warmup"])]
    pub(crate) messages: Option<u64>,
    /// First publish this many without consumers.
    #[arg(long, conflicts_with_all = ["duration", "warmup"])]
    pub(crate) fill: Option<u64>,
    /// After filling, start the consumers until the queues are empty.
    #[arg(long, requires = "fill")]
    pub(crate) drain: bool,
    /// How long to wait at the end for confirms and deliveries, in seconds without progress.
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub(crate) settle: Duration,
    /// Print no live progress, even on a terminal.
    #[arg(long, action = ArgAction::SetTrue)]
    pub(crate) quiet: bool,
}

impl RunArgs {
    /// One producer and one consumer of a transient queue, 1 KiB, measured for a time, without a word.
    pub(crate) fn measured(target: TargetArgs, warmup: Duration, duration: Duration) -> Self {
        Self {
            target,
            producer_uris: Vec::new(),
            consumer_uris: Vec::new(),
            queue: QueueArgs {
                queue: "bench-%i".to_owned(),
                queues: 1,
                durable: false,
                queue_type: None,
                arguments: Vec::new(),
            },
            keep: false,
            exchange: None,
            exchange_type: "fanout".to_owned(),
            persistent: false,
            size: 1024,
            producers: 1,
            consumers: 1,
            confirm_window: 0,
            prefetch: 1000,
            ack_every: 50,
            auto_ack: false,
            rate: None,
            duration,
            warmup,
            messages: None,
            fill: None,
            drain: false,
            settle: Duration::from_secs(20),
            quiet: true,
        }
    }

    /// One replicated queue, persistent messages, confirms and acknowledgements.
    pub(crate) fn replicated(&mut self) {
        self.queue.durable = true;
        self.queue.queue_type = Some("quorum".to_owned());
        self.persistent = true;
        self.confirm_window = 1000;
        self.prefetch = 1000;
        self.ack_every = 50;
    }
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ConnectionsArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// How many connections.
    #[arg(long, default_value_t = 1000)]
    pub(crate) connections: usize,
    /// Threads that open them.
    #[arg(long, default_value_t = 8, value_parser = at_least_one)]
    pub(crate) threads: usize,
    /// Open a channel only, declare no queue.
    #[arg(long)]
    pub(crate) no_queue: bool,
    /// How long to hold them once all are open, in seconds: idle processor time is measured.
    #[arg(long, default_value = "1", value_parser = seconds)]
    pub(crate) hold: Duration,
    /// Only say when all are open, and hold them until the input ends.
    #[arg(long)]
    pub(crate) until_stdin_ends: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct DeclareArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
    /// Connections that declare at the same time.
    #[arg(long, default_value_t = 3, value_parser = at_least_one)]
    pub(crate) connections: usize,
    /// Declarations of one connection that may await their answer.
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    pub(crate) pipeline: usize,
    /// Leave the queues.
    #[arg(long)]
    pub(crate) keep: bool,
    /// How long to measure idle processor time afterwards, in seconds.
    #[arg(long, default_value = "0", value_parser = seconds)]
    pub(crate) hold: Duration,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct CompareArgs {
    /// The program `warren`; without it only RabbitMQ runs.
    #[arg(long)]
    pub(crate) warren: Option<PathBuf>,
    /// Leave RabbitMQ out.
    #[arg(long, requires = "warren")]
    pub(crate) no_rabbitmq: bool,
    /// The program `rabbitmq-server`; that of the Debian package without it.
    #[arg(long)]
    pub(crate) rabbitmq: Option<PathBuf>,
    /// Scenarios, such as `A,C,D`; all without it.
    #[arg(long, value_delimiter = ',')]
    pub(crate) scenarios: Vec<String>,
    /// How often each scenario runs with each broker.
    #[arg(long, default_value_t = 3, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// How long a scenario measures, in seconds.
    #[arg(long, default_value = "8", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// How long a scenario runs before it measures, in seconds.
    #[arg(long, default_value = "3", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// Multiplies the counts of queues, connections and messages of the scenarios that have some.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) scale: f64,
    /// Where the nodes keep data and logs, which are then left; without it a temporary directory.
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct GrowthArgs {
    /// The program `warren`.
    #[arg(long)]
    pub(crate) warren: PathBuf,
    /// Directory of the charts (SVG) and figures (JSON).
    #[arg(long, default_value = "docs/growth")]
    pub(crate) out: PathBuf,
    /// Series, such as `size,queues`; all without it.
    #[arg(long, value_delimiter = ',')]
    pub(crate) series: Vec<String>,
    /// Leave out points above this.
    #[arg(long)]
    pub(crate) at_most: Option<u64>,
    /// How long a point measures, in seconds.
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// How long a point runs before it measures, in seconds.
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub(crate) warmup: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("'{text}' is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err(format!("'{text}' is not a whole number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("1.5", Some(Duration::from_millis(1500))),
            ("0", Some(Duration::ZERO)),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
    }
}
