//! A fixed rate: when each message is due, whatever happened to those before it.

/// The schedule of one producer. A message that goes out late still counts from when it was due:
/// otherwise a broker that stalls would be asked for less just while it stalls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    start_ns: u64,
    interval_ns: f64,
}

impl Pace {
    /// Producer `index` of `producers` that together send `per_second`; their turns interleave.
    pub(crate) fn new(per_second: f64, index: usize, producers: usize, now_ns: u64) -> Self {
        let common_ns = 1e9 / per_second;
        Self {
            start_ns: now_ns + (common_ns * index as f64) as u64,
            interval_ns: common_ns * producers.max(1) as f64,
        }
    }

    /// When message `n`, counted from 0, is due.
    pub(crate) fn due_ns(&self, n: u64) -> u64 {
        self.start_ns + (self.interval_ns * n as f64) as u64
    }

    /// How many messages are due by `now_ns`.
    pub(crate) fn due_by(&self, now_ns: u64) -> u64 {
        match now_ns.checked_sub(self.start_ns) {
            Some(elapsed) => (elapsed as f64 / self.interval_ns) as u64 + 1,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_turns() {
        let paces: Vec<_> = (0..4).map(|n| Pace::new(1000.0, n, 4, 500)).collect();
        for n in 0..12 {
            let pace = paces[n % 4];
            assert_eq!(pace.due_ns((n / 4) as u64), 500 + n as u64 * 1_000_000);
        }
    }

    #[test]
    fn what_is_due() {
        let pace = Pace::new(100.0, 1, 2, 0);
        for (now_ms, expected) in [(0, 0), (9, 0), (10, 1), (29, 1), (30, 2), (1000, 50)] {
            assert_eq!(
                pace.due_by(now_ms * 1_000_000),
                expected,
                "after {now_ms} ms"
            );
        }
    }
}
