//! `warren recover`: one disk goes on alone, when those of a majority of its cluster are lost for good.

use super::options::Options;
use super::{layers, refuse};
use crate::exit;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use node::Config;
use node::recover::{self, Remains};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

/// The option that has it done.
const YES: &str = "yes";
/// What matters of the options of `serve`; the others are accepted.
const SHOWN: [&str; 5] = [
    "config",
    "data-dir",
    "node-id",
    "peers",
    "cluster-advertise",
];

/// The command, with the options of `serve`.
pub(crate) fn command() -> Command {
    let options = Options::augment_args(Command::new("recover")).mut_args(|arg| {
        let shown = arg.get_long().is_some_and(|flag| SHOWN.contains(&flag));
        arg.hide(!shown)
    });
    layers::with_variables(options)
        // Not among the options of the last heading.
        .next_help_heading(None::<&str>)
        .arg(
            Arg::new(YES)
                .long(YES)
                .action(ArgAction::SetTrue)
                .help("Do it; without this it is only shown what the disk holds"),
        )
        .about("Go on with one disk after a majority of the cluster's disks is lost for good")
        .long_about(
            "Go on with one disk after a majority of the cluster's disks is lost for good.\n\nThe node must not run. Without --yes it is shown what \
             its disk holds, and nothing is changed. With --yes the disk becomes a cluster of its own, of one node, with all that it \
             holds; what only the lost disks had is lost. The other nodes start with empty data directories then, and join. Old disks of \
             the cluster are refused from then on.\n\nGive it the options, variables and file that `warren serve` has on this node.",
        )
        .args_override_self(true)
}

/// Runs it; `arguments` are those after the word `recover`.
pub(crate) fn main(matches: &ArgMatches, arguments: &[String]) -> ExitCode {
    let yes = format!("--{YES}");
    let arguments: Vec<String> = arguments
        .iter()
        .filter(|word| **word != yes)
        .cloned()
        .collect();
    let resolved = Options::from_arg_matches(matches)
        .map_err(|error| error.to_string())
        .and_then(|options| {
            let environment = |name: &str| std::env::var(name).ok();
            layers::complete(options, &arguments, &environment)?.resolve()
        });
    let config = match resolved {
        Ok(resolved) => Arc::new(resolved.config),
        Err(error) => return refuse(&error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start threads: {error}")),
    };
    node::life::process::keep_files_private();
    let told = runtime.block_on(async {
        let remains = recover::survey(&config).await?;
        let mut told = shown(&remains, &config);
        if matches.get_flag(YES) {
            let cluster = recover::go_on_alone(&config).await?;
            told.push_str(&done(&remains, cluster));
        } else {
            told.push_str(WARNING);
        }
        Ok::<String, node::StartError>(told)
    });
    match told {
        Ok(told) => match std::io::stdout().write_all(told.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(exit::FAILED),
        },
        Err(error) => failed(&error.to_string()),
    }
}

const WARNING: &str = "\nNothing was changed. With --yes this disk becomes a cluster of its own, of one node, with all that it holds. \
    What only other disks have\nis lost then, confirmed messages among it, and those disks are refused. Only do it when so many disks are lost for \
    good that the others\nare no majority any more. Where several are left, take the one whose entries go furthest.\n";

fn shown(remains: &Remains, config: &Config) -> String {
    let identity = &remains.identity;
    let mut text = format!(
        "Node {} in {}, of cluster {:016x}\n\ngroup      last entry (term:index)\n",
        identity.node,
        config.data_dir.display(),
        identity.cluster.unwrap_or_default()
    );
    for (group, last) in &remains.last {
        let name = match group.0 {
            0 => "catalog".to_owned(),
            shard => format!("shard {shard}"),
        };
        text.push_str(&format!("{name:10} {last}\n"));
    }
    text
}

fn done(remains: &Remains, cluster: u64) -> String {
    let node = remains.identity.node;
    format!(
        "\nNode {node} is now the only one of cluster {cluster:016x}. Start it; then start the others with empty data directories, and they join.\n\
         Those that do not come back are removed with `warren cluster forget`.\n"
    )
}

fn failed(error: &str) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(exit::FAILED)
}
