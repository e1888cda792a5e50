//! The operator's commands: each asks a node over HTTP and shows the answer.

mod cluster;
mod completion;
mod definitions;
mod policy;
mod queue;
mod sessions;
mod topology;
mod users;

use crate::client::{Access, Client, Failure};
use clap::{Command, Parser, Subcommand};
use std::io;
use std::process::ExitCode;

/// Everything but `serve`.
#[derive(Debug, Parser)]
#[command(name = "warren")]
pub(crate) struct Operator {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Ask whether a node is alive (no login needed)
    Ping(Common<cluster::Ping>),
    /// Show members, leaders, shards and health
    Status(Common<cluster::Status>),
    /// Show and change the cluster
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Manage users
    #[command(subcommand)]
    User(users::User),
    /// Manage virtual hosts
    #[command(subcommand)]
    Vhost(users::Vhost),
    /// Manage what users may do
    #[command(subcommand)]
    Permission(users::Permission),
    /// Manage policies
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Look at queues, empty and delete them
    #[command(subcommand)]
    Queue(queue::Queue),
    /// Look at exchanges
    #[command(subcommand)]
    Exchange(topology::Exchange),
    /// Look at bindings
    #[command(subcommand)]
    Binding(topology::Binding),
    /// Look at client connections and close them
    #[command(subcommand)]
    Connection(sessions::Connection),
    /// Look at consumers
    #[command(subcommand)]
    Consumer(sessions::Consumer),
    /// Export and import users, vhosts, queues, exchanges, bindings and policies
    #[command(subcommand)]
    Definitions(definitions::Definitions),
    /// Print a completion script for a shell
    Completion(completion::Completion),
}

/// A command's own options and those that all commands have.
#[derive(Debug, clap::Args)]
struct Common<T: clap::Args> {
    #[command(flatten)]
    own: T,
    #[command(flatten)]
    access: Access,
    /// Print JSON instead of a table
    #[arg(long, help_heading = "Access")]
    json: bool,
}

/// What a command is run with.
struct Context {
    client: Client,
    json: bool,
}

/// A command that talks to a node.
trait Run {
    fn run(self, context: &Context) -> Result<(), Failure>;
}

impl<T: clap::Args + Run> Common<T> {
    fn start(self) -> Result<(), Failure> {
        let client = Client::new(&self.access)?;
        self.own.run(&Context {
            client,
            json: self.json,
        })
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Operator {
    /// Runs the command; `whole` makes the command line that completions describe.
    pub(crate) fn run(self, whole: fn() -> Command) -> ExitCode {
        let result = match self.action {
            Action::Ping(command) => command.start(),
            Action::Status(command) => command.start(),
            Action::Cluster(command) => command.start(),
            Action::User(command) => command.start(),
            Action::Vhost(command) => command.start(),
            Action::Permission(command) => command.start(),
            Action::Policy(command) => command.start(),
            Action::Queue(command) => command.start(),
            Action::Exchange(command) => command.start(),
            Action::Binding(command) => command.start(),
            Action::Connection(command) => command.start(),
            Action::Consumer(command) => command.start(),
            Action::Definitions(command) => command.start(),
            Action::Completion(command) => command.print(whole()),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            // The reader had enough (`warren queue list | head`).
            Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                ExitCode::SUCCESS
            }
            Err(failure) => {
                eprintln!("error: {failure}");
                ExitCode::from(failure.exit_code())
            }
        }
    }
}

/// Makes `start` of a group of subcommands from its variants.
macro_rules! group {
    ($group:ident: $($variant:ident),+ $(,)?) => {
        impl $group {
            pub(super) fn start(self) -> Result<(), $crate::client::Failure> {
                match self {
                    $(Self::$variant(command) => command.start(),)+
                }
            }
        }
    };
}
use group;

/// `-p`, the vhost in which a command works.
#[derive(Debug, clap::Args)]
struct InVhost {
    /// Virtual host
    #[arg(short = 'p', long, value_name = "NAME", default_value = "/")]
    vhost: String,
}

/// `-p`, the vhost to which a list is restricted.
#[derive(Debug, clap::Args)]
struct OnlyVhost {
    /// Only in this virtual host (default: all)
    #[arg(short = 'p', long, value_name = "NAME")]
    vhost: Option<String>,
}

impl OnlyVhost {
    /// `/api/KIND` or `/api/KIND/VHOST`.
    fn path(&self, kind: &str) -> String {
        crate::client::path([kind].into_iter().chain(self.vhost.as_deref()))
    }
}

/// Tells that something was done, unless a program reads: it has the exit status.
fn done(context: &Context, text: &str) -> Result<(), Failure> {
    if !context.json {
        crate::output::line(text)?;
    }
    Ok(())
}
