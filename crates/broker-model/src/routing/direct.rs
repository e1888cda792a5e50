//! Direct exchanges: the routing key is the binding key.

use super::targets::{Matches, Target, TargetSet};
use super::{Effort, TooCostly};
use hashbrown::HashMap;
use std::sync::Arc;

/// Targets by binding key.
#[derive(Debug, Default)]
pub(crate) struct DirectTable {
    keys: HashMap<Arc<str>, TargetSet, foldhash::fast::RandomState>,
}

impl DirectTable {
    pub(crate) fn add(&mut self, key: &Arc<str>, target: Target) {
        self.keys.entry_ref(key).or_default().add(target);
    }

    pub(crate) fn remove(&mut self, key: &str, target: Target) {
        if let Some(targets) = self.keys.get_mut(key) {
            targets.remove(target);
            if targets.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    pub(crate) fn matches(
        &self,
        key: &str,
        effort: &mut Effort,
        out: &mut Matches,
    ) -> Result<(), TooCostly> {
        match self.keys.get(key) {
            Some(targets) => targets.collect(effort, out),
            None => effort.take(1),
        }
    }
}
