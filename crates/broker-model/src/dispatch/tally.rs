//! What a queue has done since its leader leads, for operators' figures.

/// Messages of one queue by what became of them. A new leader begins at zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Appended, whoever published them.
    pub published: u64,
    /// Handed to consumers that acknowledge.
    pub delivered: u64,
    /// Handed to consumers that do not.
    pub delivered_no_ack: u64,
    /// Got, to be acknowledged.
    pub got: u64,
    /// Got for good.
    pub got_no_ack: u64,
    /// Gets that found nothing.
    pub got_nothing: u64,
    /// Of those handed out: flagged as redelivered.
    pub redelivered: u64,
    /// Acknowledged by whoever held them.
    pub acknowledged: u64,
}

impl Tally {
    /// Messages handed out, in whatever way.
    #[must_use]
    pub const fn handed_out(&self) -> u64 {
        self.delivered + self.delivered_no_ack + self.got + self.got_no_ack
    }

    /// A message is handed out.
    pub(super) fn hand_out(&mut self, by_get: bool, no_ack: bool, redelivered: bool) {
        let count = match (by_get, no_ack) {
            (false, false) => &mut self.delivered,
            (false, true) => &mut self.delivered_no_ack,
            (true, false) => &mut self.got,
            (true, true) => &mut self.got_no_ack,
        };
        *count += 1;
        self.redelivered += u64::from(redelivered);
    }
}
