//! Captions, prompts, descriptions, names and destinations: every template is read and every path in it checked.

use crate::places::ColumnUse;
use crate::read::input::{Input, is_from_image};
use crate::read::matrix::Combination;
use crate::spec::Kind;
use crate::spec::input::{InputSpec, ManifestFormat};
use crate::template::Template;
use crate::yaml::findings::Cx;
use crate::yaml::given::Given;
use crate::yaml::nearest::nearest;
use crate::yaml::node::{Pos, quoted};

/// The texts of a job.
pub(crate) struct Texts {
    pub(crate) captions: Vec<Template>,
    pub(crate) prompt_template: Option<Template>,
    pub(crate) description: Option<Template>,
    pub(crate) turn_name: Option<String>,
    /// How many turns are stored of each item.
    pub(crate) turns: usize,
    /// Columns of a manifest that the texts use, to be looked up when it is read.
    pub(crate) columns: Vec<ColumnUse>,
}

pub(crate) fn read(
    cx: &mut Cx<'_>,
    given: &Given,
    kind: Kind,
    input: Option<&Input>,
    combinations: &[Combination],
) -> Option<Texts> {
    let before = cx.count();
    let mut checker = Checker {
        cx,
        kind,
        input: input.map(|input| &input.spec),
        combinations,
        columns: Vec::new(),
    };
    let mut turns = 1;
    let captions = match kind {
        Kind::SubjectSet => checker.prompts(given),
        Kind::Edit => {
            turns = given.len("turns").max(1);
            if given.says("output.keep_turns", "last") {
                turns = 1;
            }
            checker.turns(given)
        }
        Kind::DensePrediction => checker.caption("predict", given, ""),
        _ => checker.caption("generate", given, "{{ row.prompt }}"),
    };
    let mut template =
        |path: &str, scope| given.text(path).and_then(|text| checker.read(path, text, scope));
    let prompt_template = template("prompt.template", Scope::Prompt);
    let description = template("prompt.description", Scope::Caption);
    if is_from_image(kind) && matches!(checker.input, Some(InputSpec::Manifest { .. })) {
        checker.check_column(
            "image",
            Pos { line: 1, column: 1, width: 1 },
            "input.manifest",
            false,
            false,
        );
    }
    let columns = checker.columns;
    let turn_name =
        (given.len("turns") > 0).then(|| given.text("turns[0].name").unwrap_or("turn").to_owned());
    let texts = Texts { captions, prompt_template, description, turn_name, turns, columns };
    (cx.count() == before || !texts.captions.is_empty()).then_some(texts)
}

/// Where a template stands, which decides what it may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A caption or an instruction: nothing that differs between runs of the same spec.
    Caption,
    /// The model's whole prompt string.
    Prompt,
    /// The name of a file.
    Name,
    /// The destination.
    Dest,
}

/// Reads templates and checks their paths.
pub(crate) struct Checker<'a, 't> {
    pub(crate) cx: &'a mut Cx<'t>,
    pub(crate) kind: Kind,
    pub(crate) input: Option<&'a InputSpec>,
    pub(crate) combinations: &'a [Combination],
    pub(crate) columns: Vec<ColumnUse>,
}

impl Checker<'_, '_> {
    fn caption(&mut self, block: &str, given: &Given, default: &str) -> Vec<Template> {
        let path = format!("{block}.prompt_template");
        self.read(&path, given.text(&path).unwrap_or(default), Scope::Caption).into_iter().collect()
    }

    fn prompts(&mut self, given: &Given) -> Vec<Template> {
        let prompts = given.texts("input.prompts").unwrap_or_default();
        let mut captions = Vec::new();
        for (n, prompt) in prompts.iter().enumerate() {
            let path = format!("input.prompts[{n}]");
            if prompts[..n].contains(prompt) {
                self.cx.error(&path, "spec::duplicate_value", format!("{path} is there twice"));
            }
            self.refuse_empty(&path, prompt);
            captions.extend(self.read(&path, prompt, Scope::Caption));
        }
        captions
    }

    fn turns(&mut self, given: &Given) -> Vec<Template> {
        let count = given.len("turns");
        if count == 0 {
            self.cx.missing("turns", "turns: [{instruction: \"remove the chairs\"}]");
        }
        let mut names: Vec<&str> = Vec::new();
        let mut first = None;
        for n in 0..count {
            self.turn_words(&format!("turns[{n}]"), given, &names);
            names.push(given.text(&format!("turns[{n}].name")).unwrap_or_default());
            let path = format!("turns[{n}].instruction");
            self.cx.missing(&path, "instruction: \"remove the chairs\"");
            if let Some(text) = given.text(&path) {
                self.refuse_empty(&path, text);
                let template = self.read(&path, text, Scope::Caption);
                if n == 0 {
                    first = template;
                }
            }
        }
        if count > 1 {
            self.cx.cannot_run("turns", "several turns");
        }
        first.into_iter().collect()
    }

    fn turn_words(&mut self, path: &str, given: &Given, earlier: &[&str]) {
        let at = format!("{path}.name");
        if let Some(name) = given.text(&at) {
            if !crate::read::header::is_name(name) {
                let message = format!("{at} {} is not a simple name", quoted(name));
                self.cx.error(&at, "spec::bad_name", message);
            } else if earlier.contains(&name) {
                let message = format!("{at} {} is there twice", quoted(name));
                self.cx.error(&at, "spec::duplicate_value", message);
            }
        }
        let at = format!("{path}.from");
        if let Some(from) = given.text(&at) {
            if earlier.contains(&from) {
                self.cx.cannot_run(&at, "turns.from");
            } else {
                let help = nearest(from, earlier.iter().copied())
                    .map(|near| format!("did you mean {near}?"));
                let message = format!("{at}: no earlier turn is named {}", quoted(from));
                self.cx.error_with(&at, "spec::unknown_turn", message, help);
            }
        }
    }

    fn refuse_empty(&mut self, path: &str, text: &str) {
        if text.trim().is_empty() {
            self.cx.error(path, "spec::empty_prompt", format!("{path} is empty"));
        }
    }

    /// Reads a template; every path in it is checked, every mistake reported.
    pub(crate) fn read(&mut self, path: &str, text: &str, scope: Scope) -> Option<Template> {
        let at = self.cx.value_at(path);
        if text.len() > crate::item::expand::MAX_PROMPT_BYTES {
            let message = format!(
                "{path} has {} bytes, limit {}",
                text.len(),
                crate::item::expand::MAX_PROMPT_BYTES
            );
            self.cx.error(path, "spec::too_long", message);
            return None;
        }
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(error) => {
                let at = self.cx.inside(at, "{{", error.nth);
                self.cx.error_at_with(at, path, error.code, error.message, error.help);
                return None;
            }
        };
        let mut good = true;
        for place in template.places() {
            let written = self.cx.given(path);
            let at = if written { self.cx.inside(at, "{{", place.nth) } else { at };
            if let Err((message, help)) = self.check_path(&place.path, scope, place.has_default()) {
                self.cx.error_at_with(at, path, "spec::unknown_template", message, help);
                good = false;
            } else if let Some(column) = place.path.strip_prefix("row.") {
                good &= self.check_column(column, at, path, written, place.has_default());
            }
        }
        good.then_some(template)
    }

    fn check_path(
        &self,
        path: &str,
        scope: Scope,
        has_default: bool,
    ) -> Result<(), (String, Option<String>)> {
        let known = known_paths(self.kind, scope);
        if let Some(key) = path.strip_prefix("matrix.")
            && scope != Scope::Dest
        {
            return self.check_matrix_key(key, has_default);
        }
        if path.starts_with("row.")
            && path.len() > "row.".len()
            && scope != Scope::Dest
            && self.kind != Kind::SubjectSet
        {
            return Ok(());
        }
        if known.contains(&path) {
            return Ok(());
        }
        let help = match nearest(path, known.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known here: {}", known.join(", ")),
        };
        Err((format!("{{{{ {path} }}}}: there is no {} here", quoted(path)), Some(help)))
    }

    fn check_matrix_key(
        &self,
        key: &str,
        has_default: bool,
    ) -> Result<(), (String, Option<String>)> {
        let have = self
            .combinations
            .iter()
            .filter(|combination| combination.values.contains_key(key))
            .count();
        // No combinations at all: the matrix is wrong, and that was said.
        if have == self.combinations.len() || (have > 0 && has_default) {
            return Ok(());
        }
        let mut keys: Vec<&str> = self
            .combinations
            .iter()
            .flat_map(|combination| combination.values.keys())
            .map(String::as_str)
            .collect();
        keys.sort_unstable();
        keys.dedup();
        if keys.is_empty() {
            return Err((format!("{{{{ matrix.{key} }}}}: there is no matrix"), None));
        }
        if have == 0 {
            let message = format!("{{{{ matrix.{key} }}}}: the matrix has no {}", quoted(key));
            return Err((message, Some(format!("its keys are {}", keys.join(", ")))));
        }
        let message = format!(
            "{{{{ matrix.{key} }}}}: {} of {} combinations have no {}",
            self.combinations.len() - have,
            self.combinations.len(),
            quoted(key)
        );
        Err((message, Some(format!("add | default(\"…\") or give {key} in every include"))))
    }

    /// A column that a template names: looked up in inline rows at once, and noted for manifests.
    fn check_column(
        &mut self,
        column: &str,
        at: Pos,
        path: &str,
        written: bool,
        has_default: bool,
    ) -> bool {
        if matches!(column, "id" | "index") || has_default {
            return true;
        }
        match self.input {
            Some(InputSpec::Inline { rows }) => {
                let rows = rows.clone();
                self.check_inline_column(column, at, path, written, &rows)
            }
            Some(InputSpec::Manifest { columns, format, .. }) => {
                let mapped = columns.get(column).cloned();
                self.check_manifest_column(column, mapped, *format, at, path, written)
            }
            Some(InputSpec::Prefix { .. } | InputSpec::Subjects(_)) if !written => {
                let help = format!(
                    "prompt_template: \"…\" in {}",
                    path.split('.').next().unwrap_or_default()
                );
                self.cx.key_error_with(
                    path,
                    "spec::missing",
                    format!("{path} is missing: objects below a prefix have no prompt"),
                    Some(help),
                );
                false
            }
            Some(InputSpec::Prefix { .. } | InputSpec::Subjects(_)) => {
                let message =
                    format!("{{{{ row.{column} }}}}: objects below a prefix have no columns");
                self.cx.error_at_with(
                    at,
                    path,
                    "spec::unknown_column",
                    message,
                    Some("known here: row.id, row.index, input.path, input.stem".to_owned()),
                );
                false
            }
            None => true,
        }
    }

    /// A column of a manifest is noted for planning; a list of prompts has only one.
    fn check_manifest_column(
        &mut self,
        column: &str,
        mapped: Option<String>,
        format: ManifestFormat,
        at: Pos,
        path: &str,
        written: bool,
    ) -> bool {
        let mapping = format!("input.columns.{column}");
        let (shown, at_path) = match &mapped {
            Some(_) => (format!("columns.{column}"), mapping.as_str()),
            None if written => (format!("{{{{ row.{column} }}}}"), path),
            None => (format!("columns.{column}"), "input.manifest"),
        };
        let at = if written && at_path == path { at } else { self.cx.value_at(at_path) };
        if format == ManifestFormat::Txt && column != "prompt" {
            let message = format!("{shown}: a .txt manifest has no column {}", quoted(column));
            let help = Some("columns are prompt".to_owned());
            self.cx.error_at_with(at, at_path, "spec::unknown_column", message, help);
            return false;
        }
        let name = mapped.unwrap_or_else(|| column.to_owned());
        self.columns.push(ColumnUse::new(name, shown, at_path.to_owned(), at));
        true
    }

    fn check_inline_column(
        &mut self,
        column: &str,
        at: Pos,
        path: &str,
        written: bool,
        rows: &[crate::InputRow],
    ) -> bool {
        let lacks =
            |row: &crate::InputRow| row.fields.get(column).is_none_or(serde_json::Value::is_null);
        let caption = path.ends_with("prompt_template") && !path.starts_with("predict");
        if written && !rows.is_empty() && rows.iter().all(lacks) {
            let mut names: Vec<&str> =
                rows.iter().flat_map(|row| row.fields.keys()).map(String::as_str).collect();
            names.sort_unstable();
            names.dedup();
            let message =
                format!("{{{{ row.{column} }}}}: the input has no column {}", quoted(column));
            let help = format!("columns are {}", names.join(", "));
            self.cx.error_at_with(at, path, "spec::unknown_column", message, Some(help));
            return false;
        }
        let mut good = true;
        for (n, row) in rows.iter().enumerate() {
            let cell = format!("input.inline[{n}].{column}");
            let empty = caption
                && row
                    .fields
                    .get(column)
                    .and_then(serde_json::Value::as_str)
                    .is_some_and(|text| text.trim().is_empty());
            if lacks(row) {
                // A wrong value was taken out by the walk, which said so.
                good &= self.cx.given(&cell);
                self.cx.missing(&cell, &format!("{column}: \"…\""));
            } else if empty && column == "prompt" {
                good = false;
                self.cx.error(&cell, "spec::empty_prompt", format!("{cell} is empty"));
            } else if row
                .fields
                .get(column)
                .and_then(serde_json::Value::as_str)
                .is_some_and(|text| text.len() > crate::item::expand::MAX_PROMPT_BYTES)
            {
                good = false;
                let message =
                    format!("{cell} has more than {} bytes", crate::item::expand::MAX_PROMPT_BYTES);
                self.cx.error(&cell, "spec::too_long", message);
            }
        }
        good
    }
}

/// The closed list of paths, less those that start with `row.` and `matrix.`.
fn known_paths(kind: Kind, scope: Scope) -> Vec<&'static str> {
    let mut known = Vec::new();
    if matches!(scope, Scope::Dest | Scope::Name) {
        known.extend(["job.name", "job.id", "run.date", "run.index"]);
    }
    if scope == Scope::Dest {
        return known;
    }
    known.extend(["row.id", "row.index"]);
    if !matches!(kind, Kind::TextToImage | Kind::ImagePairs) {
        known.extend(["input.path", "input.stem", "input.file"]);
    }
    match kind {
        Kind::SubjectSet => known.extend(["subject.name", "subject.class"]),
        Kind::ImagePairs => known.push("map"),
        Kind::Controllable => known.extend(["map", "control"]),
        Kind::DensePrediction => known.extend(["map", "target"]),
        Kind::TextToImage | Kind::Edit => {}
    }
    match scope {
        Scope::Name => {
            known.extend(["seed", "k", "ext", "width", "height"]);
            match kind {
                Kind::SubjectSet => known.extend(["prompt.index", "prompt.text"]),
                Kind::Edit => known.extend(["turn.index", "turn.name"]),
                _ => {}
            }
        }
        Scope::Prompt => {
            known.extend(["caption", "width", "height"]);
            match kind {
                Kind::SubjectSet => known.push("description"),
                Kind::Edit => known.push("instruction"),
                _ => {}
            }
        }
        Scope::Caption | Scope::Dest => {}
    }
    known
}
