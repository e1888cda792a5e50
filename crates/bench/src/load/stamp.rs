//! What stands at the front of a body: when it was sent, by whom, and as which of theirs.

/// The mark of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// On the clock of [`crate::measure::now_ns`].
    pub(crate) sent_ns: u64,
    /// `None` in bodies too small for it.
    pub(crate) origin: Option<Origin>,
}

/// Who sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) run: u16,
    pub(crate) producer: u16,
    /// Counts the producer's messages from 0.
    pub(crate) sequence: u64,
}

impl Stamp {
    /// Size of a whole stamp.
    pub(crate) const LEN: usize = 16;
    const TIME_LEN: usize = 8;
    const SEQUENCE_BITS: u32 = 36;
    /// Producers are told apart up to this number.
    pub(crate) const PRODUCERS_MAX: usize = 1 << 12;

    /// Writes as much of the stamp as there is space for: all, the time, or nothing.
    pub(crate) fn write(origin: Origin, sent_ns: u64, body: &mut [u8]) {
        if let Some(time) = body.first_chunk_mut::<{ Self::TIME_LEN }>() {
            *time = sent_ns.to_be_bytes();
        }
        if let Some(id) = body.get_mut(Self::TIME_LEN..Self::LEN) {
            let Origin {
                run,
                producer,
                sequence,
            } = origin;
            let packed =
                u64::from(run) << 48 | u64::from(producer) << Self::SEQUENCE_BITS | sequence;
            id.copy_from_slice(&packed.to_be_bytes());
        }
    }

    /// Reads the stamp at the front of a body, if there is one.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (time, rest) = body.split_first_chunk::<{ Self::TIME_LEN }>()?;
        let origin = rest.first_chunk::<8>().map(|id| {
            let packed = u64::from_be_bytes(*id);
            Origin {
                run: (packed >> 48) as u16,
                producer: (packed >> Self::SEQUENCE_BITS & (Self::PRODUCERS_MAX as u64 - 1)) as u16,
                sequence: packed & ((1 << Self::SEQUENCE_BITS) - 1),
            }
        });
        Some(Self {
            sent_ns: u64::from_be_bytes(*time),
            origin,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_as_fits() {
        let origin = Origin {
            run: 60_000,
            producer: 3,
            sequence: 1 << 35,
        };
        let whole = Stamp {
            sent_ns: 7,
            origin: Some(origin),
        };
        for (len, expected) in [
            (0, None),
            (7, None),
            (
                8,
                Some(Stamp {
                    origin: None,
                    ..whole
                }),
            ),
            (
                15,
                Some(Stamp {
                    origin: None,
                    ..whole
                }),
            ),
            (16, Some(whole)),
            (1024, Some(whole)),
        ] {
            let mut body = vec![0; len];
            Stamp::write(origin, 7, &mut body);
            assert_eq!(Stamp::read(&body), expected, "{len} bytes");
        }
    }
}
