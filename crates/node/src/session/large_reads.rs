//! Messages of streams that are larger than what each consumer is asked for at once.
//!
//! A question waits at the leader until something comes, however large, and a stream's message comes to every consumer: hundreds of them
//! would have as many copies on their way before it is known whether the client reads. So a question names a size that all of them may
//! have at the same time, and what is larger is only announced; it is fetched from here, as many at a time as
//! fit [`LARGE_BYTES`].

use super::reader::Reader;
use super::state::Session;
use broker_model::ids::ConsumerId;
use std::collections::VecDeque;

/// Large messages on their way to one connection, in bytes; one that is larger comes alone.
const LARGE_BYTES: u32 = 16 << 20;
/// Room that is kept for one of them, at least: the next one may be larger than the last. So no more than sixteen come at a time.
const LARGE_BYTES_MIN: u32 = 1 << 20;
/// Bytes of messages that may come to all consumers of a connection at the same time …
const AT_ONCE_BYTES: u32 = 4 << 20;
/// … and to one of them, at least.
const AT_ONCE_BYTES_MIN: u32 = 1 << 10;
/// Announcements of consumers that have gone are not looked for among so few.
const STALE_MIN: usize = 64;

/// What a consumer has to do with large messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Large {
    /// Nothing.
    #[default]
    No,
    /// One waits for its turn to be fetched.
    Announced,
    /// One is being fetched; so much room is kept for it.
    Fetched(u32),
}

/// The large messages of a session.
#[derive(Debug, Default)]
pub(super) struct LargeReads {
    /// Whose turn it is. Some may have gone meanwhile.
    announced: VecDeque<ConsumerId>,
    /// Being fetched.
    count: u32,
    /// Room that is kept for them.
    bytes: u32,
    /// The size of the last one.
    last: Option<u32>,
}

impl LargeReads {
    /// Room for one more, if there is any: as much as the last one took, or more.
    fn take_room(&mut self) -> Option<u32> {
        let bytes = self.last.unwrap_or(LARGE_BYTES).max(LARGE_BYTES_MIN);
        let fits = self.bytes.saturating_add(bytes) <= LARGE_BYTES;
        (self.count == 0 || fits).then(|| {
            self.count += 1;
            self.bytes = self.bytes.saturating_add(bytes);
            bytes
        })
    }

    fn give_room_back(&mut self, bytes: u32) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Session {
    /// What a consumer of a stream may be sent at once.
    pub(super) fn at_once_bytes(&self) -> u32 {
        let consumers = u32::try_from(self.consumers.len()).unwrap_or(u32::MAX);
        (AT_ONCE_BYTES / consumers.max(1)).max(AT_ONCE_BYTES_MIN)
    }

    /// The next message of a consumer is too large to come at once.
    pub(super) fn announce_large(&mut self, id: ConsumerId) {
        if let Some(reader) = self.reader(id)
            && reader.large == Large::No
        {
            reader.large = Large::Announced;
            self.large.announced.push_back(id);
        }
        if self.large.announced.len() > 2 * self.consumers.len() + STALE_MIN {
            let consumers = &self.consumers;
            self.large.announced.retain(|id| consumers.contains_key(id));
        }
    }

    /// Fetches what is announced, as far as there is room and the client reads: at the end of a turn.
    pub(super) fn fetch_large(&mut self) {
        while !self.large.announced.is_empty() {
            if self.is_choked() {
                self.choked = true;
                return;
            }
            let Some(bytes) = self.large.take_room() else {
                return;
            };
            let Some(id) = self.next_announced() else {
                self.large.give_room_back(bytes);
                return;
            };
            if let Some(reader) = self.reader(id) {
                reader.large = Large::Fetched(bytes);
            }
            self.ask_to_read(id, 1, 0);
        }
    }

    /// The next one whose turn it is. Without credit it has none: it asks again when it has.
    fn next_announced(&mut self) -> Option<ConsumerId> {
        while let Some(id) = self.large.announced.pop_front() {
            let Some(consumer) = self.consumers.get_mut(&id) else {
                continue;
            };
            let has_credit = consumer.granted > 0;
            let Some(reader) = &mut consumer.reader else {
                continue;
            };
            if reader.large == Large::Announced && has_credit {
                return Some(id);
            }
            if reader.large == Large::Announced {
                reader.large = Large::No;
            }
        }
        None
    }

    fn reader(&mut self, id: ConsumerId) -> Option<&mut Reader> {
        self.consumers.get_mut(&id)?.reader.as_deref_mut()
    }

    /// A consumer has been answered, or ends; `size`: that of the message that has come, if one has.
    pub(super) fn large_is_here(&mut self, large: Large, size: Option<usize>) {
        if let Large::Fetched(bytes) = large {
            self.large.give_room_back(bytes);
            if let Some(size) = size {
                self.large.last = Some(u32::try_from(size).unwrap_or(u32::MAX));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded() {
        let mut large = LargeReads::default();
        let first = large.take_room().unwrap();
        assert_eq!(large.take_room(), None, "nobody knows how large they are");
        large.give_room_back(first);
        large.last = Some(LARGE_BYTES / 4);
        let rooms: Vec<u32> = std::iter::from_fn(|| large.take_room()).collect();
        assert_eq!(rooms.len(), 4);
        large.last = Some(u32::MAX);
        assert_eq!(large.take_room(), None);
        for bytes in rooms {
            large.give_room_back(bytes);
        }
        // The next ones may be as large as any.
        large.last = Some(1);
        let rooms: Vec<u32> = std::iter::from_fn(|| large.take_room()).collect();
        assert_eq!(rooms.len(), 16);
        for bytes in rooms {
            large.give_room_back(bytes);
        }
        large.last = Some(u32::MAX);
        assert_eq!(large.take_room(), Some(u32::MAX), "alone");
        assert_eq!(large.take_room(), None);
    }
}
