//! Named places at which tests can stop, slow down or fail a store (feature `failpoints`).

/// In a function that returns `Result<_, String>`: fails here with the text that a test has set.
/// Without the feature it is nothing.
#[macro_export]
#[doc(hidden)]
macro_rules! failpoint {
    ($name:literal) => {
        fail::fail_point!($name, |text: Option<String>| Err(text.unwrap_or_default()));
    };
}
