//! Moves messages, as long as it can: connects both ends, sets up what is to be consumed and published to, and carries what
//! comes until one side is lost or the work is done. Then again, after a pause.
//!
//! With `ack-mode` `on-confirm` a delivery is acknowledged only after the destination has confirmed it: whatever breaks, it is
//! moved again.
//!
//! Memory is bounded: by what the destination's socket has not taken (then the source is not read), and while the destination
//! is blocked by what comes within the prefetch, up to a limit in bytes.

mod connect;
mod flow;
mod setup;

use crate::client::Wire;
use crate::config::Definition;
use crate::forward::{Place, Rewriter};
use crate::status::{Running, State, Status};
use crate::uri::Uri;
use futures::future::BoxFuture;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// The end of a connection on which nothing was moved may take so long.
const GOODBYE: Duration = Duration::from_secs(2);

/// Gives connections to this cluster that need no network.
pub trait Dial: Send + Sync + 'static {
    /// A stream on which an AMQP session is served. Without a user it may do everything in `vhost`, and nothing elsewhere; with
    /// one that has no password, what this user may do. A password is checked by the session.
    fn dial(
        &self,
        vhost: &str,
        user: Option<&str>,
        has_password: bool,
    ) -> BoxFuture<'static, Result<Box<dyn Wire>, String>>;
}

/// A shovel and its surroundings.
#[derive(Debug, Clone)]
pub struct Shovel {
    /// The virtual host of its definition.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// Name of the cluster that runs it.
    pub cluster: String,
    /// Its definition.
    pub value: Value,
}

/// Why a shovel has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Stopped,
    /// Its work is done: its definition is to be deleted.
    Done,
}

/// How one try has ended.
#[derive(Debug)]
enum Outcome {
    Stopped,
    Done,
    Failed(String),
}

impl From<String> for Outcome {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl Shovel {
    /// Runs it until its work is done or `stop` becomes true.
    pub async fn run(
        &self,
        dial: &dyn Dial,
        status: &Status,
        mut stop: watch::Receiver<bool>,
    ) -> End {
        let definition = match Definition::parse(&self.name, &self.value) {
            Ok(definition) => definition,
            Err(reason) => {
                let reason = format!("failed to parse configuration: {reason}");
                warn!(
                    vhost = self.vhost,
                    shovel = self.name,
                    reason,
                    "shovel does not run"
                );
                status.terminated(&reason);
                stopped(&mut stop).await;
                return End::Stopped;
            }
        };
        let mut told = String::new();
        loop {
            status.enter(State::Starting);
            let reason = match self.attempt(&definition, dial, status, &mut stop).await {
                Outcome::Stopped => return End::Stopped,
                Outcome::Done => {
                    info!(
                        vhost = self.vhost,
                        shovel = self.name,
                        "shovel has done its work"
                    );
                    return End::Done;
                }
                Outcome::Failed(reason) => reason,
            };
            // One that fails every few seconds for the same reason is told of once.
            if reason == told {
                debug!(
                    vhost = self.vhost,
                    shovel = self.name,
                    reason,
                    "shovel has failed"
                );
            } else {
                warn!(
                    vhost = self.vhost,
                    shovel = self.name,
                    reason,
                    "shovel has failed"
                );
            }
            status.terminated(&reason);
            told = reason;
            let pause = definition.reconnect_delay.unwrap_or(Duration::MAX);
            if tokio::time::timeout(pause, stopped(&mut stop))
                .await
                .is_ok()
            {
                return End::Stopped;
            }
        }
    }

    async fn attempt(
        &self,
        definition: &Definition,
        dial: &dyn Dial,
        status: &Status,
        stop: &mut watch::Receiver<bool>,
    ) -> Outcome {
        let begun = tokio::select! {
            begun = self.begin(definition, dial) => begun,
            () = stopped(stop) => return Outcome::Stopped,
        };
        let begun = match begun {
            Ok(begun) => begun,
            Err(outcome) => return outcome,
        };
        let place = Place {
            cluster: &self.cluster,
            vhost: &self.vhost,
            name: &self.name,
            source_uri: &begun.source_uri,
            destination_uri: &begun.destination_uri,
        };
        let rewriter = Rewriter::new(definition, place);
        status.enter(State::Running(running(definition, place)));
        flow::Flow::new(definition, status, rewriter, begun)
            .carry(stop)
            .await
    }

    /// Connects both ends and sets them up.
    async fn begin(
        &self,
        definition: &Definition,
        dial: &dyn Dial,
    ) -> Result<setup::Begun, Outcome> {
        let name = format!("Shovel {}", self.name);
        let from = &definition.source;
        let (mut source, source_uri) =
            connect::any(&from.uris, from.protocol, &name, dial)
                .await
                .map_err(|reason| format!("failed to connect to source: {reason}"))?;
        let to = &definition.destination;
        let (mut destination, destination_uri) = connect::any(&to.uris, to.protocol, &name, dial)
            .await
            .map_err(|reason| format!("failed to connect to destination: {reason}"))?;
        let failed = |error| format!("failed to set up topology: {error}");
        setup::destination(&mut destination, definition)
            .await
            .map_err(failed)?;
        let remaining = setup::source(&mut source, definition)
            .await
            .map_err(failed)?;
        let begun = setup::Begun {
            source,
            destination,
            source_uri,
            destination_uri,
            remaining,
        };
        if remaining == Some(0) {
            begun.close(GOODBYE).await;
            return Err(Outcome::Done);
        }
        Ok(begun)
    }
}

/// Waits until it is told to stop; also if whoever would tell has gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn running(definition: &Definition, place: Place<'_>) -> Running {
    use crate::config::From;
    let from = &definition.source;
    let to = &definition.destination;
    let mut ends = vec![
        ("src_uri", place.source_uri.to_owned()),
        ("src_protocol", from.protocol.as_str().to_owned()),
        ("dest_protocol", to.protocol.as_str().to_owned()),
        ("dest_uri", place.destination_uri.to_owned()),
    ];
    match &from.from {
        From::Queue { name, .. } => ends.push(("src_queue", name.as_str().to_owned())),
        From::Exchange { name, key } => {
            ends.push(("src_exchange", name.as_str().to_owned()));
            ends.push(("src_exchange_key", key.as_str().to_owned()));
        }
    }
    match &to.queue {
        Some(queue) => ends.push(("dest_queue", queue.as_str().to_owned())),
        None => {
            let named = [
                ("dest_exchange", &to.exchange),
                ("dest_exchange_key", &to.key),
            ];
            for (key, name) in named {
                ends.extend(name.as_ref().map(|name| (key, name.as_str().to_owned())));
            }
        }
    }
    Running { ends }
}

/// The URIs in an order of chance.
fn shuffled(uris: &[Uri]) -> Vec<&Uri> {
    use rand::seq::SliceRandom as _;
    let mut uris: Vec<&Uri> = uris.iter().collect();
    uris.shuffle(&mut rand::rng());
    uris
}

#[cfg(test)]
mod tests;
