//! One queue of a dispatcher: its stocks, its consumers, its settings.

use super::bench::Bench;
use super::outbox::QueueCounts;
use super::stock::Stock;
use super::tally::Tally;
use crate::catalog::settings::{DelayedRetry, DeliveryLimit, Overflow, QueueSettings, Store};
use crate::ids::{QueueId, Sequence};
use crate::queue::{QueueState, RangeSet};
use std::sync::Arc;

/// When a queue is looked at again that may not end yet.
const EXPIRE_AGAIN_MS: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) queue: QueueId,
    /// `None`: not given yet, or the catalog's record is gone.
    pub(super) settings: Option<Arc<QueueSettings>>,
    /// Ascending by level; none before the first message or consumer.
    pub(super) stocks: Vec<Stock>,
    /// All that was there when this dispatcher began has a stock, or is gone: another level is new, and so are its
    /// messages, however soon they expire.
    has_begun: bool,
    bench: Option<Box<Bench>>,
    /// Dead letters that the publisher has and that are not settled.
    pub(super) at_publisher: Option<Box<RangeSet>>,
    /// Stands in the list of desks to be served.
    pub(super) listed: bool,
    /// When its timer is set, or 0.
    pub(super) timer_ms: u64,
    /// Last use in the sense of `x-expires`.
    pub(super) last_used_ms: u64,
    /// Admitted and not yet applied (`reject-publish`).
    pub(super) pending: u64,
    pub(super) pending_bytes: u64,
    /// Failed deliveries after which a message dies where the settings name no number.
    pub(super) default_delivery_limit: Option<u64>,
    /// None before the first message.
    tally: Option<Box<Tally>>,
}

impl Desk {
    pub(super) fn new(queue: QueueId, now_ms: u64) -> Self {
        Self {
            queue,
            settings: None,
            stocks: Vec::new(),
            has_begun: false,
            bench: None,
            at_publisher: None,
            listed: false,
            timer_ms: 0,
            last_used_ms: now_ms,
            pending: 0,
            pending_bytes: 0,
            default_delivery_limit: None,
            tally: None,
        }
    }

    pub(super) fn tally_mut(&mut self) -> &mut Tally {
        self.tally.get_or_insert_default()
    }

    pub(super) fn bench(&self) -> Option<&Bench> {
        self.bench.as_deref()
    }

    pub(super) fn bench_mut(&mut self) -> Option<&mut Bench> {
        self.bench.as_deref_mut()
    }

    pub(super) fn bench_or_new(&mut self) -> &mut Bench {
        self.bench.get_or_insert_default()
    }

    pub(super) fn drop_bench(&mut self) {
        self.bench = None;
    }

    pub(super) fn consumer_count(&self) -> usize {
        self.bench.as_ref().map_or(0, |bench| bench.consumers.len())
    }

    /// The failed deliveries of a message that its consumer is told; 0 tells nothing.
    pub(super) fn shown_delivery_count(&self, state: &QueueState, sequence: Sequence) -> u32 {
        let shows = self
            .settings
            .as_ref()
            .is_some_and(|settings| settings.shows_delivery_count());
        if shows {
            state.delivery_count(sequence)
        } else {
            0
        }
    }

    pub(super) fn single_active(&self) -> bool {
        self.settings
            .as_ref()
            .is_some_and(|settings| settings.single_active_consumer)
    }

    /// How long messages that come back wait, if they do.
    pub(super) fn delayed_retry(&self) -> Option<DelayedRetry> {
        self.settings.as_ref()?.delayed_retry
    }

    /// Ends the delays that are over. Returns when the next one is.
    pub(super) fn end_delays(&mut self, now_ms: u64) -> Option<u64> {
        let stocks = self.stocks.iter_mut();
        stocks.filter_map(|stock| stock.end_delays(now_ms)).min()
    }

    /// Failed deliveries after which a message dies.
    pub(super) fn delivery_limit(&self) -> Option<u64> {
        let settings = self.settings.as_ref()?;
        match settings.delivery_limit {
            Some(DeliveryLimit::Failures(limit)) => Some(limit),
            Some(DeliveryLimit::Unlimited) => None,
            None => self.default_delivery_limit,
        }
    }

    /// Whether what dies goes to the dead letter publisher.
    pub(super) fn dead_letters(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| {
            settings.dead_letter_exchange.is_some() || settings.store == Some(Store::Delay)
        })
    }

    /// Whether messages are read here and not taken.
    pub(super) fn is_stream(&self) -> bool {
        self.settings
            .as_ref()
            .is_some_and(|settings| settings.is_stream())
    }

    /// When a message ends, going by the time that is kept with it; `u64::MAX`: never.
    pub(super) fn ends_at_ms(&self, kept_ms: Option<u64>) -> u64 {
        let ends_at_ms = match &self.settings {
            // Kept is the time at which it came.
            Some(settings) if settings.is_stream() => kept_ms
                .zip(settings.max_age_ms)
                .map(|(came_ms, age_ms)| came_ms.saturating_add(age_ms)),
            _ => kept_ms,
        };
        ends_at_ms.unwrap_or(u64::MAX)
    }

    /// Whether messages wait here for their time, to be passed on then.
    pub(super) fn delays(&self) -> bool {
        self.settings
            .as_ref()
            .is_some_and(|settings| settings.store == Some(Store::Delay))
    }

    /// When the queue has been unused for too long, if nobody uses it until then.
    pub(super) fn unused_until_ms(&self) -> Option<u64> {
        let expires_ms = self.settings.as_ref()?.expires_ms?;
        (self.consumer_count() == 0).then(|| self.last_used_ms.saturating_add(expires_ms))
    }

    /// Its time is over, but something stands in the way of its end: it is looked at again in a moment.
    pub(super) fn expire_later(&mut self, now_ms: u64) {
        let expires_ms = self.settings.as_ref().and_then(|s| s.expires_ms);
        let again_ms = now_ms + EXPIRE_AGAIN_MS;
        self.last_used_ms = again_ms
            .saturating_sub(expires_ms.unwrap_or_default())
            .min(now_ms);
    }

    /// The level of messages that name no priority.
    pub(super) fn usual_level(&self) -> u8 {
        self.settings
            .as_ref()
            .map_or(0, |settings| settings.level(None))
    }

    /// The limits and what happens at them, if there are any.
    pub(super) fn limits(&self) -> Option<Limits> {
        let settings = self.settings.as_ref()?;
        if settings.max_length.is_none() && settings.max_length_bytes.is_none() {
            return None;
        }
        Some(Limits {
            length: settings.max_length.unwrap_or(u64::MAX),
            bytes: settings.max_length_bytes.unwrap_or(u64::MAX),
            overflow: settings.overflow,
        })
    }

    /// Whether what died and finds no queue stays.
    pub(super) fn keeps_undeliverable(&self) -> bool {
        let settings = self.settings.as_ref();
        settings.is_some_and(|settings| settings.keeps_undeliverable)
    }

    /// Whether publishes are refused at a limit.
    pub(super) fn rejects(&self) -> bool {
        self.limits()
            .is_some_and(|limits| limits.overflow != Overflow::DropHead)
    }

    /// Meets what is there when this dispatcher begins.
    pub(super) fn begin(&mut self, state: Option<&QueueState>) {
        if let Some(state) = state {
            self.meet_levels(state);
        }
        self.has_begun = true;
    }

    /// Makes a stock for every level that the queue has, if there is anything to do with it.
    pub(super) fn meet_levels(&mut self, state: &QueueState) {
        if state.level_count() == self.stocks.len() {
            return;
        }
        if self.has_begun && self.bench.is_none() && state.alive() + state.dying() == 0 {
            return;
        }
        for level in state.levels() {
            self.stock_or_new(level, Some(state));
        }
    }

    pub(super) fn stock_or_new(&mut self, level: u8, state: Option<&QueueState>) -> &mut Stock {
        let at = self.stocks.partition_point(|stock| stock.level < level);
        if self.stocks.get(at).is_none_or(|stock| stock.level != level) {
            self.stocks.reserve_exact(1);
            self.stocks
                .insert(at, Stock::new(level, state, self.has_begun));
        }
        &mut self.stocks[at]
    }

    /// An empty queue that nobody uses needs no stocks.
    pub(super) fn drop_idle_stocks(&mut self, state: &QueueState) {
        let unused =
            self.bench.is_none() && !self.stocks.is_empty() && state.alive() + state.dying() == 0;
        if unused && self.stocks.iter().all(Stock::is_idle) {
            self.stocks = Vec::new();
        }
    }

    pub(super) fn stock_mut(&mut self, level: u8) -> Option<&mut Stock> {
        self.stocks.iter_mut().find(|stock| stock.level == level)
    }

    /// What is ready, held and consuming.
    pub(super) fn counts(&self, state: Option<&QueueState>) -> QueueCounts {
        let (mut busy, mut busy_bytes, mut held, mut unacked_bytes) = (0, 0, 0, 0);
        let (mut delayed, mut delayed_bytes, mut delayed_ms) = (0, 0, None);
        for stock in &self.stocks {
            if let Some(waiting) = &stock.delayed {
                let (messages, bytes) = waiting.size();
                delayed += messages;
                delayed_bytes += bytes;
                delayed_ms = wider(delayed_ms, waiting.due_ms());
            }
            let (messages, bytes) = stock.busy();
            busy += messages;
            busy_bytes += bytes;
            held += stock.held.len();
            unacked_bytes += stock.held.bytes();
        }
        // The machine may be ahead of the effects that we have seen.
        let ready = state.map_or(0, QueueState::alive).saturating_sub(busy);
        let ready_bytes = if ready == 0 {
            0
        } else {
            state
                .map_or(0, QueueState::alive_bytes)
                .saturating_sub(busy_bytes)
        };
        let tally = self.tally.as_deref().copied().unwrap_or_default();
        QueueCounts {
            ready,
            unacked: held,
            delayed,
            delayed_bytes,
            delayed_ms,
            consumers: self.consumer_count() as u64,
            ready_bytes,
            unacked_bytes,
            dying: state.map_or(0, QueueState::dying),
            dying_bytes: state.map_or(0, QueueState::dying_bytes),
            handed_out: tally.handed_out(),
            tally,
        }
    }
}

/// The stretch of time that both lie in.
fn wider(one: Option<(u64, u64)>, other: Option<(u64, u64)>) -> Option<(u64, u64)> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (one, other) => one.or(other),
    }
}

/// Length limits of ready and delayed messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) length: u64,
    pub(super) bytes: u64,
    pub(super) overflow: Overflow,
}
