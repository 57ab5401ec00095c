//! The JSON Schema of the raw types, and the schemas that no Rust type says by itself.
//!
//! `x-matrix: true` marks a scalar that may be `"{{ matrix.KEY }}"`.

use std::sync::OnceLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::keys::RawSpec;

/// The JSON Schema (2020-12) of a spec, for editors. Checked in as `jobs/spec.schema.json`.
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(RawSpec).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), json!("nightshift job spec"));
        root.insert(
            "required".to_owned(),
            json!(["apiVersion", "kind", "metadata", "input", "output"]),
        );
    }
    schema
}

/// A whole-value reference to the matrix.
const MATRIX: &str = r"^\{\{\s*matrix\.[A-Za-z0-9_]+\s*\}\}$";

fn or_matrix(plain: &Schema) -> Schema {
    json_schema!({ "x-matrix": true, "anyOf": [plain, { "type": "string", "pattern": MATRIX }, { "type": "null" }] })
}

pub(crate) fn api_version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["nightshift/v1"] })
}

pub(crate) fn matrix_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let plain = generator.subschema_for::<T>();
    or_matrix(&plain)
}

pub(crate) fn matrix_map(generator: &mut SchemaGenerator) -> Schema {
    matrix_of::<crate::spec::MapKind>(generator)
}

pub(crate) fn matrix_text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-matrix": true, "type": ["string", "null"] })
}

pub(crate) fn cfg(_: &mut SchemaGenerator) -> Schema {
    or_matrix(&json_schema!({ "type": "number", "minimum": 0, "maximum": 20 }))
}

pub(crate) fn top_k(_: &mut SchemaGenerator) -> Schema {
    or_matrix(&json_schema!({ "type": "integer", "minimum": 1, "maximum": 16384 }))
}

pub(crate) fn top_p(_: &mut SchemaGenerator) -> Schema {
    or_matrix(&json_schema!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1 }))
}

pub(crate) fn temperature(_: &mut SchemaGenerator) -> Schema {
    or_matrix(&json_schema!({ "type": "number", "minimum": 0, "maximum": 10 }))
}

pub(crate) fn window(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-matrix": true,
        "anyOf": [
            { "enum": ["auto"] }, { "type": "integer", "minimum": 1, "maximum": 256 },
            { "type": "string", "pattern": MATRIX }, { "type": "null" },
        ],
    })
}

/// Seeds are whole numbers from 0 to 2^63 - 1; as text, because JSON readers lose digits above 2^53.
fn seed() -> Value {
    json!({ "anyOf": [
        { "type": "integer", "minimum": 0, "maximum": 9_223_372_036_854_775_807_u64 },
        { "type": "string", "pattern": "^[0-9]{1,19}$" },
    ] })
}

pub(crate) fn seeds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [
        { "type": "array", "items": seed(), "minItems": 1, "maxItems": 10_000 },
        {
            "type": "object",
            "properties": { "start": seed(), "vary": { "enum": ["rows", "cells"] } },
            "additionalProperties": false,
        },
        { "type": "null" },
    ] })
}

pub(crate) fn classes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [
        { "type": "string" },
        { "type": "object", "additionalProperties": { "type": "string" } },
        { "type": "null" },
    ] })
}

pub(crate) fn count_or_share(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%$" },
        { "type": "null" },
    ] })
}

/// Rows are mappings of columns to texts, numbers and truth values.
pub(crate) fn inline_rows(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["array", "null"],
        "items": { "type": "object", "additionalProperties": { "type": ["string", "number", "boolean", "null"] } },
        "minItems": 1,
    })
}

pub(crate) fn matrix(_: &mut SchemaGenerator) -> Schema {
    let value = json!({ "type": ["string", "number", "boolean"] });
    let combinations =
        json!({ "type": "array", "items": { "type": "object", "additionalProperties": value } });
    json_schema!({
        "type": ["object", "null"],
        "properties": {
            "include": combinations,
            "exclude": combinations,
            "max_combinations": { "type": "integer", "minimum": 1, "maximum": 1024 },
        },
        "additionalProperties": { "type": "array", "items": value, "minItems": 1 },
    })
}

/// The schema is the same for every spec.
pub(crate) fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(json_schema)
}
