//! `exchange …` and `binding …`.

use super::{Common, Context, OnlyVhost, Run, group};
use crate::client::Failure;
use crate::output;
use clap::{Args, Subcommand};

/// `warren exchange …`
#[derive(Debug, Subcommand)]
pub(super) enum Exchange {
    /// List exchanges
    List(Common<ExchangeList>),
}

group!(Exchange: List);

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
