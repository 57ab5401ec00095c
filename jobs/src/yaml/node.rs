//! YAML nodes with positions, and what a plain scalar means.

use std::rc::Rc;

use serde_yaml::Value;

/// A place in the text; line and column are counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pos {
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// How many characters a caret marks.
    pub(crate) width: usize,
}

/// One node. Clones share their content, so that aliases cost nothing.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: Pos,
    pub(crate) content: Content,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Scalar {
        text: Rc<str>,
        /// Without quotes, so that it may be a number, a truth value or null.
        plain: bool,
    },
    List(Rc<[Node]>),
    Map(Rc<[Entry]>),
}

/// One key of a mapping with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Rc<str>,
    pub(crate) key_at: Pos,
    pub(crate) value: Node,
}

impl Node {
    /// The entries of a mapping; none for anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list; none for anything else.
    pub(crate) fn elements(&self) -> &[Node] {
        match &self.content {
            Content::List(elements) => elements,
            _ => &[],
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| &*entry.key == key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The text of a scalar as it was written, quotes taken off.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.scalar(), Some(Value::Null))
    }

    /// The value of a scalar, by the core schema of YAML 1.2.
    pub(crate) fn scalar(&self) -> Option<Value> {
        match &self.content {
            Content::Scalar { text, plain: true } => Some(resolve(text)),
            Content::Scalar { text, plain: false } => Some(Value::String(text.to_string())),
            _ => None,
        }
    }

    /// What stands here, for messages: a short text in quotes, a number as it was written, or what sort of thing it is.
    pub(crate) fn shown(&self) -> String {
        match &self.content {
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a mapping".to_owned(),
            Content::Scalar { text, .. } => match self.scalar() {
                Some(Value::Null) => "nothing".to_owned(),
                Some(Value::Number(_) | Value::Bool(_)) => text.to_string(),
                _ => quoted(text),
            },
        }
    }

    /// The node as a value, aliases expanded.
    pub(crate) fn value(&self) -> Value {
        match &self.content {
            Content::Scalar { .. } => self.scalar().unwrap_or(Value::Null),
            Content::List(elements) => Value::Sequence(elements.iter().map(Self::value).collect()),
            Content::Map(entries) => Value::Mapping(
                entries
                    .iter()
                    .map(|entry| (Value::String(entry.key.to_string()), entry.value.value()))
                    .collect(),
            ),
        }
    }
}

/// A text in quotes, cut to a length that fits a message.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_CHARS: usize = 60;
    let visible = |c: char| {
        if c.is_control() || crate::template::is_bidi_control(c) { '\u{FFFD}' } else { c }
    };
    let mut shown: String = text.chars().take(SHOWN_CHARS).map(visible).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

/// Whether a plain scalar is written like a whole number, whatever its size.
pub(crate) fn is_whole_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'))
}

/// A plain scalar by the core schema of YAML 1.2, as serde_yaml reads it: `on` and `22:00` are texts, and so is `007`.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Number(f64::NAN.into()),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
        return Value::Number((sign * f64::INFINITY).into());
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) =
            unsigned.strip_prefix(prefix).filter(|digits| !digits.starts_with(['+', '-']))
        {
            return match i128::from_str_radix(digits, radix) {
                Ok(n) => whole(if text.starts_with('-') { -n } else { n })
                    .unwrap_or_else(|| Value::String(text.to_owned())),
                Err(_) => Value::String(text.to_owned()),
            };
        }
    }
    if is_whole_number(text)
        && let Some(value) = text.parse::<i128>().ok().and_then(whole)
    {
        return value;
    }
    if let Some(number) = float(text, unsigned) {
        return Value::Number(number.into());
    }
    Value::String(text.to_owned())
}

fn whole(n: i128) -> Option<Value> {
    u64::try_from(n)
        .map(|n| Value::Number(n.into()))
        .or_else(|_| i64::try_from(n).map(|n| Value::Number(n.into())))
        .ok()
}

fn float(text: &str, unsigned: &str) -> Option<f64> {
    let starts = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let zeros = unsigned.len() > 1
        && unsigned.starts_with('0')
        && unsigned.bytes().all(|b| b.is_ascii_digit());
    let allowed = unsigned
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if starts && allowed && !zeros && unsigned.bytes().any(|b| b.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}
