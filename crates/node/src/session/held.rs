//! Bytes that somebody holds, and that all hold together: counted until they are let go, however that comes about.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one holds of it.
#[derive(Debug)]
pub(super) struct Held {
    all: Arc<AtomicU64>,
    own: u64,
}

impl Held {
    /// Nothing yet; `all` counts what everybody holds.
    pub(super) fn of(all: &Arc<AtomicU64>) -> Self {
        let all = Arc::clone(all);
        Self { all, own: 0 }
    }

    /// Holds so many bytes more; returns how many all hold now.
    pub(super) fn more(&mut self, bytes: u64) -> u64 {
        self.own += bytes;
        self.all.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Holds so many bytes, where it held fewer or more.
    pub(super) fn set(&mut self, bytes: u64) {
        let before = std::mem::replace(&mut self.own, bytes);
        if bytes > before {
            self.all.fetch_add(bytes - before, Ordering::Relaxed);
        } else if bytes < before {
            self.all.fetch_sub(before - bytes, Ordering::Relaxed);
        }
    }

    /// Bytes that the others hold.
    pub(super) fn others(&self) -> u64 {
        self.all.load(Ordering::Relaxed).saturating_sub(self.own)
    }

    /// Lets go of everything.
    pub(super) fn release(&mut self) {
        let own = std::mem::take(&mut self.own);
        self.all.fetch_sub(own, Ordering::Relaxed);
    }

    /// Bytes of its own.
    pub(super) const fn own(&self) -> u64 {
        self.own
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_until_it_goes() {
        let all = Arc::default();
        let (mut a, mut b) = (Held::of(&all), Held::of(&all));
        assert_eq!((a.more(100), b.more(50), a.more(1)), (100, 150, 151));
        assert_eq!((a.own(), b.own()), (101, 50));
        a.release();
        assert_eq!((a.own(), all.load(Ordering::Relaxed)), (0, 50));
        assert_eq!((a.more(7), a.others()), (57, 50));
        a.set(20);
        assert_eq!((b.others(), all.load(Ordering::Relaxed)), (20, 70));
        a.set(7);
        drop(b);
        assert_eq!(all.load(Ordering::Relaxed), 7);
        drop(a);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
