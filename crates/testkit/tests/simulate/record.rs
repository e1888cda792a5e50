//! What clients have seen, and whether it may be so.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How a publish ended for its publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Open,
    Acked,
    Nacked,
    /// Its connection is gone.
    Unknown,
}

/// A publisher's channel, a queue, and the number of the message on this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) session: u64,
    pub(crate) queue: usize,
    pub(crate) number: u64,
}

#[derive(Debug)]
struct Message {
    sent_at: u64,
    outcome: Outcome,
    /// When, to which consumer's session, whether flagged as redelivered.
    deliveries: Vec<(u64, u64, bool)>,
    settled_at: Option<u64>,
    /// Acknowledged by a consumer whose connection was lost before it knew that this had counted.
    perhaps_settled: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) now: u64,
    next_session: u64,
    messages: HashMap<Name, Message>,
    open: BTreeSet<Name>,
    /// Acknowledged to publishers, not settled by consumers.
    owed: BTreeSet<Name>,
    /// Last message that was new, by consumer's session and way.
    latest: BTreeMap<(u64, u64, usize), u64>,
    grace: u64,
    bound: u64,
    pub(crate) acked: u64,
    pub(crate) nacked: u64,
    pub(crate) unknown: u64,
    pub(crate) delivered: u64,
    pub(crate) settled: u64,
    pub(crate) wrong: Vec<String>,
}

impl Name {
    /// A body that names the message, with `padding` more bytes.
    pub(crate) fn body(self, padding: usize) -> Bytes {
        let mut text = format!("{}/{}/{}/", self.session, self.queue, self.number).into_bytes();
        text.resize(text.len() + padding, b'.');
        text.into()
    }

    pub(crate) fn of_body(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let mut parts = text.split('/');
        let mut next = || parts.next()?.parse::<u64>().ok();
        Some(Self {
            session: next()?,
            queue: usize::try_from(next()?).ok()?,
            number: next()?,
        })
    }
}

impl Record {
    /// `bound`: a publish must have an outcome after this time; `grace`: a delivery under way when its
    /// message was settled may arrive for so long. In milliseconds.
    pub(crate) fn new(bound: u64, grace: u64) -> Self {
        Self {
            bound,
            grace,
            ..Self::default()
        }
    }

    pub(crate) fn session(&mut self) -> u64 {
        self.next_session += 1;
        self.next_session
    }

    pub(crate) fn complain(&mut self, what: String) {
        if self.wrong.len() < 20 {
            self.wrong.push(format!("{:>6} ms: {what}", self.now));
        }
    }

    pub(crate) fn published(&mut self, name: Name) {
        let message = Message {
            sent_at: self.now,
            outcome: Outcome::Open,
            deliveries: Vec::new(),
            settled_at: None,
            perhaps_settled: false,
        };
        self.messages.insert(name, message);
        self.open.insert(name);
    }

    pub(crate) fn outcome(&mut self, name: Name, outcome: Outcome) {
        self.open.remove(&name);
        let Some(message) = self.messages.get_mut(&name) else {
            return;
        };
        message.outcome = outcome;
        match outcome {
            Outcome::Open => {}
            Outcome::Acked => {
                self.acked += 1;
                if message.settled_at.is_none() && !message.perhaps_settled {
                    self.owed.insert(name);
                }
            }
            Outcome::Nacked => self.nacked += 1,
            Outcome::Unknown => self.unknown += 1,
        }
    }

    pub(crate) fn delivered(&mut self, consumer: u64, name: Name, redelivered: bool) {
        self.delivered += 1;
        let (now, grace) = (self.now, self.grace);
        let Some(message) = self.messages.get_mut(&name) else {
            return self.complain(format!("{name:?} was never published"));
        };
        let mut wrong = Vec::new();
        if let Some(at) = message.settled_at.filter(|at| now > at + grace) {
            wrong.push(format!(
                "{name:?} delivered although settled at {at} ms: {message:?}"
            ));
        }
        if !redelivered && message.deliveries.iter().any(|(_, _, flag)| !flag) {
            wrong.push(format!("{name:?} delivered twice as new: {message:?}"));
        }
        message.deliveries.push((now, consumer, redelivered));
        // An acknowledgement that was lost did not count.
        message.perhaps_settled = false;
        if message.outcome == Outcome::Acked && message.settled_at.is_none() {
            self.owed.insert(name);
        }
        if !redelivered {
            let way = (consumer, name.session, name.queue);
            let before = self.latest.insert(way, name.number);
            if before.is_some_and(|before| before >= name.number) {
                wrong.push(format!("{name:?} after number {before:?}, out of order"));
            }
        }
        for wrong in wrong {
            self.complain(wrong);
        }
    }

    pub(crate) fn settled(&mut self, name: Name) {
        let now = self.now;
        self.owed.remove(&name);
        if let Some(message) = self.messages.get_mut(&name)
            && message.settled_at.is_none()
        {
            message.settled_at = Some(now);
            self.settled += 1;
        }
    }

    /// A consumer acknowledged the message and was lost before it knew whether that had counted.
    pub(crate) fn perhaps_settled(&mut self, name: Name) {
        self.owed.remove(&name);
        if let Some(message) = self.messages.get_mut(&name) {
            message.perhaps_settled = true;
        }
    }

    /// Publishes that have waited for too long.
    pub(crate) fn check_bounds(&mut self) {
        let (now, bound) = (self.now, self.bound);
        let late: Vec<Name> = self
            .open
            .iter()
            .copied()
            .filter(|name| {
                let sent = self
                    .messages
                    .get(name)
                    .map_or(now, |message| message.sent_at);
                now > sent + bound
            })
            .collect();
        for name in late {
            self.complain(format!("{name:?} has no outcome after {bound} ms"));
            self.open.remove(&name);
        }
    }

    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn owed(&self) -> usize {
        self.owed.len()
    }

    /// At the end: what was confirmed and nobody got.
    pub(crate) fn complain_of_lost(&mut self) {
        let lost: Vec<String> = self
            .owed
            .iter()
            .take(5)
            .map(|name| format!("{name:?} {:?}", self.messages.get(name)))
            .collect();
        let count = self.owed.len();
        if count > 0 {
            self.complain(format!(
                "{count} confirmed messages were not settled: {lost:?}"
            ));
        }
    }
}
