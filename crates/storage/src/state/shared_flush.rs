//! One flush for several checkpoints that are written at the same time.
//!
//! A flush makes everything durable that was written before it, whoever wrote it, and costs the same
//! for one as for ten. Whoever has written waits for those that are about to, and the first to
//! find nobody left flushes for all.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest wait for others; a stream of new ones must not put a flush off for ever.
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct Counts {
    /// Checkpoints that have begun and not written everything yet.
    writing: usize,
    /// Checkpoints written so far.
    written: u64,
    /// How many of them are flushed.
    flushed: u64,
}

/// Who writes, who has written, and what is flushed.
#[derive(Debug, Default)]
pub(crate) struct SharedFlushes {
    counts: Mutex<Counts>,
    changed: Condvar,
}

impl SharedFlushes {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A checkpoint begins.
    pub(crate) fn arrive(&self) -> Arrived<'_> {
        self.counts().writing += 1;
        Arrived { flushes: self }
    }
}

/// A checkpoint that has begun. Others wait for it until it is written or dropped.
#[derive(Debug)]
pub(crate) struct Arrived<'a> {
    flushes: &'a SharedFlushes,
}

impl<'a> Arrived<'a> {
    /// Everything of it is written. The caller still has the right to write.
    pub(crate) fn written(self) -> Written<'a> {
        let flushes = self.flushes;
        let mut counts = flushes.counts();
        counts.written += 1;
        Written {
            flushes,
            ticket: counts.written,
        }
    }
}

impl Drop for Arrived<'_> {
    fn drop(&mut self) {
        self.flushes.counts().writing -= 1;
        self.flushes.changed.notify_all();
    }
}

/// A checkpoint that is written.
#[derive(Debug)]
pub(crate) struct Written<'a> {
    flushes: &'a SharedFlushes,
    ticket: u64,
}

impl Written<'_> {
    /// Waits until it is flushed or nobody else is about to write. The caller must not have the right to
    /// write, which those need.
    pub(crate) fn await_turn(&self) {
        let waits = |counts: &mut Counts| counts.writing > 0 && counts.flushed < self.ticket;
        let counts = self.flushes.counts();
        let waited = self
            .flushes
            .changed
            .wait_timeout_while(counts, PATIENCE, waits);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether somebody has flushed it. The caller has the right to write.
    pub(crate) fn is_flushed(&self) -> bool {
        self.flushes.counts().flushed >= self.ticket
    }

    /// Everything that is written is flushed. The caller has the right to write, and had it while it
    /// flushed.
    pub(crate) fn flushed(&self) {
        {
            let mut counts = self.flushes.counts();
            counts.flushed = counts.written;
        }
        self.flushes.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn many_checkpoints_share_few_flushes() {
        let flushes = SharedFlushes::default();
        let writer = Mutex::new(());
        let count = AtomicUsize::new(0);
        // All have begun before the first one is written.
        let arrived: Vec<_> = (0..8).map(|_| flushes.arrive()).collect();
        std::thread::scope(|scope| {
            for arrived in arrived {
                let (writer, count) = (&writer, &count);
                scope.spawn(move || {
                    let written = {
                        let _right = writer.lock().unwrap();
                        arrived.written()
                    };
                    written.await_turn();
                    let _right = writer.lock().unwrap();
                    if !written.is_flushed() {
                        count.fetch_add(1, Ordering::Relaxed);
                        written.flushed();
                    }
                    assert!(written.is_flushed());
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn one_that_fails_is_not_waited_for() {
        let flushes = SharedFlushes::default();
        let failing = flushes.arrive();
        let written = flushes.arrive().written();
        drop(failing);
        written.await_turn();
        assert!(!written.is_flushed());
        assert_eq!(flushes.counts().writing, 0);
    }
}
