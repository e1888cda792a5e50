//! Transactions: publishes and acknowledgements that wait for the commit.
//!
//! Publishes are checked and routed when they come, as by RabbitMQ: what changes until the commit cannot fail it half
//! way. A commit publishes first; when every queue has accepted, the acknowledgements follow and the client
//! is answered. It is atomic per queue at best, as in RabbitMQ.

use super::channel::{ChannelKey, Mode, Unacked};
use super::held::Held;
use super::outbox::Settlement;
use super::publish::Checked;
use super::state::Session;
use amqp_codec::{Method, ReplyCode};
use amqp_connection::ProtocolError;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock};

/// `tx.commit`.
const COMMIT: (u16, u16) = (90, 20);

/// Bytes of publishes that one transaction may hold.
const BYTES_MAX: u64 = 128 << 20;

/// All transactions of a node together may take this part of its memory.
const SHARE: u64 = 4;

/// Bytes of publishes that all transactions of this process hold.
static HELD: LazyLock<Arc<AtomicU64>> = LazyLock::new(Arc::default);

/// What a transaction holds.
#[derive(Debug)]
pub(super) struct Tx {
    publishes: Vec<Checked>,
    held: Held,
    /// Bytes that all transactions may hold.
    all_max: u64,
    settled: Vec<(Settlement, Vec<(u64, Unacked)>)>,
    /// A commit has published and waits for the queues.
    committing: bool,
    /// Some queue has refused a publish of the commit.
    refused: bool,
}

impl Tx {
    /// An empty one on a node with so much memory.
    pub(super) fn within(memory_bytes: u64) -> Self {
        Self::empty(memory_bytes / SHARE)
    }

    fn empty(all_max: u64) -> Self {
        Self {
            publishes: Vec::new(),
            held: Held::of(&HELD),
            all_max,
            settled: Vec::new(),
            committing: false,
            refused: false,
        }
    }

    /// Holds a publish.
    pub(super) fn publish(&mut self, publish: Checked) -> Result<(), ProtocolError> {
        let all = self.held.more(publish.weight() as u64);
        let text = if self.held.own() > BYTES_MAX {
            format!("transaction is larger than {BYTES_MAX} bytes")
        } else if all > self.all_max {
            let max = self.all_max;
            format!(
                "open transactions of this node are larger than {max} bytes: commit them earlier"
            )
        } else {
            String::new()
        };
        if !text.is_empty() {
            return Err(ProtocolError::new(ReplyCode::PRECONDITION_FAILED, text));
        }
        // It may wait for long, and others that were read with it are gone meanwhile.
        self.publishes.push(publish.detached());
        Ok(())
    }

    /// Holds the end of deliveries.
    pub(super) fn settle(&mut self, how: Settlement, deliveries: Vec<(u64, Unacked)>) {
        if !deliveries.is_empty() {
            self.settled.push((how, deliveries));
        }
    }

    /// Deliveries whose end is held.
    pub(super) fn held(&self) -> impl Iterator<Item = &Unacked> {
        self.settled
            .iter()
            .flat_map(|(_, deliveries)| deliveries.iter().map(|(_, delivery)| delivery))
    }

    /// The same, by value.
    pub(super) fn into_held(self) -> impl Iterator<Item = Unacked> {
        self.settled
            .into_iter()
            .flat_map(|(_, deliveries)| deliveries.into_iter().map(|(_, delivery)| delivery))
    }
}

impl Session {
    /// `tx.select`.
    pub(super) fn select_tx(&mut self, key: ChannelKey) -> Result<(), ProtocolError> {
        let memory = self.broker.config().memory.total();
        let Some(channel) = self.channel(key) else {
            return Ok(());
        };
        match channel.mode {
            Mode::Confirm => {
                let text = "cannot switch from confirm to tx mode";
                return Err(ProtocolError::new(ReplyCode::PRECONDITION_FAILED, text));
            }
            Mode::Plain => channel.mode = Mode::Tx(Box::new(Tx::within(memory))),
            Mode::Tx(_) => {}
        }
        self.conn.send_method(key.number, &Method::TxSelectOk {});
        self.touch(key);
        Ok(())
    }

    /// `tx.commit`.
    pub(super) fn commit(&mut self, key: ChannelKey) -> Result<(), ProtocolError> {
        let tx = self.tx(key)?;
        let publishes = std::mem::take(&mut tx.publishes);
        tx.held.release();
        for publish in publishes {
            self.send_publish(key, publish);
        }
        self.tx(key)?.committing = true;
        self.hold_channel(key);
        self.touch(key);
        Ok(())
    }

    /// Completes a commit when its publishes are answered.
    pub(super) fn finish_commit(&mut self, key: ChannelKey) {
        let Some(channel) = self.channel(key) else {
            return;
        };
        let Mode::Tx(tx) = &mut channel.mode else {
            return;
        };
        if !tx.committing {
            return;
        }
        // Confirms are not told; they are what the commit waits for.
        let mut confirms = Vec::new();
        channel.confirms.report(&mut confirms);
        tx.refused |= confirms.iter().any(|confirm| !confirm.accepted);
        if channel.confirms.unconfirmed() > 0 {
            return;
        }
        tx.committing = false;
        let refused = std::mem::take(&mut tx.refused);
        let settled = if refused {
            Vec::new()
        } else {
            std::mem::take(&mut tx.settled)
        };
        self.resume_channel(key, COMMIT, |session| {
            if refused {
                let text = "partial tx completion";
                return Err(ProtocolError::new(ReplyCode::PRECONDITION_FAILED, text));
            }
            for (how, deliveries) in settled {
                session.count_settled(key, how, deliveries.len() as u64);
                session.settled(key, how, deliveries.iter().map(|(_, delivery)| delivery));
            }
            session.conn.send_method(key.number, &Method::TxCommitOk {});
            Ok(())
        });
    }

    /// `tx.rollback`: publishes are forgotten, acknowledgements have not happened.
    pub(super) fn rollback(&mut self, key: ChannelKey) -> Result<(), ProtocolError> {
        let tx = self.tx(key)?;
        let empty = Tx::empty(tx.all_max);
        let tx = std::mem::replace(tx, empty);
        if let Some(channel) = self.channel(key) {
            // All at once: each alone would be one pass of the books.
            let held = tx
                .settled
                .into_iter()
                .flat_map(|(_, deliveries)| deliveries);
            channel.unacked.restore(held);
        }
        self.conn.send_method(key.number, &Method::TxRollbackOk {});
        Ok(())
    }

    fn tx(&mut self, key: ChannelKey) -> Result<&mut Tx, ProtocolError> {
        match self.channel(key).map(|channel| &mut channel.mode) {
            Some(Mode::Tx(tx)) => Ok(tx),
            _ => Err(ProtocolError::new(
                ReplyCode::PRECONDITION_FAILED,
                "channel is not transactional",
            )),
        }
    }
}
