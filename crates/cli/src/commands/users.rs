//! `user …`, `vhost …`, `permission …`.

use super::{Common, Context, InVhost, OnlyVhost, Run, done, group};
use crate::client::{Failure, path};
use crate::output;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::io::Read;

/// `warren user …`
#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// List users
    List(Common<UserList>),
    /// Add a user
    Add(Common<UserAdd>),
    /// Delete a user; its connections are closed
    Delete(Common<UserDelete>),
    /// Set a user's password
    Password(Common<UserPassword>),
    /// Set a user's tags
    Tags(Common<UserTags>),
    /// Limit a user's connections and channels
    Limit(Common<UserLimit>),
}

group!(User: List, Add, Delete, Password, Tags, Limit);

/// `warren user list`
#[derive(Debug, Args)]
pub(super) struct UserList {}

impl Run for UserList {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let rows = context.client.list("/api/users")?;
        Ok(output::rows(
            &rows,
            &[("user", "name"), ("tags", "tags"), ("limits", "limits")],
            context.json,
        )?)
    }
}

/// `warren user add`
#[derive(Debug, Args)]
pub(super) struct UserAdd {
    /// Name
    name: String,
    /// Password, or - to read it from standard input
    password: String,
    /// Tags: administrator, monitoring, policymaker, management
    #[arg(long, value_name = "TAGS", value_delimiter = ',')]
    tags: Vec<String>,
}

impl Run for UserAdd {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let at = path(["users", &self.name]);
        if exists(context, &at)? {
            return Err(Failure::Local(format!(
                "user '{}' exists already: use user password or user tags",
                self.name
            )));
        }
        let body = json!({ "password": password(&self.password)?, "tags": self.tags.join(",") });
        context.client.put(&at, &body)?;
        done(
            context,
            &format!(
                "User {} added. `warren permission set` gives it access to a vhost.",
                self.name
            ),
        )
    }
}

/// `warren user delete`
#[derive(Debug, Args)]
pub(super) struct UserDelete {
    /// Name
    name: String,
}

impl Run for UserDelete {
    fn run(self, context: &Context) -> Result<(), Failure> {
        context.client.delete(&path(["users", &self.name]))?;
        done(context, &format!("User {} deleted.", self.name))
    }
}

/// `warren user password`
#[derive(Debug, Args)]
pub(super) struct UserPassword {
    /// Name
    name: String,
    /// Password, or - to read it from standard input
    password: String,
}

impl Run for UserPassword {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let at = path(["users", &self.name]);
        let user = context.client.get(&at)?;
        let body = json!({ "password": password(&self.password)?, "tags": user.get("tags") });
        context.client.put(&at, &body)?;
        done(context, &format!("Password of {} set.", self.name))
    }
}

/// `warren user tags`
#[derive(Debug, Args)]
pub(super) struct UserTags {
    /// Name
    name: String,
    /// Tags; none takes all away
    tags: Vec<String>,
}

impl Run for UserTags {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let at = path(["users", &self.name]);
        let user = context.client.get(&at)?;
        // The hash goes back as it came: without it the user would lose its password.
        let mut body = Map::from_iter([("tags".to_owned(), json!(self.tags))]);
        for key in ["password_hash", "hashing_algorithm"] {
            body.insert(key.to_owned(), user.get(key).cloned().unwrap_or_default());
        }
        context.client.put(&at, &Value::Object(body))?;
        done(context, &format!("Tags of {} set.", self.name))
    }
}

/// `warren user limit`
#[derive(Debug, Args)]
pub(super) struct UserLimit {
    /// Name
    name: String,
    /// Connections at most, or none
    #[arg(long, value_name = "N|none")]
    max_connections: Option<String>,
    /// Channels at most, or none
    #[arg(long, value_name = "N|none")]
    max_channels: Option<String>,
}

impl Run for UserLimit {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let limits = [
            ("max-connections", self.max_connections),
            ("max-channels", self.max_channels),
        ];
        set_limits(context, "user-limits", &self.name, limits)
    }
}

/// `warren vhost …`
#[derive(Debug, Subcommand)]
pub(super) enum Vhost {
    /// List virtual hosts
    List(Common<VhostList>),
    /// Add a virtual host
    Add(Common<VhostAdd>),
    /// Delete a virtual host and everything in it
    Delete(Common<VhostDelete>),
    /// Limit a virtual host's connections and queues
    Limit(Common<VhostLimit>),
}

group!(Vhost: List, Add, Delete, Limit);

/// `warren vhost list`
#[derive(Debug, Args)]
pub(super) struct VhostList {}

impl Run for VhostList {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let rows = context.client.list("/api/vhosts")?;
        let columns = [
            ("vhost", "name"),
            ("messages", "messages"),
            ("ready", "messages_ready"),
            ("unacked", "messages_unacknowledged"),
            ("description", "description"),
            ("tags", "tags"),
        ];
        Ok(output::rows(&rows, &columns, context.json)?)
    }
}

/// `warren vhost add`
#[derive(Debug, Args)]
pub(super) struct VhostAdd {
    /// Name
    name: String,
    /// Free text
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// Free words
    #[arg(long, value_delimiter = ',')]
    tags: Vec<String>,
    /// Type of queues declared without one: classic or quorum
    #[arg(long, value_name = "TYPE")]
    default_queue_type: Option<String>,
}

impl Run for VhostAdd {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let at = path(["vhosts", &self.name]);
        // As with `rabbitmqctl add_vhost` it stays as it is, which is no failure.
        if exists(context, &at)? {
            let text = format!("Vhost {} exists already; nothing is changed.", self.name);
            return done(context, &text);
        }
        let mut body = json!({ "description": self.description, "tags": self.tags.join(",") });
        if let (Some(kind), Some(body)) = (self.default_queue_type, body.as_object_mut()) {
            body.insert("default_queue_type".into(), kind.into());
        }
        context.client.put(&at, &body)?;
        done(
            context,
            &format!(
                "Vhost {} added. `warren permission set` lets users in.",
                self.name
            ),
        )
    }
}

/// `warren vhost delete`
#[derive(Debug, Args)]
pub(super) struct VhostDelete {
    /// Name
    name: String,
}

impl Run for VhostDelete {
    fn run(self, context: &Context) -> Result<(), Failure> {
        context.client.delete(&path(["vhosts", &self.name]))?;
        done(context, &format!("Vhost {} deleted.", self.name))
    }
}

/// `warren vhost limit`
#[derive(Debug, Args)]
pub(super) struct VhostLimit {
    /// Name
    name: String,
    /// Connections at most, or none
    #[arg(long, value_name = "N|none")]
    max_connections: Option<String>,
    /// Queues at most, or none
    #[arg(long, value_name = "N|none")]
    max_queues: Option<String>,
}

impl Run for VhostLimit {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let limits = [
            ("max-connections", self.max_connections),
            ("max-queues", self.max_queues),
        ];
        set_limits(context, "vhost-limits", &self.name, limits)
    }
}

/// `warren permission …`
#[derive(Debug, Subcommand)]
pub(super) enum Permission {
    /// List permissions
    List(Common<PermissionList>),
    /// Set what a user may do in a virtual host
    Set(Common<PermissionSet>),
    /// Take a user's permissions in a virtual host away
    Clear(Common<PermissionClear>),
    /// List topic permissions
    ListTopic(Common<TopicList>),
    /// Set which topics a user may use at an exchange
    SetTopic(Common<TopicSet>),
    /// Take topic permissions away
    ClearTopic(Common<TopicClear>),
}

group!(Permission: List, Set, Clear, ListTopic, SetTopic, ClearTopic);

/// `warren permission list`
#[derive(Debug, Args)]
pub(super) struct PermissionList {
    #[command(flatten)]
    only: OnlyVhost,
    /// Only of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

impl Run for PermissionList {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let rows = filtered(
            context.client.list("/api/permissions")?,
            &self.only,
            self.user.as_deref(),
        );
        let columns = [
            ("vhost", "vhost"),
            ("user", "user"),
            ("configure", "configure"),
            ("write", "write"),
            ("read", "read"),
        ];
        Ok(output::rows(&rows, &columns, context.json)?)
    }
}

/// `warren permission set`
#[derive(Debug, Args)]
pub(super) struct PermissionSet {
    #[command(flatten)]
    at: InVhost,
    /// User
    user: String,
    /// Names that may be declared and deleted: a regular expression, .* for all
    configure: String,
    /// Names that may be written to
    write: String,
    /// Names that may be read from
    read: String,
}

impl Run for PermissionSet {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let body = json!({ "configure": self.configure, "write": self.write, "read": self.read });
        context
            .client
            .put(&path(["permissions", &self.at.vhost, &self.user]), &body)?;
        done(
            context,
            &format!("Permissions of {} in {} set.", self.user, self.at.vhost),
        )
    }
}

/// `warren permission clear`
#[derive(Debug, Args)]
pub(super) struct PermissionClear {
    #[command(flatten)]
    at: InVhost,
    /// User
    user: String,
}

impl Run for PermissionClear {
    fn run(self, context: &Context) -> Result<(), Failure> {
        context
            .client
            .delete(&path(["permissions", &self.at.vhost, &self.user]))?;
        done(
            context,
            &format!(
                "Permissions of {} in {} taken away.",
                self.user, self.at.vhost
            ),
        )
    }
}

/// `warren permission list-topic`
#[derive(Debug, Args)]
pub(super) struct TopicList {
    #[command(flatten)]
    only: OnlyVhost,
    /// Only of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

impl Run for TopicList {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let rows = filtered(
            context.client.list("/api/topic-permissions")?,
            &self.only,
            self.user.as_deref(),
        );
        let columns = [
            ("vhost", "vhost"),
            ("user", "user"),
            ("exchange", "exchange"),
            ("write", "write"),
            ("read", "read"),
        ];
        Ok(output::rows(&rows, &columns, context.json)?)
    }
}

/// `warren permission set-topic`
#[derive(Debug, Args)]
pub(super) struct TopicSet {
    #[command(flatten)]
    at: InVhost,
    /// User
    user: String,
    /// Topic exchange
    exchange: String,
    /// Routing keys that may be published with
    write: String,
    /// Routing keys that may be bound with
    read: String,
}

impl Run for TopicSet {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let body = json!({ "exchange": self.exchange, "write": self.write, "read": self.read });
        context.client.put(
            &path(["topic-permissions", &self.at.vhost, &self.user]),
            &body,
        )?;
        done(
            context,
            &format!(
                "Topic permissions of {} in {} set.",
                self.user, self.at.vhost
            ),
        )
    }
}

/// `warren permission clear-topic`
#[derive(Debug, Args)]
pub(super) struct TopicClear {
    #[command(flatten)]
    at: InVhost,
    /// User
    user: String,
    /// Only those at this exchange
    exchange: Option<String>,
}

impl Run for TopicClear {
    fn run(self, context: &Context) -> Result<(), Failure> {
        let all = ["topic-permissions", self.at.vhost.as_str(), &self.user];
        context
            .client
            .delete(&path(all.into_iter().chain(self.exchange.as_deref())))?;
        done(
            context,
            &format!(
                "Topic permissions of {} in {} taken away.",
                self.user, self.at.vhost
            ),
        )
    }
}

fn filtered(rows: Vec<Value>, only: &OnlyVhost, user: Option<&str>) -> Vec<Value> {
    let is = |row: &Value, key: &str, wanted: Option<&str>| {
        wanted.is_none_or(|wanted| row.get(key).and_then(Value::as_str) == Some(wanted))
    };
    rows.into_iter()
        .filter(|row| is(row, "vhost", only.vhost.as_deref()) && is(row, "user", user))
        .collect()
}

/// Sets the limits that are given, or takes them away where `none` is.
fn set_limits(
    context: &Context,
    kind: &str,
    name: &str,
    limits: [(&str, Option<String>); 2],
) -> Result<(), Failure> {
    if limits.iter().all(|(_, value)| value.is_none()) {
        return Err(Failure::Usage(format!(
            "give --{} or --{}",
            limits[0].0, limits[1].0
        )));
    }
    for (limit, value) in limits {
        let Some(value) = value else { continue };
        let at = path([kind, name, limit]);
        if value == "none" {
            context.client.delete(&at)?;
        } else {
            let number: u64 = value.parse().map_err(|_| {
                Failure::Usage(format!("--{limit}: '{value}' is not a number, nor 'none'"))
            })?;
            context.client.put(&at, &json!({ "value": number }))?;
        }
    }
    done(context, &format!("Limits of {name} set."))
}

/// Whether there is something at this path.
fn exists(context: &Context, at: &str) -> Result<bool, Failure> {
    match context.client.get(at) {
        Ok(_) => Ok(true),
        Err(Failure::Refused { status, .. }) if status.as_u16() == 404 => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// The password as given, or from standard input, so that it need not stand in the process list.
fn password(given: &str) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(64 * 1024)
        .read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
