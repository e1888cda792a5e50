//! `exchange …` and `binding …`.

use super::{Common, Context, InVhost, OnlyVhost, Run, group};
use crate::client::{Failure, path};
use crate::output;
use clap::{Args, Subcommand};

/// `warren exchange …`
#[derive(Debug, Subcommand)]
pub(super) enum Exchange {
    /// List exchanges
    List(Common<ExchangeList>),
    /// Show messages that wait in an x-delayed-message exchange
    Delayed(Common<Delayed>),
}

group!(Exchange: List, Delayed);

/// `warren exchange list`
#[derive(Debug, Args)]
pub(super) struct ExchangeList {
    #[command(flatten)]
    only: OnlyVhost,
}

impl Run for ExchangeList {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let rows = context.client.list(&self.only.path("exchanges"))?;
        let columns = [
            ("vhost", "vhost"),
            ("exchange", "name"),
            ("type", "type"),
            ("durable", "durable"),
            ("auto delete", "auto_delete"),
            ("internal", "internal"),
            ("arguments", "arguments"),
            ("policy", "policy"),
        ];
        Ok(output::rows(&rows, &columns, context.json)?)
    }
}

/// `warren exchange delayed`
#[derive(Debug, Args)]
pub(super) struct Delayed {
    #[command(flatten)]
    at: InVhost,
    /// Exchange
    name: String,
    /// How many messages: the last that came, in the order in which they are due
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    count: u32,
    /// Show at most this many bytes of each payload
    #[arg(long, default_value_t = 50_000, value_name = "BYTES")]
    truncate: u32,
}

impl Run for Delayed {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let at = path(["exchanges", &self.at.vhost, &self.name, "delayed"]);
        let query = format!("count={}&truncate={}", self.count, self.truncate);
        let answer = context.client.get(&format!("{at}?{query}"))?;
        let rows = answer.as_array().cloned().unwrap_or_default();
        let columns = [
            ("due at (ms)", "due_at"),
            ("exchange", "exchange"),
            ("routing key", "routing_key"),
            ("bytes", "payload_bytes"),
            ("properties", "properties"),
            ("encoding", "payload_encoding"),
            ("payload", "payload"),
        ];
        Ok(output::rows(&rows, &columns, context.json)?)
    }
}

/// `warren binding …`
#[derive(Debug, Subcommand)]
pub(super) enum Binding {
    /// List bindings
    List(Common<BindingList>),
}

group!(Binding: List);

/// `warren binding list`
#[derive(Debug, Args)]
pub(super) struct BindingList {
    #[command(flatten)]
    only: OnlyVhost,
}

impl Run for BindingList {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let rows = context.client.list(&self.only.path("bindings"))?;
        let columns = [
            ("vhost", "vhost"),
            ("source", "source"),
            ("destination", "destination"),
            ("kind", "destination_type"),
            ("routing key", "routing_key"),
            ("arguments", "arguments"),
        ];
        Ok(output::rows(&rows, &columns, context.json)?)
    }
}
