//! Stories and properties of the dispatcher.
