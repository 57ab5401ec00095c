//! What the items become, as far as the text shows it: inline rows are expanded once, a row of nothing stands for all others.
//!
//! Rows and combinations are tried one by one, not each with each: what is wrong with a name is wrong with one of its parts.

use std::collections::HashMap;

use crate::item::{ItemError, JobVars};
use crate::spec::JobSpec;
use crate::spec::input::{InputRow, InputSpec};
use crate::yaml::findings::Cx;
use crate::yaml::node::{Pos, quoted};

pub(crate) fn check(cx: &mut Cx<'_>, spec: &JobSpec) {
    match &spec.input {
        InputSpec::Inline { rows } => {
            if let Err(error) = spec.n_items(rows.len() as u64) {
                let code = "spec::too_many_items";
                cx.error("limits.max_items", code, error.to_string());
                return;
            }
            check_rows(cx, spec, rows);
            if let Some(row) = rows.first().filter(|_| cx.is_clean()) {
                check_cells(cx, spec, row);
            }
        }
        _ => {
            let row = InputRow {
                id: Some("x".to_owned()),
                uri: Some("s3://bucket/x.png".to_owned()),
                path: Some("x/x".to_owned()),
                ..InputRow::default()
            };
            check_cells(cx, spec, &row);
        }
    }
}

/// The first item of every row: it can be made, and no two have the same key.
fn check_rows(cx: &mut Cx<'_>, spec: &JobSpec, rows: &[InputRow]) {
    let mut keys: HashMap<String, u64> = HashMap::with_capacity(rows.len());
    let mut same: Option<(u64, String)> = None;
    for row in rows {
        let path = format!("input.inline[{}]", row.index);
        match spec.item(row.index * spec.items_per_row(), row, &JobVars::default()) {
            Err(error) => refuse(cx, cx.value_at(&path), &path, &error),
            Ok(item) => {
                let key = item.outputs.into_iter().next().map(|output| output.key);
                let count = keys.entry(key.unwrap_or_default()).or_insert(0);
                *count += 1;
            }
        }
    }
    for (key, count) in keys {
        if count > 1 && same.as_ref().is_none_or(|(most, other)| (*most, &key) < (count, other)) {
            same = Some((count, key));
        }
    }
    if let Some((count, key)) = same {
        let name = key.rsplit('/').next().unwrap_or_default();
        let message =
            format!("output.name gives the same key for {count} items (e.g. {})", quoted(name));
        let help = "add {{ row.id }} or {{ seed }}".to_owned();
        cx.error_with("output.name", "spec::name_not_unique", message, Some(help));
    }
}

/// The first item of every combination: its values are safe in names.
fn check_cells(cx: &mut Cx<'_>, spec: &JobSpec, row: &InputRow) {
    for cell in 0..spec.cells.len() as u64 {
        let item = row.index * spec.items_per_row() + cell * spec.per_cell();
        if let Err(error @ ItemError::UnsafeKey { .. }) = spec.item(item, row, &JobVars::default())
        {
            let at = if cx.given("output.name") { "output.name" } else { "matrix" };
            return refuse(cx, cx.value_at(at), at, &error);
        }
    }
}

fn refuse(cx: &mut Cx<'_>, at: Pos, path: &str, error: &ItemError) {
    cx.error_at(at, path, &format!("spec::{}", error.code()), error.to_string());
}
