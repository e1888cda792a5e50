//! `connection …` and `consumer …`.

use super::{Common, Context, OnlyVhost, Run, done, group};
use crate::client::{Failure, path};
use crate::output;
use clap::{Args, Subcommand};
use serde_json::Value;
use ureq::http::Method;

/// `warren connection …`
#[derive(Debug, Subcommand)]
pub(super) enum Connection {
    /// List client connections of all nodes
    List(Common<ConnectionList>),
    /// Close client connections
    Close(Common<Close>),
}

group!(Connection: List, Close);

/// `warren connection list`
#[derive(Debug, Args)]
pub(super) struct ConnectionList {}

impl Run for ConnectionList {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let rows = context.client.list("/api/connections")?;
        let columns = [
            ("name", "name"),
            ("user", "user"),
            ("vhost", "vhost"),
            ("node", "node"),
            ("state", "state"),
            ("channels", "channels"),
            ("tls", "ssl"),
            ("client", "user_provided_name"),
            ("product", "client_properties.product"),
        ];
        Ok(output::rows(&rows, &columns, context.json)?)
    }
}

/// `warren connection close`
#[derive(Debug, Args)]
pub(super) struct Close {
    /// Names as in the list
    #[arg(required_unless_present = "user", conflicts_with = "user")]
    names: Vec<String>,
    /// All connections of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Told to the client
    #[arg(long, default_value = "Closed by the operator", value_name = "TEXT")]
    reason: String,
}

impl Run for Close {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let names = match &self.user {
            None => self.names,
            Some(user) => context
                .client
                .list("/api/connections")?
                .iter()
                .filter(|row| row.get("user").and_then(Value::as_str) == Some(user))
                .filter_map(|row| row.get("name").and_then(Value::as_str).map(str::to_owned))
                .collect(),
        };
        for name in &names {
            let at = path(["connections", name]);
            context
                .client
                .send(Method::DELETE, &at, None, &[("X-Reason", &self.reason)])?;
        }
        done(context, &format!("{} closed.", names.len()))
    }
}

/// `warren consumer …`
#[derive(Debug, Subcommand)]
pub(super) enum Consumer {
    /// List consumers of all nodes
    List(Common<ConsumerList>),
}

group!(Consumer: List);

/// `warren consumer list`
#[derive(Debug, Args)]
pub(super) struct ConsumerList {
    #[command(flatten)]
    only: OnlyVhost,
}

impl Run for ConsumerList {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let rows = context.client.list(&self.only.path("consumers"))?;
        let columns = [
            ("vhost", "queue.vhost"),
            ("queue", "queue.name"),
            ("tag", "consumer_tag"),
            ("channel", "channel_details.name"),
            ("user", "channel_details.user"),
            ("ack", "ack_required"),
            ("prefetch", "prefetch_count"),
            ("exclusive", "exclusive"),
            ("active", "active"),
            ("arguments", "arguments"),
        ];
        Ok(output::rows(&rows, &columns, context.json)?)
    }
}
