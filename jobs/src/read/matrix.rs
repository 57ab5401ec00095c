//! The matrix: counted first, then every combination with the place in the text that each of its values came from.
//!
//! `exclude` and `include` mean what they mean in GitHub Actions: excluded are the combinations that have all the given values;
//! after that, an include adds its keys to every combination that it contradicts in no dimension, and becomes a combination of
//! its own when there is none.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::ids::canonical_json;
use crate::keys::KEYS;
use crate::yaml::findings::Cx;
use crate::yaml::nearest::nearest;
use crate::yaml::node::{Content, Node, quoted};

/// The most combinations, when the spec does not say.
const DEFAULT_MAX: u64 = 64;

/// One combination: its values as they stand in the text, positions included.
#[derive(Debug, Clone, Default)]
pub(crate) struct Combination {
    pub(crate) values: BTreeMap<String, Node>,
}

impl Combination {
    /// The values as JSON.
    pub(crate) fn json(&self) -> BTreeMap<String, Json> {
        self.values.iter().map(|(key, node)| (key.clone(), json(node))).collect()
    }
}

/// The combinations of the spec's matrix; one without values when there is no matrix. None when it is wrong.
pub(crate) fn combinations(cx: &mut Cx<'_>) -> Option<Vec<Combination>> {
    let Some(matrix) = cx.node("matrix").filter(|matrix| !matrix.is_null()).cloned() else {
        return Some(vec![Combination::default()]);
    };
    let before = cx.count();
    let dimensions = dimensions(cx, &matrix);
    if cx.count() > before || !sound(&matrix) {
        return None;
    }
    let max = matrix
        .get("max_combinations")
        .and_then(Node::text)
        .and_then(|text| text.parse().ok())
        .unwrap_or(DEFAULT_MAX);
    let extra = matrix.get("include").map_or(0, |include| include.elements().len()) as u128;
    let product = if dimensions.is_empty() {
        0
    } else {
        dimensions.iter().map(|(_, values)| values.len() as u128).product()
    };
    if product > u128::from(max) {
        let factors: Vec<String> =
            dimensions.iter().map(|(_, values)| values.len().to_string()).collect();
        let widest =
            dimensions.iter().max_by_key(|(_, values)| values.len()).map_or("", |(key, _)| key);
        let message = format!(
            "matrix expands to {} = {product} combinations (limit {max})",
            factors.join(" × ")
        );
        let help = format!("set matrix.max_combinations or narrow `{widest}`");
        cx.key_error_with("matrix", "spec::matrix_too_big", message, Some(help));
        return None;
    }
    let mut found = if dimensions.is_empty() { Vec::new() } else { product_of(&dimensions) };
    exclude(cx, &matrix, &dimensions, &mut found);
    include(&matrix, &dimensions, &mut found);
    if found.len() as u128 > u128::from(max) {
        let message = format!(
            "matrix expands to {product} + {extra} included = {} combinations (limit {max})",
            found.len()
        );
        cx.key_error_with(
            "matrix",
            "spec::matrix_too_big",
            message,
            Some("set matrix.max_combinations".to_owned()),
        );
        return None;
    }
    if found.is_empty() {
        cx.key_error("matrix", "spec::matrix_empty", "matrix has no combination left");
        return None;
    }
    refuse_twins(cx, &found);
    Some(found)
}

type Dimensions = Vec<(String, Vec<Node>)>;

/// Names and values of the dimensions, checked.
fn dimensions(cx: &mut Cx<'_>, matrix: &Node) -> Dimensions {
    let mut dimensions = Vec::new();
    for entry in matrix.entries().iter().filter(|entry| !is_reserved(&entry.key)) {
        let path = format!("matrix.{}", entry.key);
        check_name(cx, &entry.key, entry.key_at, &path);
        let values = entry.value.elements();
        for (n, value) in values.iter().enumerate() {
            let twin = values[..n].iter().any(|other| same(other, value));
            if twin && value.text().is_some() {
                let message = format!("{path} has {} twice", value.shown());
                cx.error_at(value.at, &path, "spec::duplicate_value", message);
            }
        }
        dimensions.push((entry.key.to_string(), values.to_vec()));
    }
    for list in ["include", "exclude"] {
        for element in matrix.get(list).map(Node::elements).unwrap_or_default() {
            for entry in element.entries() {
                check_name(cx, &entry.key, entry.key_at, &format!("matrix.{list}"));
            }
        }
    }
    dimensions
}

fn is_reserved(key: &str) -> bool {
    matches!(key, "include" | "exclude" | "max_combinations")
}

fn check_name(cx: &mut Cx<'_>, key: &str, at: crate::yaml::node::Pos, path: &str) {
    let good = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !good || key.len() > 63 {
        let message = format!("{} cannot be the name of a dimension", quoted(key));
        cx.error_at_with(
            at,
            path,
            "spec::bad_name",
            message,
            Some("use letters, digits and `_`".to_owned()),
        );
    }
}

/// Whether every part has the right shape; the walk has reported what has not.
fn sound(matrix: &Node) -> bool {
    let scalars = |node: &Node| {
        node.text().is_some()
            && !node.is_null()
            && !matches!(number(node), Some(n) if !n.is_finite())
    };
    matrix.entries().iter().all(|entry| match &*entry.key {
        "max_combinations" => {
            entry.value.text().and_then(|text| text.parse::<u64>().ok()).is_some()
        }
        "include" | "exclude" => {
            let is_list = matches!(entry.value.content, Content::List(_));
            is_list
                && entry.value.elements().iter().all(|element| {
                    !element.entries().is_empty()
                        && element.entries().iter().all(|entry| scalars(&entry.value))
                })
        }
        _ => !entry.value.elements().is_empty() && entry.value.elements().iter().all(scalars),
    })
}

fn product_of(dimensions: &Dimensions) -> Vec<Combination> {
    let mut found = vec![Combination::default()];
    for (key, values) in dimensions {
        let mut next = Vec::with_capacity(found.len() * values.len());
        for combination in &found {
            for value in values {
                let mut combination = combination.clone();
                combination.values.insert(key.clone(), value.clone());
                next.push(combination);
            }
        }
        found = next;
    }
    found
}

fn exclude(cx: &mut Cx<'_>, matrix: &Node, dimensions: &Dimensions, found: &mut Vec<Combination>) {
    let all = found.clone();
    for rule in matrix.get("exclude").map(Node::elements).unwrap_or_default() {
        let matches = |combination: &Combination| {
            rule.entries().iter().all(|entry| {
                combination.values.get(&*entry.key).is_some_and(|value| same(value, &entry.value))
            })
        };
        if !all.iter().any(&matches) {
            let why = rule.entries().iter().find_map(|entry| {
                match dimensions.iter().find(|(key, _)| *key == *entry.key) {
                    None => Some(format!("there is no dimension {}", quoted(&entry.key))),
                    Some((_, values)) if values.iter().any(|value| same(value, &entry.value)) => {
                        None
                    }
                    Some((key, _)) => Some(format!("{key} has no value {}", entry.value.shown())),
                }
            });
            let message = format!(
                "this exclude matches no combination ({})",
                why.unwrap_or_else(|| "its values do not meet".to_owned())
            );
            cx.warn_at(rule.at, "matrix.exclude", "spec::exclude_matches_nothing", message);
        }
        found.retain(|combination| !matches(combination));
    }
}

fn include(matrix: &Node, dimensions: &Dimensions, found: &mut Vec<Combination>) {
    let originals = found.len();
    for rule in matrix.get("include").map(Node::elements).unwrap_or_default() {
        let mut placed = false;
        for combination in &mut found[..originals] {
            let contradicts = rule.entries().iter().any(|entry| {
                let is_dimension = dimensions.iter().any(|(key, _)| *key == *entry.key);
                is_dimension
                    && !combination
                        .values
                        .get(&*entry.key)
                        .is_some_and(|value| same(value, &entry.value))
            });
            if !contradicts {
                placed = true;
                for entry in rule.entries() {
                    combination.values.insert(entry.key.to_string(), entry.value.clone());
                }
            }
        }
        if !placed {
            let values = rule
                .entries()
                .iter()
                .map(|entry| (entry.key.to_string(), entry.value.clone()))
                .collect();
            found.push(Combination { values });
        }
    }
}

/// Two equal combinations would make the same pictures under the same names.
fn refuse_twins(cx: &mut Cx<'_>, found: &[Combination]) {
    let mut seen = std::collections::HashSet::new();
    for combination in found {
        let values = Json::Object(combination.json().into_iter().collect());
        if !seen.insert(canonical_json(&values)) {
            let at = combination.values.values().next().map_or(cx.key_at("matrix"), |node| node.at);
            cx.error_at(
                at,
                "matrix",
                "spec::duplicate_value",
                "the same combination is there twice",
            );
        }
    }
}

/// Whether two scalars are the same value; numbers are compared as numbers, so that 6 is 6.0.
fn same(a: &Node, b: &Node) -> bool {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a.scalar() == b.scalar(),
        _ => false,
    }
}

fn number(node: &Node) -> Option<f64> {
    match node.scalar() {
        Some(serde_yaml::Value::Number(number)) => number.as_f64(),
        _ => None,
    }
}

/// A scalar as JSON.
pub(crate) fn json(node: &Node) -> Json {
    match node.scalar() {
        Some(serde_yaml::Value::Bool(truth)) => Json::Bool(truth),
        Some(serde_yaml::Value::Number(number)) => {
            match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(n), _, _) => n.into(),
                (_, Some(n), _) => n.into(),
                (_, _, n) => {
                    n.and_then(serde_json::Number::from_f64).map_or(Json::Null, Json::Number)
                }
            }
        }
        _ => node.text().map_or(Json::Null, |text| Json::String(text.to_owned())),
    }
}

/// A block with every `"{{ matrix.KEY }}"` replaced by the combination's value, which keeps its place in the text: a mistake in
/// the result points at the line of the matrix that made it.
pub(crate) fn substitute(
    cx: &mut Cx<'_>,
    node: &Node,
    combination: &Combination,
    path: &str,
) -> Node {
    let content = match &node.content {
        Content::Scalar { text, .. } => {
            let Some(key) = reference(text) else {
                return node.clone();
            };
            return match combination.values.get(key) {
                Some(value) => value.clone(),
                None => {
                    let keys: Vec<&str> = combination.values.keys().map(String::as_str).collect();
                    let (message, help) = match keys.is_empty() {
                        true => (format!("{{{{ matrix.{key} }}}}: there is no matrix"), None),
                        false => (
                            format!("{{{{ matrix.{key} }}}}: a combination has no {}", quoted(key)),
                            Some(match nearest(key, keys.iter().copied()) {
                                Some(near) => format!("did you mean matrix.{near}?"),
                                None => format!("it has only {}", keys.join(", ")),
                            }),
                        ),
                    };
                    cx.error_at_with(node.at, path, "spec::unknown_template", message, help);
                    node.clone()
                }
            };
        }
        Content::List(elements) => {
            let elements = elements.iter().enumerate();
            Content::List(
                elements
                    .map(|(n, element)| {
                        substitute(cx, element, combination, &format!("{path}[{n}]"))
                    })
                    .collect(),
            )
        }
        Content::Map(entries) => Content::Map(
            entries
                .iter()
                .map(|entry| {
                    let mut entry = entry.clone();
                    let is_block = entry.value.text().is_none();
                    let at = format!("{path}.{}", entry.key);
                    if is_block || KEYS.iter().any(|key| key.matrix && key.path == at) {
                        entry.value = substitute(cx, &entry.value, combination, &at);
                    }
                    entry
                })
                .collect(),
        ),
    };
    Node { at: node.at, content }
}

/// The key of a text that is a whole-value reference to the matrix.
pub(crate) fn reference(text: &str) -> Option<&str> {
    let inside = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let key = inside.strip_prefix("matrix.")?;
    (!key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')).then_some(key)
}
