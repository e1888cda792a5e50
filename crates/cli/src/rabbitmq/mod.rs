//! The commands of `rabbitmqctl` and its relatives, for scripts that call them. Started under one of their names the
//! program takes their command line, and answers in their form, from the HTTP API of a node.

mod arguments;
mod cell;
mod checks;
mod cluster;
mod cluster_status;
mod columns;
mod command;
mod commands;
mod definitions;
mod format;
mod limits;
mod listeners;
mod lists;
mod parameters;
mod permissions;
mod plugins;
mod queues;
mod sessions;
mod shovels;
mod status;
mod trouble;
mod upgrade;
mod users;
mod vhosts;

use crate::client::{Access, Client};
use command::{Call, Command, usage};
use format::Formatter;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use trouble::{Trouble, USAGE};

/// Names, and the bits that stand for them.
const TOOLS: &[(&str, u8)] = &[
    ("rabbitmqctl", command::CTL),
    ("rabbitmq-diagnostics", command::DIAGNOSTICS),
    ("rabbitmq-queues", command::QUEUES),
    ("rabbitmq-plugins", command::PLUGINS),
    ("rabbitmq-upgrade", command::UPGRADE),
    ("rabbitmq-streams", command::STREAMS),
];

/// A request takes no longer, where nothing is said.
const TIMEOUT: u64 = 60;

/// One of RabbitMQ's tools.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    name: &'static str,
    bit: u8,
}

impl Tool {
    /// The tool that a program started under this name is.
    pub(crate) fn named(program: &OsStr) -> Option<Self> {
        let name = Path::new(program).file_name()?.to_str()?;
        let found = TOOLS.iter().find(|(tool, _)| *tool == name)?;
        Some(Self {
            name: found.0,
            bit: found.1,
        })
    }

    /// Runs the command that `arguments` name.
    pub(crate) fn main(self, arguments: &[String]) -> ExitCode {
        match self.run(arguments) {
            Ok(()) => ExitCode::SUCCESS,
            // The reader had enough.
            Err((_, Trouble::Output(error))) if error.kind() == io::ErrorKind::BrokenPipe => {
                ExitCode::SUCCESS
            }
            Err((call, trouble)) => {
                let (operation, node, timeout) = match &call {
                    Some(call) => (call.command.name, call.node(), call.timeout_or(TIMEOUT)),
                    None => ("", "", TIMEOUT),
                };
                let (code, text) = trouble.told(operation, node, timeout);
                if !text.is_empty() {
                    // A standard error that is closed changes nothing about the exit status.
                    let _ = writeln!(io::stderr(), "{}", printable(&text));
                }
                ExitCode::from(code)
            }
        }
    }

    fn run(self, arguments: &[String]) -> Result<(), (Option<Box<Call>>, Trouble)> {
        let told = |trouble: Trouble| (None, trouble);
        let output = |error: io::Error| (None, Trouble::Output(error));
        let version = ["version".to_owned()];
        let arguments = if arguments == ["--version"] {
            &version
        } else {
            arguments
        };
        let first = arguments::parse(arguments, &[]);
        let name = match first.words.first() {
            Some(name) => name.as_str(),
            None if first.flag("help") => "help",
            None => return Err(told(Trouble::Told(USAGE, commands::help(self)))),
        };
        if name == "help" {
            let text = match first.words.get(1) {
                None => commands::help(self),
                Some(wanted) => {
                    let found = commands::find(self.bit, wanted);
                    usage(self.name, found.ok_or_else(|| told(self.unknown(wanted)))?)
                }
            };
            return writeln!(io::stdout(), "{text}").map_err(output);
        }
        let command = commands::find(self.bit, name).ok_or_else(|| told(self.unknown(name)))?;
        let options = arguments::parse(arguments, command.switches);
        if options.flag("help") {
            return writeln!(io::stdout(), "{}", usage(self.name, command)).map_err(output);
        }
        let words: Vec<String> = options.words.iter().skip(1).cloned().collect();
        let wrong = if let Some((option, value)) = options.invalid.first() {
            format!("Invalid options for this command:\n{option} : {value}")
        } else if words.len() < command.least {
            "not enough arguments.".into()
        } else if words.len() > command.most {
            "too many arguments.".into()
        } else {
            String::new()
        };
        if !wrong.is_empty() {
            return Err(told(self.misused(command, arguments, &wrong)));
        }
        let formatter = match options.text("formatter") {
            Some(formatter) => formatter,
            None if command.pretty => "pretty_table",
            None => "table",
        };
        let Some(formatter) = Formatter::named(formatter) else {
            let text = "the requested formatter is not supported by this command";
            return Err(told(self.misused(command, arguments, text)));
        };
        let timeout = options.number("timeout");
        let timeout = timeout.map_or(TIMEOUT, |given| u64::try_from(given).unwrap_or(0));
        let client = Client::new(&Access::of_environment(timeout))
            .map_err(|failure| told(failure.into()))?;
        let call = Box::new(Call {
            tool: self.name,
            command,
            words,
            options,
            client,
        });
        match show(&call, formatter) {
            Ok(()) => Ok(()),
            Err(trouble) => Err((Some(call), trouble)),
        }
    }

    fn unknown(self, name: &str) -> Trouble {
        let text = match commands::find(u8::MAX, name) {
            Some(other) => {
                let tools = TOOLS.iter().filter(|(_, bit)| other.tools & bit != 0);
                let names: Vec<&str> = tools.map(|(name, _)| *name).collect();
                format!("It is a command of {}.", names.join(" and "))
            }
            None => commands::absent(name).to_owned(),
        };
        Trouble::Told(
            USAGE,
            format!("\nCommand '{name}' not found. \n{}: {text}", self.name),
        )
    }

    fn misused(self, command: &Command, arguments: &[String], text: &str) -> Trouble {
        Trouble::Told(
            USAGE,
            format!(
                "Error (argument validation): {text}\nArguments given:\n\t{}\n\n{}",
                arguments.join(" "),
                usage(self.name, command)
            ),
        )
    }
}

/// The version of RabbitMQ that nodes name to clients where their settings say nothing: scripts compare it.
fn version() -> String {
    node::Config::default().product_version
}

/// Runs the command and prints what it answers.
fn show(call: &Call, formatter: Formatter) -> Result<(), Trouble> {
    if !call.is_quiet() && !formatter.for_programs() {
        let banner = (call.command.banner)(call);
        if !banner.is_empty() {
            writeln!(io::stdout(), "{}", printable(&banner))?;
        }
    }
    if call.options.flag("dry-run") {
        return Ok(());
    }
    let answer = (call.command.run)(call)?;
    let headings = call.options.flag_or("table-headers", call.command.headings)
        && !call.options.flag("silent");
    let text = format::write(&answer, formatter, headings, call.node());
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Without control characters but for ends of lines and tabs.
fn printable(text: &str) -> String {
    let keep = |c: char| !c.is_control() || c == '\n' || c == '\t';
    text.chars()
        .map(|c| if keep(c) { c } else { '\u{fffd}' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_by_name() {
        for (program, expected) in [
            ("rabbitmqctl", Some("rabbitmqctl")),
            (
                "/usr/local/bin/rabbitmq-diagnostics",
                Some("rabbitmq-diagnostics"),
            ),
            ("warren", None),
            ("/bin/rabbitmqctl2", None),
        ] {
            let tool = Tool::named(OsStr::new(program));
            assert_eq!(tool.map(|tool| tool.name), expected, "{program}");
        }
    }

    #[test]
    fn control_characters_stay_away_from_terminals() {
        assert_eq!(printable("a\tb\nc\u{1b}[0m"), "a\tb\nc\u{fffd}[0m");
    }
}
