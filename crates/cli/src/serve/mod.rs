//! `warren serve`: reads its options, runs a node with its management port, stops on a signal.

mod ignored;
pub(crate) mod layers;
mod logging;
mod nearest;
mod nested;
mod oauth2;
mod options;
pub(crate) mod recover;
mod run;
mod values;

use clap::{Args, Command, FromArgMatches};
use node::Config;
use options::Options;
use std::io::Write;
use std::process::ExitCode;

/// Adds the options to the command, with the names of their variables.
pub(crate) fn command() -> Command {
    let options = Options::augment_args(Command::new("serve"))
        .about("Run a node")
        .long_about(
            "Run a node.\n\nEvery option can be given as a flag, as an environment variable, or as a key of the file \
             named by --config. Flags win over the environment, the environment over the file.",
        )
        .display_order(0);
    layers::with_variables(options)
        .args_override_self(true)
        .after_help("RABBITMQ_DEFAULT_USER, _PASS, _PASS_FILE and _VHOST are understood too.\n`warren serve --help` lists rarer options.")
        .after_long_help("RABBITMQ_DEFAULT_USER, RABBITMQ_DEFAULT_PASS, RABBITMQ_DEFAULT_PASS_FILE and RABBITMQ_DEFAULT_VHOST are understood too.")
}

/// Runs `warren serve`; `arguments` are those after the word `serve`.
pub(crate) fn main(matches: &clap::ArgMatches, arguments: &[String]) -> ExitCode {
    let resolved = Options::from_arg_matches(matches)
        .map_err(|error| error.to_string())
        .and_then(|options| {
            let check_only = options.check_config;
            let environment = |name: &str| std::env::var(name).ok();
            let options = layers::complete(options, arguments, &environment)?;
            Ok((options.resolve()?, check_only))
        });
    let (resolved, check_only) = match resolved {
        Ok(resolved) => resolved,
        Err(error) => return refuse(&error),
    };
    if check_only {
        return show(&resolved.config);
    }
    if let Err(error) = logging::start(&resolved.log) {
        return refuse(&error);
    }
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    for notice in ignored::notices(variables, &|file| file.exists()) {
        tracing::warn!("{notice}");
    }
    run::run(resolved.config, resolved.definitions)
}

fn refuse(error: &str) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(crate::exit::USAGE)
}

fn show(config: &Config) -> ExitCode {
    match writeln!(std::io::stdout(), "{config:#?}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(crate::exit::FAILED),
    }
}
