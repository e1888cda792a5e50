//! What has happened on the connections to each virtual host of this node, for the operator's view.
//!
//! Channels count for themselves. What ended channels and connections have counted is added up here, so that nothing shared
//! is touched per message, and the sums do not fall when clients leave.

use crate::metrics::ChannelCounts;
use crate::queries::VhostReport;
use crate::registry::ConnectionEntry;
use broker_model::catalog::Catalog;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Before so many virtual hosts are known nobody looks for those that are gone.
const FEW: usize = 1024;

/// Counts of what is over, by virtual host.
#[derive(Debug, Default)]
pub struct VhostFlows(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    sums: HashMap<Arc<str>, VhostReport>,
    /// How many were left when it was last looked for those that are gone.
    left: usize,
}

impl VhostFlows {
    /// Adds what a channel of this virtual host has counted, which counts no more.
    pub(crate) fn channel_ended(
        &self,
        catalog: &Catalog,
        vhost: &Arc<str>,
        counts: &ChannelCounts,
    ) {
        self.change(catalog, vhost, |sum| sum.add_counts(counts));
    }

    /// Adds the bytes of a connection that is over.
    pub(crate) fn connection_ended(&self, catalog: &Catalog, entry: &ConnectionEntry) {
        self.change(catalog, &entry.vhost, |sum| sum.add_bytes(entry));
    }

    fn change(&self, catalog: &Catalog, vhost: &Arc<str>, change: impl FnOnce(&mut VhostReport)) {
        // The last of those that a deleted virtual host had.
        if catalog.vhost(vhost).is_none() {
            self.0.lock().sums.remove(vhost);
            return;
        }
        let mut known = self.0.lock();
        if known.sums.len() > FEW.max(2 * known.left) {
            known.sums.retain(|name, _| catalog.vhost(name).is_some());
            known.left = known.sums.len();
        }
        let sum = known
            .sums
            .entry(Arc::clone(vhost))
            .or_insert_with(|| VhostReport::new(vhost));
        change(sum);
    }

    /// What is over, and what `open` connections have counted so far.
    pub(crate) fn reports(&self, open: &[Arc<ConnectionEntry>]) -> Vec<VhostReport> {
        let mut sums = self.0.lock().sums.clone();
        for entry in open {
            let sum = sums
                .entry(Arc::clone(&entry.vhost))
                .or_insert_with(|| VhostReport::new(&entry.vhost));
            sum.add_bytes(entry);
            for channel in entry.channels.lock().values() {
                sum.add_counts(&channel.counts);
            }
        }
        sums.into_values().collect()
    }
}

impl VhostReport {
    fn new(vhost: &str) -> Self {
        Self {
            vhost: vhost.to_owned(),
            ..Self::default()
        }
    }

    fn add_bytes(&mut self, entry: &ConnectionEntry) {
        self.received = self.received.saturating_add(entry.received.value());
        self.sent = self.sent.saturating_add(entry.sent.value());
    }

    fn add_counts(&mut self, counts: &ChannelCounts) {
        for (name, count) in counts.values() {
            match self.counts.get_mut(name) {
                Some(sum) => *sum = sum.saturating_add(count),
                None if count > 0 => drop(self.counts.insert(name.to_owned(), count)),
                None => {}
            }
        }
    }

    /// Adds what another node counts of the same virtual host.
    pub(crate) fn add(&mut self, other: &Self) {
        self.received = self.received.saturating_add(other.received);
        self.sent = self.sent.saturating_add(other.sent);
        for (name, count) in &other.counts {
            let sum = self.counts.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
}
