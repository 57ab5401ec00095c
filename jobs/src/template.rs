//! Templates: `{{ path | filter }}` with a closed list of paths and filters. No expressions, calls, loops or environment.

use serde::{Deserialize, Serialize};

/// A text with `{{ path | filter }}` places, checked when it was parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// Copied as it is.
    Text(String),
    /// Replaced by a value.
    Place(Place),
}

/// One `{{ path | filter }}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// For example `row.prompt`.
    pub(crate) path: String,
    filters: Vec<Filter>,
    /// Which place of the template it is, from 0.
    pub(crate) nth: usize,
}

/// The closed list of filters.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    Pad(usize),
    Lower,
    Upper,
    Trim,
    Safe,
    SafePath,
    Slug,
    Short,
    Default(String),
}

/// The names of all filters, for messages.
const FILTERS: [&str; 8] = ["pad", "lower", "upper", "trim", "safe", "slug", "short", "default"];

/// Most leading zeros that `pad` gives.
const MAX_PAD: usize = 20;

/// Why a template cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateError {
    /// Which place of the template is wrong, from 0.
    pub(crate) nth: usize,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Place {
    /// Whether two values never give the same text here.
    pub(crate) fn keeps_apart(&self) -> bool {
        self.filters.iter().all(|filter| {
            matches!(filter, Filter::Pad(_) | Filter::Safe | Filter::SafePath | Filter::Default(_))
        })
    }

    /// Whether a missing value is fine.
    pub(crate) fn has_default(&self) -> bool {
        self.filters.iter().any(|filter| matches!(filter, Filter::Default(_)))
    }
}

impl Template {
    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The places in the order of the text.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.parts.iter().filter_map(|part| match part {
            Part::Place(place) => Some(place),
            Part::Text(_) => None,
        })
    }

    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut nth = 0;
        while let Some(open) = rest.find("{{") {
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            let inside = &rest[open + 2..];
            let Some(close) = find_close(inside) else {
                return Err(TemplateError {
                    nth,
                    code: "spec::template",
                    message: "{{ is never closed; write {{ path }}".to_owned(),
                    help: None,
                });
            };
            parts.push(Part::Place(parse_place(&inside[..close], nth)?));
            rest = &inside[close + 2..];
            nth += 1;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The text with every place replaced by what `value` gives for its path. `None` from `value` is for `default` to fill.
    pub(crate) fn render<E>(
        &self,
        mut value: impl FnMut(&str) -> Result<Option<String>, E>,
        missing: impl Fn(&str) -> E,
    ) -> Result<String, E> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Place(place) => {
                    let found = place
                        .filters
                        .iter()
                        .fold(value(&place.path)?, |found, filter| filter.apply(found));
                    out.push_str(&found.ok_or_else(|| missing(&place.path))?);
                }
            }
        }
        Ok(out)
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|error| error.message)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}

/// Where `}}` stands, not counting what is inside quotes.
fn find_close(inside: &str) -> Option<usize> {
    let mut quoted = false;
    let mut previous = ' ';
    for (at, c) in inside.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '}' if previous == '}' && !quoted => return Some(at - 1),
            _ => {}
        }
        previous = c;
    }
    // An odd quote hides nothing: the place is then reported for what it holds.
    inside.find("}}")
}

fn parse_place(inside: &str, nth: usize) -> Result<Place, TemplateError> {
    let fail = |message: String, help: Option<String>| TemplateError {
        nth,
        code: "spec::template",
        message,
        help,
    };
    let (path, mut rest) = take_path(inside.trim_start()).map_err(|bad| {
        fail(format!("{{{{ … }}}} takes a path and filters only; \"{bad}\" is not allowed"), None)
    })?;
    let mut filters = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(Place { path: path.to_owned(), filters, nth });
        }
        let Some(after) = rest.strip_prefix('|') else {
            let bad: String = rest.chars().take(12).collect();
            return Err(fail(
                format!(
                    "{{{{ … }}}} takes a path and filters only; \"{}\" is not allowed",
                    bad.trim_end()
                ),
                None,
            ));
        };
        let (filter, after) =
            parse_filter(after.trim_start()).map_err(|(message, help)| fail(message, help))?;
        filters.push(filter);
        rest = after;
    }
}

/// A dotted path at the start of the text, and what follows; else what stands there instead.
fn take_path(text: &str) -> Result<(&str, &str), String> {
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-')))
        .unwrap_or(text.len());
    let (path, rest) = text.split_at(end);
    let whole = !path.is_empty() && path.split('.').all(|word| !word.is_empty());
    match rest.chars().next() {
        None | Some('|') if whole => Ok((path, rest)),
        Some(c) if whole && c.is_whitespace() => Ok((path, rest)),
        other => Err(format!("{path}{}", other.map(String::from).unwrap_or_default())),
    }
}

type FilterError = (String, Option<String>);

fn parse_filter(text: &str) -> Result<(Filter, &str), FilterError> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let (argument, rest) = match rest.strip_prefix('(') {
        None => (None, rest),
        Some(after) => {
            let close =
                after.find(')').ok_or_else(|| (format!("filter {name}( is never closed"), None))?;
            (Some(after[..close].trim()), &after[close + 1..])
        }
    };
    let filter = match (name, argument) {
        ("pad", Some(digits)) => match digits.parse() {
            Ok(width) if (1..=MAX_PAD).contains(&width) => Filter::Pad(width),
            _ => {
                return Err((
                    format!("pad takes a width between 1 and {MAX_PAD}, got \"{digits}\""),
                    None,
                ));
            }
        },
        ("default", Some(text)) => {
            match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
                Some(text) => Filter::Default(text.to_owned()),
                None => {
                    return Err((
                        "default takes a text in double quotes".to_owned(),
                        Some("default(\"none\")".to_owned()),
                    ));
                }
            }
        }
        ("pad" | "default", None) => {
            return Err((format!("filter {name} needs an argument"), Some(format!("{name}(…)"))));
        }
        ("lower", None) => Filter::Lower,
        ("upper", None) => Filter::Upper,
        ("trim", None) => Filter::Trim,
        ("safe", None) => Filter::Safe,
        ("safe_path", None) => Filter::SafePath,
        ("slug", None) => Filter::Slug,
        ("short", None) => Filter::Short,
        (known, Some(_)) if FILTERS.contains(&known) => {
            return Err((format!("filter {known} takes no argument"), None));
        }
        (unknown, _) => {
            return Err((
                format!("unknown filter \"{unknown}\""),
                Some(format!("filters are {}", FILTERS.join(", "))),
            ));
        }
    };
    Ok((filter, rest))
}

impl Filter {
    fn apply(&self, value: Option<String>) -> Option<String> {
        let Some(value) = value else {
            return match self {
                Self::Default(text) => Some(text.clone()),
                _ => None,
            };
        };
        Some(match self {
            Self::Pad(width) => format!("{value:0>width$}"),
            Self::Lower => value.to_lowercase(),
            Self::Upper => value.to_uppercase(),
            Self::Trim => value.trim().to_owned(),
            Self::Safe => safe(&value),
            Self::SafePath => safe_path(&value),
            Self::Slug => slug(&value),
            Self::Short => value.chars().take(8).collect(),
            Self::Default(_) => value,
        })
    }
}

/// Longest result of `safe`, in bytes: room for the rest of the name below the 200 bytes of a component.
const SAFE_BYTES: usize = 120;

/// The value with every byte but `A-Z a-z 0-9 . _ -` written as `%XX`: one component of a key, and no two values share one. A
/// dot at the start or end is written so too. A value that grows too long keeps its start and ends in a hash of the whole.
pub(crate) fn safe(value: &str) -> String {
    let mut out = String::new();
    for (n, byte) in value.bytes().enumerate() {
        match byte {
            b'.' if n == 0 || n + 1 == value.len() => out.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
                out.push(char::from(byte))
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    if out.len() > SAFE_BYTES {
        out.truncate(SAFE_BYTES - 34);
        out.push_str("%%");
        out.push_str(&crate::ids::hash128(&["safe", value]));
    }
    out
}

/// The same for each component of a path. An empty component becomes `%-`, and the last dot of a folder is written as `%2E`, so
/// that no folder looks like a file.
fn safe_path(value: &str) -> String {
    let (folders, file) = value.rsplit_once('/').unwrap_or(("", value));
    let mut out = String::new();
    for folder in folders.split('/').filter(|_| value.contains('/')) {
        let folder = if folder.is_empty() { "%-".to_owned() } else { safe(folder) };
        match folder.rsplit_once('.') {
            Some((stem, ext)) => out.push_str(&format!("{stem}%2E{ext}/")),
            None => out.push_str(&format!("{folder}/")),
        }
    }
    out + &if file.is_empty() { "%-".to_owned() } else { safe(file) }
}

/// Lower case letters and digits joined by single `-`; two values may share one.
fn slug(value: &str) -> String {
    let words: Vec<String> = value
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join("-").chars().take(60).collect()
}

/// Whether a character changes the direction of text: such names show as something else than they are.
pub(crate) fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str, value: &str) -> Result<String, String> {
        let template = Template::parse(template).map_err(|error| error.message)?;
        template.render(|_| Ok(Some(value.to_owned())), str::to_owned)
    }

    #[test]
    fn filters_do_what_they_say() {
        for (template, value, expected) in [
            ("{{x|pad(3)}}", "7", "007"),
            ("a {{ x | upper }} b", "q", "a Q b"),
            ("{{ x | trim | lower }}", " Q ", "q"),
            ("{{ x | safe }}", "../a b", "%2E.%2Fa%20b"),
            ("{{ x | safe }}", "é.", "%C3%A9%2E"),
            ("{{ x | safe_path }}", "top.png/a.png", "top%2Epng/a.png"),
            ("{{ x | safe_path }}", "/../", "%-/%2E%2E/%-"),
            ("{{ x | slug }}", "A red, RED hat!", "a-red-red-hat"),
            ("{{ x | short }}", "0123456789", "01234567"),
            ("}} {", "", "}} {"),
        ] {
            assert_eq!(rendered(template, value).as_deref(), Ok(expected), "{template}");
        }
        let none = Template::parse("{{ x | default(\"a }} b\") }}").unwrap();
        assert_eq!(none.render(|_| Ok::<_, ()>(None), |_| ()), Ok("a }} b".to_owned()));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for bad in [
            "{{ }}",
            "{{ a",
            "{{ a b }}",
            "{{ a() }}",
            "{{ a.b. }}",
            "{{ 'x' }}",
            "{{ a | }}",
            "{{ a | pad }}",
            "{{ a | pad(0) }}",
            "{{ a | pad(99) }}",
            "{{ a | lower(1) }}",
            "{{ a | pad(3 }}",
            "{{ a + b }}",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn safe_keeps_different_values_apart() {
        let long = "x".repeat(500);
        let values = ["a/b", "a%2Fb", "a", "a.", "a%2E", ".a", "", &long, &long[..499], "A", "ａ"];
        let safe: std::collections::HashSet<String> =
            values.iter().map(|value| safe(value)).collect();
        assert_eq!(safe.len(), values.len());
        assert!(safe.iter().all(|value| value.len() <= SAFE_BYTES));
    }
}
