//! Whether an election still waits for an answer.
//!
//! One that has its majority waits for nobody: how long the others take, a member with a slow disk for one, is no reason
//! to give the next election longer.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An election that this node asks for in a group, or would ask for.
#[derive(Debug, Default)]
pub(super) struct Ballot {
    term: u64,
    pre_vote: bool,
    asked: AtomicUsize,
    granted: AtomicUsize,
}

/// The latest one.
#[derive(Debug, Default)]
pub(crate) struct Ballots(Mutex<Arc<Ballot>>);

impl Ballots {
    /// A member is asked.
    pub(super) fn ask(&self, term: u64, pre_vote: bool) -> Arc<Ballot> {
        let mut latest = self.0.lock();
        if (latest.term, latest.pre_vote) != (term, pre_vote) {
            *latest = Arc::new(Ballot {
                term,
                pre_vote,
                ..Ballot::default()
            });
        }
        latest.asked.fetch_add(1, Ordering::Relaxed);
        Arc::clone(&latest)
    }
}

impl Ballot {
    /// A member has answered. Whether that was waited for: with this node's own vote there was no majority before.
    pub(super) fn answered(&self, granted: bool) -> bool {
        // This node is a voter too.
        let needed = self.asked.load(Ordering::Relaxed).div_ceil(2);
        let before = match granted {
            true => self.granted.fetch_add(1, Ordering::Relaxed),
            false => self.granted.load(Ordering::Relaxed),
        };
        before < needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for() {
        for (others, answers, waited_for, why) in [
            (2, &[true, true][..], &[true, false][..], "one of two"),
            (
                2,
                &[false, true],
                &[true, true],
                "one that refuses does not count",
            ),
            (
                4,
                &[true, true, true],
                &[true, true, false],
                "two of four others",
            ),
            (
                3,
                &[true, true, true],
                &[true, true, false],
                "three of four voters",
            ),
            (1, &[true], &[true], "the only one"),
        ] {
            let ballots = Ballots::default();
            let asked: Vec<_> = (0..others).map(|_| ballots.ask(7, false)).collect();
            let found: Vec<_> = (answers.iter().zip(&asked))
                .map(|(granted, ballot)| ballot.answered(*granted))
                .collect();
            assert_eq!(found, waited_for, "{why}");
        }
    }

    #[test]
    fn each_election_is_by_itself() {
        let ballots = Ballots::default();
        let would = [ballots.ask(7, true), ballots.ask(7, true)];
        assert!(would[0].answered(true));
        let asks = [ballots.ask(7, false), ballots.ask(7, false)];
        assert!(!would[1].answered(true), "it had its majority");
        assert!(asks[0].answered(true));
        assert!(!asks[1].answered(true));
    }
}
