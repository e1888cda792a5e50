//! Sets of binding destinations that count how many bindings lead to each.

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
    pub(crate) fn collect(&self, out: &mut Matches) {
        match self {
            Self::Small(list) => out.extend(list.iter().map(|entry| entry.0)),
            Self::Large(tree) => out.extend(tree.keys().copied()),
        }
    }
}
