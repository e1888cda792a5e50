//! Which node runs the shovels, and what is told of them.
//!
//! The leader of the catalog's group runs all of them: there is one at most, it has its majority, and when it dies the next one
//! is elected at once. A node that is not the leader has no task or timer for them; the leader has one task for each.
//!
//! What a shovel does is the crate `shovel`'s; its definition is a runtime parameter of the component [`COMPONENT`].

mod dial;

use crate::broker::Broker;
use broker_model::catalog::{CatalogCommand, Name};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use shovel::{End, Shovel, State, Status};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// The component whose parameters define shovels.
pub const COMPONENT: &str = "shovel";
/// A shovel that is to stop has so long for it; then its connections are cut.
const STOP: Duration = Duration::from_secs(12);
/// Pause before a definition whose work is done is tried to be deleted again.
const DELETE_AGAIN: Duration = Duration::from_secs(2);

/// Virtual host and name.
type Key = (Name, Name);

/// The shovels of this node.
#[derive(Default)]
pub struct Shovels {
    running: Mutex<BTreeMap<Key, Running>>,
    /// A definition has changed, or one is to be run anew.
    changed: Notify,
}

/// One that runs here, or has ended and is to be deleted.
struct Running {
    value: Name,
    status: Arc<Status>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// A shovel as other nodes see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShovelReport {
    /// The node that runs it.
    pub node: u64,
    /// Where its definition is.
    pub vhost: String,
    /// Its name there.
    pub name: String,
    /// `starting`, `running` or `terminated`.
    pub state: String,
    /// When that began, seconds since the Unix epoch.
    pub since_s: u64,
    /// Why it was terminated.
    pub reason: Option<String>,
    /// Whether the destination holds it back: `running`, `flow` or `blocked`.
    pub blocked: String,
    /// What is told of its two ends while it runs, by RabbitMQ's names.
    pub ends: BTreeMap<String, String>,
    /// Messages until it ends by itself; `None`: it does not.
    pub remaining: Option<u64>,
    /// Messages that it publishes until then; `None`: it does not end by itself.
    pub remaining_unacked: Option<u64>,
    /// Messages that wait because the destination is blocked.
    pub pending: u64,
    /// Messages that were published since it began to run.
    pub forwarded: u64,
}

impl Shovels {
    /// Definitions have changed.
    pub(crate) fn look(&self) {
        self.changed.notify_one();
    }

    /// Those that run here.
    #[must_use]
    pub fn reports(&self, node: u64) -> Vec<ShovelReport> {
        let running = self.running.lock();
        let reports = running.iter();
        reports
            .map(|((vhost, name), running)| report(node, vhost, name, &running.status))
            .collect()
    }

    /// Runs one anew, whether or not it runs well; false if it is not here.
    #[must_use]
    pub fn restart(&self, vhost: &str, name: &str) -> bool {
        let mut running = self.running.lock();
        let Some(running) = running.get_mut(&(vhost.into(), name.into())) else {
            return false;
        };
        // No definition is like this one.
        running.value = "".into();
        self.changed.notify_one();
        true
    }

    /// Stops those that are not wanted, and starts those that are missing. One that takes the place of another one begins when
    /// that has ended.
    fn settle(&self, broker: &Arc<Broker>, wanted: &BTreeMap<Key, Name>) {
        let mut running = self.running.lock();
        let gone = running.extract_if(.., |key, running| wanted.get(key) != Some(&running.value));
        let mut gone: BTreeMap<Key, Running> = gone.collect();
        for old in gone.values() {
            old.stop.send_replace(true);
        }
        for (key, value) in wanted {
            if running.contains_key(key) {
                continue;
            }
            let before = gone.remove(key).map(|old| old.task);
            let new = start(broker, key.clone(), value.clone(), before);
            running.insert(key.clone(), new);
        }
        for old in gone.into_values() {
            tokio::spawn(ended(old.task));
        }
    }

    /// Stops all of them, and waits for it.
    async fn stop_all(&self) {
        let all = std::mem::take(&mut *self.running.lock());
        for running in all.values() {
            running.stop.send_replace(true);
        }
        let ends = all.into_values().map(|running| ended(running.task));
        futures::future::join_all(ends).await;
    }
}

/// Waits for one that was told to stop.
async fn ended(mut task: JoinHandle<()>) {
    if tokio::time::timeout(STOP, &mut task).await.is_err() {
        task.abort();
    }
}

fn start(broker: &Arc<Broker>, key: Key, value: Name, before: Option<JoinHandle<()>>) -> Running {
    let status = Arc::new(Status::default());
    let (stop, stopped) = watch::channel(false);
    let (vhost, name) = &key;
    let shovel = Shovel {
        vhost: vhost.to_string(),
        name: name.to_string(),
        cluster: {
            let catalog = broker.catalog();
            catalog
                .cluster_name()
                .map(|name| name.to_string())
                .unwrap_or_default()
        },
        value: serde_json::from_str(&value).unwrap_or_default(),
    };
    let task = {
        let (broker, status, value) = (Arc::clone(broker), Arc::clone(&status), value.clone());
        tokio::spawn(async move {
            if let Some(before) = before {
                ended(before).await;
            }
            let dial = dial::Inside(Arc::clone(&broker));
            if shovel.run(&dial, &status, stopped.clone()).await == End::Done {
                delete(&broker, &key, &value, stopped).await;
            }
        })
    };
    Running {
        value,
        status,
        stop,
        task,
    }
}

/// Its work is done: the definition goes, unless it is another one by now.
async fn delete(broker: &Arc<Broker>, key: &Key, value: &Name, mut stop: watch::Receiver<bool>) {
    let (vhost, name) = key;
    loop {
        if wanted(broker).get(key) != Some(value) {
            return;
        }
        let command = CatalogCommand::DeleteParameter {
            vhost: vhost.clone(),
            component: COMPONENT.into(),
            name: name.clone(),
        };
        match broker.catalog_write(command).await {
            Ok(_) => return,
            Err(error) => {
                warn!(%vhost, shovel = %name, %error, "shovel that is done is not deleted yet");
            }
        }
        let told = stop.wait_for(|stop| *stop);
        if tokio::time::timeout(DELETE_AGAIN, told).await.is_ok() {
            return;
        }
    }
}

/// The definitions in the catalog.
fn wanted(broker: &Broker) -> BTreeMap<Key, Name> {
    let catalog = broker.catalog();
    let mut wanted = BTreeMap::new();
    for vhost in catalog.vhosts() {
        for (component, name, value) in catalog.parameters(&vhost.name) {
            if **component == *COMPONENT {
                wanted.insert((vhost.name.clone(), name.clone()), value.clone());
            }
        }
    }
    wanted
}

/// Runs the shovels while this node leads the catalog, until it stops.
pub(crate) async fn keep(broker: Arc<Broker>, mut stopping: watch::Receiver<bool>) {
    let shovels = Arc::clone(&broker.shovels);
    let mut leadership = broker.catalog_group.leadership();
    let mut led = false;
    loop {
        let leads = leadership.borrow_and_update().ready;
        if leads {
            let wanted = wanted(&broker);
            if !led && !wanted.is_empty() {
                info!(shovels = wanted.len(), "shovels run on this node");
            }
            shovels.settle(&broker, &wanted);
        } else if led {
            shovels.stop_all().await;
        }
        led = leads;
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() {
                break;
            },
            () = shovels.changed.notified() => {}
            _ = stopping.wait_for(|stopping| *stopping) => break,
        }
    }
    shovels.stop_all().await;
}

fn report(node: u64, vhost: &str, name: &str, status: &Status) -> ShovelReport {
    let now = status.report();
    let (state, ends, reason) = match now.state {
        State::Starting => ("starting", Vec::new(), None),
        State::Running(running) => ("running", running.ends, None),
        State::Terminated { reason } => ("terminated", Vec::new(), Some(reason)),
    };
    let ends = ends.into_iter();
    ShovelReport {
        node,
        vhost: vhost.to_owned(),
        name: name.to_owned(),
        state: state.to_owned(),
        since_s: now.since_s,
        reason,
        blocked: now.blocked.as_str().to_owned(),
        ends: ends.map(|(key, text)| (key.to_owned(), text)).collect(),
        remaining: now.remaining,
        remaining_unacked: now.remaining_unacked,
        pending: now.pending,
        forwarded: now.forwarded,
    }
}
