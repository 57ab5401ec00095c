//! Checks nodes against the schema of the raw types, reports every mistake, and gives what passed.
//!
//! serde would stop at the first mistake and knows no columns; what leaves here is accepted by it.

use serde_json::Value as Json;
use serde_yaml::{Mapping, Value};

use crate::read::matrix;
use crate::yaml::findings::Cx;
use crate::yaml::nearest::nearest;
use crate::yaml::node::{Node, is_whole_number, quoted};

/// From this many mistakes on, nobody reads suggestions.
const HELPED_MISTAKES: usize = 100;

/// Keys that other YAML readers take for truth values or nothing.
const TRAPS: [&str; 13] =
    ["on", "off", "yes", "no", "y", "n", "true", "false", "null", "~", "On", "Off", "Yes"];

/// One walk over a document or a block of it.
pub(crate) struct Walk<'a, 't> {
    pub(crate) cx: &'a mut Cx<'t>,
    pub(crate) schema: &'a Json,
}

impl Walk<'_, '_> {
    /// The part of a node that passed; `None` when nothing of it did. Values that wait for the matrix are left out.
    pub(crate) fn node(&mut self, node: &Node, schema: &Json, path: &str) -> Option<Value> {
        let variants = variants(schema, self.schema);
        if node.is_null() {
            if variants.iter().any(|variant| is_type(variant, "null")) {
                return Some(Value::Null);
            }
            return self.wrong_type(node, &variants, path);
        }
        if is_matrix(schema) && node.text().is_some_and(|text| matrix::reference(text).is_some()) {
            return None;
        }
        if self.is_secret(node, path) {
            return None;
        }
        let sort = match (node.text(), node.entries().is_empty()) {
            (Some(_), _) => return self.scalar(node, &variants, path),
            (None, false) => "object",
            (None, true) if matches!(node.content, crate::yaml::node::Content::Map(_)) => "object",
            (None, true) => "array",
        };
        match variants.iter().find(|variant| is_type(variant, sort)).copied() {
            Some(variant) if sort == "object" => Some(self.object(node, variant, path)),
            Some(variant) => self.array(node, variant, path),
            None => self.wrong_type(node, &variants, path),
        }
    }

    fn object(&mut self, node: &Node, schema: &Json, path: &str) -> Value {
        let known = schema.get("properties").and_then(Json::as_object);
        let free = schema.get("additionalProperties").filter(|free| !free.is_boolean());
        let mut passed = Mapping::new();
        for entry in node.entries() {
            let below = join(path, &entry.key);
            let schema = match known.and_then(|known| known.get(&*entry.key)).or(free) {
                Some(schema) => schema,
                None => {
                    self.unknown_key(
                        entry,
                        known.into_iter().flatten().map(|(key, _)| key.as_str()).collect(),
                        path,
                    );
                    continue;
                }
            };
            if free.is_some() && TRAPS.contains(&&*entry.key) {
                let message = format!(
                    "the key {} is read as a truth value by some YAML readers; choose another",
                    quoted(&entry.key)
                );
                self.cx.error_at(entry.key_at, &below, "spec::yaml_trap", message, None);
                continue;
            }
            if let Some(value) = self.node(&entry.value, schema, &below) {
                passed.insert(Value::String(entry.key.to_string()), value);
            }
        }
        Value::Mapping(passed)
    }

    fn unknown_key(&mut self, entry: &crate::yaml::node::Entry, known: Vec<&str>, path: &str) {
        let key = entry.key.to_lowercase();
        if ["secret", "password", "token", "api_key", "secret_key", "access_key"]
            .contains(&key.as_str())
        {
            let message = "this looks like a secret; use secret_env".to_owned();
            return self.cx.error_at(
                entry.value.at,
                &join(path, &entry.key),
                "spec::secret",
                message,
                None,
            );
        }
        let place = if path.is_empty() { "the spec" } else { path };
        let message = format!("unknown key {} in {place}", quoted(&entry.key));
        let help = (self.cx.count() < HELPED_MISTAKES).then(|| {
            match nearest(&entry.key, known.iter().copied()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("keys here are {}", known.join(", ")),
            }
        });
        self.cx.error_at(
            entry.key_at,
            &join(path, &entry.key),
            "spec::unknown_field",
            message,
            help,
        );
    }

    fn array(&mut self, node: &Node, schema: &Json, path: &str) -> Option<Value> {
        let length = node.elements().len() as u64;
        let bound = |name: &str| schema.get(name).and_then(Json::as_u64);
        if bound("minItems").is_some_and(|min| length < min) {
            self.cx.error(path, "spec::out_of_range", format!("{path}: the list is empty"), None);
            return None;
        }
        if let Some(max) = bound("maxItems").filter(|max| length > *max) {
            self.cx.error(
                path,
                "spec::out_of_range",
                format!("{path}: at most {max} elements, got {length}"),
                None,
            );
            return None;
        }
        let any = Json::Bool(true);
        let schema = schema.get("items").unwrap_or(&any);
        let passed = node
            .elements()
            .iter()
            .enumerate()
            .filter_map(|(n, element)| self.node(element, schema, &format!("{path}[{n}]")));
        Some(Value::Sequence(passed.collect()))
    }

    fn scalar(&mut self, node: &Node, variants: &[&Json], path: &str) -> Option<Value> {
        let value = node.scalar()?;
        let mut complaint = None;
        for variant in variants {
            match check_scalar(node, &value, variant, path) {
                Verdict::Fits => return Some(value),
                Verdict::Complaint(code, message) => {
                    complaint = complaint.or(Some((code, message)))
                }
                Verdict::WrongType => {}
            }
        }
        match complaint {
            Some((code, message)) => {
                self.cx.error_at(node.at, path, code, message, None);
                None
            }
            None => self.wrong_type(node, variants, path),
        }
    }

    fn wrong_type(&mut self, node: &Node, variants: &[&Json], path: &str) -> Option<Value> {
        let text = node.text().unwrap_or_default();
        let number_for_text = matches!(node.scalar(), Some(Value::Number(_) | Value::Bool(_)));
        let at = if node.is_null() { self.cx.key_at(path) } else { node.at };
        if path == "schedule.window" && number_for_text {
            let help = "write the window in quotes, \"22:00-06:00 Europe/Berlin\"".to_owned();
            self.cx.error_at(
                at,
                path,
                "spec::yaml_trap",
                format!("{path}: got the number {text}"),
                Some(help),
            );
            return None;
        }
        if path == "output.depth.encoding" && ["jpeg", "jpg", "webp"].contains(&text) {
            self.cx.error_at(at, path, "spec::lossy_depth", lossy_depth(text), None);
            return None;
        }
        let words: Vec<&str> = variants.iter().flat_map(|variant| words(variant)).collect();
        let help = match nearest(text, words.iter().copied()) {
            Some(word) if self.cx.count() < HELPED_MISTAKES => {
                Some(format!("did you mean {word}?"))
            }
            _ if text.contains("{{") => {
                let takes_matrix = variants.iter().any(|variant| {
                    variant
                        .get("pattern")
                        .and_then(Json::as_str)
                        .is_some_and(|pattern| pattern.contains("matrix"))
                });
                let only_whole = "only a whole \"{{ matrix.KEY }}\" can stand here";
                Some(
                    if takes_matrix { only_whole } else { "no template can stand here" }.to_owned(),
                )
            }
            _ if number_for_text
                && variants.iter().any(|variant| {
                    is_type(variant, "string") && variant.get("pattern").is_none()
                }) =>
            {
                Some("put it in quotes".to_owned())
            }
            _ => None,
        };
        let message = format!("{path}: expected {}, got {}", expected(variants), node.shown());
        self.cx.error_at(at, path, "spec::wrong_type", message, help);
        None
    }

    /// Reports what looks like a secret. Rows and prompts are data, where anything may stand.
    fn is_secret(&mut self, node: &Node, path: &str) -> bool {
        let data = path.starts_with("input.inline") || path.starts_with("input.prompts");
        let secret = !data && node.text().is_some_and(looks_like_secret);
        if secret {
            let message = "this looks like a secret; use secret_env".to_owned();
            self.cx.error_at(node.at, path, "spec::secret", message, None);
        }
        secret
    }
}

/// The words for depth in a lossy format.
pub(crate) fn lossy_depth(format: &str) -> String {
    format!("depth cannot be stored as {format} (lossy, 8 bit); use png16 or npy_f16")
}

/// What one scalar is to one schema.
enum Verdict {
    Fits,
    WrongType,
    Complaint(&'static str, String),
}

fn check_scalar(node: &Node, value: &Value, schema: &Json, path: &str) -> Verdict {
    let text = node.text().unwrap_or_default();
    let words = words(schema);
    if !words.is_empty() {
        return if words.contains(&text) { Verdict::Fits } else { Verdict::WrongType };
    }
    let plain = matches!(node.content, crate::yaml::node::Content::Scalar { plain: true, .. });
    let numeric = is_type(schema, "integer") || is_type(schema, "number");
    if numeric && plain && is_whole_number(text) {
        return check_whole(text, schema, path);
    }
    match value {
        Value::Number(number) if is_type(schema, "number") => {
            check_number(text, number.as_f64().unwrap_or(f64::NAN), schema, path)
        }
        Value::Number(number) if is_type(schema, "integer") => match number.as_i64() {
            Some(_) => check_number(text, number.as_f64().unwrap_or(f64::NAN), schema, path),
            None => Verdict::WrongType,
        },
        Value::Bool(_) if is_type(schema, "boolean") => Verdict::Fits,
        Value::String(_) if is_type(schema, "string") => check_pattern(text, schema),
        _ => Verdict::WrongType,
    }
}

/// Whole numbers are compared as such: doubles would lose the last digits of large seeds.
fn check_whole(text: &str, schema: &Json, path: &str) -> Verdict {
    let bound = |name: &str| {
        schema
            .get(name)
            .and_then(|bound| bound.as_i64().map(i128::from).or(bound.as_u64().map(i128::from)))
    };
    let (min, max) = (bound("minimum"), bound("maximum"));
    let largest = max.filter(|max| *max > i128::from(u32::MAX)).unwrap_or(i128::from(i64::MAX));
    let (low, high) = (min.unwrap_or(i128::from(i64::MIN)), largest);
    let does_not_fit = || {
        Verdict::Complaint(
            "spec::out_of_range",
            format!("{path}: {text} does not fit ({low} … {high})"),
        )
    };
    let Ok(n) = text.parse::<i128>() else {
        return if is_type(schema, "integer") {
            does_not_fit()
        } else {
            check_number(text, f64::MAX, schema, path)
        };
    };
    if n > largest && is_type(schema, "integer") {
        return does_not_fit();
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "only for bounds of numbers that are no integers"
    )]
    let near = n as f64;
    match (min, max) {
        (Some(min), _) if n < min => out_of_range(text, schema, path),
        (_, Some(max)) if n > max => out_of_range(text, schema, path),
        _ if is_type(schema, "integer") => Verdict::Fits,
        _ => check_number(text, near, schema, path),
    }
}

fn check_number(text: &str, number: f64, schema: &Json, path: &str) -> Verdict {
    if !number.is_finite() {
        return Verdict::Complaint(
            "spec::not_finite",
            format!("{path} must be finite, got {text}"),
        );
    }
    let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
    let low = bound("minimum").is_some_and(|min| number < min)
        || bound("exclusiveMinimum").is_some_and(|min| number <= min);
    let high = bound("maximum").is_some_and(|max| number > max);
    if low || high { out_of_range(text, schema, path) } else { Verdict::Fits }
}

fn out_of_range(text: &str, schema: &Json, path: &str) -> Verdict {
    let bound = |name: &str| schema.get(name).map(Json::to_string);
    let range = match (bound("minimum"), bound("exclusiveMinimum"), bound("maximum")) {
        (Some(min), _, Some(max)) => format!("between {min} and {max}"),
        (Some(min), _, None) => format!("at least {min}"),
        (None, Some(min), Some(max)) => format!("above {min} and at most {max}"),
        (None, Some(min), None) => format!("above {min}"),
        (None, None, max) => format!("at most {}", max.unwrap_or_default()),
    };
    Verdict::Complaint("spec::out_of_range", format!("{path} must be {range}, got {text}"))
}

/// The three patterns of our schemas.
fn check_pattern(text: &str, schema: &Json) -> Verdict {
    let fits = match schema.get("pattern").and_then(Json::as_str) {
        None => true,
        Some(digits) if digits.starts_with("^[0-9]{") => {
            text.parse::<i64>().is_ok_and(|n| n >= 0) && !text.starts_with('+')
        }
        Some(share) if share.ends_with("%$") => {
            text.strip_suffix('%').is_some_and(|n| n.parse::<f64>().is_ok_and(|n| n >= 0.0))
        }
        // A whole reference to the matrix was taken out before.
        Some(_) => false,
    };
    if fits { Verdict::Fits } else { Verdict::WrongType }
}

/// The alternatives of a schema, references followed.
fn variants<'s>(schema: &'s Json, root: &'s Json) -> Vec<&'s Json> {
    let schema = follow(schema, root);
    match schema.get("anyOf").and_then(Json::as_array) {
        Some(alternatives) => {
            alternatives.iter().flat_map(|alternative| variants(alternative, root)).collect()
        }
        None => vec![schema],
    }
}

fn follow<'s>(schema: &'s Json, root: &'s Json) -> &'s Json {
    let name =
        schema.get("$ref").and_then(Json::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
    name.and_then(|name| root.get("$defs")?.get(name)).unwrap_or(schema)
}

fn is_matrix(schema: &Json) -> bool {
    schema.get("x-matrix").is_some()
}

fn is_type(schema: &Json, name: &str) -> bool {
    match schema.get("type") {
        Some(Json::String(only)) => only == name,
        Some(Json::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    }
}

/// The words of an enumeration.
fn words(schema: &Json) -> Vec<&str> {
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        return words.iter().filter_map(Json::as_str).collect();
    }
    let documented = schema.get("oneOf").and_then(Json::as_array).into_iter().flatten();
    documented
        .filter_map(|one| one.get("const"))
        .chain(schema.get("const"))
        .filter_map(Json::as_str)
        .collect()
}

/// What a schema wants, in words.
fn expected(variants: &[&Json]) -> String {
    let mut wanted: Vec<String> = Vec::new();
    for variant in variants {
        let words = words(variant);
        let pattern = variant.get("pattern").and_then(Json::as_str);
        if words.len() == 1 {
            wanted.push(words[0].to_owned());
        } else if !words.is_empty() {
            wanted.push(format!("one of {}", words.join(", ")));
        } else if pattern.is_some_and(|pattern| pattern.ends_with("%$")) {
            wanted.push("a share such as \"5%\"".to_owned());
        } else if pattern.is_none() {
            let names = [
                ("number", "a number"),
                ("integer", "a whole number"),
                ("boolean", "true or false"),
                ("string", "a text"),
                ("array", "a list"),
                ("object", "a mapping"),
            ];
            wanted.extend(
                names
                    .iter()
                    .filter(|(name, _)| is_type(variant, name))
                    .map(|(_, words)| (*words).to_owned()),
            );
        }
    }
    wanted.join(" or ")
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The marks of well-known credentials.
fn looks_like_secret(text: &str) -> bool {
    let starts = [
        "AKIA",
        "ASIA",
        "ghp_",
        "gho_",
        "github_pat_",
        "xoxb-",
        "xoxp-",
        "sk-",
        "hf_",
        "glpat-",
        "-----BEGIN",
    ];
    let tail = |prefix: &str| {
        text.strip_prefix(prefix).is_some_and(|rest| {
            rest.len() >= 16
                && rest.bytes().all(|b| {
                    b.is_ascii_alphanumeric()
                        || matches!(b, b'_' | b'-' | b' ' | b'\n' | b'+' | b'/' | b'=')
                })
        })
    };
    let in_address = text.split_once("://").is_some_and(|(_, rest)| {
        rest.split('/')
            .next()
            .and_then(|host| host.split_once('@'))
            .is_some_and(|(user, _)| user.contains(':'))
    });
    in_address || starts.iter().any(|prefix| tail(prefix))
}
