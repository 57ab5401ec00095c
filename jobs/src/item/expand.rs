//! From an item number to the item: mixed-radix decoding, so that nothing is ever listed.

use serde_json::Value;

use crate::ids;
use crate::item::key;
use crate::item::{Encoding, GivenPanel, Item, ItemError, JobVars, Output, Role};
use crate::spec::input::{InputRow, InputSpec};
use crate::spec::{Cell, JobSpec, Kind, MapKind, Seeds, Task};
use crate::template::Template;

/// Longest prompt, in bytes of UTF-8; the model was trained on far shorter ones.
pub const MAX_PROMPT_BYTES: usize = 16 * 1024;

/// Everything a template may name while one item is computed.
struct Scope<'a> {
    spec: &'a JobSpec,
    row: &'a InputRow,
    row_id: &'a str,
    vars: &'a JobVars,
    cell: &'a Cell,
    map: Option<MapKind>,
    prompt_index: u64,
    k: u64,
    seed: u64,
    /// File name extension of the primary file.
    ext: &'static str,
    /// Known only to `prompt.template`.
    caption: Option<&'a str>,
    /// Known only to `prompt.template`.
    description: Option<&'a str>,
}

/// What an item number says beside its row.
struct Digits<'a> {
    cell: &'a Cell,
    map: Option<MapKind>,
    prompt_index: u64,
    k: u64,
}

impl JobSpec {
    /// Item `i` of the job. `row` is the input row number [`JobSpec::row_of`]`(i)`.
    ///
    /// The order is row, cell of the matrix, prompt, map, k, the last one fastest.
    ///
    /// # Errors
    /// What makes this one item impossible: it becomes a failed item with the error's code, and no other item is concerned.
    pub fn item(&self, i: u64, row: &InputRow, vars: &JobVars) -> Result<Item, ItemError> {
        if i / self.items_per_row() != row.index {
            return Err(ItemError::WrongRow { item: i, row: row.index });
        }
        let Digits { cell, map, prompt_index, k } = self.digits(i);
        let row_id = row.row_id();
        let seed = self.seed_of(&row_id, cell, k);
        let encodings = self.encodings(map);
        let ext = encodings[0].1.extension();
        let mut scope = Scope {
            spec: self,
            row,
            row_id: &row_id,
            vars,
            cell,
            map,
            prompt_index,
            k,
            seed,
            ext,
            caption: None,
            description: None,
        };

        let caption = scope.caption(&self.captions[index(prompt_index)])?;
        let description =
            self.description.as_ref().map(|template| scope.render(template)).transpose()?;
        scope.caption = Some(&caption);
        scope.description = description.as_deref();
        let prompt =
            self.prompt_template.as_ref().map(|template| scope.render(template)).transpose()?;
        let outputs = scope.outputs(&encodings)?;
        let given = if self.needs_image() { Some(scope.given()?) } else { None };
        let item_id = scope.item_id(&caption);
        Ok(Item {
            index: i,
            item_id,
            row_index: row.index,
            k: u32::try_from(k).unwrap_or(u32::MAX),
            cell: cell.values.clone(),
            seed,
            kind: self.kind,
            task: self.task(map, &caption, description.clone()),
            prompt,
            picture: cell.picture,
            given,
            sampler: cell.sampler,
            outputs,
            embed: self.output.embed,
            subject: scope.subject().map(str::to_owned),
            restore: self.output.restore,
            caption,
            row_id,
        })
    }

    /// Whether the name tells rows apart by itself: `row.id`, `row.index`, a seed of the row, the whole name of a listed object.
    #[must_use]
    pub fn names_rows(&self) -> bool {
        let listed = matches!(self.input, InputSpec::Prefix { .. } | InputSpec::Subjects(_));
        self.output.name.places().any(|place| {
            let of_the_row = match place.path.as_str() {
                "row.id" | "row.index" => true,
                "seed" => matches!(self.seeds, Seeds::Start { .. }),
                "input.file" => listed,
                _ => false,
            };
            of_the_row && place.keeps_apart()
        })
    }

    /// The key of the first file of a row; `None` when the row makes no item.
    #[must_use]
    pub fn first_key(&self, row: &InputRow) -> Option<String> {
        let item = self.item(row.index * self.items_per_row(), row, &JobVars::default());
        Some(item.ok()?.outputs.into_iter().next()?.key)
    }

    /// An item number taken apart; the row is its first digit.
    fn digits(&self, i: u64) -> Digits<'_> {
        let within = i % self.per_cell();
        let (k, prompt_and_map) = (within % self.seeds.count(), within / self.seeds.count());
        let maps = self.maps.len().max(1) as u64;
        let cell = &self.cells[index(i % self.items_per_row() / self.per_cell())];
        let map = self.maps.get(index(prompt_and_map % maps)).copied().or(cell.control);
        Digits { cell, map, prompt_index: prompt_and_map / maps, k }
    }

    /// Where results go, `s3://bucket/prefix/`.
    ///
    /// # Errors
    /// [`ItemError::UnsafeKey`] when the rendered prefix is none.
    pub fn dest(&self, vars: &JobVars) -> Result<String, ItemError> {
        let value = |path: &str| Ok(job_value(self, vars, path));
        let dest = self
            .output
            .dest
            .render(value, |path| ItemError::NoValue { row: 0, path: path.to_owned() })?;
        let dest = if dest.ends_with('/') { dest } else { format!("{dest}/") };
        match key::split_s3(&dest) {
            Some((_, prefix))
                if prefix.is_empty() || key::is_safe(prefix.trim_end_matches('/'), None) =>
            {
                Ok(dest)
            }
            _ => Err(ItemError::UnsafeKey { row: 0, name: dest.escape_debug().to_string() }),
        }
    }

    fn seed_of(&self, row_id: &str, cell: &Cell, k: u64) -> u64 {
        match &self.seeds {
            Seeds::List(seeds) => seeds[index(k)],
            Seeds::Start { start, vary_cells: false, .. } => ids::seed(*start, row_id, k),
            Seeds::Start { start, vary_cells: true, .. } => {
                let values = Value::Object(cell.values.clone().into_iter().collect());
                ids::seed(
                    *start,
                    &ids::hash128(&["cell", row_id, &ids::canonical_json(&values)]),
                    k,
                )
            }
        }
    }

    /// The files of an item; the first is the primary one.
    fn encodings(&self, map: Option<MapKind>) -> Vec<(Role, Encoding)> {
        let mut files = Vec::new();
        match self.kind {
            Kind::DensePrediction => {
                files.push((Role::Map, map.map_or(Encoding::Png8, dense_encoding)));
            }
            Kind::ImagePairs => {
                files.extend([(Role::Image, Encoding::Png8), (Role::Map, Encoding::Png8)]);
                if self.output.keep_joint {
                    files.push((Role::Joint, Encoding::Png8));
                }
            }
            Kind::Controllable => {
                files.push((Role::Image, Encoding::Png8));
                if self.output.save_control_maps {
                    files.push((Role::Control, Encoding::Png8));
                }
            }
            Kind::TextToImage | Kind::SubjectSet | Kind::Edit => {
                files.push((Role::Image, Encoding::Png8))
            }
        }
        files
    }

    fn task(&self, map: Option<MapKind>, caption: &str, description: Option<String>) -> Task {
        match (self.kind, map) {
            (Kind::ImagePairs, Some(map)) => Task::Pair { map },
            (Kind::Controllable, Some(map)) => Task::Control { map },
            (Kind::DensePrediction, Some(map)) => Task::Dense { map },
            (Kind::SubjectSet, _) => Task::Subject { description },
            (Kind::Edit, _) => Task::Edit { instruction: caption.to_owned() },
            // Validation gave every kind with maps at least one.
            (
                Kind::TextToImage | Kind::ImagePairs | Kind::Controllable | Kind::DensePrediction,
                _,
            ) => Task::TextToImage,
        }
    }
}

/// How predicted maps are stored: depth needs its 16 bits, the others are what the model drew.
fn dense_encoding(map: MapKind) -> Encoding {
    match map {
        MapKind::Depth => Encoding::DepthPng16,
        MapKind::Normal => Encoding::NormalPng8 { frame: crate::spec::NormalFrame::OpenglCamera },
        MapKind::Canny | MapKind::Hed | MapKind::Openpose | MapKind::Segmentation => Encoding::Png8,
    }
}

/// Numbers below the length of a list in memory.
fn index(n: u64) -> usize {
    usize::try_from(n).expect("the number is below the length of a list")
}

/// Paths that are the same for all items of a job.
fn job_value(spec: &JobSpec, vars: &JobVars, path: &str) -> Option<String> {
    match path {
        "job.name" => Some(spec.name.clone()),
        "job.id" => Some(vars.job_id.to_string()),
        "run.date" => Some(vars.run_date.clone()),
        "run.index" => Some(vars.run_index.to_string()),
        _ => None,
    }
}

/// A column's value as text; null is no value.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(ids::canonical_json(other)),
    }
}

impl<'a> Scope<'a> {
    fn render(&self, template: &Template) -> Result<String, ItemError> {
        let missing = |path: &str| match path.strip_prefix("row.") {
            Some(column) => {
                ItemError::MissingColumn { row: self.row.index, column: column.to_owned() }
            }
            None => ItemError::NoValue { row: self.row.index, path: path.to_owned() },
        };
        template.render(|path| Ok(self.value(path)), missing)
    }

    fn value(&self, path: &str) -> Option<String> {
        if let Some(column) = path.strip_prefix("row.") {
            return self.column(column);
        }
        if let Some(key) = path.strip_prefix("matrix.") {
            return self.cell.values.get(key).and_then(scalar);
        }
        match path {
            "input.path" => self.input_path().map(str::to_owned),
            "input.stem" => self.input_path().map(|path| last_part(path).to_owned()),
            "input.file" => self.input_file(),
            "subject.name" => self.subject().map(str::to_owned),
            "subject.class" => self.class().map(str::to_owned),
            "prompt.index" => Some(self.prompt_index.to_string()),
            "prompt.text" => self
                .spec
                .captions
                .get(index(self.prompt_index))
                .map(|prompt| prompt.as_str().to_owned()),
            "map" | "target" | "control" => self.map.map(|map| map.as_str().to_owned()),
            "turn.index" => Some("0".to_owned()),
            "turn.name" => self.spec.turn_name.clone(),
            "seed" => Some(self.seed.to_string()),
            "k" => Some(self.k.to_string()),
            "ext" => Some(self.ext.to_owned()),
            "width" => Some(self.cell.picture.width.to_string()),
            "height" => Some(self.cell.picture.height.to_string()),
            "caption" | "instruction" => self.caption.map(str::to_owned),
            "description" => self.description.map(str::to_owned),
            _ => job_value(self.spec, self.vars, path),
        }
    }

    /// `row.NAME`: the id, the index, a logical column, or a column of the manifest.
    fn column(&self, name: &str) -> Option<String> {
        match name {
            "id" => Some(self.row_id.to_owned()),
            "index" => Some(self.row.index.to_string()),
            _ => self.logical(name).and_then(scalar),
        }
    }

    fn logical(&self, name: &str) -> Option<&'a Value> {
        let mapped = match &self.spec.input {
            InputSpec::Manifest { columns, .. } => columns.get(name).map_or(name, String::as_str),
            _ => name,
        };
        self.row.fields.get(mapped)
    }

    fn caption(&self, template: &Template) -> Result<String, ItemError> {
        let row = self.row.index;
        let caption = self.render(template)?;
        if caption.trim().is_empty() && self.spec.kind != Kind::DensePrediction {
            return Err(ItemError::EmptyPrompt { row });
        }
        if caption.len() > MAX_PROMPT_BYTES {
            return Err(ItemError::PromptTooLong {
                row,
                bytes: caption.len(),
                max: MAX_PROMPT_BYTES,
            });
        }
        Ok(caption)
    }

    fn image_uri(&self) -> Option<&'a str> {
        self.row.uri.as_deref().or_else(|| self.logical("image").and_then(Value::as_str))
    }

    fn given(&self) -> Result<GivenPanel, ItemError> {
        let row = self.row.index;
        let uri = self.image_uri().ok_or(ItemError::MissingImage { row })?;
        if key::split_s3(uri).is_none_or(|(_, key)| key.is_empty()) {
            return Err(ItemError::BadUri { row, uri: uri.escape_debug().take(200).collect() });
        }
        Ok(GivenPanel { uri: uri.to_owned(), etag: self.row.etag.clone(), fit: self.spec.fit })
    }

    /// The key below the prefix, or the whole key of a manifest's image, without its extension.
    fn input_path(&self) -> Option<&'a str> {
        self.row
            .path
            .as_deref()
            .or_else(|| Some(key::without_extension(key::split_s3(self.image_uri()?)?.1)))
    }

    /// `input.path` with the extension.
    fn input_file(&self) -> Option<String> {
        let path = self.input_path()?;
        let (_, key) = key::split_s3(self.image_uri()?)?;
        Some(format!("{path}{}", &key[key::without_extension(key).len()..]))
    }

    /// The folder that a reference lies in, below the prefix.
    fn subject(&self) -> Option<&'a str> {
        match &self.spec.input {
            InputSpec::Subjects(_) => crate::Subjects::subject_of(self.row.path.as_deref()?),
            _ => None,
        }
    }

    fn class(&self) -> Option<&'a str> {
        match &self.spec.input {
            InputSpec::Subjects(subjects) => {
                subjects.classes.get(self.subject()?).map(String::as_str)
            }
            _ => None,
        }
    }

    /// A function of what the item is, never of where it stands. The prompt's template is a part of it: two prompts may say the
    /// same about one subject.
    fn item_id(&self, caption: &str) -> String {
        let values = Value::Object(self.cell.values.clone().into_iter().collect());
        ids::hash128(&[
            "item",
            self.row_id,
            self.row.version(),
            &ids::canonical_json(&values),
            self.map.map_or("", MapKind::as_str),
            self.spec.captions[index(self.prompt_index)].as_str(),
            caption,
            &self.seed.to_string(),
        ])
    }

    fn outputs(&self, files: &[(Role, Encoding)]) -> Result<Vec<Output>, ItemError> {
        let unsafe_key = |name: &str| ItemError::UnsafeKey {
            row: self.row.index,
            name: name.escape_debug().to_string(),
        };
        let name = self.render(&self.spec.output.name)?;
        let mut folders = String::new();
        for dimension in &self.spec.output.partition_by {
            let value = match self.cell.values.get(dimension) {
                Some(value) => scalar(value),
                None => self.value(partition_path(dimension)),
            };
            let value = value.unwrap_or_else(|| "__HIVE_DEFAULT_PARTITION__".to_owned());
            folders.push_str(&format!("{dimension}={}/", crate::template::safe(&value)));
        }
        if !key::is_safe(&name, Some(self.ext)) {
            return Err(unsafe_key(&name));
        }
        let suffix = format!(".{}", self.ext);
        let bare = name.strip_suffix(&suffix).ok_or_else(|| unsafe_key(&name))?;
        let mut outputs = Vec::with_capacity(files.len());
        for (n, (role, encoding)) in files.iter().enumerate() {
            // Other files lie in folders of their own, so that no name of one role can meet a name of another.
            let folder = if n == 0 { "data" } else { role.as_str() };
            let key = format!("{folder}/{folders}{bare}.{}", encoding.extension());
            if key.len() > key::MAX_KEY_BYTES {
                return Err(unsafe_key(&name));
            }
            outputs.push(Output { role: *role, key, encoding: *encoding });
        }
        Ok(outputs)
    }
}

/// The template path that a name in `partition_by` stands for, when it is no key of the matrix.
pub(crate) fn partition_path(dimension: &str) -> &str {
    match dimension {
        "subject" => "subject.name",
        "prompt" => "prompt.index",
        "turn" => "turn.name",
        other => other,
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
