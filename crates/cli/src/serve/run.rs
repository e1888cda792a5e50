//! The life of the process: start, serve, stop on a signal.

use crate::exit;
use management::{Definitions, Management, NodeBackend};
use node::{Config, Node};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// Requests on the management port and tasks that hang on may keep the process for so long after
/// the node has stopped.
const LINGER: Duration = Duration::from_millis(300);

/// Runs a node until a signal asks it to stop.
pub(super) fn run(config: Config, definitions: Option<Definitions>) -> ExitCode {
    node::life::process::keep_files_private();
    node::life::process::raise_open_files();
    node::life::process::follow_system_clock();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start threads");
            return ExitCode::from(exit::FAILED);
        }
    };
    let status = runtime.block_on(serve(config, definitions));
    runtime.shutdown_timeout(LINGER);
    // A thread may still write what is worth nothing any more (messages of local queues).
    end(status)
}

/// The signals that stop a node.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

async fn serve(config: Config, definitions: Option<Definitions>) -> u8 {
    let mut stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => {
            error!(%error, "cannot listen for signals");
            return exit::FAILED;
        }
    };
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node = config.node_id.0,
        amqp = %config.amqp_listen,
        amqps = config.amqps.as_ref().map(|tls| tls.listen.to_string()),
        cluster = %config.cluster_listen,
        management = %config.management_listen,
        management_tls = config.management_tls_listen.map(|listen| listen.to_string()),
        prometheus = config.prometheus_listen.map(|listen| listen.to_string()),
        data_dir = %config.data_dir.display(),
        "warren starts"
    );
    if config.default_user.password == "guest"
        && !config.default_user.name.is_empty()
        && !config.loopback_users.contains(&config.default_user.name)
    {
        warn!(
            "the default user has its default password and may log in from anywhere: set WARREN_DEFAULT_PASS"
        );
    }
    // Before the node, so that one that waits for its peers is seen to be alive.
    let (listen, with_api) = (config.management_listen, config.management_api);
    let mut management = match Management::start(listen, with_api, config.memory.total()).await {
        Ok(management) => management,
        Err(error) => {
            error!(address = %config.management_listen, %error, "cannot listen for management: is another node running, or the port taken?");
            return exit::FAILED;
        }
    };
    if let (Some(listen), Some(tls)) = (config.management_tls_listen, &config.amqps)
        && let Err(error) = management.serve_tls(listen, tls).await
    {
        error!(address = %listen, %error, "cannot listen for management over TLS: is the port taken?");
        return exit::FAILED;
    }
    if let Some(listen) = config.prometheus_listen
        && let Err(error) = management.serve_metrics(listen).await
    {
        error!(address = %listen, %error, "cannot listen for metrics: is the port taken?");
        return exit::FAILED;
    }
    let started = tokio::select! {
        started = Node::start(config, Arc::new(abort)) => started,
        signal = stop.asked() => {
            info!(signal, "stopped before the node was ready");
            management.shutdown().await;
            return exit::DONE;
        }
    };
    let node = match started {
        Ok(node) => node,
        Err(error) => {
            error!(%error, "cannot start");
            management.shutdown().await;
            return exit::FAILED;
        }
    };
    management.open(Arc::new(NodeBackend::new(&node)));
    let signal = tokio::select! {
        () = load(&management, definitions) => {
            info!("ready");
            stop.asked().await
        }
        signal = stop.asked() => signal,
    };
    info!(signal, "stopping; once more stops at once");
    tokio::select! {
        () = node.shutdown() => {}
        _ = stop.asked() => {
            warn!("stopped at once");
            return exit::FAILED;
        }
    }
    management.shutdown().await;
    info!("stopped");
    exit::DONE
}

/// Imports what the operator has given to be imported at each start.
async fn load(management: &Management, definitions: Option<Definitions>) {
    let Some(definitions) = definitions else {
        return;
    };
    let loaded = management.load(definitions).await;
    for item in &loaded.not_understood {
        warn!(item, "definitions: not understood");
    }
    for item in &loaded.failed {
        error!(item, "definitions: not imported");
    }
    info!(
        imported = loaded.imported,
        failed = loaded.failed.len(),
        "definitions loaded"
    );
}

/// A store or a Raft group has failed: the node must not go on serving. A supervisor starts it anew.
fn abort(reason: &str) {
    error!(reason, "this node cannot go on and ends");
    end(exit::FAILED)
}

/// Ends the process as it stands.
fn end(status: u8) -> ! {
    // Not `exit`: nothing may run any more that could touch the stores. Nor an abort, which as the first process of a container
    // looks like a segmentation fault (139), because no signal of its own reaches that.
    #[expect(unsafe_code, reason = "ends the process as it stands")]
    // SAFETY: nothing of this process runs after it.
    unsafe {
        libc::_exit(i32::from(status))
    }
}
