//! Fanout exchanges: every binding matches.

use super::targets::{Matches, Target, TargetSet};
use super::{Effort, TooCostly};

/// All targets.
#[derive(Debug, Default)]
pub(crate) struct FanoutTable {
    targets: TargetSet,
}

impl FanoutTable {
    pub(crate) fn add(&mut self, target: Target) {
        self.targets.add(target);
    }

    pub(crate) fn remove(&mut self, target: Target) {
        self.targets.remove(target);
    }

    pub(crate) fn matches(&self, effort: &mut Effort, out: &mut Matches) -> Result<(), TooCostly> {
        self.targets.collect(effort, out)
    }
}
