//! Output as a list of segments, for vectored writes without copying large bodies.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use super::FrameSink;

/// Frames to be written: copied bytes and, between them, bodies by reference count.
///
/// It is a [`Buf`] whose `chunks_vectored` gives the segments, and `advance` takes off what has
/// been written.
#[derive(Debug)]
pub struct Segments {
    done: VecDeque<Bytes>,
    done_len: usize,
    tail: BytesMut,
    copy_max: usize,
    /// Space that is set aside when the buffer has none left: grows with what is written at once.
    room: u32,
    /// Most bytes that waited since nothing did.
    peak: u32,
}

impl Segments {
    /// Bodies up to this size are copied: that costs less than a segment of their own.
    pub const COPY_MAX: usize = 4096;
    /// Least and most space that is set aside when the buffer has none left. One of many consumers gets a message now and then;
    /// the only one gets as many as fit.
    const ROOM: std::ops::RangeInclusive<u32> = 2 * 1024..=64 * 1024;

    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::with_copy_max(Self::COPY_MAX)
    }

    /// An empty list that copies bodies of at most `copy_max` bytes.
    #[must_use]
    pub fn with_copy_max(copy_max: usize) -> Self {
        Self {
            done: VecDeque::new(),
            done_len: 0,
            tail: BytesMut::new(),
            copy_max,
            room: *Self::ROOM.start(),
            peak: 0,
        }
    }

    /// Everything is written: the next time there is room for as much at once.
    fn emptied(&mut self) {
        let (least, most) = (*Self::ROOM.start(), *Self::ROOM.end());
        if self.peak > self.room {
            self.room = self.peak.min(most).next_power_of_two();
        } else if self.peak < self.room / 4 {
            self.room = (self.room / 2).max(least);
        }
        self.peak = 0;
    }

    /// Size of all segments in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.done_len + self.tail.len()
    }

    /// Whether nothing waits to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes as a segment of their own.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.done_len += tail.len();
            self.done.push_back(tail);
        }
        self.done_len += bytes.len();
        self.done.push_back(bytes);
    }

    /// Takes everything out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Bytes> + '_ {
        self.done_len = 0;
        let tail = (!self.tail.is_empty()).then(|| self.tail.split().freeze());
        self.done.drain(..).chain(tail)
    }
}

impl Default for Segments {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameSink for Segments {
    fn buffer(&mut self) -> &mut BytesMut {
        if self.tail.capacity() == self.tail.len() {
            self.tail.reserve(self.room as usize);
        }
        &mut self.tail
    }

    fn put_body(&mut self, body: Bytes) {
        if body.len() <= self.copy_max {
            self.tail.extend_from_slice(&body);
        } else {
            self.push(body);
        }
    }

    fn put_whole_body(&mut self, body: &Bytes) {
        if body.len() <= self.copy_max {
            self.tail.extend_from_slice(body);
        } else {
            self.push(body.clone());
        }
    }
}

impl Buf for Segments {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        match self.done.front() {
            Some(segment) => segment,
            None => &self.tail,
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(self.tail.as_ref());
        let segments = self.done.iter().map(AsRef::as_ref).chain(tail);
        let mut count = 0;
        for (slice, segment) in slices.iter_mut().zip(segments) {
            *slice = IoSlice::new(segment);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        let waits = u32::try_from(self.len()).unwrap_or(u32::MAX);
        self.peak = self.peak.max(waits);
        while let Some(segment) = self.done.front_mut() {
            if count < segment.len() {
                segment.advance(count);
                self.done_len -= count;
                return;
            }
            count -= segment.len();
            self.done_len -= segment.len();
            self.done.pop_front();
        }
        self.tail.advance(count);
        if self.tail.is_empty() {
            self.emptied();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(segments: &mut Segments, bytes: usize) {
        for _ in 0..bytes / 100 {
            segments.buffer().extend_from_slice(&[7; 50]);
            segments.put_whole_body(&Bytes::from_static(&[8; 50]));
        }
        let len = segments.len();
        assert_eq!(len, bytes);
        segments.advance(len / 3);
        segments.advance(len - len / 3);
        assert!(segments.is_empty());
    }

    #[test]
    fn room_follows_what_is_written_at_once() {
        let mut segments = Segments::new();
        write(&mut segments, 1000);
        assert_eq!(segments.room, *Segments::ROOM.start());
        for _ in 0..10 {
            write(&mut segments, 200_000);
        }
        assert_eq!(segments.room, *Segments::ROOM.end());
        for _ in 0..10 {
            write(&mut segments, 1000);
        }
        assert!(
            segments.room <= 2 * Segments::ROOM.start(),
            "{}",
            segments.room
        );
    }
}
