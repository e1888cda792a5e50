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
}

impl Segments {
    /// Bodies up to this size are copied: that costs less than a segment of their own.
    pub const COPY_MAX: usize = 4096;
    /// Space that is set aside when the buffer has none left.
    const RESERVE: usize = 64 * 1024;

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
        }
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
            self.tail.reserve(Self::RESERVE);
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
    }
}
