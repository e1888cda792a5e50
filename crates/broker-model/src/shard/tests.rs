//! Stories and properties of the replicated state.
