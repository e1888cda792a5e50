//! Several histograms as text, a line of bars each.

use crate::Histogram;
use std::fmt;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Histograms with their names.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart {
    rows: Vec<(String, Histogram)>,
}

impl AsciiChart {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// With one more.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.rows.push((name.into(), histogram));
        self
    }

    /// As text.
    #[must_use]
    pub const fn detailed(&self) -> Detailed<'_> {
        Detailed(self)
    }
}

/// An [`AsciiChart`] as text.
#[derive(Debug)]
pub struct Detailed<'a>(&'a AsciiChart);

impl fmt::Display for Detailed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.0.rows {
            let counts = &histogram.counts;
            let used = counts
                .iter()
                .rposition(|count| *count > 0)
                .map_or(0, |last| last + 1);
            let most = counts.iter().copied().max().unwrap_or(0).max(1);
            write!(f, "{name} ")?;
            for count in counts.iter().take(used) {
                let height = count * (BARS.len() as u64 - 1) / most;
                let bar = BARS.get(height as usize).copied().unwrap_or(' ');
                write!(f, "{}", if *count == 0 { ' ' } else { bar })?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each() {
        let mut histogram = Histogram::new();
        histogram.record_n(1, 8);
        histogram.record(2);
        let chart = AsciiChart::new()
            .add("a", histogram)
            .add("b", Histogram::new());
        assert_eq!(chart.detailed().to_string(), "a  █▁\nb \n");
    }
}
