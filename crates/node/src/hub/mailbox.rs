//! Where the events of one session arrive: a queue that takes no memory while nothing is in it.
//!
//! The channels of tokio keep a block of 32 places from their beginning; most connections are idle most of the
//! time, and there are many. Events are batches, so a lock for each is none for each message.

use super::api::SessionEvent;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

/// Places that an emptied queue keeps.
const KEPT: usize = 4;

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<SessionEvent>,
    waker: Option<Waker>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    senders: AtomicUsize,
}

/// A mailbox, empty.
#[must_use]
pub fn mailbox() -> (EventSender, SessionEvents) {
    let shared = Arc::new(Shared {
        queue: Mutex::default(),
        senders: AtomicUsize::new(1),
    });
    (EventSender(Arc::clone(&shared)), SessionEvents(shared))
}

/// Puts events into a session's mailbox.
#[derive(Debug)]
pub struct EventSender(Arc<Shared>);

impl EventSender {
    /// Adds an event and wakes the session.
    ///
    /// # Errors
    /// The session takes no more; the event comes back.
    pub fn send(&self, event: SessionEvent) -> Result<(), SessionEvent> {
        let waker = {
            let mut queue = self.0.queue.lock();
            if queue.closed {
                return Err(event);
            }
            queue.events.push_back(event);
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }
}

impl Clone for EventSender {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            let waker = self.0.queue.lock().waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// Where a session's events arrive. Bounded by what the session asked for: outcomes by its
/// sub-batches, deliveries by its credit.
#[derive(Debug)]
pub struct SessionEvents(Arc<Shared>);

impl SessionEvents {
    /// Waits for events and moves up to `limit` of them to `out`; how many. None when there is nobody left who
    /// could send one.
    pub async fn recv_many(&mut self, out: &mut Vec<SessionEvent>, limit: usize) -> usize {
        let shared = &self.0;
        tokio::task::coop::cooperative(poll_fn(|context| {
            let mut queue = shared.queue.lock();
            let count = queue.events.len().min(limit);
            if count > 0 {
                out.extend(queue.events.drain(..count));
                queue.tidy();
                return Poll::Ready(count);
            }
            if shared.senders.load(Ordering::Acquire) == 0 {
                return Poll::Ready(0);
            }
            match &mut queue.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        }))
        .await
    }

    /// Waits for an event; `None` when there is nobody left who could send one.
    pub async fn recv(&mut self) -> Option<SessionEvent> {
        let mut one = Vec::with_capacity(1);
        self.recv_many(&mut one, 1).await;
        one.pop()
    }

    /// An event that is there.
    pub fn try_recv(&mut self) -> Option<SessionEvent> {
        let mut queue = self.0.queue.lock();
        let event = queue.events.pop_front();
        queue.tidy();
        event
    }

    /// Takes no more events; those that are there stay.
    pub fn close(&mut self) {
        self.0.queue.lock().closed = true;
    }
}

impl Drop for SessionEvents {
    fn drop(&mut self) {
        let events = {
            let mut queue = self.0.queue.lock();
            queue.closed = true;
            queue.waker = None;
            std::mem::take(&mut queue.events)
        };
        // Outside of the lock: what is dropped may have something to say.
        drop(events);
    }
}

impl Queue {
    fn tidy(&mut self) {
        if self.events.is_empty() && self.events.capacity() > KEPT {
            self.events = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_model::ids::ConsumerId;
    use std::task::Context;

    fn starved(number: u64) -> SessionEvent {
        SessionEvent::Starved {
            consumer: ConsumerId(number),
        }
    }

    fn numbers(events: &[SessionEvent]) -> Vec<u64> {
        let number = |event: &SessionEvent| match event {
            SessionEvent::Starved { consumer } => consumer.0,
            other => panic!("{other:?}"),
        };
        events.iter().map(number).collect()
    }

    #[tokio::test]
    async fn events_come_in_order_and_in_parts() {
        let (sender, mut events) = mailbox();
        for number in 0..10 {
            sender.send(starved(number)).unwrap();
        }
        let mut out = Vec::new();
        assert_eq!(events.recv_many(&mut out, 4).await, 4);
        assert_eq!(events.recv_many(&mut out, 100).await, 6);
        assert_eq!(numbers(&out), (0..10).collect::<Vec<_>>());
        assert!(events.try_recv().is_none());
        assert!(
            events.0.queue.lock().events.capacity() <= KEPT,
            "an idle one holds nothing"
        );
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_an_event_and_by_the_last_senders_end() {
        let (sender, mut events) = mailbox();
        let other = sender.clone();
        let waiting = tokio::spawn(async move {
            let first = events.recv().await;
            let second = events.recv().await;
            (first.map(|event| numbers(&[event])), second.is_none())
        });
        tokio::task::yield_now().await;
        other.send(starved(7)).unwrap();
        tokio::task::yield_now().await;
        drop(sender);
        drop(other);
        let (first, ended) = waiting.await.unwrap();
        assert_eq!(first, Some(vec![7]));
        assert!(ended);
    }

    #[test]
    fn a_closed_one_gives_back_what_is_sent_and_keeps_what_it_has() {
        let (sender, mut events) = mailbox();
        sender.send(starved(1)).unwrap();
        events.close();
        let back = sender.send(starved(2)).unwrap_err();
        assert_eq!(numbers(&[back]), vec![2]);
        assert_eq!(numbers(&[events.try_recv().unwrap()]), vec![1]);
        drop(events);
        assert!(sender.send(starved(3)).is_err());
    }

    #[test]
    fn a_wait_that_is_given_up_takes_nothing() {
        let (sender, mut events) = mailbox();
        {
            let mut out = Vec::new();
            let mut waiting = std::pin::pin!(events.recv_many(&mut out, 1));
            let mut context = Context::from_waker(Waker::noop());
            assert!(waiting.as_mut().poll(&mut context).is_pending());
            sender.send(starved(5)).unwrap();
        }
        assert_eq!(numbers(&[events.try_recv().unwrap()]), vec![5]);
    }
}
