//! Rates of single queues, connections, channels and exchanges, for those that somebody has looked at lately.
//!
//! As with [`crate::rates`] nothing runs in the background. Two samples of each are enough, and
//! both how many are remembered and for how long is bounded.

use crate::rates::{SPAN_MAX, SPAN_MIN};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

/// Of each kind so many are remembered. Others show no rates.
const OBJECTS: usize = 32 * 1024;

/// Rates of everything that is shown with some.
#[derive(Debug, Default)]
pub(crate) struct AllRates {
    /// By id: the eight counts of a queue's tally, its ready and its unacknowledged messages.
    pub(crate) queues: Mutex<ObjectRates<u64, 10>>,
    /// By node and serial: bytes received and sent.
    pub(crate) connections: Mutex<ObjectRates<(u64, u64), 2>>,
    /// By node, serial and number: what has happened on it.
    pub(crate) channels: Mutex<ObjectRates<(u64, u64, u16), 11>>,
    /// By who looks: ready and unacknowledged messages of all queues that it sees.
    pub(crate) totals: Mutex<ObjectRates<String, 2>>,
    /// By virtual host and name: messages in and out.
    pub(crate) exchanges: Mutex<ObjectRates<(String, String), 2>>,
    /// By name: what has happened on channels of a virtual host.
    pub(crate) vhosts: Mutex<ObjectRates<String, 11>>,
    /// By name: bytes received and sent, ready and unacknowledged messages of a virtual host.
    pub(crate) vhost_totals: Mutex<ObjectRates<String, 4>>,
}

impl AllRates {
    /// Forgets all samples.
    pub(crate) fn reset(&self) {
        *self.queues.lock() = ObjectRates::default();
        *self.totals.lock() = ObjectRates::default();
        *self.connections.lock() = ObjectRates::default();
        *self.channels.lock() = ObjectRates::default();
        *self.exchanges.lock() = ObjectRates::default();
        *self.vhosts.lock() = ObjectRates::default();
        *self.vhost_totals.lock() = ObjectRates::default();
    }
}

/// Samples of one object. `older` is at least [`SPAN_MIN`] before `newer`.
#[derive(Debug)]
struct Samples<const N: usize> {
    older: Option<(Instant, [u64; N])>,
    newer: (Instant, [u64; N]),
}

/// Recent samples of objects of one kind, `N` numbers each.
#[derive(Debug)]
pub(crate) struct ObjectRates<K, const N: usize> {
    objects: HashMap<K, Samples<N>>,
    cleaned: Option<Instant>,
}

impl<K, const N: usize> Default for ObjectRates<K, N> {
    fn default() -> Self {
        Self {
            objects: HashMap::new(),
            cleaned: None,
        }
    }
}

impl<K: Eq + Hash, const N: usize> ObjectRates<K, N> {
    /// Notes an object's numbers and returns by how much each grows in a second; zeros at the first look. What shrinks
    /// grows by less than nothing: a counter that does belongs to somebody who counts anew.
    pub(crate) fn update(&mut self, now: Instant, key: K, sample: [u64; N]) -> [f64; N] {
        self.forget_old(now);
        if sample.iter().all(|count| *count == 0) {
            return [0.0; N];
        }
        let age = |at: Instant| now.saturating_duration_since(at);
        let first = Samples {
            older: None,
            newer: (now, sample),
        };
        let Some(known) = self.objects.get_mut(&key) else {
            if self.objects.len() < OBJECTS {
                self.objects.insert(key, first);
            }
            return [0.0; N];
        };
        if age(known.newer.0) > SPAN_MAX {
            // What is known is too old.
            *known = first;
            return [0.0; N];
        }
        let base = if age(known.newer.0) >= SPAN_MIN {
            let base = std::mem::replace(&mut known.newer, (now, sample));
            known.older = Some(base);
            base
        } else {
            known.older.unwrap_or(known.newer)
        };
        growth(base.1, sample, age(base.0).as_secs_f64())
    }

    /// Those that nobody asks for any more make room for others.
    fn forget_old(&mut self, now: Instant) {
        let age = |at: Instant| now.saturating_duration_since(at);
        if age(*self.cleaned.get_or_insert(now)) >= SPAN_MAX {
            self.cleaned = Some(now);
            self.objects
                .retain(|_, samples| age(samples.newer.0) <= SPAN_MAX);
        }
    }
}

fn growth<const N: usize>(before: [u64; N], now: [u64; N], seconds: f64) -> [f64; N] {
    if seconds <= 0.0 {
        return [0.0; N];
    }
    let mut growth = now.map(|count| count as f64);
    for (growth, before) in growth.iter_mut().zip(before) {
        *growth = (*growth - before as f64) / seconds;
    }
    growth
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rates_over_time() {
        let mut rates = ObjectRates::default();
        let start = Instant::now();
        let mut at = |seconds: u64, published: u64, ready: u64| {
            let now = start + Duration::from_secs(seconds);
            rates.update(now, 1, [published, ready])
        };
        assert_eq!(at(0, 100, 50), [0.0, 0.0]); // The first look.
        assert_eq!(at(2, 300, 40), [100.0, -5.0]);
        assert_eq!(at(5, 600, 50), [100.0, 0.0]); // Over five seconds since the first look.
        assert_eq!(at(6, 1200, 50), [1100.0 / 6.0, 0.0]); // Two looks in a row show no noise.
        assert_eq!(at(10, 10, 50), [-118.0, 0.0]); // Somebody else counts, anew.
        assert_eq!(at(200, 20, 50), [0.0, 0.0]); // What was known is too old.
        assert_eq!(at(201, 30, 50), [10.0, 0.0]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut rates = ObjectRates::default();
        let start = Instant::now();
        for object in 0..OBJECTS + 10 {
            rates.update(start, object, [1]);
            rates.update(start, object, [0]); // Nothing to remember.
        }
        assert_eq!(rates.objects.len(), OBJECTS);
        let later = start + SPAN_MAX + Duration::from_secs(1);
        rates.update(later, 0, [1]);
        assert_eq!(rates.objects.len(), 1);
    }
}
