//! Carries messages from one connection to the other, and confirms back.

use super::setup::{Begun, CHANNEL};
use super::{Outcome, stopped};
use crate::client::{Delivery, Error, Event};
use crate::config::{AckMode, Definition};
use crate::forward::Rewriter;
use crate::ledger::Ledger;
use crate::status::{Blocked, Status, now_s};
use amqp_codec::{Content, ShortStr};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// With so many bytes that the destination has not taken the source is not read.
const OUTPUT_MAX: usize = 1 << 20;
/// It is again when so many are left.
const OUTPUT_LOW: usize = OUTPUT_MAX / 4;
/// Bytes of messages that wait while the destination is blocked.
const PENDING_MAX: usize = 16 << 20;
/// What the destination has refused goes back after so long: it would come again at once, and be refused again.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// The end of a connection may take so long,
const GOODBYE: Duration = Duration::from_secs(2);
/// and so long if the last messages are still on their way.
const DONE: Duration = Duration::from_secs(30);

/// A shovel at work.
pub(super) struct Flow<'a> {
    definition: &'a Definition,
    status: &'a Status,
    rewriter: Rewriter,
    ends: Begun,
    ledger: Ledger,
    /// What has come while the destination is blocked.
    pending: VecDeque<Delivery>,
    pending_bytes: usize,
    /// The destination takes no publishes.
    blocked: bool,
    /// As it was told last.
    shown: Blocked,
    /// The destination is to catch up.
    waits: bool,
    /// Messages until the work is done.
    remaining: Option<u64>,
    /// Messages that may still be published.
    unpublished: Option<u64>,
    forwarded: u64,
    give_back_at: Option<Instant>,
    ends_at: Option<Instant>,
}

enum Happened {
    AtSource(Result<Event, Error>),
    AtDestination(Result<Event, Error>),
    GiveBack,
    TimeIsUp,
    Stop,
}

impl<'a> Flow<'a> {
    pub(super) fn new(
        definition: &'a Definition,
        status: &'a Status,
        rewriter: Rewriter,
        ends: Begun,
    ) -> Self {
        let remaining = ends.remaining;
        let lives = definition.source.delete_after_duration;
        let flow = Self {
            definition,
            status,
            rewriter,
            ends,
            ledger: Ledger::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            blocked: false,
            shown: Blocked::No,
            waits: false,
            remaining,
            unpublished: remaining,
            forwarded: 0,
            give_back_at: None,
            ends_at: lives.map(|lives| Instant::now() + lives),
        };
        flow.tell();
        flow
    }

    /// Runs until something ends it.
    pub(super) async fn carry(mut self, stop: &mut watch::Receiver<bool>) -> Outcome {
        let outcome = loop {
            match self.turn(stop).await {
                Ok(()) if self.remaining == Some(0) => break Outcome::Done,
                Ok(()) => {}
                Err(outcome) => break outcome,
            }
        };
        let is_done = matches!(outcome, Outcome::Done);
        // A connection that is lost needs no goodbye, and waits for none.
        let patience = if is_done { DONE } else { GOODBYE };
        if !self.ends.close(patience).await && is_done {
            return Outcome::Failed("destination: the last messages may not have come".into());
        }
        outcome
    }

    async fn turn(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), Outcome> {
        let waiting = self.ends.destination.output_len();
        self.waits = waiting >= OUTPUT_MAX || (self.waits && waiting > OUTPUT_LOW);
        self.show();
        let read = self.pending_bytes < PENDING_MAX && !self.waits;
        let drained_at = self.waits.then_some(OUTPUT_LOW);
        let happened = tokio::select! {
            event = self.ends.source.turn(read, None) => Happened::AtSource(event),
            event = self.ends.destination.turn(true, drained_at) => Happened::AtDestination(event),
            () = until(self.give_back_at) => Happened::GiveBack,
            () = until(self.ends_at) => Happened::TimeIsUp,
            () = stopped(stop) => Happened::Stop,
        };
        match happened {
            Happened::AtSource(event) => {
                let event = event.map_err(|error| lost("source", &error))?;
                self.at_source(event)?;
            }
            Happened::AtDestination(event) => {
                let event = event.map_err(|error| lost("destination", &error))?;
                self.at_destination(event)?;
            }
            Happened::GiveBack => self.give_back(),
            Happened::TimeIsUp => return Err(Outcome::Done),
            Happened::Stop => return Err(Outcome::Stopped),
        }
        self.tell();
        Ok(())
    }

    fn at_source(&mut self, event: Event) -> Result<(), Outcome> {
        match event {
            Event::Delivery(delivery) if self.blocked => {
                self.pending_bytes += delivery.size();
                self.pending.push_back(delivery);
                Ok(())
            }
            Event::Delivery(delivery) => self.forward(delivery),
            Event::Cancelled => Err(Outcome::Failed("the source queue is gone".into())),
            Event::ChannelClosed { code, text, .. } => {
                Err(lost("source", &Error::ChannelClosed { code, text }))
            }
            _ => Ok(()),
        }
    }

    fn at_destination(&mut self, event: Event) -> Result<(), Outcome> {
        match event {
            Event::Confirmed { sequence, multiple } => {
                let count = self.ledger.confirmed(sequence, multiple);
                self.settled(count);
            }
            Event::Refused { sequence, multiple } => {
                let count = self.ledger.refused(sequence, multiple);
                self.settled(count);
                if count > 0 && self.give_back_at.is_none() {
                    self.give_back_at = Some(Instant::now() + GIVE_BACK);
                }
            }
            // The confirm that follows would acknowledge a message that is nowhere.
            Event::Returned { text } => {
                let reason = format!("the destination queue is gone: {text}");
                return Err(Outcome::Failed(reason));
            }
            Event::Blocked => self.blocked = true,
            Event::Unblocked => {
                self.blocked = false;
                self.pending_bytes = 0;
                for delivery in std::mem::take(&mut self.pending) {
                    self.forward(delivery)?;
                }
            }
            Event::ChannelClosed { code, text, .. } => {
                return Err(lost("destination", &Error::ChannelClosed { code, text }));
            }
            _ => {}
        }
        Ok(())
    }

    /// Publishes a delivery. What comes after the last message that is to be moved stays where it was.
    fn forward(&mut self, delivery: Delivery) -> Result<(), Outcome> {
        if self.unpublished == Some(0) {
            return Ok(());
        }
        let properties = self
            .rewriter
            .rewrite(&delivery.properties, now_s())
            .map_err(|error| Outcome::Failed(format!("properties of a message: {error}")))?;
        let to = &self.definition.destination;
        let named = |name: &Option<ShortStr>, own: &ShortStr| name.as_ref().unwrap_or(own).clone();
        let exchange = named(&to.exchange, &delivery.exchange);
        let key = named(&to.key, &delivery.routing_key);
        let confirms = self.definition.ack_mode == AckMode::OnConfirm;
        // To a queue: if it is deleted meanwhile, the message is not to be confirmed and lost.
        let mandatory = confirms && to.queue.is_some();
        let content = Content {
            properties: &properties,
            body: &delivery.body,
        };
        self.ends
            .destination
            .publish(CHANNEL, &exchange, &key, mandatory, content);
        self.forwarded += 1;
        self.unpublished = self.unpublished.map(|count| count.saturating_sub(1));
        if confirms {
            self.ledger.published(delivery.tag);
            return Ok(());
        }
        if self.definition.acknowledges() {
            self.ends.source.ack(CHANNEL, delivery.tag, false);
        }
        self.settled(1);
        Ok(())
    }

    fn settled(&mut self, count: u64) {
        self.remaining = self.remaining.map(|left| left.saturating_sub(count));
        // Everything is answered: there is no reason to wait with what goes back.
        if self.remaining == Some(0) {
            self.give_back();
        }
        self.acknowledge();
    }

    fn acknowledge(&mut self) {
        if let Some(tag) = self.ledger.take_acknowledged() {
            self.ends.source.ack(CHANNEL, tag, true);
        }
    }

    fn give_back(&mut self) {
        self.give_back_at = None;
        for tag in self.ledger.take_refused() {
            self.ends.source.give_back(CHANNEL, tag);
        }
        self.acknowledge();
    }

    fn show(&mut self) {
        let now = match (self.blocked, self.waits) {
            (true, _) => Blocked::Yes,
            (false, true) => Blocked::Flow,
            (false, false) => Blocked::No,
        };
        if now != self.shown {
            self.shown = now;
            self.status.set_blocked(now);
        }
    }

    fn tell(&self) {
        self.status.count(
            self.remaining,
            self.unpublished,
            self.pending.len(),
            self.forwarded,
        );
    }
}

fn lost(side: &str, error: &Error) -> Outcome {
    Outcome::Failed(format!("{side}: {error}"))
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
