//! Checks nodes against the table of keys, reports every mistake, and gives what passed.

use serde_yaml::{Mapping, Value};

use crate::keys::{Form, Key, below};
use crate::read::matrix;
use crate::yaml::findings::Cx;
use crate::yaml::given::Given;
use crate::yaml::nearest::nearest;
use crate::yaml::node::{Content, Entry, Node, is_whole_number, quoted};

/// From this many mistakes on, nobody reads suggestions.
const HELPED_MISTAKES: usize = 100;

/// Keys that other YAML readers take for truth values or nothing.
const TRAPS: [&str; 13] =
    ["on", "off", "yes", "no", "y", "n", "true", "false", "null", "~", "On", "Off", "Yes"];

/// Checks a document, or some blocks of one. None when nothing of it passed.
pub(crate) fn check(cx: &mut Cx<'_>, root: &Node) -> Option<Given> {
    Walk { cx }.node(root, Shape { table: "", form: Form::Block, key: None }, "").map(Given)
}

/// What may stand at a place: a form, with the path in the table that a block has its keys below, and the row when it is that of a key.
#[derive(Clone, Copy)]
struct Shape {
    table: &'static str,
    form: Form,
    key: Option<&'static Key>,
}

impl Shape {
    fn of(key: &'static Key) -> Self {
        Self { table: key.path, form: key.form, key: Some(key) }
    }

    /// An element of a list, or a value of a mapping with any keys.
    fn element(self, form: &Form) -> Self {
        Self { form: *form, key: None, ..self }
    }

    /// The alternatives.
    fn variants(self) -> Vec<Form> {
        fn flat(form: Form, into: &mut Vec<Form>) {
            match form {
                Form::Either(forms) => forms.iter().for_each(|form| flat(*form, into)),
                Form::Seed => into.extend([Form::Whole(0, i64::MAX), Form::Seed]),
                form => into.push(form),
            }
        }
        let mut variants = Vec::new();
        flat(self.form, &mut variants);
        variants
    }

    /// Whether nothing (`key:` alone) may stand there.
    fn may_be_nothing(self) -> bool {
        matches!(self.form, Form::TextOrNothing | Form::ScalarOrNothing)
            || self.key.is_some_and(|key| key.path != "apiVersion")
    }

    fn may_be_matrix(self) -> bool {
        self.key.is_some_and(|key| key.matrix)
    }
}

/// One walk over a document or a block of it.
struct Walk<'a, 't> {
    cx: &'a mut Cx<'t>,
}

impl Walk<'_, '_> {
    /// The part of a node that passed; `None` when nothing of it did. Values that wait for the matrix are left out.
    fn node(&mut self, node: &Node, shape: Shape, path: &str) -> Option<Value> {
        if node.is_null() {
            return if shape.may_be_nothing() {
                Some(Value::Null)
            } else {
                self.wrong_type(node, shape, path)
            };
        }
        if shape.may_be_matrix()
            && node.text().is_some_and(|text| matrix::reference(text).is_some())
        {
            return None;
        }
        if self.is_secret(node, path) {
            return None;
        }
        for form in shape.variants() {
            match (&node.content, form) {
                (Content::Scalar { .. }, _) => return self.scalar(node, shape, path),
                (Content::Map(_), Form::Block) => {
                    return Some(self.object(node, shape, None, path));
                }
                (Content::Map(_), Form::Open(values)) => {
                    return Some(self.object(node, shape, Some(shape.element(values)), path));
                }
                (Content::Map(_), Form::Map(values)) => {
                    return Some(self.mapping(node, shape.element(values), path));
                }
                (Content::List(_), Form::List(element, least, most)) => {
                    return self.array(node, shape.element(element), (least, most), path);
                }
                (Content::List(_), Form::Blocks(least, most)) => {
                    return self.array(node, shape.element(&Form::Block), (least, most), path);
                }
                _ => {}
            }
        }
        self.wrong_type(node, shape, path)
    }

    /// A block: keys of the table, and others where it is open.
    fn object(&mut self, node: &Node, shape: Shape, free: Option<Shape>, path: &str) -> Value {
        let mut passed = Mapping::new();
        for entry in node.entries() {
            let known = below(shape.table)
                .find(|(name, _)| *name == &*entry.key)
                .map(|(_, key)| Shape::of(key));
            let at = join(path, &entry.key);
            match known.or(free) {
                None => self.unknown_key(entry, shape, path),
                Some(_) if free.is_some() && self.is_trap(entry, &at) => {}
                Some(shape) => {
                    if let Some(value) = self.node(&entry.value, shape, &at) {
                        passed.insert(Value::String(entry.key.to_string()), value);
                    }
                }
            }
        }
        Value::Mapping(passed)
    }

    /// A mapping with any keys.
    fn mapping(&mut self, node: &Node, values: Shape, path: &str) -> Value {
        let mut passed = Mapping::new();
        for entry in node.entries() {
            let at = join(path, &entry.key);
            if !self.is_trap(entry, &at)
                && let Some(value) = self.node(&entry.value, values, &at)
            {
                passed.insert(Value::String(entry.key.to_string()), value);
            }
        }
        Value::Mapping(passed)
    }

    fn is_trap(&mut self, entry: &Entry, at: &str) -> bool {
        let trap = TRAPS.contains(&&*entry.key);
        if trap {
            let message = format!(
                "the key {} is read as a truth value by some YAML readers; choose another",
                quoted(&entry.key)
            );
            self.cx.error_at(entry.key_at, at, "spec::yaml_trap", message);
        }
        trap
    }

    fn unknown_key(&mut self, entry: &Entry, shape: Shape, path: &str) {
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
            );
        }
        let place = if path.is_empty() { "the spec" } else { path };
        let message = format!("unknown key {} in {place}", quoted(&entry.key));
        let help = (self.cx.count() < HELPED_MISTAKES).then(|| {
            let mut known: Vec<&str> = below(shape.table).map(|(name, _)| name).collect();
            known.sort_unstable();
            match nearest(&entry.key, known.iter().copied()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("keys here are {}", known.join(", ")),
            }
        });
        self.cx.error_at_with(
            entry.key_at,
            &join(path, &entry.key),
            "spec::unknown_field",
            message,
            help,
        );
    }

    fn array(
        &mut self,
        node: &Node,
        element: Shape,
        (least, most): (u64, u64),
        path: &str,
    ) -> Option<Value> {
        let length = node.elements().len() as u64;
        let message = match length {
            _ if length < least => format!("{path}: the list is empty"),
            _ if length > most => format!("{path}: at most {most} elements, got {length}"),
            _ => {
                let elements = node.elements().iter().enumerate();
                let passed = elements
                    .filter_map(|(n, node)| self.node(node, element, &format!("{path}[{n}]")));
                return Some(Value::Sequence(passed.collect()));
            }
        };
        self.cx.error(path, "spec::out_of_range", message);
        None
    }

    fn scalar(&mut self, node: &Node, shape: Shape, path: &str) -> Option<Value> {
        let value = node.scalar()?;
        let mut complaint = None;
        for form in shape.variants() {
            match check_scalar(node, &value, form, path) {
                Verdict::Fits => return Some(value),
                Verdict::Complaint(code, message) => {
                    complaint = complaint.or(Some((code, message)))
                }
                Verdict::WrongType => {}
            }
        }
        match complaint {
            Some((code, message)) => {
                self.cx.error_at(node.at, path, code, message);
                None
            }
            None => self.wrong_type(node, shape, path),
        }
    }

    fn wrong_type(&mut self, node: &Node, shape: Shape, path: &str) -> Option<Value> {
        let variants = shape.variants();
        let text = node.text().unwrap_or_default();
        let number_for_text = matches!(node.scalar(), Some(Value::Number(_) | Value::Bool(_)));
        let at = if node.is_null() { self.cx.key_at(path) } else { node.at };
        if path == "schedule.window" && number_for_text {
            let help = "write the window in quotes, \"22:00-06:00 Europe/Berlin\"".to_owned();
            self.cx.error_at_with(
                at,
                path,
                "spec::yaml_trap",
                format!("{path}: got the number {text}"),
                Some(help),
            );
            return None;
        }
        if path == "output.depth.encoding" && ["jpeg", "jpg", "webp"].contains(&text) {
            self.cx.error_at(at, path, "spec::lossy_depth", lossy_depth(text));
            return None;
        }
        let words: Vec<&str> = variants.iter().flat_map(|form| words(*form)).copied().collect();
        let help = match nearest(text, words.iter().copied()) {
            Some(word) if self.cx.count() < HELPED_MISTAKES => {
                Some(format!("did you mean {word}?"))
            }
            _ if text.contains("{{") => {
                let only_whole = "only a whole \"{{ matrix.KEY }}\" can stand here";
                Some(
                    if shape.may_be_matrix() { only_whole } else { "no template can stand here" }
                        .to_owned(),
                )
            }
            _ if number_for_text
                && variants.iter().any(|form| matches!(form, Form::Text | Form::TextOrNothing)) =>
            {
                Some("put it in quotes".to_owned())
            }
            _ => None,
        };
        let message = format!("{path}: expected {}, got {}", expected(&variants), node.shown());
        self.cx.error_at_with(at, path, "spec::wrong_type", message, help);
        None
    }

    /// Reports what looks like a secret. Rows and prompts are data, where anything may stand.
    fn is_secret(&mut self, node: &Node, path: &str) -> bool {
        let data = path.starts_with("input.inline") || path.starts_with("input.prompts");
        let secret = !data && node.text().is_some_and(looks_like_secret);
        if secret {
            let message = "this looks like a secret; use secret_env".to_owned();
            self.cx.error_at(node.at, path, "spec::secret", message);
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

fn check_scalar(node: &Node, value: &Value, form: Form, path: &str) -> Verdict {
    let text = node.text().unwrap_or_default();
    let plain = matches!(node.content, Content::Scalar { plain: true, .. });
    match (form, value) {
        (Form::Words(words), _) if words.contains(&text) => Verdict::Fits,
        (Form::Words(_), _) => Verdict::WrongType,
        (Form::Whole(min, max), Value::Number(_) | Value::String(_))
            if plain && is_whole_number(text) =>
        {
            check_whole(text, min, max, path)
        }
        (Form::Whole(min, max), Value::Number(number)) if number.is_i64() => {
            check_whole(&number.to_string(), min, max, path)
        }
        (Form::Number(min, max), Value::Number(number)) => {
            check_number(text, number.as_f64(), |n| n >= min && n <= max, form, path)
        }
        (Form::Above(min, max), Value::Number(number)) => {
            check_number(text, number.as_f64(), |n| n > min && n <= max, form, path)
        }
        (Form::Scalar | Form::ScalarOrNothing, Value::Number(number)) => {
            check_number(text, number.as_f64(), |_| true, form, path)
        }
        // Too large for any number of YAML.
        (Form::Number(..) | Form::Above(..), Value::String(_))
            if plain && is_whole_number(text) =>
        {
            out_of_range(text, form, path)
        }
        (Form::Scalar | Form::ScalarOrNothing | Form::Flag, Value::Bool(_)) => Verdict::Fits,
        (
            Form::Text | Form::TextOrNothing | Form::Scalar | Form::ScalarOrNothing,
            Value::String(_),
        ) => Verdict::Fits,
        (Form::Seed, Value::String(_))
            if text.parse::<i64>().is_ok_and(|n| n >= 0) && !text.starts_with('+') =>
        {
            Verdict::Fits
        }
        (Form::Share, Value::String(_))
            if text.strip_suffix('%').is_some_and(|n| n.parse::<f64>().is_ok_and(|n| n >= 0.0)) =>
        {
            Verdict::Fits
        }
        _ => Verdict::WrongType,
    }
}

/// Whole numbers are compared as such: doubles would lose the last digits of large seeds.
fn check_whole(text: &str, min: i64, max: i64, path: &str) -> Verdict {
    match text.parse::<i128>() {
        Ok(n) if n >= i128::from(min) && n <= i128::from(max) => Verdict::Fits,
        Ok(n) if n < i128::from(min) || (max < i64::MAX && n <= i128::from(i64::MAX)) => {
            out_of_range(text, Form::Whole(min, max), path)
        }
        _ => Verdict::Complaint(
            "spec::out_of_range",
            format!("{path}: {text} does not fit ({min} … {})", i64::MAX),
        ),
    }
}

fn check_number(
    text: &str,
    number: Option<f64>,
    fits: impl Fn(f64) -> bool,
    form: Form,
    path: &str,
) -> Verdict {
    match number {
        Some(number) if number.is_finite() && fits(number) => Verdict::Fits,
        Some(number) if number.is_finite() => out_of_range(text, form, path),
        _ => Verdict::Complaint("spec::not_finite", format!("{path} must be finite, got {text}")),
    }
}

fn out_of_range(text: &str, form: Form, path: &str) -> Verdict {
    let range = match form {
        Form::Whole(min, i64::MAX) => format!("at least {min}"),
        Form::Whole(min, max) => format!("between {min} and {max}"),
        Form::Number(min, max) if max.is_finite() => format!("between {min} and {max}"),
        Form::Number(min, _) => format!("at least {min}"),
        Form::Above(min, max) => format!("above {min} and at most {max}"),
        _ => "smaller".to_owned(),
    };
    Verdict::Complaint("spec::out_of_range", format!("{path} must be {range}, got {text}"))
}

/// The words of an enumeration.
fn words(form: Form) -> &'static [&'static str] {
    match form {
        Form::Words(words) => words,
        _ => &[],
    }
}

/// What may stand there, in words.
fn expected(variants: &[Form]) -> String {
    let wanted = variants.iter().filter_map(|form| {
        Some(match form {
            Form::Words([only]) => (*only).to_owned(),
            Form::Words(words) => format!("one of {}", words.join(", ")),
            Form::Share => "a share such as \"5%\"".to_owned(),
            Form::Number(..) | Form::Above(..) => "a number".to_owned(),
            Form::Whole(..) => "a whole number".to_owned(),
            Form::Flag => "true or false".to_owned(),
            Form::Text | Form::TextOrNothing => "a text".to_owned(),
            Form::Scalar | Form::ScalarOrNothing => {
                "a number or true or false or a text".to_owned()
            }
            Form::List(..) | Form::Blocks(..) => "a list".to_owned(),
            Form::Block | Form::Open(_) | Form::Map(_) => "a mapping".to_owned(),
            // Its whole number has been named.
            Form::Seed | Form::Either(_) => return None,
        })
    });
    wanted.collect::<Vec<_>>().join(" or ")
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
