//! Received bytes as they came: in pieces.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;

/// Pieces smaller than this are joined with one before that is: each costs memory besides its bytes, and how a message is cut
/// is the sender's choice.
const SMALL: usize = 512;
/// Until so much is joined.
const JOINED: usize = 16 << 10;

/// Bytes in pieces, none of which is empty. What is taken out of one piece shares its memory.
#[derive(Debug, Default)]
pub(super) struct Rope {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Rope {
    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.len += piece.len();
        let piece = match self.pieces.pop_back() {
            Some(last) if piece.len() < SMALL && last.len() < JOINED => {
                match joined(last, &piece) {
                    Ok(whole) => whole,
                    Err(last) => {
                        self.pieces.push_back(last);
                        piece
                    }
                }
            }
            Some(last) => {
                self.pieces.push_back(last);
                piece
            }
            None => piece,
        };
        self.pieces.push_back(piece);
    }

    /// Takes the first `len` bytes, or all if there are fewer.
    pub(super) fn split_to(&mut self, len: usize) -> Self {
        let mut taken = Self::default();
        while taken.len < len {
            let Some(mut piece) = self.pieces.pop_front() else {
                break;
            };
            let wanted = len - taken.len;
            if piece.len() > wanted {
                let rest = piece.split_off(wanted);
                self.pieces.push_front(rest);
            }
            self.len -= piece.len();
            taken.push(piece);
        }
        taken
    }
}

/// Both in one piece, or the first one back: it is not worth being copied.
fn joined(last: Bytes, piece: &[u8]) -> Result<Bytes, Bytes> {
    let mut whole = match last.try_into_mut() {
        Ok(whole) => whole,
        Err(last) if last.len() < SMALL => {
            let mut whole = BytesMut::with_capacity(8 * SMALL);
            whole.extend_from_slice(&last);
            whole
        }
        Err(last) => return Err(last),
    };
    whole.extend_from_slice(piece);
    Ok(whole.freeze())
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(piece) = self.pieces.front_mut() else {
                return;
            };
            let step = count.min(piece.len());
            piece.advance(step);
            self.len -= step;
            count -= step;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        let mut taken = self.split_to(len);
        if let ([piece], []) = taken.pieces.as_slices() {
            return piece.clone();
        }
        let mut whole = BytesMut::with_capacity(taken.len);
        for piece in taken.pieces.drain(..) {
            whole.extend_from_slice(&piece);
        }
        whole.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(pieces: &[&'static str]) -> Rope {
        let mut rope = Rope::default();
        for piece in pieces {
            rope.push(Bytes::from_static(piece.as_bytes()));
        }
        rope
    }

    #[test]
    fn whatever_the_pieces_the_bytes_are_the_same() {
        let whole = "abcdefghij";
        for first in 0..=whole.len() {
            for second in first..=whole.len() {
                let pieces = [&whole[..first], &whole[first..second], &whole[second..]];
                for len in 0..=whole.len() {
                    let mut taken = rope(&pieces);
                    assert_eq!(taken.copy_to_bytes(len), &whole.as_bytes()[..len]);
                    assert_eq!(taken.remaining(), whole.len() - len);
                    assert_eq!(
                        taken.chunk().is_empty(),
                        len == whole.len(),
                        "{pieces:?} {len}"
                    );
                    let mut split = rope(&pieces);
                    let mut front = split.split_to(len);
                    assert_eq!(front.copy_to_bytes(len), &whole.as_bytes()[..len]);
                    assert_eq!(
                        split.copy_to_bytes(whole.len() - len),
                        &whole.as_bytes()[len..]
                    );
                    let mut advanced = rope(&pieces);
                    advanced.advance(len);
                    assert_eq!(
                        advanced.copy_to_bytes(whole.len() - len),
                        &whole.as_bytes()[len..]
                    );
                }
            }
        }
    }

    #[test]
    fn small_pieces_are_joined() {
        // Cut out of one buffer, as the connection does it.
        let sent: Bytes = (0..1_000_000_u32).map(|n| n as u8).collect();
        let mut rope = Rope::default();
        for at in 0..sent.len() {
            rope.push(sent.slice(at..=at));
        }
        assert!(
            rope.pieces.len() <= sent.len() / JOINED + 1,
            "{}",
            rope.pieces.len()
        );
        assert_eq!(rope.copy_to_bytes(sent.len()), sent);
    }

    #[test]
    fn one_piece_is_shared() {
        let piece = Bytes::from(vec![7; 2000]);
        let mut rope = Rope::default();
        rope.push(piece.slice(..10));
        rope.push(piece.slice(10..));
        rope.advance(20);
        assert_eq!(rope.copy_to_bytes(1000).as_ptr(), piece[20..].as_ptr());
    }
}
