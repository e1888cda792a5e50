//! The test that holds the arrows between crates; nothing of its own yet.
