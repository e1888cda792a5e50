//! Samples beside rates, for those who ask for a range of time as RabbitMQ's pages do.
//!
//! Nodes keep no history. What is known is a number now and its rate since an earlier look, which makes two points of
//! a line.

use crate::error::ApiError;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// More samples than this nobody may ask for, as with RabbitMQ.
const SAMPLES_MAX: u64 = 500;
/// The points are no further apart: the rate may be of so short a time, in seconds.
const STEP_MAX: u64 = 4;

/// The ranges of a query, in seconds. What is no number does not count.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Ranges {
    lengths_age: Option<String>,
    lengths_incr: Option<String>,
    msg_rates_age: Option<String>,
    msg_rates_incr: Option<String>,
    data_rates_age: Option<String>,
    data_rates_incr: Option<String>,
    node_stats_age: Option<String>,
    node_stats_incr: Option<String>,
}

/// How far apart the samples of each kind are to be.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Steps {
    lengths: Option<u64>,
    messages: Option<u64>,
    bytes: Option<u64>,
}

impl Ranges {
    pub(crate) fn steps(&self) -> Result<Steps, ApiError> {
        step(
            self.node_stats_age.as_deref(),
            self.node_stats_incr.as_deref(),
        )?;
        Ok(Steps {
            lengths: step(self.lengths_age.as_deref(), self.lengths_incr.as_deref())?,
            messages: step(
                self.msg_rates_age.as_deref(),
                self.msg_rates_incr.as_deref(),
            )?,
            bytes: step(
                self.data_rates_age.as_deref(),
                self.data_rates_incr.as_deref(),
            )?,
        })
    }
}

fn step(age: Option<&str>, incr: Option<&str>) -> Result<Option<u64>, ApiError> {
    let number = |text: Option<&str>| text?.parse::<i64>().ok();
    let (Some(age), Some(incr)) = (number(age), number(incr)) else {
        return Ok(None);
    };
    match (u64::try_from(age), u64::try_from(incr)) {
        (Ok(age @ 1..), Ok(incr @ 1..)) if age / incr <= SAMPLES_MAX => Ok(Some(incr)),
        _ => Err(ApiError::BadRequest(format!(
            "Invalid range parameters: age {age}, incr {incr}"
        ))),
    }
}

impl Steps {
    fn is_none(self) -> bool {
        self.lengths.or(self.messages).or(self.bytes).is_none()
    }

    fn of(self, key: &str) -> Option<u64> {
        if key.starts_with("messages") {
            self.lengths
        } else if key.ends_with("_oct") {
            self.bytes
        } else {
            self.messages
        }
    }

    /// Adds samples wherever there is a rate.
    pub(crate) fn add_to(self, row: &mut Value) {
        if self.is_none() {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = now.map_or(0, |time| time.as_millis() as u64);
        self.add_at(row, now_ms);
    }

    fn add_at(self, row: &mut Value, now_ms: u64) {
        match row {
            Value::Array(rows) => rows.iter_mut().for_each(|row| self.add_at(row, now_ms)),
            Value::Object(object) => self.add_to_object(object, now_ms),
            _ => {}
        }
    }

    fn add_to_object(self, object: &mut Map<String, Value>, now_ms: u64) {
        let totals: Map<String, Value> = object
            .iter()
            .filter(|(_, value)| value.is_number())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        for (key, value) in object {
            let name = key.strip_suffix("_details");
            let rate = value.get("rate").and_then(Value::as_f64);
            let Some((name, rate)) = name.zip(rate) else {
                self.add_at(value, now_ms);
                continue;
            };
            let total = totals.get(name).and_then(Value::as_f64);
            if let Some((total, step)) = total.zip(self.of(name))
                && let Some(details) = value.as_object_mut()
            {
                details.extend(samples(total, rate, step.min(STEP_MAX), now_ms));
            }
        }
    }
}

fn samples(total: f64, rate: f64, step: u64, now_ms: u64) -> Map<String, Value> {
    let before = rate.mul_add(-(step as f64), total).max(0.0).round();
    let sample = |value: f64, at: u64| json!({ "sample": value as u64, "timestamp": at });
    Map::from_iter([
        (
            "samples".to_owned(),
            json!([
                sample(total, now_ms),
                sample(before, now_ms.saturating_sub(step * 1000)),
            ]),
        ),
        ("avg_rate".to_owned(), json!(rate)),
        ("avg".to_owned(), json!(f64::midpoint(total, before))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(age: &str, incr: &str) -> Ranges {
        Ranges {
            lengths_age: Some(age.into()),
            lengths_incr: Some(incr.into()),
            ..Ranges::default()
        }
    }

    #[test]
    fn samples_stand_beside_rates() {
        let mut row = json!({
            "messages": 10, "messages_details": { "rate": 2.0 },
            "message_stats": { "publish": 9, "publish_details": { "rate": 1.0 } },
            "consumer_details": [],
        });
        let before = row.clone();
        Ranges::default().steps().unwrap().add_to(&mut row);
        assert_eq!(row, before);
        let steps = ranges("60", "3").steps().unwrap();
        steps.add_at(&mut row, 100_000);
        let expected = json!({
            "rate": 2.0, "avg_rate": 2.0, "avg": 7.0,
            "samples": [{ "sample": 10, "timestamp": 100_000 }, { "sample": 4, "timestamp": 97_000 }],
        });
        assert_eq!(row["messages_details"], expected);
        // Nobody asked for those.
        assert_eq!(row["message_stats"], before["message_stats"]);
    }

    #[test]
    fn ranges_make_sense() {
        assert!(ranges("soon", "5").steps().unwrap().is_none());
        for (age, incr) in [("0", "5"), ("60", "-1"), ("60", "0"), ("9000", "1")] {
            assert!(ranges(age, incr).steps().is_err(), "{age} {incr}");
        }
    }
}
