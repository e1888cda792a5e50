//! How a node of RabbitMQ is started: the Debian package's scripts with everything of their own, so
//! that neither a service that runs already nor its data is touched.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::cluster::Place;
use super::ports;
use super::process::Process;

/// The script of the package that starts a node as whoever calls it; the one in the search path
/// changes to the package's user, who may not read our directories.
const DEBIAN: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Finds the program, or says what is missing.
pub(crate) fn find(chosen: Option<&Path>) -> anyhow::Result<PathBuf> {
    let program = chosen.unwrap_or(Path::new(DEBIAN));
    if !program.exists() {
        bail!(
            "there is no {}: install RabbitMQ (Debian: apt-get install rabbitmq-server), name its \
             program with --rabbitmq, or leave it out with --no-rabbitmq",
            program.display()
        );
    }
    Ok(program.to_owned())
}

/// Starts the name server that the nodes find each other with, on a port of its own.
pub(crate) fn start_name_server(home: &Path) -> anyhow::Result<(Process, u16)> {
    let port = ports::free(1)?.into_iter().next().context("no free port")?;
    let mut command = Command::new("epmd");
    command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
    Ok((Process::start(&mut command, &home.join("epmd.log"))?, port))
}

/// The command that runs a node.
pub(crate) fn command(
    program: &Path,
    place: &Place,
    places: &[Place],
    home: &Path,
    name_server_port: u16,
) -> anyhow::Result<Command> {
    let config = place.home.join("rabbitmq.conf");
    std::fs::write(&config, configuration(place, places))?;
    let plugins = place.home.join("enabled_plugins");
    std::fs::write(&plugins, "[].\n")?;
    let _ = std::fs::remove_file(pid_file(place));
    let mut command = Command::new(program);
    command
        // The cookie is in it, which all nodes must share.
        .env("HOME", home)
        .env("ERL_EPMD_PORT", name_server_port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODENAME", node_name(place))
        .env("RABBITMQ_DIST_PORT", place.cluster_port.to_string())
        .env("RABBITMQ_CONFIG_FILE", config)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
        .env("RABBITMQ_MNESIA_BASE", place.home.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", place.home.join("log"))
        .env("RABBITMQ_PID_FILE", pid_file(place))
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env_remove("RABBITMQ_NODE_PORT");
    Ok(command)
}

fn node_name(place: &Place) -> String {
    format!("bench{}@localhost", place.number)
}

fn configuration(place: &Place, places: &[Place]) -> String {
    let mut text = format!("listeners.tcp.1 = 127.0.0.1:{}\n", place.amqp_port);
    if places.len() > 1 {
        text.push_str("cluster_formation.peer_discovery_backend = classic_config\n");
        for peer in places {
            let line = format!(
                "cluster_formation.classic_config.nodes.{} = {}\n",
                peer.number,
                node_name(peer)
            );
            text.push_str(&line);
        }
    }
    text
}

fn pid_file(place: &Place) -> PathBuf {
    place.home.join("pid")
}

/// Waits for the process id of the virtual machine that the script starts.
pub(crate) fn await_pid(place: &Place, process: &mut Process) -> anyhow::Result<u32> {
    let since = Instant::now();
    loop {
        let text = std::fs::read_to_string(pid_file(place)).unwrap_or_default();
        // The script writes its own first if it becomes the machine; either way a number.
        if let Ok(pid) = text.trim().parse() {
            return Ok(pid);
        }
        if process.has_ended() || since.elapsed() > Duration::from_secs(60) {
            bail!(
                "RabbitMQ does not start; see {}",
                place.home.join("output.log").display()
            );
        }
        sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_of_a_cluster() {
        let place = |number: usize| Place {
            number,
            amqp_port: 10,
            cluster_port: 20,
            management_port: 30,
            home: "/h".into(),
        };
        assert_eq!(
            configuration(&place(1), &[place(1)]),
            "listeners.tcp.1 = 127.0.0.1:10\n"
        );
        let text = configuration(&place(2), &[place(1), place(2)]);
        assert!(
            text.ends_with("classic_config.nodes.2 = bench2@localhost\n"),
            "{text}"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = find(Some(Path::new("/no/such/program"))).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("apt-get install rabbitmq-server"),
            "{error}"
        );
    }
}
