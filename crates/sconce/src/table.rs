//! A table for a person, a page or a program.

use serde_json::{Map, Value};

/// Rows of what is known, each with a value for each column, null where nothing is.
pub struct Table {
    /// Keys in JSON and headings elsewhere.
    pub columns: &'static [(&'static str, &'static str)],
    /// The rows.
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    /// Columns as wide as what is in them, numbers to the right.
    pub fn text(&self) -> String {
        let cells = self.cells();
        let numbers = |column: usize| {
            let mut values = self.rows.iter().filter_map(|row| row.get(column));
            values.all(|value| value.is_number() || value.is_null())
        };
        aligned(&cells, numbers)
    }

    /// As GitHub's Markdown.
    pub fn markdown(&self) -> String {
        let cells = self.cells();
        let line = |row: &[String]| {
            let row: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", row.join(" | "))
        };
        let mut lines = cells.iter().map(|row| line(row));
        let head = lines.next().unwrap_or_default();
        let rule = format!("|{}\n", "---|".repeat(self.columns.len()));
        std::iter::once(head).chain([rule]).chain(lines).collect()
    }

    /// A list of objects.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let keys = self.columns.iter().map(|(key, _)| (*key).to_owned());
            Value::Object(keys.zip(row.iter().cloned()).collect::<Map<_, _>>())
        });
        Value::Array(rows.collect())
    }

    /// The headings, and the rows as text.
    fn cells(&self) -> Vec<Vec<String>> {
        let head = self.columns.iter().map(|(_, heading)| (*heading).to_owned()).collect();
        let rows = self.rows.iter().map(|row| row.iter().map(shown).collect());
        std::iter::once(head).chain(rows).collect()
    }
}

/// Rows with columns as wide as what is in them, those that `right` says to the right.
pub fn aligned(rows: &[Vec<String>], right: impl Fn(usize) -> bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let columns: Vec<(usize, bool)> =
        (0..columns).map(|column| (width(column), right(column))).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&columns).map(|(cell, (width, right))| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// A value in words.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
