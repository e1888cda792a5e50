//! `ping`, `status`, `cluster …`.

use super::{Common, Context, Run, done, group};
use crate::client::{Failure, path};
use crate::output::{self, Column};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// `warren ping`
#[derive(Debug, Args)]
pub(super) struct Ping {
    /// Ask whether it serves clients, not only whether it is alive
    #[arg(long)]
    ready: bool,
}

impl Run for Ping {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let answer = context.client.get(if self.ready {
            "/health/ready"
        } else {
            "/health/live"
        })?;
        if context.json {
            return Ok(output::json(&answer)?);
        }
        Ok(output::line(if self.ready { "ready" } else { "alive" })?)
    }
}

/// `warren status`
#[derive(Debug, Args)]
pub(super) struct Status {}

const MEMBERS: &[Column] = &[
    ("node", "node"),
    ("alive", "alive"),
    ("state", "state"),
    ("leads", "leads"),
    ("address", "address"),
    ("version", "version"),
    ("connections", "connections"),
    ("alarms", "alarms"),
];

const GROUPS: &[Column] = &[
    ("group", "name"),
    ("leader", "leader"),
    ("term", "term"),
    ("commit", "commit_index"),
    ("applied", "applied_index"),
    ("members", "members"),
];

impl Run for Status {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let status = context.client.get("/api/cluster/status")?;
        if context.json {
            return Ok(output::json(&status)?);
        }
        let text = |key: &str| {
            status
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let rows = |key: &str| {
            status
                .get(key)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        let healthy = status.get("healthy").and_then(Value::as_bool) == Some(true);
        output::line(&format!(
            "Cluster {} ({}), asked {}, {}\n",
            text("cluster_name"),
            text("cluster_id"),
            text("node"),
            if healthy { "healthy" } else { "NOT HEALTHY" },
        ))?;
        for warning in rows("warnings").iter().filter_map(Value::as_str) {
            output::line(&format!("! {warning}"))?;
        }
        output::rows(&rows("members"), MEMBERS, false)?;
        output::line("")?;
        output::rows(&rows("groups"), GROUPS, false)?;
        Ok(())
    }
}

/// `warren cluster …`
#[derive(Debug, Subcommand)]
pub(super) enum Cluster {
    /// Show members, leaders, shards and health
    Status(Common<Status>),
    /// Show or set the cluster's name
    Name(Common<ClusterName>),
    /// Remove a node for good: its replicas move to other nodes first
    Forget(Common<Forget>),
    /// Spread leaderships evenly, now
    Rebalance(Common<Rebalance>),
    /// Take a node out of service: others lead what it leads, and its clients are sent to them
    Drain(Common<Drain>),
    /// Take a node back into service
    Revive(Common<Revive>),
}

group!(Cluster: Status, Name, Forget, Rebalance, Drain, Revive);

/// `warren cluster name`
#[derive(Debug, Args)]
pub(super) struct ClusterName {
    /// New name
    name: Option<String>,
}

impl Run for ClusterName {
    fn run(self, context: &Context) -> Result<(), Failure> {
        if let Some(name) = self.name {
            context
                .client
                .put("/api/cluster-name", &json!({ "name": name }))?;
            return done(context, &format!("The cluster is named {name}."));
        }
        let answer = context.client.get("/api/cluster-name")?;
        if context.json {
            return Ok(output::json(&answer)?);
        }
        Ok(output::line(
            answer
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default(),
        )?)
    }
}

/// `warren cluster forget`
#[derive(Debug, Args)]
pub(super) struct Forget {
    /// Node: 3, or warren@3
    node: String,
}

impl Run for Forget {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let name = full_name(self.node);
        context.client.delete(&path(["cluster", "nodes", &name]))?;
        done(
            context,
            &format!("{name} leaves the cluster; `warren status` shows how far it is."),
        )
    }
}

/// `warren cluster rebalance`
#[derive(Debug, Args)]
pub(super) struct Rebalance {}

impl Run for Rebalance {
    fn run(self, context: &Context) -> Result<(), Failure> {
        context.client.post("/api/rebalance/queues", &json!({}))?;
        done(context, "Leaderships are being spread.")
    }
}

/// `warren cluster drain`
#[derive(Debug, Args)]
pub(super) struct Drain {
    /// Node: 3, or warren@3 (default: the one that is asked)
    node: Option<String>,
}

impl Run for Drain {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let name = node_name(self.node, context)?;
        let at = path(["nodes", &name, "maintenance"]);
        context.client.put(&at, &json!({}))?;
        done(
            context,
            &format!("{name} is in maintenance, until `warren cluster revive` or its next start."),
        )
    }
}

/// `warren cluster revive`
#[derive(Debug, Args)]
pub(super) struct Revive {
    /// Node: 3, or warren@3 (default: the one that is asked)
    node: Option<String>,
}

impl Run for Revive {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let name = node_name(self.node, context)?;
        let at = path(["nodes", &name, "maintenance"]);
        context.client.delete(&at)?;
        done(context, &format!("{name} is back in service."))
    }
}

/// The node that is named, or else the one that answers.
fn node_name(named: Option<String>, context: &Context) -> Result<String, Failure> {
    if let Some(named) = named {
        return Ok(full_name(named));
    }
    let overview = context.client.get("/api/overview")?;
    let node = overview.get("node").and_then(Value::as_str);
    node.map(str::to_owned)
        .ok_or_else(|| Failure::Local("the node does not say its name".into()))
}

fn full_name(node: String) -> String {
    if node.contains('@') {
        node
    } else {
        format!("warren@{node}")
    }
}
