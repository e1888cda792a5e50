//! `definitions …`.

use super::{Common, Context, OnlyVhost, Run, group};
use crate::client::Failure;
use crate::output;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::fs;
use std::io::{self, Read};

/// `warren definitions …`
#[derive(Debug, Subcommand)]
pub(super) enum Definitions {
    /// Write definitions to a file or standard output
    Export(Common<Export>),
    /// Read definitions, ours or RabbitMQ's, from a file or standard input
    Import(Common<Import>),
}

group!(Definitions: Export, Import);

/// `warren definitions export`
#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    only: OnlyVhost,
    /// File (default: standard output)
    file: Option<String>,
}

impl Run for Export {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let definitions = context.client.get(&self.only.path("definitions"))?;
        match self.file.as_deref() {
            None | Some("-") => Ok(output::json(&definitions)?),
            Some(file) => {
                let text = serde_json::to_string_pretty(&definitions).map_err(io::Error::from)?;
                fs::write(file, text + "\n")
                    .map_err(|error| Failure::Local(format!("{file}: {error}")))
            }
        }
    }
}

/// `warren definitions import`
#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(flatten)]
    only: OnlyVhost,
    /// File, or - for standard input
    file: String,
}

impl Run for Import {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let text = if self.file == "-" {
            let mut text = String::new();
            io::stdin().lock().read_to_string(&mut text)?;
            text
        } else {
            fs::read_to_string(&self.file)
                .map_err(|error| Failure::Local(format!("{}: {error}", self.file)))?
        };
        let definitions: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .map_err(|error| Failure::Usage(format!("{}: not JSON: {error}", self.file)))?;
        let report = context.client.post(
            &format!("{}?report=true", self.only.path("definitions")),
            &definitions,
        )?;
        let list = |key: &str| {
            report
                .get(key)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        let outcome = match list("failed").len() {
            0 => Ok(()),
            failed => Err(Failure::Local(format!(
                "{failed} definitions could not be imported"
            ))),
        };
        if context.json {
            output::json(&report)?;
            return outcome;
        }
        if let Some(imported) = report.get("imported").and_then(Value::as_object) {
            let counts: Vec<String> = imported
                .iter()
                .map(|(kind, count)| format!("{count} {kind}"))
                .collect();
            output::line(&format!("Imported: {}", counts.join(", ")))?;
        }
        for (title, key) in [("Not understood", "not_understood"), ("Failed", "failed")] {
            for note in list(key).iter().filter_map(Value::as_str) {
                output::line(&format!("{title}: {note}"))?;
            }
        }
        outcome
    }
}
