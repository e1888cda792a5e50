//! Roughly how many bytes lie where in a group's log, in a few words per MiB.

use std::collections::VecDeque;

const RUN_BYTES: u64 = 256 << 10;

#[derive(Debug, Default)]
pub(crate) struct Sizes {
    runs: VecDeque<Run>,
    total: u64,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    /// Last index of this run; it begins behind the one before.
    last: u64,
    bytes: u64,
}

impl Sizes {
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn push(&mut self, index: u64, bytes: u64) {
        self.total += bytes;
        match self.runs.back_mut() {
            Some(run) if run.bytes < RUN_BYTES => {
                run.last = index;
                run.bytes += bytes;
            }
            _ => self.runs.push_back(Run { last: index, bytes }),
        }
    }

    /// Forgets entries from `next` on. Of a run that is cut in two, all bytes stay counted until
    /// its rest goes: an estimate.
    pub(crate) fn truncate(&mut self, next: u64) {
        let Some(last) = next.checked_sub(1) else {
            *self = Self::default();
            return;
        };
        while let Some(run) = self.runs.pop_back() {
            let before = self.runs.back().map(|run| run.last);
            if before.is_none_or(|before| before < last) && (before.is_some() || run.last >= last) {
                self.runs.push_back(Run {
                    last: run.last.min(last),
                    ..run
                });
                return;
            }
            self.total -= run.bytes;
        }
    }

    /// Forgets entries up to `upto`; returns the bytes that are known to be gone.
    pub(crate) fn purge(&mut self, upto: u64) -> u64 {
        let mut gone = 0;
        while let Some(run) = self.runs.front().copied() {
            if run.last > upto {
                break;
            }
            gone += run.bytes;
            self.runs.pop_front();
        }
        self.total -= gone;
        gone
    }

    /// The highest index such that about `keep` bytes lie behind it.
    pub(crate) fn before_tail(&self, keep: u64) -> Option<u64> {
        let mut kept = 0;
        for run in self.runs.iter().rev() {
            if kept >= keep {
                return Some(run.last);
            }
            kept += run.bytes;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(count: u64, bytes: u64) -> Sizes {
        let mut sizes = Sizes::default();
        for index in 1..=count {
            sizes.push(index, bytes);
        }
        sizes
    }

    #[test]
    fn the_tail_is_kept() {
        let sizes = filled(100, 1 << 19);
        assert_eq!(sizes.total(), 50 << 20);
        assert_eq!(sizes.before_tail(10 << 20), Some(80));
        assert_eq!(sizes.before_tail(50 << 20), None);
        assert_eq!(sizes.before_tail(0), Some(100));
    }

    proptest! {
        #[test]
        fn counts_never_go_wrong_by_more_than_a_run(
            steps in prop::collection::vec((0..3u8, 0..400u64), 0..60)
        ) {
            let mut sizes = Sizes::default();
            let (mut first, mut next) = (1u64, 1u64);
            for (kind, amount) in steps {
                match kind {
                    0 => for _ in 0..amount {
                        sizes.push(next, 10_000);
                        next += 1;
                    },
                    1 => {
                        next = next.saturating_sub(amount).max(first);
                        sizes.truncate(next);
                    }
                    _ => {
                        let upto = (first + amount).min(next) - 1;
                        sizes.purge(upto);
                        first = first.max(upto + 1);
                    }
                }
                prop_assert!(sizes.runs.iter().all(|run| run.last < next || first == next));
                let real = (next - first) * 10_000;
                // A cut run keeps its bytes: one run at each end may be wrong, per truncation.
                prop_assert!(sizes.total() + 2 * RUN_BYTES >= real);
                prop_assert_eq!(sizes.total(), sizes.runs.iter().map(|run| run.bytes).sum::<u64>());
            }
        }
    }
}
