//! `policy …`.

use super::{Common, Context, InVhost, OnlyVhost, Run, done, group};
use crate::client::{Failure, path};
use crate::output;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// `warren policy …`
#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// List policies
    List(Common<List>),
    /// Set a policy
    Set(Common<Set>),
    /// Delete a policy
    Delete(Common<Delete>),
}

group!(Policy: List, Set, Delete);

/// Whether operator policies are meant.
#[derive(Debug, Args)]
struct Kind {
    /// Operator policies: they win over users' policies
    #[arg(long)]
    operator: bool,
}

impl Kind {
    fn segment(&self) -> &'static str {
        if self.operator {
            "operator-policies"
        } else {
            "policies"
        }
    }
}

/// `warren policy list`
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    only: OnlyVhost,
    #[command(flatten)]
    kind: Kind,
}

impl Run for List {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let rows = context.client.list(&self.only.path(self.kind.segment()))?;
        let columns = [
            ("vhost", "vhost"),
            ("policy", "name"),
            ("priority", "priority"),
            ("pattern", "pattern"),
            ("apply to", "apply-to"),
            ("definition", "definition"),
        ];
        Ok(output::rows(&rows, &columns, context.json)?)
    }
}

/// `warren policy set`
#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    at: InVhost,
    #[command(flatten)]
    kind: Kind,
    /// Name
    name: String,
    /// Names that it applies to: a regular expression
    pattern: String,
    /// JSON object, such as {"max-length": 1000}
    definition: String,
    /// The highest that matches a name counts
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i64,
    /// all, queues, classic_queues, quorum_queues or exchanges
    #[arg(long, default_value = "all", value_name = "KIND")]
    apply_to: String,
}

impl Run for Set {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let definition: Value = serde_json::from_str(&self.definition)
            .map_err(|error| Failure::Usage(format!("the definition is not JSON: {error}")))?;
        let body = json!({
            "pattern": self.pattern,
            "definition": definition,
            "priority": self.priority,
            "apply-to": self.apply_to,
        });
        context.client.put(
            &path([self.kind.segment(), &self.at.vhost, &self.name]),
            &body,
        )?;
        done(
            context,
            &format!("Policy {} in {} set.", self.name, self.at.vhost),
        )
    }
}

/// `warren policy delete`
#[derive(Debug, Args)]
pub(super) struct Delete {
    #[command(flatten)]
    at: InVhost,
    #[command(flatten)]
    kind: Kind,
    /// Name
    name: String,
}

impl Run for Delete {
    fn run(self, context: &Context) -> Result<(), Failure> {
        context
            .client
            .delete(&path([self.kind.segment(), &self.at.vhost, &self.name]))?;
        done(
            context,
            &format!("Policy {} in {} deleted.", self.name, self.at.vhost),
        )
    }
}
