//! Received bytes: one buffer for all reads, frames borrowed from it.

use std::io::{self, Read};

use amqp_codec::{DecodeError, FRAME_OVERHEAD, FrameSlice, peek};

/// A buffer that frames are read from without copying; large enough for many or one large frame.
#[derive(Debug)]
pub(crate) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    frame_max: usize,
}

impl Input {
    const SIZE: usize = 256 * 1024;

    pub(crate) fn new() -> Self {
        Self::with_size(Self::SIZE, amqp_codec::INITIAL_FRAME_MAX)
    }

    fn with_size(size: usize, frame_max: usize) -> Self {
        Self {
            buffer: vec![0; size.max(frame_max + 2 * FRAME_OVERHEAD)],
            start: 0,
            end: 0,
            frame_max,
        }
    }

    /// Frames may from now on be this large.
    pub(crate) fn set_frame_max(&mut self, frame_max: usize) {
        self.frame_max = frame_max;
        let needed = frame_max + 2 * FRAME_OVERHEAD;
        if self.buffer.len() < needed {
            self.buffer.resize(needed, 0);
        }
    }

    /// A smaller buffer, for connections that are only held; the large one, if nothing waits in it, for the next connection.
    pub(crate) fn shrink(&mut self) -> Option<Self> {
        if self.start != self.end {
            return None;
        }
        let small = Self::with_size(0, amqp_codec::FRAME_MIN_SIZE);
        let mut large = std::mem::replace(self, small);
        (large.start, large.end) = (0, 0);
        large.frame_max = amqp_codec::INITIAL_FRAME_MAX;
        Some(large)
    }

    /// Reads once. The end of the stream is an error.
    pub(crate) fn fill(&mut self, from: &mut impl Read) -> io::Result<()> {
        if self.start > 0 {
            // Moves what is left of a frame; reads are many times larger than that.
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        match from.read(free)? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the broker closed the connection",
            )),
            count => {
                self.end += count;
                Ok(())
            }
        }
    }

    /// The next whole frame that has been read.
    pub(crate) fn next(&mut self) -> Result<Option<FrameSlice<'_>>, DecodeError> {
        let received = self.buffer.get(self.start..self.end).unwrap_or_default();
        let frame = peek(received, self.frame_max)?;
        if let Some(frame) = &frame {
            self.start += frame.len_bytes();
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_across_reads() {
        let mut stream = Vec::new();
        for n in 0..100_u8 {
            let len = u32::from(n) * 37;
            stream.extend([3, 0, n]);
            stream.extend(len.to_be_bytes());
            stream.extend(std::iter::repeat_n(n, len as usize));
            stream.push(amqp_codec::FRAME_END);
        }
        let mut input = Input::with_size(0, 4096);
        let mut stream = stream.as_slice();
        let mut seen = 0;
        while input.fill(&mut stream).is_ok() {
            while let Some(frame) = input.next().unwrap() {
                assert_eq!(frame.channel, seen);
                assert_eq!(frame.payload.len(), usize::from(seen) * 37);
                seen += 1;
            }
        }
        assert_eq!(seen, 100);
    }
}
