//! Lists: filter by name, sort, pages, columns, as the query asks.

use crate::api::JsonResult;
use crate::error::ApiError;
use crate::samples::{Ranges, Steps};
use axum::Json;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::cmp::Ordering;

/// Rows of one page at most, as in RabbitMQ.
const PAGE_SIZE_MAX: usize = 500;
/// Memory that a filter's expression may take.
const REGEX_BYTES_MAX: usize = 1 << 18;

/// The query of a list.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct ListQuery {
    page: Option<usize>,
    page_size: Option<usize>,
    name: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    use_regex: bool,
    sort: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    sort_reverse: bool,
    columns: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub(crate) disable_stats: bool,
    #[serde(default, deserialize_with = "flag")]
    pub(crate) enable_queue_totals: bool,
    #[serde(flatten)]
    ranges: Ranges,
}

/// `true`, `1` and nothing else.
fn flag<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(matches!(
        String::deserialize(deserializer)?.as_str(),
        "true" | "1"
    ))
}

/// An expression of an operator, whose size is limited, and whose matches take time by the length of the name.
pub(crate) fn bounded_regex(pattern: &str, any_case: bool) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .case_insensitive(any_case)
        .size_limit(REGEX_BYTES_MAX)
        .build()
}

/// What a page was cut from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Total {
    /// Rows before the filter.
    pub(crate) all: usize,
    /// Rows after it.
    pub(crate) filtered: usize,
}

impl ListQuery {
    /// The filter on names.
    pub(crate) fn filter(&self) -> Result<impl Fn(&str) -> bool, ApiError> {
        let wanted = self.name.clone().filter(|name| !name.is_empty());
        let regex = match &wanted {
            Some(pattern) if self.use_regex => Some(
                bounded_regex(pattern, true)
                    .map_err(|error| ApiError::BadRequest(format!("name: {error}")))?,
            ),
            _ => None,
        };
        let lower = wanted.map(|name| name.to_lowercase());
        Ok(move |name: &str| match (&regex, &lower) {
            (Some(regex), _) => regex.is_match(name),
            (None, Some(lower)) => name.to_lowercase().contains(lower),
            (None, None) => true,
        })
    }

    /// Whether a page is asked for.
    pub(crate) fn paged(&self) -> bool {
        self.page.is_some()
    }

    /// The column to sort by.
    pub(crate) fn sort(&self) -> Option<&str> {
        self.sort.as_deref().filter(|sort| !sort.is_empty())
    }

    /// Whether the order is turned round.
    pub(crate) fn reversed(&self) -> bool {
        self.sort_reverse
    }

    /// The rows of the page that is asked for.
    pub(crate) fn cut<T>(&self, rows: Vec<T>) -> Result<Vec<T>, ApiError> {
        let Some(page) = self.page else {
            return Ok(rows);
        };
        let size = self.size()?;
        let pages = rows.len().div_ceil(size).max(1);
        if page == 0 || page > pages {
            let reason = format!(
                "page out of range, page: {page} page size: {size} len: {}",
                rows.len()
            );
            return Err(ApiError::BadRequest(reason));
        }
        Ok(rows
            .into_iter()
            .skip((page - 1) * size)
            .take(size)
            .collect())
    }

    /// Rows as an answer: as they are, or in the object that describes a page.
    pub(crate) fn answer(&self, rows: Vec<Value>, total: Total) -> Result<Value, ApiError> {
        let steps = self.ranges.steps()?;
        let rows: Vec<Value> = rows.into_iter().map(|row| self.pick(row, steps)).collect();
        let Some(page) = self.page else {
            return Ok(Value::Array(rows));
        };
        let size = self.size()?;
        Ok(json!({
            "total_count": total.all,
            "filtered_count": total.filtered,
            "item_count": rows.len(),
            "page": page,
            "page_size": size,
            "page_count": total.filtered.div_ceil(size).max(1),
            "items": rows,
        }))
    }

    /// Filters, sorts and cuts rows that are complete already.
    pub(crate) fn serve(&self, rows: Vec<Value>) -> Result<Value, ApiError> {
        let all = rows.len();
        let filter = self.filter()?;
        let mut rows: Vec<Value> = rows
            .into_iter()
            .filter(|row| row.get("name").and_then(Value::as_str).is_none_or(&filter))
            .collect();
        self.sort_rows(&mut rows);
        let filtered = rows.len();
        let rows = self.cut(rows)?;
        self.answer(rows, Total { all, filtered })
    }

    /// Sorts complete rows.
    pub(crate) fn sort_rows(&self, rows: &mut [Value]) {
        if let Some(sort) = self.sort() {
            rows.sort_by(|a, b| compare(find(a, sort), find(b, sort)));
        }
        if self.sort_reverse {
            rows.reverse();
        }
    }

    fn size(&self) -> Result<usize, ApiError> {
        match self.page_size.unwrap_or(100) {
            size @ 1..=PAGE_SIZE_MAX => Ok(size),
            _ => Err(ApiError::BadRequest(format!(
                "page_size must be between 1 and {PAGE_SIZE_MAX}"
            ))),
        }
    }

    /// Only the columns asked for; `a.b` keeps `b` of `a`.
    fn pick(&self, mut row: Value, steps: Steps) -> Value {
        steps.add_to(&mut row);
        let Some(columns) = self
            .columns
            .as_deref()
            .filter(|columns| !columns.is_empty())
        else {
            return row;
        };
        let mut picked = Map::new();
        for column in columns.split(',').map(str::trim) {
            if let Some(value) = find(&row, column) {
                put(&mut picked, column, value.clone());
            }
        }
        Value::Object(picked)
    }
}

/// Restricts an object that is no list to the columns asked for.
pub(crate) fn pick(query: &ListQuery, row: Value) -> JsonResult {
    Ok(Json(query.pick(row, query.ranges.steps()?)))
}

fn put(into: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            into.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = into
                .entry(first.to_owned())
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

fn find<'a>(row: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(row, |value, key| value.get(key))
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            let number = |n: &serde_json::Number| n.as_f64().unwrap_or_default();
            number(a).total_cmp(&number(b))
        }
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a.cmp(b),
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

fn rank(value: Option<&Value>) -> u8 {
    match value {
        None | Some(Value::Null) => 0,
        Some(Value::Bool(_)) => 1,
        Some(Value::Number(_)) => 2,
        Some(Value::String(_)) => 3,
        Some(Value::Array(_)) => 4,
        Some(Value::Object(_)) => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Value> {
        (1..=7)
            .map(|n| json!({ "name": format!("q{n}"), "messages": (n * 5) % 7, "owner": { "name": "a", "pid": n } }))
            .collect()
    }

    fn names(value: &Value) -> Vec<&str> {
        let items = value.get("items").unwrap_or(value).as_array().unwrap();
        items
            .iter()
            .filter_map(|item| item.get("name")?.as_str())
            .collect()
    }

    fn query(text: &str) -> ListQuery {
        let pairs: Map<String, Value> = text
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| {
                let value = value
                    .parse::<u64>()
                    .map_or_else(|_| value.into(), Value::from);
                (key.to_owned(), value)
            })
            .collect();
        serde_json::from_value(Value::Object(pairs)).unwrap()
    }

    #[test]
    fn filter_sort_page() {
        for (text, expected) in [
            ("", vec!["q1", "q2", "q3", "q4", "q5", "q6", "q7"]),
            ("name=Q3", vec!["q3"]),
            ("name=q[12]&use_regex=true", vec!["q1", "q2"]),
            (
                "sort=messages",
                vec!["q7", "q3", "q6", "q2", "q5", "q1", "q4"],
            ),
            (
                "sort=messages&sort_reverse=true&page=1&page_size=2",
                vec!["q4", "q1"],
            ),
            ("page=2&page_size=3", vec!["q4", "q5", "q6"]),
            ("page=3&page_size=3", vec!["q7"]),
        ] {
            assert_eq!(
                names(&query(text).serve(rows()).unwrap()),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_page_describes_itself() {
        let answer = query("page=2&page_size=2&name=q[1-5]&use_regex=true")
            .serve(rows())
            .unwrap();
        let expected = json!({ "total_count": 7, "filtered_count": 5, "item_count": 2, "page": 2, "page_size": 2,
            "page_count": 3 });
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(answer.get(key), Some(value), "{key}");
        }
    }

    #[test]
    fn columns() {
        let answer = query("columns=name,owner.pid").serve(rows()).unwrap();
        assert_eq!(answer[0], json!({ "name": "q1", "owner": { "pid": 1 } }));
    }

    #[test]
    fn refusals() {
        for text in [
            "page=0",
            "page=9",
            "page=1&page_size=501",
            "page=1&page_size=0",
            "name=(&use_regex=true",
        ] {
            assert!(
                matches!(query(text).serve(rows()), Err(ApiError::BadRequest(_))),
                "{text}"
            );
        }
        // A page of nothing exists.
        assert!(query("page=1").serve(Vec::new()).is_ok());
    }
}
