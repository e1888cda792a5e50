//! The channels of a connection: which numbers are in use, and in which state.
//!
//! ```text
//!            open                channel error              close-ok
//!   (none) ───────► Open ──────────────────────► Failing ──────────────► Failed ──┐
//!      ▲             │ close                                                      │ open
//!      └──────── Closing ◄── (driver gives back what it holds)        Open ◄──────┘
//! ```
//!
//! A closing channel may still be sent to: methods that the client sent before its close are answered.
//! An error that one of them led to crosses the close: both are answered (Closing to Failing).
//! The same holds when the client closes the connection: its channels stay as they are until that is answered.
//!
//! A channel that failed is remembered after its end: an acknowledgement that the client sent
//! before it knew must not cost it the connection.

use std::collections::BTreeMap;

use crate::content::Assembly;

/// State of a channel number that is or was in use.
#[derive(Debug)]
pub(crate) enum Slot {
    /// In use.
    Open(Box<Assembly>),
    /// The server has sent `channel.close`: everything but close and close-ok is discarded.
    Failing,
    /// The client has sent `channel.close` and waits for the driver's answer.
    Closing,
    /// Closed by the server, and the client has seen it. The number is free.
    Failed,
}

/// All channels of a connection.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    slots: BTreeMap<u16, Slot>,
    /// Numbers not free.
    used: usize,
}

impl Channels {
    /// Channels in use, those being closed included.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    pub(crate) fn get_mut(&mut self, channel: u16) -> Option<&mut Slot> {
        self.slots.get_mut(&channel)
    }

    /// Whether the client still looks at what it is sent.
    pub(crate) fn is_heard(&self, channel: u16) -> bool {
        matches!(
            self.slots.get(&channel),
            Some(Slot::Open(_) | Slot::Closing)
        )
    }

    /// Opens a free number; false if it is in use.
    pub(crate) fn open(&mut self, channel: u16) -> bool {
        match self.slots.get(&channel) {
            None | Some(Slot::Failed) => {
                self.slots.insert(channel, Slot::Open(Box::default()));
                self.used += 1;
                true
            }
            Some(Slot::Open(_) | Slot::Failing | Slot::Closing) => false,
        }
    }

    /// Moves an open channel to `next`; what it had assembled is returned.
    pub(crate) fn leave_open(&mut self, channel: u16, next: Slot) -> Option<Box<Assembly>> {
        match self.slots.get_mut(&channel) {
            Some(slot @ Slot::Open(_)) => match std::mem::replace(slot, next) {
                Slot::Open(assembly) => Some(assembly),
                Slot::Failing | Slot::Closing | Slot::Failed => None,
            },
            _ => None,
        }
    }

    /// An error crosses the client's close; false if the channel was not closing.
    pub(crate) fn fail_closing(&mut self, channel: u16) -> bool {
        match self.slots.get_mut(&channel) {
            Some(slot @ Slot::Closing) => {
                *slot = Slot::Failing;
                true
            }
            _ => false,
        }
    }

    /// The close-ok for a failing channel has arrived.
    pub(crate) fn failure_seen(&mut self, channel: u16) {
        if let Some(slot @ Slot::Failing) = self.slots.get_mut(&channel) {
            *slot = Slot::Failed;
            self.used -= 1;
        }
    }

    /// The driver has finished closing; false if the channel was not closing.
    pub(crate) fn closed(&mut self, channel: u16) -> bool {
        let closing = matches!(self.slots.get(&channel), Some(Slot::Closing));
        if closing {
            self.slots.remove(&channel);
            self.used -= 1;
        }
        closing
    }

    /// The client closes the connection: messages that it has begun never end.
    pub(crate) fn forget_unfinished(&mut self) {
        for slot in self.slots.values_mut() {
            if let Slot::Open(assembly) = slot {
                **assembly = Assembly::default();
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.used = 0;
    }
}
