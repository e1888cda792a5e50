//! Stories and properties of machine and dispatcher together, as a leader runs them.

mod leader;
mod properties;
mod stories;
mod stories_active;
mod stories_admission;
mod stories_attach;
mod stories_deaths;
mod stories_delayed;
mod stories_end;
mod stories_hand_over;
mod stories_retry;
mod stories_store;
mod stories_streams;
mod stories_unlived;
