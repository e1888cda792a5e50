//! Nodes of one broker on this machine.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::process::Process;
use super::{ports, rabbitmq, warren};
use crate::args::TargetArgs;
use crate::client::{Connection, Uri};

/// Which broker, and its program.
#[derive(Debug, Clone)]
pub(crate) enum Broker {
    RabbitMq(PathBuf),
    Warren(PathBuf),
}

impl Broker {
    /// Warren, by its program.
    pub(crate) fn warren(program: &Path) -> anyhow::Result<Self> {
        let program = program
            .canonicalize()
            .with_context(|| format!("{}", program.display()))?;
        Ok(Self::Warren(program))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::RabbitMq(_) => "RabbitMQ",
            Self::Warren(_) => "Warren",
        }
    }
}

/// Where a node listens and lives.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Counts from 1.
    pub(crate) number: usize,
    pub(crate) amqp_port: u16,
    /// Warren: between nodes. RabbitMQ: Erlang distribution.
    pub(crate) cluster_port: u16,
    /// Warren only.
    pub(crate) management_port: u16,
    pub(crate) home: PathBuf,
}

/// One or more nodes of a broker.
#[derive(Debug)]
pub(crate) struct Cluster {
    broker: Broker,
    home: PathBuf,
    places: Vec<Place>,
    nodes: Vec<Option<Node>>,
    /// RabbitMQ's name server.
    name_server: Option<(Process, u16)>,
}

#[derive(Debug)]
struct Node {
    process: Process,
    /// The process that does the work, which a script may have started.
    pid: u32,
}

impl Cluster {
    const PATIENCE: Duration = Duration::from_secs(120);

    /// Chooses ports and directories.
    pub(crate) fn new(broker: Broker, count: usize, home: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(home)?;
        let ports = ports::free(3 * count)?;
        let places = ports
            .chunks_exact(3)
            .enumerate()
            .filter_map(|(index, ports)| match ports {
                &[amqp_port, cluster_port, management_port] => Some(Place {
                    number: index + 1,
                    amqp_port,
                    cluster_port,
                    management_port,
                    home: home.join(format!("node{}", index + 1)),
                }),
                _ => None,
            })
            .collect();
        let nodes = (0..count).map(|_| None).collect();
        Ok(Self {
            broker,
            home: home.to_owned(),
            places,
            nodes,
            name_server: None,
        })
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Starts all nodes and waits until each serves clients.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        for index in 0..self.len() {
            self.spawn(index)?;
            // RabbitMQ's nodes join the first one, which must be there.
            if matches!(self.broker, Broker::RabbitMq(_)) {
                self.await_service(index)?;
            }
        }
        (0..self.len()).try_for_each(|index| self.await_service(index))
    }

    /// Starts a node.
    pub(crate) fn spawn(&mut self, index: usize) -> anyhow::Result<()> {
        let place = self.places.get(index).context("no such node")?;
        std::fs::create_dir_all(&place.home)?;
        let log = place.home.join("output.log");
        let node = match &self.broker {
            Broker::Warren(program) => {
                let process =
                    Process::start(&mut warren::command(program, place, &self.places), &log)?;
                Node {
                    pid: process.pid(),
                    process,
                }
            }
            Broker::RabbitMq(program) => {
                if self.name_server.is_none() {
                    self.name_server = Some(rabbitmq::start_name_server(&self.home)?);
                }
                let names = self.name_server.as_ref().map_or(0, |(_, port)| *port);
                let mut command =
                    rabbitmq::command(program, place, &self.places, &self.home, names)?;
                let mut process = Process::start(&mut command, &log)?;
                Node {
                    pid: rabbitmq::await_pid(place, &mut process)?,
                    process,
                }
            }
        };
        if let Some(slot) = self.nodes.get_mut(index) {
            *slot = Some(node);
        }
        Ok(())
    }

    /// Waits until a node opens connections.
    pub(crate) fn await_service(&mut self, index: usize) -> anyhow::Result<()> {
        let uri = self.uri(index)?;
        let since = Instant::now();
        loop {
            // Nothing listens at first, then it may refuse while it joins its cluster.
            let error = match Connection::open(&uri, "is it there") {
                Ok(connection) => return connection.close(),
                Err(error) => error,
            };
            let ended = self.nodes.get_mut(index).and_then(Option::as_mut);
            if ended.is_none_or(|node| node.process.has_ended()) {
                bail!("node {} has ended; see its output.log", index + 1);
            }
            if since.elapsed() > Self::PATIENCE {
                return Err(error.context(format!("node {} does not serve", index + 1)));
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Stops a node in order.
    pub(crate) fn stop_node(&mut self, index: usize) {
        if let Some(mut node) = self.nodes.get_mut(index).and_then(Option::take) {
            node.process.stop(node.pid);
        }
    }

    /// Stops all nodes.
    pub(crate) fn stop(&mut self) {
        (0..self.len())
            .rev()
            .for_each(|index| self.stop_node(index));
        if let Some((mut process, _)) = self.name_server.take() {
            let pid = process.pid();
            process.stop(pid);
        }
    }

    /// How to reach a node.
    pub(crate) fn uri(&self, index: usize) -> anyhow::Result<Uri> {
        Ok(Uri::local(
            self.places.get(index).context("no such node")?.amqp_port,
        ))
    }

    /// All nodes, and their processes.
    pub(crate) fn target(&self) -> TargetArgs {
        TargetArgs {
            uris: self
                .places
                .iter()
                .map(|place| Uri::local(place.amqp_port))
                .collect(),
            broker_pids: self.nodes.iter().flatten().map(|node| node.pid).collect(),
            json: false,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}
