//! `queue …`.

use super::{Common, Context, InVhost, OnlyVhost, Run, done, group};
use crate::client::{Failure, path};
use crate::output::{self, Column};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// `warren queue …`
#[derive(Debug, Subcommand)]
pub(super) enum Queue {
    /// List queues
    List(Common<List>),
    /// Show everything about a queue
    Info(Common<Info>),
    /// Declare a queue
    Declare(Common<Declare>),
    /// Remove all ready messages
    Purge(Common<Purge>),
    /// Delete a queue and its messages
    Delete(Common<Delete>),
    /// Look at the first messages; they stay in the queue, marked as redelivered
    Peek(Common<Peek>),
}

group!(Queue: List, Info, Declare, Purge, Delete, Peek);

const LIST: &[Column] = &[
    ("vhost", "vhost"),
    ("queue", "name"),
    ("type", "type"),
    ("durable", "durable"),
    ("state", "state"),
    ("ready", "messages_ready"),
    ("unacked", "messages_unacknowledged"),
    ("total", "messages"),
    ("consumers", "consumers"),
    ("leader", "leader"),
    ("policy", "policy"),
];

const INFO: &[Column] = &[
    ("name", "name"),
    ("vhost", "vhost"),
    ("type", "type"),
    ("durable", "durable"),
    ("auto delete", "auto_delete"),
    ("exclusive", "exclusive"),
    ("arguments", "arguments"),
    ("state", "state"),
    ("leader", "leader"),
    ("members", "members"),
    ("online", "online"),
    ("policy", "policy"),
    ("operator policy", "operator_policy"),
    ("effective policy", "effective_policy_definition"),
    ("messages", "messages"),
    ("ready", "messages_ready"),
    ("unacked", "messages_unacknowledged"),
    ("ready bytes", "message_bytes_ready"),
    ("consumers", "consumers"),
    ("single active consumer", "single_active_consumer_tag"),
];

/// `warren queue list`
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    only: OnlyVhost,
}

impl Run for List {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let rows = context.client.list(&self.only.path("queues"))?;
        Ok(output::rows(&rows, LIST, context.json)?)
    }
}

/// `warren queue info`
#[derive(Debug, Args)]
pub(super) struct Info {
    #[command(flatten)]
    at: InVhost,
    /// Queue
    name: String,
}

impl Run for Info {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let queue = context
            .client
            .get(&path(["queues", &self.at.vhost, &self.name]))?;
        Ok(output::object(&queue, INFO, context.json)?)
    }
}

/// `warren queue declare`
#[derive(Debug, Args)]
pub(super) struct Declare {
    #[command(flatten)]
    at: InVhost,
    /// Queue
    name: String,
    /// Keep it in the memory of one node only
    #[arg(long)]
    transient: bool,
    /// Delete it when its last consumer goes
    #[arg(long)]
    auto_delete: bool,
    /// JSON object, such as {"x-max-length": 1000}
    #[arg(long, default_value = "{}", value_name = "JSON")]
    arguments: String,
}

impl Run for Declare {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let arguments: Value = serde_json::from_str(&self.arguments)
            .map_err(|error| Failure::Usage(format!("--arguments: not JSON: {error}")))?;
        let body = json!({ "durable": !self.transient, "auto_delete": self.auto_delete, "arguments": arguments });
        context
            .client
            .put(&path(["queues", &self.at.vhost, &self.name]), &body)?;
        done(
            context,
            &format!("Queue {} in {} declared.", self.name, self.at.vhost),
        )
    }
}

/// `warren queue purge`
#[derive(Debug, Args)]
pub(super) struct Purge {
    #[command(flatten)]
    at: InVhost,
    /// Queue
    name: String,
}

impl Run for Purge {
    fn run(self, context: &Context) -> Result<(), Failure> {
        context
            .client
            .delete(&path(["queues", &self.at.vhost, &self.name, "contents"]))?;
        done(
            context,
            &format!("Queue {} in {} purged.", self.name, self.at.vhost),
        )
    }
}

/// `warren queue delete`
#[derive(Debug, Args)]
pub(super) struct Delete {
    #[command(flatten)]
    at: InVhost,
    /// Queue
    name: String,
    /// Refuse while it has consumers
    #[arg(long)]
    if_unused: bool,
    /// Refuse while it has messages
    #[arg(long)]
    if_empty: bool,
}

impl Run for Delete {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let conditions = [("if-unused", self.if_unused), ("if-empty", self.if_empty)];
        let query: Vec<String> = conditions
            .iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| format!("{name}=true"))
            .collect();
        let at = path(["queues", &self.at.vhost, &self.name]);
        context
            .client
            .delete(&format!("{at}?{}", query.join("&")))?;
        done(
            context,
            &format!("Queue {} in {} deleted.", self.name, self.at.vhost),
        )
    }
}

/// `warren queue peek`
#[derive(Debug, Args)]
pub(super) struct Peek {
    #[command(flatten)]
    at: InVhost,
    /// Queue
    name: String,
    /// How many messages
    #[arg(short = 'n', long, default_value_t = 1, value_name = "N")]
    count: u32,
    /// Show at most this many bytes of each payload
    #[arg(long, default_value_t = 50_000, value_name = "BYTES")]
    truncate: u32,
}

impl Run for Peek {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let body = json!({
            "count": self.count,
            "ackmode": "ack_requeue_true",
            "encoding": "auto",
            "truncate": self.truncate,
        });
        let answer = context
            .client
            .post(&path(["queues", &self.at.vhost, &self.name, "get"]), &body)?;
        let rows = answer.as_array().cloned().unwrap_or_default();
        let columns = [
            ("exchange", "exchange"),
            ("routing key", "routing_key"),
            ("redelivered", "redelivered"),
            ("bytes", "payload_bytes"),
            ("properties", "properties"),
            ("encoding", "payload_encoding"),
            ("payload", "payload"),
        ];
        Ok(output::rows(&rows, &columns, context.json)?)
    }
}
