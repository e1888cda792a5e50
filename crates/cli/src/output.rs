//! Tables for people, JSON for programs.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;
use std::io::{self, Write};

/// A column: its title and where its value is found, as in `owner.name`.
pub(crate) type Column = (&'static str, &'static str);

/// Writes rows as a table with these columns, or as they came when `json`.
pub(crate) fn rows(rows: &[Value], columns: &[Column], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return document(&mut out, &Value::Array(rows.to_vec()));
    }
    writeln!(out, "{}", table(rows, columns))
}

/// Writes one object as lines of name and value, or as it came when `json`.
pub(crate) fn object(value: &Value, columns: &[Column], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return document(&mut out, value);
    }
    let mut table = plain_table();
    for (title, at) in columns {
        table.add_row([(*title).to_owned(), text(find(value, at))]);
    }
    writeln!(out, "{}", lines(&table))
}

/// Writes JSON, indented.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    document(&mut io::stdout().lock(), value)
}

/// Writes one line.
pub(crate) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

fn document(out: &mut impl Write, value: &Value) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// The table's text: titles, then a row each; numbers stand right.
pub(crate) fn table(rows: &[Value], columns: &[Column]) -> String {
    let mut table = plain_table();
    table.set_header(columns.iter().map(|(title, _)| title.to_uppercase()));
    for row in rows {
        table.add_row(columns.iter().map(|(_, at)| text(find(row, at))));
    }
    for (index, (_, at)) in columns.iter().enumerate() {
        let numeric = rows
            .iter()
            .any(|row| find(row, at).is_some_and(Value::is_number));
        if let (true, Some(column)) = (numeric, table.column_mut(index)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    lines(&table)
}

fn plain_table() -> Table {
    let mut table = Table::new();
    // Not fitted to the terminal: a line cut in pieces is no use to grep.
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Without the blanks that pad the table on both sides.
fn lines(table: &Table) -> String {
    let text = table.to_string();
    text.lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect::<Vec<_>>()
        .join("\n")
}

fn find<'a>(value: &'a Value, at: &str) -> Option<&'a Value> {
    at.split('.').try_fold(value, |value, key| value.get(key))
}

/// A value in a cell. Control characters of names chosen by clients must not reach the terminal.
fn text(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => if *flag { "yes" } else { "no" }.into(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| text(Some(item)))
            .collect::<Vec<_>>()
            .join(", "),
        Some(Value::Object(map)) if map.is_empty() => String::new(),
        Some(other) => other.to_string(),
    };
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table() {
        let rows = [
            json!({"name": "jobs", "messages": 12, "durable": true, "owner": {"name": "a"}, "arguments": {}}),
            json!({"name": "a\u{1b}[31m", "messages": 1234, "durable": false, "tags": ["x", "y"]}),
        ];
        let columns: [Column; 5] = [
            ("name", "name"),
            ("messages", "messages"),
            ("durable", "durable"),
            ("owner", "owner.name"),
            ("tags", "tags"),
        ];
        let table = table(&rows, &columns);
        let words: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            words,
            [
                vec!["NAME", "MESSAGES", "DURABLE", "OWNER", "TAGS"],
                vec!["jobs", "12", "yes", "a"],
                vec!["a\u{fffd}[31m", "1234", "no", "x,", "y"],
            ]
        );
        assert!(table.lines().all(|line| line.trim_end() == line));
    }
}
