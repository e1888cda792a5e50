//! Columns of lists: which there are, which are asked for, and how a row gets them.

use super::cell::Cell;
use super::command::Call;
use super::format::Row;
use super::trouble::{Trouble, USAGE};
use serde_json::Value;

/// How a column's value is found in a row of the HTTP API.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    /// Under this path, as `owner.name`.
    At(&'static str),
    /// The same; an AMQP table.
    Arguments(&'static str),
    /// The same; a JSON object that is printed as JSON.
    Json(&'static str),
    /// Computed.
    With(fn(&Value) -> Value),
    /// Nothing here has it: an empty text.
    Nothing,
}

/// A column.
pub(super) type Column = (&'static str, From);

/// A column that has the same name in the HTTP API.
pub(super) const fn same(name: &'static str) -> Column {
    (name, From::At(name))
}

/// The columns that the words ask for, else those of these names.
pub(super) fn chosen(
    call: &Call,
    all: &'static [Column],
    otherwise: &[&str],
) -> Result<Vec<Column>, Trouble> {
    let asked: Vec<&str> = call
        .words
        .iter()
        .flat_map(|word| word.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect();
    let wanted = if asked.is_empty() { otherwise } else { &asked };
    let find = |name: &&str| all.iter().find(|(column, _)| column == name).copied();
    let unknown: Vec<&str> = wanted
        .iter()
        .filter(|name| find(name).is_none())
        .copied()
        .collect();
    if unknown.is_empty() {
        return Ok(wanted.iter().filter_map(find).collect());
    }
    let text = format!("Info key(s) {} are not supported", unknown.join(","));
    Err(call.misused(USAGE, &text))
}

/// A row with these columns.
pub(super) fn row(columns: &[Column], value: &Value) -> Row {
    columns
        .iter()
        .map(|(name, from)| (*name, cell(*from, value)))
        .collect()
}

/// Rows with these columns.
pub(super) fn rows(columns: &[Column], values: &[Value]) -> Vec<Row> {
    values.iter().map(|value| row(columns, value)).collect()
}

fn cell(from: From, value: &Value) -> Cell {
    let find = |at: &str| {
        at.split('.')
            .try_fold(value, |value, key| value.get(key))
            .unwrap_or(&Value::Null)
    };
    match from {
        From::At(at) => Cell::Plain(find(at).clone()),
        From::Arguments(at) => Cell::arguments(find(at)),
        From::Json(at) => Cell::Plain(find(at).to_string().into()),
        From::With(function) => Cell::Plain(function(value)),
        From::Nothing => Cell::Plain(Value::Null),
    }
}

/// A text in a row of the HTTP API.
pub(super) fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_have_what_is_asked_for() {
        let columns: [Column; 5] = [
            same("name"),
            ("owner", From::At("details.name")),
            ("definition", From::Json("definition")),
            (
                "shout",
                From::With(|row| text(row, "name").to_uppercase().into()),
            ),
            ("pid", From::Nothing),
        ];
        let value = json!({"name": "q", "details": {"name": "c"}, "definition": {"a": 1}});
        let texts: Vec<String> = row(&columns, &value)
            .into_iter()
            .map(|(_, cell)| cell.text())
            .collect();
        assert_eq!(texts, ["q", "c", "{\"a\":1}", "Q", ""]);
    }
}
