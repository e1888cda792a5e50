//! Notices that another process runs with this node's id: peers refuse this one for it.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Refused for so long, this process is the one too many. A peer takes a moment to see that the
/// process before this one is dead, so a single refusal says little.
const PATIENCE: Duration = Duration::from_secs(3);

/// Since when which contacts refuse this node because of another with its id.
#[derive(Debug, Default)]
pub(crate) struct Displaced {
    since: Mutex<BTreeMap<String, Instant>>,
    verdict: watch::Sender<Option<String>>,
}

impl Displaced {
    /// `contact` has refused this node for `reason`.
    pub(crate) fn refused(&self, contact: &str, reason: &str) {
        let since = *self
            .since
            .lock()
            .entry(contact.to_owned())
            .or_insert_with(Instant::now);
        if since.elapsed() >= PATIENCE {
            let text = format!("{contact} refuses this node: {reason}");
            self.verdict.send_if_modified(|verdict| {
                let first = verdict.is_none();
                verdict.get_or_insert(text);
                first
            });
        }
    }

    /// `contact` has let this node in.
    pub(crate) fn accepted(&self, contact: &str) {
        self.since.lock().remove(contact);
    }

    /// Waits until it is sure; tells who says so.
    pub(crate) async fn wait(&self) -> String {
        let mut verdict = self.verdict.subscribe();
        let seen = verdict.wait_for(Option::is_some).await;
        // The sender is part of `self`, so there is no error.
        seen.ok().and_then(|text| text.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn only_lasting_refusals_count() {
        let displaced = Displaced::default();
        displaced.refused("a:1", "taken");
        tokio::time::advance(Duration::from_secs(2)).await;
        displaced.accepted("a:1");
        displaced.refused("a:1", "taken");
        tokio::time::advance(Duration::from_secs(2)).await;
        displaced.refused("b:1", "taken");
        displaced.refused("a:1", "taken");
        assert_eq!(displaced.wait().now_or_never(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        displaced.refused("a:1", "taken");
        assert_eq!(
            displaced.wait().now_or_never().as_deref(),
            Some("a:1 refuses this node: taken")
        );
    }
}
