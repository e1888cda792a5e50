//! One connection to a broker.
//!
//! Not here: what is published and consumed over it (`load`).

mod connection;
mod input;
mod uri;

pub(crate) use connection::{CHANNEL, Connection, checked_method, is_tick, write_all};
pub(crate) use input::Input;
pub(crate) use uri::Uri;
