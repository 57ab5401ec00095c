//! Items: every number gives one item, no two the same, and nothing depends on the order of rows.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashSet};

use nightshift_jobs::{
    Encoding, InputRow, InputSpec, Item, ItemError, JobSpec, JobVars, Kind, MapKind, Role, Task,
    parse, seed,
};

fn spec(text: &str) -> JobSpec {
    parse("job.yaml", text).unwrap_or_else(|errors| panic!("{errors}")).spec
}

fn vars() -> JobVars {
    JobVars { job_id: 7, run_date: "2026-11-23".to_owned(), run_index: 0 }
}

fn example(name: &str) -> JobSpec {
    let path = format!("{}/specs/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    spec(&std::fs::read_to_string(path).unwrap())
}

/// Rows as a listing gives them.
fn listed(paths: &[&str]) -> Vec<InputRow> {
    let row = |(n, file): (usize, &&str)| InputRow {
        index: n as u64,
        uri: Some(format!("s3://nightshift-inputs/{file}")),
        path: Some(file.rsplit_once('.').unwrap().0.to_owned()),
        etag: Some("e1".to_owned()),
        ..InputRow::default()
    };
    paths.iter().enumerate().map(row).collect()
}

fn rows(spec: &JobSpec) -> Vec<InputRow> {
    match spec.input() {
        InputSpec::Inline { rows } => rows.clone(),
        _ => listed(&["rex/00.jpg", "rex/01.jpg", "tom/00.jpg", "tom/00.png"]),
    }
}

fn items(spec: &JobSpec, rows: &[InputRow]) -> Vec<Item> {
    let n = spec.n_items(rows.len() as u64).unwrap();
    (0..n)
        .map(|i| spec.item(i, &rows[usize::try_from(spec.row_of(i)).unwrap()], &vars()).unwrap())
        .collect()
}

const SMALL: [&str; 6] = [
    "small_text_to_image",
    "small_image_pairs",
    "small_subject_set",
    "small_edit",
    "small_controllable",
    "small_dense_prediction",
];

#[test]
fn every_number_is_one_item_and_no_two_share_an_id_or_a_key() {
    for name in SMALL {
        let spec = example(name);
        let rows = rows(&spec);
        let items = items(&spec, &rows);
        assert_eq!(items.len() as u64, spec.items_per_row() * rows.len() as u64);
        let ids: HashSet<&str> = items.iter().map(|item| item.item_id.as_str()).collect();
        assert_eq!(ids.len(), items.len(), "{name}: ids are shared");
        let keys: Vec<&str> =
            items.iter().flat_map(|item| &item.outputs).map(|output| output.key.as_str()).collect();
        let distinct: HashSet<&str> = keys.iter().copied().collect();
        if name != "small_edit" {
            assert_eq!(distinct.len(), keys.len(), "{name}: keys are shared: {keys:?}");
        }
        for item in &items {
            assert!(item.outputs[0].key.starts_with("data/"), "{name}: {}", item.outputs[0].key);
            assert_eq!((item.seed >> 63, item.item_id.len()), (0, 32));
        }
    }
}

#[test]
fn items_are_the_same_wherever_their_row_stands() {
    for name in SMALL {
        let spec = example(name);
        let mut rows = rows(&spec);
        let strip = |item: Item| Item { index: 0, row_index: 0, ..item };
        let mut before: Vec<Item> = items(&spec, &rows).into_iter().map(strip).collect();
        rows.reverse();
        rows.iter_mut().enumerate().for_each(|(n, row)| row.index = n as u64);
        let mut after: Vec<Item> = items(&spec, &rows).into_iter().map(strip).collect();
        before.sort_by(|a, b| a.item_id.cmp(&b.item_id));
        after.sort_by(|a, b| a.item_id.cmp(&b.item_id));
        assert_eq!(before, after, "{name}");
    }
}

#[test]
fn cells_share_their_seeds_unless_they_vary() {
    let spec = example("small_text_to_image");
    let all = items(&spec, &rows(&spec));
    let of = |cfg: f64, k: u32| {
        all.iter()
            .find(|item| item.row_id == "ball" && item.sampler.cfg == cfg && item.k == k)
            .unwrap()
            .seed
    };
    assert_eq!(of(2.0, 0), of(4.0, 0));
    assert_eq!(of(2.0, 1), seed(1000, "ball", 1));
    assert_ne!(of(2.0, 0), of(2.0, 1));
    let text = std::fs::read_to_string(format!(
        "{}/specs/small_text_to_image.yaml",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap();
    let varied = self::spec(&text.replace("{start: 1000}", "{start: 1000, vary: cells}"));
    let seeds: HashSet<u64> = items(&varied, &rows(&varied)).iter().map(|item| item.seed).collect();
    assert_eq!(seeds.len(), 12);
}

#[test]
fn seeds_are_known_numbers() {
    // Stored with every picture: another formula would be another data set.
    assert_eq!(seed(0, "", 0), SEED_OF_NOTHING);
    assert_eq!(seed(1000, "harbor", 1), SEED_OF_HARBOR);
}

const SEED_OF_NOTHING: u64 = 4_068_270_679_887_697_908;
const SEED_OF_HARBOR: u64 = 1_567_632_133_583_988_662;

#[test]
fn each_kind_asks_for_its_task_and_files() {
    let first = |name: &str| {
        let spec = example(name);
        items(&spec, &rows(&spec)).remove(0)
    };
    let roles = |item: &Item| item.outputs.iter().map(|output| output.role).collect::<Vec<_>>();

    let item = first("small_image_pairs");
    assert_eq!(
        (item.task.clone(), item.picture.to_string()),
        (Task::Pair { map: MapKind::Depth }, "64x128".to_owned())
    );
    assert_eq!(roles(&item), [Role::Image, Role::Map, Role::Joint]);
    assert_eq!(item.outputs[2].key, "joint/ball_depth_7.png");
    assert!(item.given.is_none());

    let item = first("small_subject_set");
    assert_eq!(item.task, Task::Subject { description: Some("A dog.".to_owned()) });
    assert_eq!(item.caption, "a dog in the jungle");
    assert!(
        item.outputs[0].key.starts_with("data/subject=rex/rex/00.jpg_000_"),
        "{}",
        item.outputs[0].key
    );

    let item = first("small_edit");
    assert_eq!(item.task, Task::Edit { instruction: "make it dusk".to_owned() });
    assert_eq!(item.given.as_ref().unwrap().uri, "s3://nightshift-inputs/rex/00.jpg");
    assert_eq!(item.outputs[0].key, "data/00/dusk_11.png");

    let item = first("small_controllable");
    assert_eq!(
        (item.task.clone(), roles(&item)),
        (Task::Control { map: MapKind::Depth }, vec![Role::Image, Role::Control])
    );
    assert_eq!(item.outputs[0].key, "data/cfg=2.0/rex/00.jpg_1.png");

    let item = first("small_dense_prediction");
    assert_eq!(
        (item.task.clone(), item.kind),
        (Task::Dense { map: MapKind::Depth }, Kind::DensePrediction)
    );
    assert_eq!(item.outputs[0].encoding, Encoding::DepthPng16);
}

#[test]
fn a_manifest_gives_rows_ids_and_images_by_its_columns() {
    let text = "apiVersion: nightshift/v1\nkind: controllable\nmetadata: {name: m}\n\
        input: {manifest: s3://data/scenes.jsonl, columns: {image: uri, prompt: text, id: scene}}\n\
        control: {map: canny}\ngenerate: {panel: 64x64}\nmodel: {weights: f32, kv_cache: f32}\noutput: {dest: s3://out/x/, name: \"{{ row.tag }}_{{ seed }}.{{ ext }}\"}\n";
    let parsed = parse("job.yaml", text).unwrap();
    let record = |scene: &str| -> BTreeMap<String, serde_json::Value> {
        [("uri", "s3://data/a.png"), ("text", "a street"), ("scene", scene), ("tag", "t")]
            .map(|(k, v)| (k.to_owned(), v.into()))
            .into()
    };
    let row = parsed.spec.input().row(0, record("s1")).unwrap();
    let item = parsed.spec.item(0, &row, &vars()).unwrap();
    assert_eq!((item.row_id.as_str(), item.caption.as_str()), ("s1", "a street"));
    assert_eq!(parsed.spec.input().row(0, BTreeMap::new()), Err("scene".to_owned()));
    let known = ["uri", "txt", "scene"].map(str::to_owned);
    let said: Vec<String> = parsed
        .places
        .missing_columns(&known)
        .iter()
        .map(|found| found.render("job.yaml", text))
        .collect();
    assert_eq!(said.len(), 2);
    assert!(said[1].contains("{{ row.tag }}: the manifest has no column \"tag\""), "{}", said[1]);
    assert!(said[0].starts_with("job.yaml:4:73: columns.prompt: \"text\" is not in s3://data/scenes.jsonl (columns: uri, txt, scene)"), "{}", said[0]);
}

#[test]
fn names_from_data_never_leave_their_folder() {
    let text = "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {name: m}\n\
        input: {manifest: s3://data/p.jsonl}\ngenerate: {size: 64x64}\n\
        output: {dest: s3://out/x/, name: \"{{ row.name }}_{{ seed }}.{{ ext }}\"}\n";
    let spec = spec(text);
    let render = |name: &str| {
        let fields = [("prompt".to_owned(), "x".into()), ("name".to_owned(), name.into())];
        let row = spec.input().row(0, fields.into()).unwrap();
        spec.item(0, &row, &vars())
    };
    for good in ["a", "é", "日本", "a/b", "emoji 🙂", "..a", "a..b"] {
        assert!(render(good).is_ok(), "{good}: {:?}", render(good));
    }
    let long = "x".repeat(201);
    for bad in [
        "../../etc/x",
        "/abs",
        "a/../b",
        "./a",
        "a//b",
        "C:\\x",
        "a\u{0}",
        "a\nb",
        "a\u{202e}gpj",
        "a /b",
        "a./b",
        "x.png/b",
        &long,
    ] {
        let error = render(bad).expect_err(bad);
        assert_eq!(error.code(), "unsafe_key", "{bad}");
        assert!(!error.to_string().contains('\u{202e}') && !error.to_string().contains('\n'));
    }
    let missing = spec.item(
        0,
        &InputRow { fields: [("prompt".to_owned(), "x".into())].into(), ..InputRow::default() },
        &vars(),
    );
    assert_eq!(missing, Err(ItemError::MissingColumn { row: 0, column: "name".to_owned() }));
}

#[test]
fn stored_seeds_keep_all_their_digits() {
    let text = std::fs::read_to_string(format!(
        "{}/specs/small_text_to_image.yaml",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap();
    let spec = self::spec(&text.replace("{start: 1000}", "{start: 9223372036854775807}"));
    let stored = serde_json::to_value(&spec).unwrap();
    assert_eq!(stored["seeds"]["start"]["start"], "9223372036854775807");
    assert_eq!(serde_json::from_value::<JobSpec>(stored).unwrap(), spec);
}

#[test]
fn the_hash_covers_what_decides_bytes_and_nothing_else() {
    let text = std::fs::read_to_string(format!(
        "{}/specs/small_text_to_image.yaml",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap();
    let hash = |text: &str| spec(text).content_sha256();
    let before = hash(&text);
    for (same, with) in [
        ("small-text-to-image", "other"),
        ("s3://nightshift/", "s3://elsewhere/"),
        ("team: docs", "team: x"),
    ] {
        assert_eq!(hash(&text.replace(same, with)), before, "{same}");
    }
    assert_eq!(
        hash(
            &(text.clone() + "resources: {priority: 9, shard_items: 2}\nlimits: {max_items: 99}\n")
        ),
        before
    );
    for (other, with) in
        [("64x64", "96x64"), ("start: 1000", "start: 1001"), ("[2.0, 4.0]", "[2.0, 4.5]")]
    {
        assert_ne!(hash(&text.replace(other, with)), before, "{other}");
    }
}

#[test]
fn more_items_than_allowed_are_counted_not_listed() {
    let text = "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {name: m}\ninput: {manifest: s3://data/p.txt}\n\
        generate: {size: 64x64, images_per_prompt: 10}\noutput: {dest: s3://out/x/}\nlimits: {max_items: 1000}\n";
    let spec = spec(text);
    assert_eq!(spec.n_items(100), Ok(1000));
    assert!(spec.n_items(101).is_err());
    assert!(spec.n_items(u64::MAX).is_err());
}
