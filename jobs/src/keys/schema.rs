//! The JSON Schema of a spec, made from the table of keys. `x-matrix: true` marks what may be `"{{ matrix.KEY }}"`.

use serde_json::{Map, Value, json};

use super::{Form, KEYS, Key};

/// The JSON Schema (2020-12) of a spec, for editors. Checked in as `jobs/spec.schema.json`.
pub fn json_schema() -> Value {
    let mut schema = mapping("");
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("nightshift job spec");
    schema["description"] = json!("A nightshift job.");
    schema["required"] = json!(["apiVersion", "kind", "metadata", "input", "output"]);
    schema
}

/// A whole-value reference to the matrix.
const MATRIX: &str = r"^\{\{\s*matrix\.[A-Za-z0-9_]+\s*\}\}$";

/// The keys that stand directly below a path, each with its last name.
pub(crate) fn below(path: &str) -> impl Iterator<Item = (&'static str, &'static Key)> {
    KEYS.iter().filter_map(move |key| {
        let name = match path {
            "" => key.path,
            // The keys of the elements of a list of blocks.
            _ => {
                let rest = key.path.strip_prefix(path)?;
                rest.strip_prefix("[].").or_else(|| rest.strip_prefix('.'))?
            }
        };
        (!name.contains('.')).then_some((name, key))
    })
}

/// A mapping with the keys below a path, and no others.
fn mapping(path: &str) -> Value {
    let keys: Map<String, Value> =
        below(path).map(|(name, key)| (name.to_owned(), of_key(key))).collect();
    json!({ "type": "object", "properties": keys, "additionalProperties": false })
}

fn of_key(key: &Key) -> Value {
    let mut variants = of_form(key.form, key.path);
    if key.matrix && !matches!(key.form, Form::Text) {
        variants.push(json!({ "type": "string", "pattern": MATRIX }));
    }
    variants.push(json!({ "type": "null" }));
    let mut schema = json!({ "description": key.help, "anyOf": variants });
    if key.matrix {
        schema["x-matrix"] = json!(true);
    }
    schema
}

/// The alternatives of a form.
fn of_form(form: Form, path: &str) -> Vec<Value> {
    let element = |form: &Form| {
        let mut variants = of_form(*form, path);
        if variants.len() == 1 { variants.remove(0) } else { json!({ "anyOf": variants }) }
    };
    let list = |items: Value, least: u64, most: u64| {
        let mut list = json!({ "type": "array", "items": items });
        if least > 0 {
            list["minItems"] = json!(least);
        }
        if most < u64::MAX {
            list["maxItems"] = json!(most);
        }
        list
    };
    let bound = |name: &str, value: f64| value.is_finite().then(|| (name.to_owned(), json!(value)));
    vec![match form {
        Form::Either(forms) => return forms.iter().flat_map(|form| of_form(*form, path)).collect(),
        Form::Block => mapping(path),
        Form::Blocks(least, most) => list(mapping(path), least, most),
        Form::Open(values) => {
            let mut open = mapping(path);
            open["additionalProperties"] = element(values);
            open
        }
        Form::Map(values) => json!({ "type": "object", "additionalProperties": element(values) }),
        Form::List(values, least, most) => list(element(values), least, most),
        Form::Text => json!({ "type": "string" }),
        Form::TextOrNothing => json!({ "type": ["string", "null"] }),
        Form::Words(words) => json!({ "enum": words }),
        Form::Flag => json!({ "type": "boolean" }),
        Form::Whole(min, i64::MAX) => json!({ "type": "integer", "minimum": min }),
        Form::Whole(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Form::Number(min, max) => {
            let bounds = [bound("minimum", min), bound("maximum", max)];
            Value::Object(number(bounds))
        }
        Form::Above(min, max) => {
            Value::Object(number([bound("exclusiveMinimum", min), bound("maximum", max)]))
        }
        Form::Seed => {
            return vec![
                json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX }),
                json!({ "type": "string", "pattern": "^[0-9]{1,19}$" }),
            ];
        }
        Form::Share => json!({ "type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%$" }),
        Form::Scalar => json!({ "type": ["string", "number", "boolean"] }),
        Form::ScalarOrNothing => json!({ "type": ["string", "number", "boolean", "null"] }),
    }]
}

fn number(bounds: [Option<(String, Value)>; 2]) -> Map<String, Value> {
    let kind = ("type".to_owned(), json!("number"));
    std::iter::once(kind).chain(bounds.into_iter().flatten()).collect()
}
