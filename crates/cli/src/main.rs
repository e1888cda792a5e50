//! The program `warren`: `serve` runs a node, everything else talks to one over its management port. Started under the name
//! of one of RabbitMQ's tools it is that tool.

mod allocator;
mod client;
mod commands;
mod exit;
mod output;
mod rabbitmq;
mod secret;
mod serve;

use clap::{Command, CommandFactory, FromArgMatches};
use commands::Operator;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    if let Some(tool) = words.next().and_then(|name| rabbitmq::Tool::named(&name)) {
        let arguments: Vec<String> = words
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        return tool.main(&arguments);
    }
    let matches = command().get_matches();
    // The command is the first argument: the program itself has no options that could stand before.
    let arguments: Vec<String> = std::env::args_os()
        .skip(2)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    match matches.subcommand() {
        Some(("serve", matches)) => return serve::main(matches, &arguments),
        Some(("recover", matches)) => return serve::recover::main(matches, &arguments),
        _ => {}
    }
    match Operator::from_arg_matches(&matches) {
        Ok(operator) => operator.run(command),
        Err(error) => error.exit(),
    }
}

/// The whole command line, as parsed and as described by `help` and the shell completions.
fn command() -> Command {
    let operator = Operator::command();
    let about = "A clustered AMQP 0-9-1 message broker";
    let mut command = Command::new("warren")
        .about(about)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve::command())
        .subcommand(serve::recover::command());
    for subcommand in operator.get_subcommands() {
        command = command.subcommand(subcommand.clone());
    }
    command.after_help(exit::HELP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_is_described() {
        fn walk(command: &Command, path: &str) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                assert!(sub.get_about().is_some(), "{path} has no description");
                for argument in sub.get_arguments() {
                    assert!(
                        argument.get_help().is_some(),
                        "{path}: {argument} has no description"
                    );
                }
                walk(sub, &path);
            }
        }
        walk(&command(), "warren");
    }
}
