//! Figures of all trials, and how they compare.

use std::collections::BTreeMap;

use serde::Serialize;

use super::scenarios::Scenario;
use crate::output::{line, thousands};

/// One figure of one trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figure {
    name: &'static str,
    unit: &'static str,
    higher_is_better: bool,
    value: f64,
}

impl Figure {
    pub(super) fn higher(name: &'static str, unit: &'static str, value: f64) -> Self {
        Self {
            name,
            unit,
            higher_is_better: true,
            value,
        }
    }

    pub(super) fn lower(name: &'static str, unit: &'static str, value: f64) -> Self {
        Self {
            name,
            unit,
            higher_is_better: false,
            value,
        }
    }
}

/// All rows.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    /// What the counts in the titles were multiplied by.
    scale: f64,
    scenarios: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    id: &'static str,
    title: &'static str,
    figures: Vec<FigureRow>,
    /// What went wrong, by broker.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct FigureRow {
    name: &'static str,
    unit: &'static str,
    #[serde(skip)]
    higher_is_better: bool,
    /// By broker.
    brokers: BTreeMap<&'static str, Spread>,
    /// How many times better the median of Warren is; `None` unless both have one.
    ratio: Option<f64>,
}

/// Values of several trials.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
    values: Vec<f64>,
}

impl Spread {
    fn push(&mut self, value: f64) {
        self.values.push(value);
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
        self.median = f64::midpoint(at(low), at(high));
        (self.min, self.max) = (at(0), at(sorted.len() - 1));
    }

    fn text(&self) -> String {
        if self.values.len() == 1 {
            return number(self.median);
        }
        format!(
            "{} ({}–{})",
            number(self.median),
            number(self.min),
            number(self.max)
        )
    }
}

impl Comparison {
    pub(super) fn new(scenarios: &[&Scenario], scale: f64) -> Self {
        let row = |scenario: &&Scenario| Row {
            id: scenario.id,
            title: scenario.title,
            figures: Vec::new(),
            problems: Vec::new(),
        };
        Self {
            scale,
            scenarios: scenarios.iter().map(row).collect(),
        }
    }

    /// Enters the figures of a trial.
    pub(super) fn enter(
        &mut self,
        scenario: &Scenario,
        broker: &'static str,
        figures: Vec<Figure>,
    ) {
        let Some(row) = self.row(scenario) else {
            return;
        };
        for figure in figures {
            row.enter(broker, figure);
        }
    }

    /// A trial has failed.
    pub(super) fn failed(&mut self, scenario: &Scenario, broker: &str, problem: &str) {
        if let Some(row) = self.row(scenario) {
            row.problems.push(format!("{broker}: {problem}"));
        }
    }

    fn row(&mut self, scenario: &Scenario) -> Option<&mut Row> {
        self.scenarios.iter_mut().find(|row| row.id == scenario.id)
    }

    /// Prints the table in Markdown.
    pub(super) fn print(&self) {
        if self.scale.to_bits() != 1_f64.to_bits() {
            line(&format!(
                "Counts of queues, connections and messages are × {}.\n",
                self.scale
            ));
        }
        line("| scenario | figure | RabbitMQ | Warren | Warren is better by |");
        line("|---|---|---:|---:|---:|");
        for row in &self.scenarios {
            let mut title = format!("{}. {}", row.id, row.title);
            for figure in &row.figures {
                let text = |broker| {
                    figure
                        .brokers
                        .get(broker)
                        .map_or_else(|| "–".to_owned(), Spread::text)
                };
                let ratio = figure
                    .ratio
                    .map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.1} ×"));
                line(&format!(
                    "| {title} | {}, {} | {} | {} | {ratio} |",
                    figure.name,
                    figure.unit,
                    text("RabbitMQ"),
                    text("Warren"),
                ));
                title.clear();
            }
            for problem in &row.problems {
                line(&format!(
                    "| {title} | failed | {} |",
                    problem.replace('\n', " ")
                ));
                title.clear();
            }
        }
    }
}

impl Row {
    fn enter(&mut self, broker: &'static str, figure: Figure) {
        let known = self.figures.iter().position(|row| row.name == figure.name);
        let index = known.unwrap_or_else(|| {
            self.figures.push(FigureRow {
                name: figure.name,
                unit: figure.unit,
                higher_is_better: figure.higher_is_better,
                brokers: BTreeMap::new(),
                ratio: None,
            });
            self.figures.len() - 1
        });
        if let Some(row) = self.figures.get_mut(index) {
            row.brokers.entry(broker).or_default().push(figure.value);
            row.ratio = row.ratio();
        }
    }
}

impl FigureRow {
    fn ratio(&self) -> Option<f64> {
        let (theirs, ours) = self
            .brokers
            .get("RabbitMQ")
            .zip(self.brokers.get("Warren"))?;
        let (better, worse) = if self.higher_is_better {
            (ours.median, theirs.median)
        } else {
            (theirs.median, ours.median)
        };
        (worse > 0.0).then(|| better / worse)
    }
}

/// A number with three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => thousands(value),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.01 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::scenarios::SCENARIOS;

    #[test]
    fn medians_and_ratios() {
        let scenario = &SCENARIOS[3];
        let mut comparison = Comparison::new(&[scenario], 1.0);
        for (broker, rate, cost) in [
            ("RabbitMQ", 10.0, 100.0),
            ("Warren", 90.0, 9.0),
            ("Warren", 100.0, 10.0),
            ("RabbitMQ", 30.0, 80.0),
            ("Warren", 500.0, 50.0),
        ] {
            let figures = vec![
                Figure::higher("rate", "msg/s", rate),
                Figure::lower("CPU", "µs/msg", cost),
            ];
            comparison.enter(scenario, broker, figures);
        }
        comparison.failed(scenario, "Warren", "lost one");
        let row = &comparison.scenarios[0];
        let ratios: Vec<_> = row.figures.iter().map(|figure| figure.ratio).collect();
        assert_eq!(ratios, [Some(5.0), Some(9.0)]);
        assert_eq!(
            row.figures[0].brokers["RabbitMQ"].text(),
            "20.0 (10.0–30.0)"
        );
        assert_eq!(row.figures[0].brokers["Warren"].text(), "100 (90.0–500)");
        assert_eq!(row.problems, ["Warren: lost one"]);
    }

    #[test]
    fn digits_that_matter() {
        for (value, text) in [
            (0.0, "0.00"),
            (0.0012, "0.0012"),
            (1.234, "1.23"),
            (56.78, "56.8"),
            (1234.5, "1,234"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
