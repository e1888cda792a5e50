//! What finding the way of one message may take.
//!
//! A message of a few kilobytes can have thousands of routing keys, and each of them can meet thousands of patterns. Whoever
//! routes counts, so that one message does not keep a thread that others wait for.

use amqp_codec::FieldTable;
use std::fmt;

/// Members of a list that is only walked along that count as a step.
const WALKED: usize = 4;
/// Bytes of a header table that is looked through that count as a step.
const READ: usize = 16;

/// How many steps are left. A step is a lookup: a key, a word of a pattern, a binding that may fit; 10 to 50 ns.
#[derive(Debug)]
pub struct Effort {
    left: usize,
}

impl Effort {
    /// What may be done at once, between other work: a few milliseconds at most.
    #[must_use]
    pub const fn at_once() -> Self {
        Self { left: 100_000 }
    }

    /// What a message may take at all, where nobody else waits: about a tenth of a second.
    #[must_use]
    pub const fn at_length() -> Self {
        Self { left: 5_000_000 }
    }

    /// Takes so many steps.
    ///
    /// # Errors
    /// There are not so many left.
    pub fn take(&mut self, steps: usize) -> Result<(), TooCostly> {
        self.left = self.left.checked_sub(steps).ok_or(TooCostly)?;
        Ok(())
    }

    /// Walks along a list of so many.
    pub(crate) fn walk(&mut self, length: usize) -> Result<(), TooCostly> {
        self.take(1 + length / WALKED)
    }

    /// Looks through the headers of a message.
    pub(crate) fn read(&mut self, headers: Option<&FieldTable>) -> Result<(), TooCostly> {
        self.take(1 + headers.map_or(0, |headers| headers.raw().len()) / READ)
    }
}

/// No steps are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooCostly;

impl fmt::Display for TooCostly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too costly")
    }
}

impl std::error::Error for TooCostly {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_taken_until_none_is_left() {
        let mut effort = Effort { left: 10 };
        assert_eq!(effort.take(4), Ok(()));
        assert_eq!(effort.walk(WALKED * 4), Ok(()), "five");
        assert_eq!(effort.take(2), Err(TooCostly));
        assert_eq!(effort.take(1), Ok(()), "what was refused was not taken");
        assert_eq!(effort.walk(0), Err(TooCostly));
    }
}
