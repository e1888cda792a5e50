//! Heartbeats both ways: when to write one, and when a silent peer is taken for dead.
//!
//! Sender: every half interval, if nothing was written since the last check, write a heartbeat. A
//! heartbeat does not count as written, so that a quiet peer hears one in every half interval.
//! Receiver: every interval; two checks in a row without a byte read end the connection, so a dead
//! peer is known two to three intervals after its last byte. Any traffic counts, both ways.

use std::time::{Duration, Instant};

/// What a due check asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Due {
    /// Write a heartbeat frame.
    pub(crate) send: bool,
    /// The peer is dead.
    pub(crate) dead: bool,
}

/// The two checks. Without an interval (heartbeat 0) nothing is ever due.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    interval: Option<Duration>,
    send_check: Instant,
    written: bool,
    /// What is written next is a heartbeat.
    own: bool,
    receive_check: Instant,
    read: bool,
    silent_checks: u8,
    /// This side does not read: silence proves nothing.
    paused: bool,
}

impl Heartbeat {
    /// Checks that start at `now`, every `interval_s` seconds; 0 disables them.
    pub(crate) fn new(interval_s: u16, now: Instant) -> Self {
        let interval = (interval_s > 0).then(|| Duration::from_secs(u64::from(interval_s)));
        let step = interval.unwrap_or_default();
        Self {
            interval,
            send_check: now + step / 2,
            written: false,
            own: false,
            receive_check: now + step,
            read: false,
            silent_checks: 0,
            paused: false,
        }
    }

    pub(crate) fn interval(&self) -> Option<Duration> {
        self.interval
    }

    pub(crate) fn note_written(&mut self) {
        self.written |= !std::mem::take(&mut self.own);
    }

    pub(crate) fn note_read(&mut self) {
        self.read = true;
    }

    /// Stops or resumes the receiving check; it resumes with a full interval ahead.
    pub(crate) fn pause_receiving(&mut self, paused: bool, now: Instant) {
        if self.paused && !paused {
            self.silent_checks = 0;
            self.receive_check = now + self.interval.unwrap_or_default();
        }
        self.paused = paused;
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.interval?;
        Some(if self.paused {
            self.send_check
        } else {
            self.send_check.min(self.receive_check)
        })
    }

    pub(crate) fn check(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        let Some(interval) = self.interval else {
            return due;
        };
        if now >= self.send_check {
            due.send = !self.written;
            self.own = due.send;
            self.written = false;
            self.send_check = now + interval / 2;
        }
        if !self.paused && now >= self.receive_check {
            self.silent_checks = if self.read { 0 } else { self.silent_checks + 1 };
            self.read = false;
            self.receive_check = now + interval;
            due.dead = self.silent_checks >= 2;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn disabled_is_never_due() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(0, start);
        assert_eq!(heartbeat.next_timeout(), None);
        assert_eq!(heartbeat.check(start + 1000 * S), Due::default());
    }

    #[test]
    fn a_quiet_sender_writes_every_half_interval() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(10, start);
        assert_eq!(heartbeat.next_timeout(), Some(start + 5 * S));
        assert!(heartbeat.check(start + 5 * S).send);
        heartbeat.note_written(); // The heartbeat itself.
        assert!(heartbeat.check(start + 10 * S).send);
        heartbeat.note_written();
        heartbeat.note_written();
        assert!(
            !heartbeat.check(start + 15 * S).send,
            "something else was written since the last check"
        );
        assert!(heartbeat.check(start + 20 * S).send);
    }

    #[test]
    fn a_silent_peer_is_dead_after_two_checks_in_a_row() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(10, start);
        heartbeat.note_read();
        assert!(!heartbeat.check(start + 10 * S).dead);
        assert!(!heartbeat.check(start + 20 * S).dead);
        heartbeat.note_read();
        assert!(
            !heartbeat.check(start + 30 * S).dead,
            "a byte in between starts over"
        );
        assert!(!heartbeat.check(start + 40 * S).dead);
        assert!(heartbeat.check(start + 50 * S).dead);
    }

    #[test]
    fn while_this_side_does_not_read_silence_proves_nothing() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(10, start);
        heartbeat.pause_receiving(true, start);
        for n in 1..10 {
            assert!(!heartbeat.check(start + 10 * n * S).dead);
        }
        heartbeat.pause_receiving(false, start + 100 * S);
        assert!(!heartbeat.check(start + 105 * S).dead);
        assert!(!heartbeat.check(start + 110 * S).dead);
        assert!(heartbeat.check(start + 120 * S).dead);
    }
}
