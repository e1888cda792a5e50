//! What a command is: its words, options and what it does.

use super::arguments::{Parsed, Switch};
use super::format::Output;
use super::trouble::{OrMissing, TEMPORARY, Trouble, USAGE};
use crate::client::{Client, Failure, path};
use serde_json::Value;
use std::io::{self, IsTerminal, Read, Write};

/// Names that the program may be started under, as bits.
pub(super) const CTL: u8 = 1;
pub(super) const DIAGNOSTICS: u8 = 2;
pub(super) const QUEUES: u8 = 4;
pub(super) const PLUGINS: u8 = 8;
pub(super) const UPGRADE: u8 = 16;
pub(super) const STREAMS: u8 = 32;
/// Commands that only look are there under both names.
pub(super) const LOOK: u8 = CTL | DIAGNOSTICS;

pub(super) type Answer = Result<Output, Trouble>;

/// A command of one or more tools.
#[derive(Debug, Clone, Copy)]
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) tools: u8,
    /// What stands behind the name in a usage text.
    pub(super) usage: &'static str,
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) switches: &'static [Switch],
    /// Its form where none is asked for: a table with lines instead of columns with tabs.
    pub(super) pretty: bool,
    /// Whether columns have headings where nothing is said.
    pub(super) headings: bool,
    /// Said first, unless it is to be quiet.
    pub(super) banner: fn(&Call) -> String,
    pub(super) run: fn(&Call) -> Answer,
}

/// A command with that many words.
pub(super) const fn command(
    name: &'static str,
    tools: u8,
    usage: &'static str,
    words: (usize, usize),
    banner: fn(&Call) -> String,
    run: fn(&Call) -> Answer,
) -> Command {
    Command {
        name,
        tools,
        usage,
        least: words.0,
        most: words.1,
        switches: &[],
        pretty: false,
        headings: true,
        banner,
        run,
    }
}

impl Command {
    /// Without headings, unless they are asked for.
    pub(super) const fn bare(mut self) -> Self {
        self.headings = false;
        self
    }

    /// With lines between its columns.
    pub(super) const fn pretty(mut self) -> Self {
        self.pretty = true;
        self
    }

    /// With options of its own.
    pub(super) const fn with(mut self, switches: &'static [Switch]) -> Self {
        self.switches = switches;
        self
    }
}

/// A command that says nothing first.
pub(super) fn no_banner(_: &Call) -> String {
    String::new()
}

/// A command as it was called.
pub(super) struct Call {
    pub(super) tool: &'static str,
    pub(super) command: &'static Command,
    /// What stands behind the command's name.
    pub(super) words: Vec<String>,
    pub(super) options: Parsed,
    pub(super) client: Client,
}

impl Call {
    /// The word at that place, empty where there is none.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// `-p`, else the default vhost.
    pub(super) fn vhost(&self) -> &str {
        self.options.text("vhost").unwrap_or("/")
    }

    /// Whether only what was asked for is to be printed.
    pub(super) fn is_quiet(&self) -> bool {
        self.options.flag("quiet") || self.options.flag("silent")
    }

    /// Whether JSON is asked for.
    pub(super) fn wants_json(&self) -> bool {
        self.options
            .text("formatter")
            .is_some_and(|name| name.starts_with("json"))
    }

    /// What the node is called in texts: as `-n` says, else where it is asked.
    pub(super) fn node(&self) -> &str {
        self.options.text("node").unwrap_or_else(|| {
            let base = self.client.base();
            base.strip_prefix("http://").unwrap_or(base)
        })
    }

    /// Seconds that the command may take; `otherwise` where nothing is said.
    pub(super) fn timeout_or(&self, otherwise: u64) -> u64 {
        let given = self.options.number("timeout");
        given.map_or(otherwise, |seconds| u64::try_from(seconds).unwrap_or(0))
    }

    /// GET, as the rows of a list.
    pub(super) fn rows(&self, segments: &[&str]) -> Result<Vec<Value>, Failure> {
        self.client.list(&path(segments.iter().copied()))
    }

    /// GET
    pub(super) fn get(&self, segments: &[&str]) -> Result<Value, Failure> {
        self.client.get(&path(segments.iter().copied()))
    }

    /// PUT
    pub(super) fn put(&self, segments: &[&str], body: &Value) -> Result<Value, Failure> {
        self.client.put(&path(segments.iter().copied()), body)
    }

    /// DELETE
    pub(super) fn delete(&self, segments: &[&str]) -> Result<Value, Failure> {
        self.client.delete(&path(segments.iter().copied()))
    }

    /// Refuses a user that does not exist.
    pub(super) fn need_user(&self, user: &str) -> Result<Value, Trouble> {
        self.get(&["users", user])
            .or_missing(|| Trouble::no_user(user))
    }

    /// Refuses a vhost that does not exist.
    pub(super) fn need_vhost(&self, vhost: &str) -> Result<Value, Trouble> {
        self.get(&["vhosts", vhost])
            .or_missing(|| Trouble::no_vhost(vhost))
    }

    /// The command's wrong use.
    pub(super) fn misused(&self, code: u8, text: &str) -> Trouble {
        Trouble::Told(
            code,
            format!(
                "Error (argument validation): {text}\nArguments given:\n\t{} {}\n\n{}",
                self.command.name,
                self.words.join(" "),
                usage(self.tool, self.command)
            ),
        )
    }

    /// A word that must be a whole number.
    pub(super) fn number(&self, index: usize, what: &str) -> Result<u64, Trouble> {
        self.word(index)
            .parse()
            .map_err(|_| self.misused(super::trouble::DATA, &format!("Bad argument: {what}")))
    }

    /// The operation is not done in time.
    pub(super) fn late(&self, seconds: u64) -> Trouble {
        Trouble::Told(
            TEMPORARY,
            format!(
                "Error: operation {} on node {} timed out. Timeout value used: {seconds}",
                self.command.name,
                self.node()
            ),
        )
    }
}

/// How a command is used.
pub(super) fn usage(tool: &str, command: &Command) -> String {
    let line = format!(
        "{tool} [--node <node>] [--longnames] [--quiet] {} {}",
        command.name, command.usage
    );
    format!("Usage\n\n{}", line.trim_end())
}

/// The first line of standard input, for passwords that must not stand in the process list.
pub(super) fn line_of_input(prompt: &str) -> Result<Option<String>, Trouble> {
    let input = io::stdin();
    if input.is_terminal() {
        write!(io::stderr(), "{prompt}")?;
    }
    let mut text = String::new();
    io::BufRead::read_line(&mut input.lock().take(64 * 1024), &mut text)?;
    Ok((!text.is_empty()).then(|| text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Words that must be JSON.
pub(super) fn json_word(text: &str) -> Result<Value, Trouble> {
    serde_json::from_str(text).map_err(|error| {
        Trouble::error(
            super::trouble::UNAVAILABLE,
            format!("JSON decoding error. Reason: {error}"),
        )
    })
}

/// Wrong use that is found only when the command runs.
pub(super) fn wrong(text: &str) -> Trouble {
    Trouble::error(USAGE, text)
}
