//! Slows down publishers that a queue's consumers cannot follow.
//!
//! A publisher that waits for no confirms is faster than any consumer: what it sends costs half of what it takes
//! to hand it out. Its queue would grow until the memory alarm, and every message in it would be written to
//! memory and read back instead of passing through a cache. So while a queue of the host in this process has a
//! backlog that its consumers are working on ([`Backlogs`](crate::host::backlogs)), sessions that have much under
//! way hear of its outcome a little later, and read their sockets that much later. Others hear of theirs at once.

use super::super::api::{SessionEvent, SessionId};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A session with more bytes of publishes than this under way waits for no confirms, or for very many.
const FLOOD_BYTES: usize = 1 << 20;
/// An outcome is held back so long at most.
const HOLD: Duration = Duration::from_millis(25);

#[derive(Debug)]
struct HeldBack {
    until: Instant,
    session: SessionId,
    bytes: usize,
    event: SessionEvent,
}

/// The outcomes that are held back.
#[derive(Debug, Default)]
pub(super) struct Brake {
    /// Whether there is such a backlog; without it nothing is held back.
    backlog: Option<watch::Receiver<bool>>,
    held: VecDeque<HeldBack>,
    /// Bytes of sub-batches of each session of which it has not heard.
    under_way: HashMap<SessionId, usize>,
}

impl Brake {
    /// One that acts on these backlogs.
    pub(super) fn on(backlog: watch::Receiver<bool>) -> Self {
        Self {
            backlog: Some(backlog),
            ..Self::default()
        }
    }

    /// A session has handed over so much.
    pub(super) fn submitted(&mut self, session: SessionId, bytes: usize) {
        if self.backlog.is_some() {
            *self.under_way.entry(session).or_default() += bytes;
        }
    }

    /// What a session is to hear about so much of it; `None`: it is held back.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        session: SessionId,
        bytes: usize,
        event: SessionEvent,
    ) -> Option<SessionEvent> {
        let Some(backlog) = &self.backlog else {
            return Some(event);
        };
        let floods = self
            .under_way
            .get(&session)
            .is_some_and(|under_way| *under_way > FLOOD_BYTES);
        // What is held back already comes first.
        let waits = self.held.iter().any(|held| held.session == session);
        if waits || (floods && *backlog.borrow()) {
            self.held.push_back(HeldBack {
                until: now + HOLD,
                session,
                bytes,
                event,
            });
            return None;
        }
        self.heard(session, bytes);
        Some(event)
    }

    /// The next outcome that has been held back for long enough.
    pub(super) fn release(&mut self, now: Instant) -> Option<(SessionId, SessionEvent)> {
        let holds = self
            .backlog
            .as_ref()
            .is_some_and(|backlog| *backlog.borrow());
        let held = self.held.pop_front_if(|held| !holds || held.until <= now)?;
        self.heard(held.session, held.bytes);
        Some((held.session, held.event))
    }

    /// Returns when [`release`](Self::release) may have something; never if nothing is held back.
    pub(super) async fn released(&mut self) {
        let Some(until) = self.held.front().map(|held| held.until) else {
            return std::future::pending().await;
        };
        let Some(backlog) = &mut self.backlog else {
            return;
        };
        tokio::select! {
            () = sleep_until(until) => {}
            Ok(_) = backlog.wait_for(|there_is| !*there_is) => {}
        }
    }

    /// A session is over.
    pub(super) fn gone(&mut self, session: SessionId) {
        self.under_way.remove(&session);
        self.held.retain(|held| held.session != session);
    }

    /// A session has heard about so much of what it handed over.
    pub(super) fn heard(&mut self, session: SessionId, bytes: usize) {
        if let Some(under_way) = self.under_way.get_mut(&session) {
            *under_way = under_way.saturating_sub(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: SessionId = SessionId(1);
    const POLITE: SessionId = SessionId(2);

    fn outcome(token: u64) -> SessionEvent {
        SessionEvent::Outcome {
            token,
            refused_ops: Vec::new(),
            given_up: false,
        }
    }

    fn released(brake: &mut Brake, now: Instant) -> Vec<(SessionId, u64)> {
        std::iter::from_fn(|| brake.release(now))
            .map(|(session, event)| match event {
                SessionEvent::Outcome { token, .. } => (session, token),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[tokio::test]
    async fn floods_wait_for_the_backlog_and_others_do_not() {
        let (backlog, receiver) = watch::channel(true);
        let mut brake = Brake::on(receiver);
        let now = Instant::now();
        brake.submitted(FLOOD, FLOOD_BYTES);
        brake.submitted(FLOOD, 1);
        brake.submitted(POLITE, 1000);
        assert!(
            brake
                .answered(now, FLOOD, FLOOD_BYTES, outcome(1))
                .is_none()
        );
        assert!(brake.answered(now, POLITE, 1000, outcome(2)).is_some());
        // In order, although so little does not make a flood any more.
        assert!(brake.answered(now, FLOOD, 1, outcome(3)).is_none());
        assert_eq!(released(&mut brake, now), []);
        backlog.send_replace(false);
        brake.released().await;
        assert_eq!(released(&mut brake, now), [(FLOOD, 1), (FLOOD, 3)]);
        backlog.send_replace(true);
        brake.submitted(FLOOD, 1);
        assert!(brake.answered(now, FLOOD, 1, outcome(4)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_held_back_for_long() {
        let (_backlog, receiver) = watch::channel(true);
        let mut brake = Brake::on(receiver);
        brake.submitted(FLOOD, 2 * FLOOD_BYTES);
        let now = Instant::now();
        assert!(
            brake
                .answered(now, FLOOD, FLOOD_BYTES, outcome(1))
                .is_none()
        );
        brake.released().await;
        assert!(now.elapsed() >= HOLD && now.elapsed() < 2 * HOLD);
        assert_eq!(released(&mut brake, Instant::now()), [(FLOOD, 1)]);
    }

    #[tokio::test]
    async fn without_a_backlog_to_look_at_nothing_is_held_back() {
        let mut brake = Brake::default();
        brake.submitted(FLOOD, 2 * FLOOD_BYTES);
        let event = brake.answered(Instant::now(), FLOOD, FLOOD_BYTES, outcome(1));
        assert!(event.is_some());
    }
}
