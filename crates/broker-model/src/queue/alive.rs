//! Which messages of a level exist: a sorted set of numbers made for queues.
//!
//! A backlog that was appended in order and is consumed from its head is one solid run, however long
//! it is. Where messages were settled out of order the set keeps bitmaps of aligned blocks of
//! [`BLOCK`] numbers, so a fragmented stretch costs an eighth of a byte per message and never more,
//! in memory and in the record.
//!
//! Invariants: runs are sorted and disjoint; the first and last number of every run are in the set;
//! a run with bits lies within one block; `len` is the number of members.

use crate::wire::{Cursor, WireError, put_varint};
use bytes::{BufMut, BytesMut};
use std::collections::VecDeque;

/// Numbers per bitmap.
const BLOCK: u64 = 1024;
const WORDS: usize = (BLOCK / 64) as usize;

/// A sorted set of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AliveSet {
    runs: VecDeque<Run>,
    len: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    from: u64,
    to: u64,
    /// `None`: every number of `from..=to`.
    bits: Option<Box<[u64; WORDS]>>,
}

impl AliveSet {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[cfg(test)]
    pub(crate) fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Adds `number`, which is above all members.
    pub(crate) fn append(&mut self, number: u64) {
        self.len += 1;
        if let Some(last) = self.runs.back_mut() {
            debug_assert!(number > last.to);
            match &mut last.bits {
                None if last.to + 1 == number => {
                    last.to = number;
                    return;
                }
                // A gap: what is in the same block becomes a bitmap, so that holes at the end do not
                // leave a run each.
                None if same_block(last.to, number) => {
                    let start = block_start(number).max(last.from);
                    let mut bits = Box::new([0; WORDS]);
                    set_bits(&mut bits, start, last.to);
                    set_bits(&mut bits, number, number);
                    let block = Run {
                        from: start,
                        to: number,
                        bits: Some(bits),
                    };
                    if last.from < start {
                        last.to = start - 1;
                        self.runs.push_back(block);
                    } else {
                        *last = block;
                    }
                    return;
                }
                Some(bits) if same_block(last.to, number) => {
                    set_bits(bits, number, number);
                    last.to = number;
                    return;
                }
                _ => {}
            }
        }
        self.runs.push_back(Run {
            from: number,
            to: number,
            bits: None,
        });
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.next_from(number) == Some(number)
    }

    /// The first member at or above `number`.
    pub(crate) fn next_from(&self, number: u64) -> Option<u64> {
        self.range_from(number).map(|(from, _)| from)
    }

    /// The highest member.
    pub(crate) fn last(&self) -> Option<u64> {
        self.runs.back().map(|run| run.to)
    }

    /// A stretch of members that starts at the first one at or above `number`.
    pub(crate) fn range_from(&self, number: u64) -> Option<(u64, u64)> {
        let run = self.runs.get(self.locate(number))?;
        let from = number.max(run.from);
        match &run.bits {
            None => Some((from, run.to)),
            Some(bits) => {
                let from = next_bit(bits, from, true)?;
                let to = next_bit(bits, from, false)
                    .map_or(block_start(from) + BLOCK - 1, |end| end - 1);
                Some((from, to))
            }
        }
    }

    /// The stretches of members within `from..=to`, in order.
    pub(crate) fn ranges_within(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut at = Some(from);
        std::iter::from_fn(move || {
            let (start, end) = self.range_from(at?)?;
            at = end.checked_add(1);
            (start <= to).then_some((start, end.min(to)))
        })
    }

    /// Removes `from..=to`; `removed` hears of each stretch that was in the set.
    pub(crate) fn remove(&mut self, from: u64, to: u64, mut removed: impl FnMut(u64, u64)) {
        let mut at = self.locate(from);
        while let Some(run) = self.runs.get_mut(at) {
            let (a, b) = (from.max(run.from), to.min(run.to));
            if a > b {
                return;
            }
            let whole = a == run.from && b == run.to;
            if let Some(bits) = &mut run.bits {
                self.len -= clear_bits(bits, a, b, &mut removed);
                match (next_bit(bits, run.from, true), last_bit(bits, run.to)) {
                    (Some(first), Some(last)) => (run.from, run.to) = (first, last),
                    _ => {
                        self.runs.remove(at);
                        continue;
                    }
                }
            } else {
                removed(a, b);
                self.len -= b - a + 1;
                if whole {
                    self.runs.remove(at);
                    continue;
                }
                if a == run.from {
                    run.from = b + 1;
                } else if b == run.to {
                    run.to = a - 1;
                } else {
                    self.carve(at, a, b);
                    return;
                }
            }
            at += 1;
        }
    }

    /// Takes `a..=b` out of the middle of the solid run at `at`.
    fn carve(&mut self, at: usize, a: u64, b: u64) {
        let Some(run) = self.runs.get_mut(at) else {
            return;
        };
        let (from, to) = (run.from, run.to);
        if b - a >= BLOCK {
            // A wide hole: two runs are within the bound of one run per block.
            run.to = a - 1;
            self.runs.insert(
                at + 1,
                Run {
                    from: b + 1,
                    to,
                    bits: None,
                },
            );
            return;
        }
        let mut pieces: [Option<Run>; 4] = [const { None }; 4];
        let start = block_start(a).max(from);
        if from < start {
            pieces[0] = Some(Run {
                from,
                to: start - 1,
                bits: None,
            });
        }
        let first_end = (block_start(a) + BLOCK - 1).min(to);
        pieces[1] = bit_run(start, first_end, a, b);
        let second_end = (block_start(b) + BLOCK - 1).min(to);
        if !same_block(a, b) {
            pieces[2] = bit_run(block_start(b), second_end, a, b);
        }
        if second_end < to {
            pieces[3] = Some(Run {
                from: second_end + 1,
                to,
                bits: None,
            });
        }
        self.runs.remove(at);
        let mut at = at;
        for piece in pieces.into_iter().flatten() {
            // A bitmap takes in a neighbour of its block: at most one run per block plus its edges.
            if let Some(before) = at
                .checked_sub(1)
                .and_then(|before| self.runs.get_mut(before))
                && same_block(before.from, piece.from)
                && merge(before, &piece)
            {
                continue;
            }
            self.runs.insert(at, piece);
            at += 1;
        }
        if let (Some(last), Some(after)) = (at.checked_sub(1), self.runs.get(at).cloned())
            && let Some(before) = self.runs.get_mut(last)
            && same_block(before.from, after.to)
            && merge(before, &after)
        {
            self.runs.remove(at);
        }
    }

    /// Gives back memory that an empty set does not need.
    pub(crate) fn trim(&mut self) {
        if self.runs.is_empty() {
            self.runs = VecDeque::new();
        }
    }

    /// Index of the first run that ends at or above `number`.
    fn locate(&self, number: u64) -> usize {
        // Consumers work at the head, publishers at the end.
        match (self.runs.front(), self.runs.back()) {
            (Some(first), _) if first.to >= number => 0,
            (_, Some(last)) if last.to < number => self.runs.len(),
            _ => self.runs.partition_point(|run| run.to < number),
        }
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        put_varint(out, self.runs.len() as u64);
        let mut end = 0;
        for run in &self.runs {
            put_varint(out, run.from - end);
            put_varint(
                out,
                (run.to - run.from) << 1 | u64::from(run.bits.is_some()),
            );
            end = run.to;
            for word in run.bits.iter().flat_map(|bits| bits.iter()) {
                out.put_u64_le(*word);
            }
        }
    }

    pub(crate) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        const MALFORMED: WireError = WireError::Malformed("set of messages");
        let mut set = Self::default();
        let mut end = 0_u64;
        for position in 0..cursor.count(2)? {
            let gap = cursor.varint()?;
            if gap == 0 && position > 0 {
                return Err(MALFORMED);
            }
            let from = end.checked_add(gap).ok_or(MALFORMED)?;
            let span = cursor.varint()?;
            let to = from.checked_add(span >> 1).ok_or(MALFORMED)?;
            let bits = if span & 1 == 0 {
                set.len = set
                    .len
                    .checked_add(to - from)
                    .and_then(|len| len.checked_add(1))
                    .ok_or(MALFORMED)?;
                None
            } else {
                let mut bits = Box::new([0; WORDS]);
                for word in bits.iter_mut() {
                    *word = cursor.u64()?;
                }
                let (first, last) = (
                    next_bit(&bits, block_start(from), true),
                    last_bit(&bits, block_start(from) + BLOCK - 1),
                );
                if !same_block(from, to) || first != Some(from) || last != Some(to) {
                    return Err(MALFORMED);
                }
                set.len = set
                    .len
                    .checked_add(bits.iter().map(|word| u64::from(word.count_ones())).sum())
                    .ok_or(MALFORMED)?;
                Some(bits)
            };
            set.runs.push_back(Run { from, to, bits });
            end = to;
        }
        Ok(set)
    }
}

fn block_start(number: u64) -> u64 {
    number & !(BLOCK - 1)
}

fn same_block(a: u64, b: u64) -> bool {
    block_start(a) == block_start(b)
}

/// A bitmap of `from..=to` (of one block) without `hole_from..=hole_to`; `None` if nothing is left.
fn bit_run(from: u64, to: u64, hole_from: u64, hole_to: u64) -> Option<Run> {
    let mut bits = Box::new([0; WORDS]);
    set_bits(&mut bits, from, to);
    clear_bits(
        &mut bits,
        hole_from.max(from),
        hole_to.min(to),
        &mut |_, _| {},
    );
    let (from, to) = (next_bit(&bits, from, true)?, last_bit(&bits, to)?);
    Some(Run {
        from,
        to,
        bits: Some(bits),
    })
}

/// Takes `after` into `before`, of the same block, if one of them has bits.
fn merge(before: &mut Run, after: &Run) -> bool {
    if before.bits.is_none() && after.bits.is_none() || !same_block(before.from, after.to) {
        return false;
    }
    let mut bits = before.bits.take().unwrap_or_else(|| {
        let mut bits = Box::new([0; WORDS]);
        set_bits(&mut bits, before.from, before.to);
        bits
    });
    match &after.bits {
        None => set_bits(&mut bits, after.from, after.to),
        Some(others) => bits
            .iter_mut()
            .zip(others.iter())
            .for_each(|(word, other)| *word |= other),
    }
    before.bits = Some(bits);
    before.to = after.to;
    true
}

/// The bits of `word_index` that stand for `from..=to` (of one block).
fn mask(word_index: usize, from: u64, to: u64) -> u64 {
    let first = word_index as u64 * 64;
    let (from, to) = (from % BLOCK, to % BLOCK);
    if to < first || from >= first + 64 {
        return 0;
    }
    let low = u64::MAX << from.saturating_sub(first);
    let high = u64::MAX >> (63 - (to - first).min(63));
    low & high
}

fn set_bits(bits: &mut [u64; WORDS], from: u64, to: u64) {
    for (index, word) in bits.iter_mut().enumerate() {
        *word |= mask(index, from, to);
    }
}

/// Clears `from..=to`, tells of the stretches that were set, returns how many bits were.
fn clear_bits(
    bits: &mut [u64; WORDS],
    from: u64,
    to: u64,
    cleared: &mut impl FnMut(u64, u64),
) -> u64 {
    if from > to {
        return 0;
    }
    let mut count = 0;
    let mut at = from;
    while let Some(start) = next_bit(bits, at, true).filter(|start| *start <= to) {
        let end = next_bit(bits, start, false).map_or(to, |end| (end - 1).min(to));
        cleared(start, end);
        count += end - start + 1;
        if end == to {
            break;
        }
        at = end + 1;
    }
    for (index, word) in bits.iter_mut().enumerate() {
        *word &= !mask(index, from, to);
    }
    count
}

/// The first number at or above `from`, in its block, whose bit is `set`.
fn next_bit(bits: &[u64; WORDS], from: u64, set: bool) -> Option<u64> {
    let offset = from % BLOCK;
    let mut keep = u64::MAX << (offset % 64);
    for (index, word) in bits.iter().enumerate().skip((offset / 64) as usize) {
        let word = if set { *word } else { !*word } & keep;
        if word != 0 {
            return Some(block_start(from) + index as u64 * 64 + u64::from(word.trailing_zeros()));
        }
        keep = u64::MAX;
    }
    None
}

/// The last set number at or below `to`, in its block.
fn last_bit(bits: &[u64; WORDS], to: u64) -> Option<u64> {
    for (index, word) in bits.iter().enumerate().rev() {
        let word = *word & mask(index, block_start(to), to);
        if word != 0 {
            return Some(
                block_start(to) + index as u64 * 64 + 63 - u64::from(word.leading_zeros()),
            );
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn filled(upto: u64) -> AliveSet {
        let mut set = AliveSet::default();
        (1..=upto).for_each(|number| set.append(number));
        set
    }

    #[test]
    fn a_backlog_in_order_is_one_run() {
        let mut set = filled(100_000);
        set.remove(1, 50_000, |_, _| {});
        assert_eq!((set.run_count(), set.len()), (1, 50_000));
    }

    #[test]
    fn every_second_message_costs_a_bit() {
        let mut set = filled(100_000);
        for number in (2..=100_000).step_by(2) {
            set.remove(number, number, |_, _| {});
        }
        assert_eq!(set.len(), 50_000);
        assert!(set.run_count() <= 100_000 / 1024 + 2, "{}", set.run_count());
        let mut out = BytesMut::new();
        set.encode(&mut out);
        assert!(out.len() < 100_000 / 7, "{}", out.len());
    }

    #[test]
    fn holes_at_the_end_do_not_leave_a_run_each() {
        let mut set = AliveSet::default();
        for number in 1..=10_000 {
            set.append(number);
            if number % 2 == 0 {
                set.remove(number, number, |_, _| {});
            }
        }
        assert_eq!(set.len(), 5_000);
        assert!(set.run_count() < 15, "{}", set.run_count());
    }

    proptest! {
        /// The set agrees with a plain one, whatever is removed in whatever order.
        #[test]
        fn agrees_with_a_plain_set(steps in vec((0u8..4, 0u64..5000, prop_oneof![0u64..3, 0u64..2000]), 1..80)) {
            let mut set = AliveSet::default();
            let mut plain = BTreeSet::new();
            let mut next = 1;
            for (kind, number, width) in steps {
                if kind == 0 {
                    for _ in 0..=width {
                        set.append(next);
                        plain.insert(next);
                        next += 1;
                    }
                } else {
                    let to = number + width;
                    let mut removed = BTreeSet::new();
                    set.remove(number, to, |a, b| removed.extend(a..=b));
                    let expected: BTreeSet<u64> = plain.range(number..=to).copied().collect();
                    prop_assert_eq!(&removed, &expected);
                    plain.retain(|member| !expected.contains(member));
                }
                prop_assert_eq!(set.len(), plain.len() as u64);
                prop_assert_eq!(set.next_from(number), plain.range(number..).next().copied());
            }
            let members: BTreeSet<u64> = set.ranges_within(0, u64::MAX).flat_map(|(a, b)| a..=b).collect();
            prop_assert_eq!(&members, &plain);
            let mut out = BytesMut::new();
            set.encode(&mut out);
            let bytes = out.freeze();
            let mut cursor = Cursor::at(&bytes, 0);
            prop_assert_eq!(AliveSet::decode(&mut cursor), Ok(set.clone()));
        }

        #[test]
        fn noise_never_panics(noise in vec(any::<u8>(), 0..300)) {
            let bytes = Bytes::from(noise);
            if let Ok(set) = AliveSet::decode(&mut Cursor::at(&bytes, 0)) {
                let _ = set.range_from(0);
            }
        }
    }
}
