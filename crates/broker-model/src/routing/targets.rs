//! Sets of binding destinations that count how many bindings lead to each.

use super::{Effort, TooCostly};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Where a binding leads, by place in the vhost's tables. Places differ between replicas and do not
/// outlive the process; names are what is replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// A queue.
    Queue(u32),
    /// An exchange.
    Exchange(u32),
}

/// Targets that matched, not yet unique.
pub(crate) type Matches = SmallVec<[Target; 16]>;

/// A list of matches is thinned when it has grown by so many.
const THIN: usize = 64 * 1024;

/// Keeps a list of matches from growing with what is in it already: how long it was when that was last taken out.
#[derive(Debug, Default)]
pub(crate) struct Thinned(usize);

impl Thinned {
    /// Leaves each target once, if the list has grown much.
    pub(crate) fn thin(&mut self, list: &mut Matches) {
        if list.len() > THIN + 2 * self.0 {
            list.sort_unstable();
            list.dedup();
            self.0 = list.len();
        }
    }
}

/// Above this size, a sorted list gives way to a tree.
const SMALL_MAX: usize = 32;

/// A set of targets, each with the number of bindings that lead there (bindings may differ in
/// arguments or in spelling only). Most sets have one member, so one needs no allocation.
#[derive(Debug)]
pub(crate) enum TargetSet {
    Small(SmallVec<[(Target, u32); 1]>),
    Large(BTreeMap<Target, u32>),
}

impl Default for TargetSet {
    fn default() -> Self {
        Self::Small(SmallVec::new())
    }
}

impl TargetSet {
    /// Counts one more binding to `target`.
    pub(crate) fn add(&mut self, target: Target) {
        match self {
            Self::Small(list) => match list.binary_search_by_key(&target, |entry| entry.0) {
                Ok(at) => {
                    if let Some(entry) = list.get_mut(at) {
                        entry.1 += 1;
                    }
                }
                Err(at) if list.len() < SMALL_MAX => list.insert(at, (target, 1)),
                Err(_) => {
                    let mut tree: BTreeMap<_, _> = list.drain(..).collect();
                    tree.insert(target, 1);
                    *self = Self::Large(tree);
                }
            },
            Self::Large(tree) => *tree.entry(target).or_insert(0) += 1,
        }
    }

    /// Counts one binding less to `target`.
    pub(crate) fn remove(&mut self, target: Target) {
        match self {
            Self::Small(list) => {
                if let Ok(at) = list.binary_search_by_key(&target, |entry| entry.0)
                    && let Some(entry) = list.get_mut(at)
                {
                    entry.1 -= 1;
                    if entry.1 == 0 {
                        list.remove(at);
                    }
                }
            }
            Self::Large(tree) => {
                if let Some(count) = tree.get_mut(&target) {
                    *count -= 1;
                    if *count == 0 {
                        tree.remove(&target);
                    }
                }
            }
        }
    }

    /// Whether nothing is bound.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Small(list) => list.is_empty(),
            Self::Large(tree) => tree.is_empty(),
        }
    }

    /// Adds all members to `out`.
    pub(crate) fn collect(&self, effort: &mut Effort, out: &mut Matches) -> Result<(), TooCostly> {
        match self {
            Self::Small(list) => {
                effort.walk(list.len())?;
                out.extend(list.iter().map(|entry| entry.0));
            }
            Self::Large(tree) => {
                effort.walk(tree.len())?;
                out.extend(tree.keys().copied());
            }
        }
        Ok(())
    }
}
