//! Consumers of the shard's streams ask for messages, and get them now or when there are any.

use super::super::HostInput;
use super::super::streams::{self, Found, Outcome, Wanted};
use super::ShardHost;
use broker_model::ids::Sequence;
use broker_model::protocol::FromHost;
use broker_model::wire::StoredMessage;
use std::sync::Arc;

impl ShardHost {
    /// Answers at once, after reading from the state store, or when something comes.
    pub(super) fn read(&mut self, wanted: Wanted) {
        let found = {
            let mut guard = self.replica.lock();
            let found = streams::find(&guard.machine, &wanted);
            if matches!(found, Found::Later) {
                guard.watch.add(wanted.queue);
            }
            found
        };
        let inbox = self.to_self.clone();
        let done = move |outcome| {
            // Closed when the node ends.
            let _ = inbox.send(HostInput::StreamRead { wanted, outcome });
        };
        let replica = Arc::clone(&self.replica);
        match found {
            Found::Here(next, messages) => self.answer_read(&wanted, next, messages),
            Found::Stored(from, to) => streams::read(replica, wanted, (from, to), done),
            Found::Search(ms) => streams::search(replica, wanted.queue, ms, done),
            Found::Later => self.readers.add(wanted),
        }
    }

    /// What was read from the state store goes to whoever wanted it.
    pub(super) fn stream_read(&mut self, wanted: Wanted, outcome: Outcome) {
        if self.links.origin(wanted.attachment).is_none() {
            return;
        }
        match outcome {
            Outcome::Place(number) => self.answer_read(&wanted, number, Vec::new()),
            Outcome::Messages(from, messages) => {
                let is_missing = messages.first().is_none_or(|(first, _)| *first != from)
                    && streams::is_stored(&self.replica.lock().machine, wanted.queue, from);
                if is_missing {
                    self.store_is_damaged(wanted.queue, Sequence::new(0, from));
                    return;
                }
                match messages.last() {
                    Some(_) if wanted.is_exceeded_by(&messages) => {
                        self.answer_read(&wanted, from, Vec::new());
                    }
                    Some((last, _)) => self.answer_read(&wanted, last + 1, messages),
                    // All of them have gone meanwhile.
                    None => self.read(wanted),
                }
            }
            Outcome::Failed => self.read(wanted),
            Outcome::Damaged(from, damage) => {
                let is_there = streams::is_stored(&self.replica.lock().machine, wanted.queue, from);
                match is_there {
                    true => self.end_node(&damage),
                    // What is being removed may look damaged.
                    false => self.read(wanted),
                }
            }
        }
    }

    fn answer_read(&mut self, wanted: &Wanted, next: u64, messages: Vec<(u64, StoredMessage)>) {
        if !messages.is_empty()
            && let Some((_, dispatcher, _, _)) = self.replica.lock().leading()
        {
            dispatcher.has_read(wanted.queue, messages.len() as u64);
        }
        // Many may be answered in one turn.
        if let Some(origin) = self.links.origin(wanted.attachment) {
            let answer = FromHost::Read {
                consumer: wanted.consumer,
                next,
                messages,
            };
            self.answers.push(origin, answer);
        }
    }

    /// Streams that somebody waits for may have grown.
    pub(super) fn serve_readers(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let grown = self.replica.lock().watch.take_grown();
        for queue in grown {
            for wanted in self.readers.take(queue) {
                self.read(wanted);
            }
        }
    }
}
