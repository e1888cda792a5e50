//! Printing: results to standard output, progress and errors to standard error.

use std::io::{IsTerminal as _, Write as _};

/// Prints a line of the result. A reader that has gone is no reason to fail.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a line to standard error.
pub(crate) fn error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Whether somebody watches standard error.
pub(crate) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Overwrites the line that somebody watches.
pub(crate) fn live(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[2K{text}");
    let _ = stderr.flush();
}

/// Ends the line that somebody watches.
pub(crate) fn live_end() {
    if is_watched() {
        live("");
    }
}

/// A whole number with separators, as `1,234,567`.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    if number <= -0.5 {
        text.push('-');
    }
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration in the unit that suits it.
pub(crate) fn duration_ns(ns: u64) -> String {
    let ns = ns as f64;
    match ns {
        _ if ns < 1e3 => format!("{ns:.0} ns"),
        _ if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        _ if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
        _ => format!("{:.2} s", ns / 1e9),
    }
}

/// Bytes in the unit that suits them.
pub(crate) fn bytes(count: f64) -> String {
    match count {
        _ if count < 1024.0 => format!("{count:.0} B"),
        _ if count < 1024.0 * 1024.0 => format!("{:.1} KiB", count / 1024.0),
        _ if count < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", count / 1024.0 / 1024.0),
        _ => format!("{:.2} GiB", count / 1024.0 / 1024.0 / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (number, text) in [
            (0.0, "0"),
            (999.4, "999"),
            (1000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(thousands(number), text);
        }
        for (ns, text) in [
            (5, "5 ns"),
            (1500, "1.5 µs"),
            (2_500_000, "2.50 ms"),
            (3_000_000_000, "3.00 s"),
        ] {
            assert_eq!(duration_ns(ns), text);
        }
        for (count, text) in [
            (10.0, "10 B"),
            (2048.0, "2.0 KiB"),
            (3.0 * 1048576.0, "3.0 MiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
