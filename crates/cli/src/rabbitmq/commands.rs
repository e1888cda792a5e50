//! All commands, and what is said of those that are not there.

use super::command::Command;
use super::{
    Tool, checks, cluster, cluster_status, definitions, limits, listeners, lists, parameters,
    permissions, plugins, queues, sessions, shovels, status, upgrade, users, vhosts,
};

const ALL: &[&[Command]] = &[
    status::COMMANDS,
    cluster::COMMANDS,
    cluster_status::COMMANDS,
    listeners::COMMANDS,
    lists::COMMANDS,
    sessions::COMMANDS,
    queues::COMMANDS,
    users::COMMANDS,
    permissions::COMMANDS,
    vhosts::COMMANDS,
    limits::COMMANDS,
    parameters::COMMANDS,
    shovels::COMMANDS,
    definitions::COMMANDS,
    checks::COMMANDS,
    plugins::COMMANDS,
    upgrade::COMMANDS,
];

/// The command of that name that one of these tools has.
pub(super) fn find(tools: u8, name: &str) -> Option<&'static Command> {
    let mut all = ALL.iter().copied().flatten();
    all.find(|command| command.name == name && command.tools & tools != 0)
}

/// What there is instead of a command that is missing.
pub(super) fn absent(name: &str) -> &'static str {
    match name {
        "eval"
        | "eval_file"
        | "exec"
        | "remote_shell"
        | "observer"
        | "environment"
        | "report"
        | "erlang_version"
        | "erlang_cookie_hash"
        | "erlang_cookie_sources"
        | "force_gc"
        | "list_hashes"
        | "list_ciphers"
        | "encode"
        | "decode"
        | "hipe_compile"
        | "runtime_thread_stats"
        | "maybe_stuck"
        | "schema_info"
        | "cipher_suites" => "it asks the Erlang machine of RabbitMQ, and Warren has none.",
        "stop" | "shutdown" | "stop_app" | "start_app" | "suspend_listeners"
        | "resume_listeners" => {
            "a node is stopped and started by what runs it: SIGTERM, `docker stop`, systemd."
        }
        "reset"
        | "force_reset"
        | "join_cluster"
        | "force_boot"
        | "rename_cluster_node"
        | "update_cluster_nodes"
        | "change_cluster_node_type" => {
            "nodes join by their settings (WARREN_PEERS, see `warren serve --help`), and leave by forget_cluster_node."
        }
        "set_vm_memory_high_watermark" | "set_disk_free_limit" | "set_log_level" => {
            "limits and logs are settings of `warren serve`."
        }
        "rotate_logs" | "log_tail" | "log_location" | "log_tail_stream" => {
            "logs go to standard output."
        }
        "sync_queue" | "cancel_sync_queue" => "queues are replicated, not mirrored.",
        _ => "`help` lists the commands that Warren knows.",
    }
}

/// What the tool knows.
pub(super) fn help(tool: Tool) -> String {
    let mut names: Vec<&str> = ALL
        .iter()
        .copied()
        .flatten()
        .filter(|command| command.tools & tool.bit != 0)
        .map(|command| command.name)
        .collect();
    names.sort_unstable();
    format!(
        "\nUsage\n\n{name} [--node <node>] [--timeout <timeout>] [--longnames] [--quiet] <command> [<command options>]\n\n\
         Available commands:\n\n   {}\n\nThis is Warren, which answers for RabbitMQ's tools over its HTTP API: WARREN_URL (default \
         http://127.0.0.1:15672) and\nWARREN_LOGIN=user:password (default: the default user). `warren help` names its own \
         commands.\nUse '{name} help <command>' to learn more about a specific command",
        names.join("\n   "),
        name = tool.name,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_found_once_in_a_tool() {
        for bit in [1, 2, 4, 8, 16, 32] {
            let mut seen = BTreeSet::new();
            for command in ALL.iter().copied().flatten() {
                if command.tools & bit != 0 {
                    assert!(seen.insert(command.name), "{} twice", command.name);
                    assert!(command.least <= command.most, "{}", command.name);
                }
            }
        }
    }

    #[test]
    fn tools_have_their_own_commands() {
        assert!(find(super::super::command::CTL, "add_user").is_some());
        assert!(find(super::super::command::DIAGNOSTICS, "add_user").is_none());
        assert!(find(super::super::command::DIAGNOSTICS, "list_queues").is_some());
        assert!(find(super::super::command::PLUGINS, "enable").is_some());
        assert!(absent("eval").contains("Erlang"));
    }
}
