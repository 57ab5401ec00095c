//! Standard output is data: rows as a table, JSON, JSON lines or YAML.

use std::io::Write;

use clap::ValueEnum;
use serde_json::Value;

/// How a read command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    Table,
    /// One JSON document
    Json,
    /// One JSON object per line
    Jsonl,
    /// One YAML document
    Yaml,
}

/// How one column of a table is made from a row.
pub struct Column {
    /// Heading.
    pub head: &'static str,
    /// Field of the row; dots lead into objects.
    pub field: &'static str,
}

/// Shorthand for a [`Column`].
#[must_use]
pub const fn column(head: &'static str, field: &'static str) -> Column {
    Column { head, field }
}

/// Writes a list of rows.
///
/// # Errors
/// Those of the writer.
pub fn rows(
    out: &mut dyn Write,
    format: Format,
    columns: &[Column],
    rows: &[Value],
) -> std::io::Result<()> {
    match format {
        Format::Table => table(out, columns, rows),
        Format::Json => writeln!(out, "{}", pretty(&Value::Array(rows.to_vec()))),
        Format::Jsonl => rows.iter().try_for_each(|row| writeln!(out, "{row}")),
        Format::Yaml => write!(out, "{}", yaml(&Value::Array(rows.to_vec()))),
    }
}

/// Writes one thing: as `field  value` lines in a table, else as one document.
///
/// # Errors
/// Those of the writer.
pub fn one(out: &mut dyn Write, format: Format, value: &Value) -> std::io::Result<()> {
    match format {
        Format::Table => {
            let fields: Vec<(&String, &Value)> = value.as_object().into_iter().flatten().collect();
            let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            for (name, value) in fields {
                let text = cell(value);
                let mut lines = text.lines();
                writeln!(out, "{name:<width$}  {}", lines.next().unwrap_or(""))?;
                for line in lines {
                    writeln!(out, "{:<width$}  {line}", "")?;
                }
            }
            Ok(())
        }
        Format::Json => writeln!(out, "{}", pretty(value)),
        Format::Jsonl => writeln!(out, "{value}"),
        Format::Yaml => write!(out, "{}", yaml(value)),
    }
}

fn table(out: &mut dyn Write, columns: &[Column], rows: &[Value]) -> std::io::Result<()> {
    let mut lines = vec![columns.iter().map(|c| c.head.to_owned()).collect::<Vec<_>>()];
    for row in rows {
        lines.push(columns.iter().map(|c| one_line(&cell(field(row, c.field)))).collect());
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|i| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0))
        .collect();
    for line in lines {
        let mut text = String::new();
        for (value, width) in line.iter().zip(&widths) {
            text.push_str(value);
            text.extend(std::iter::repeat_n(' ', width - value.chars().count() + 2));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

fn field<'a>(row: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(row, |value, name| value.get(name).unwrap_or(&Value::Null))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Control characters would let a value of a job draw on the reader's terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a JSON value can be written")
}

fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).expect("a JSON value can be written as YAML")
}

/// `1234567` as `1 234 567`.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(format: Format) -> String {
        let list = [
            json!({"id": 1, "name": "sweep", "counts": {"ok": 12}}),
            json!({"id": 20, "name": "two\nlines\u{1b}[31m", "counts": {"ok": ["a", 1]}}),
        ];
        let columns = [column("JOB", "id"), column("NAME", "name"), column("OK", "counts.ok")];
        let mut out = Vec::new();
        rows(&mut out, format, &columns, &list).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_in_every_format() {
        insta::assert_snapshot!(shown(Format::Table), @r"
        JOB  NAME            OK
        1    sweep           12
        20   two lines [31m  a, 1
        ");
        insta::assert_snapshot!(shown(Format::Jsonl), @r#"
        {"counts":{"ok":12},"id":1,"name":"sweep"}
        {"counts":{"ok":["a",1]},"id":20,"name":"two\nlines\u001b[31m"}
        "#);
        insta::assert_snapshot!(shown(Format::Yaml), @r#"
        - counts:
            ok: 12
          id: 1
          name: sweep
        - counts:
            ok:
            - a
            - 1
          id: 20
          name: "two\nlines\e[31m"
        "#);
        assert_eq!(shown(Format::Json).parse::<Value>().unwrap()[1]["id"], 20);
    }

    #[test]
    fn one_thing_as_lines() {
        let mut out = Vec::new();
        one(&mut out, Format::Table, &json!({"id": 3, "errors": "a\nb"})).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "errors  a\n        b\nid      3\n");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1 234 567");
    }
}
