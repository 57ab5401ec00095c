//! Hostile texts end in a message, soon and without much memory; no text whatever makes the reader panic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use nightshift_jobs::{InputRow, JobSpec, JobVars, parse};

/// 100 ms is the promise on an idle machine. Counted is the time on a processor, which neighbours stretch too.
const SOON_MS: u64 = 400;

/// Milliseconds that this thread has run.
fn ran_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<u64>().unwrap() / 1_000_000
}

/// The first line of what is said about a text that must be refused.
fn refused(what: &str, text: &str) -> String {
    let started = ran_ms();
    let errors = parse("job.yaml", text).expect_err(what);
    let took = ran_ms() - started;
    assert!(took < SOON_MS, "{what} took {took} ms");
    let said = errors.to_string();
    assert!(said.len() < 64 * 1024, "{what}: {} bytes of message", said.len());
    said.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn hostile_texts_are_refused_soon() {
    let cases: [(&str, String, &str); 14] = [
        ("3.2 MiB", "x".repeat(3_355_443), "job.yaml:1:1: file is 3.2 MiB, limit 1 MiB"),
        ("20,000 deep in brackets", "[".repeat(20_000), "nested deeper than 32"),
        ("20,000 deep in braces", "{a: ".repeat(20_000), "nested deeper than 32"),
        ("20,000 deep in dashes", "- ".repeat(20_000), "nested deeper than 32"),
        ("200,000 question marks", "? ".repeat(200_000), "nested deeper than 32"),
        ("a scalar of a mebibyte", format!("a: {}", "x".repeat((1 << 20) - 10)), "unknown key"),
        (
            "a quoted scalar of a mebibyte",
            format!("a: \"{}\"", "\\n".repeat((1 << 19) - 10)),
            "unknown key",
        ),
        (
            "a block scalar of a mebibyte",
            format!("a: |\n{}", " x\n".repeat(300_000)),
            "unknown key",
        ),
        ("a key of a mebibyte", format!("{}: 1", "k".repeat((1 << 20) - 10)), "job.yaml"),
        (
            "100,000 keys",
            (0..100_000).map(|n| format!("k{n}:\n")).collect(),
            "more than 20000 nodes",
        ),
        ("9,000 unknown keys", (0..9_000).map(|n| format!("k{n}: x\n")).collect(), "unknown key"),
        ("a million commas", format!("a: [{}]", ",".repeat(1_000_000)), "job.yaml"),
        ("half a million anchors", "&a ".repeat(300_000), "job.yaml"),
        ("billion laughs", laughs(), "the document expands to more than 20000 nodes"),
    ];
    for (what, text, expected) in cases {
        let said = refused(what, &text);
        assert!(said.contains(expected), "{what}: {said}");
    }
}

fn laughs() -> String {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for n in 1..30 {
        let names = vec![format!("*a{}", n - 1); 9].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{names}]\n"));
    }
    text
}

/// A small generator, so that a failure is seen again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n.max(1)
    }
}

/// What the mutations put in: everything that means something to YAML, to templates or to our units.
const PIECES: [&str; 48] = [
    ":",
    ": ",
    "\n",
    "\n  ",
    "\t",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "{{ ",
    " }}",
    "|",
    ">",
    "&a ",
    "*a",
    "!!str ",
    "? ",
    "#",
    "'",
    "\"",
    "---\n",
    "...",
    "%TAG ! x\n",
    "<<: *a",
    "null",
    "~",
    "on",
    ".nan",
    "1e999",
    "99999999999999999999",
    "-1",
    "0x",
    "0.0",
    "\u{feff}",
    "\u{202e}",
    "\r",
    "\r\n",
    "\u{85}",
    "\u{2028}",
    "é",
    "𝄞",
    "{{ matrix.cfg }}",
    "{{ row.x | pad(99) }}",
    "s3://",
    "5%",
    "\\u0000",
    "include: []",
];

/// What a scheduler and a worker do with a spec that was accepted.
fn use_it(spec: &JobSpec) {
    let stored = serde_json::to_string(spec).unwrap();
    assert_eq!(&serde_json::from_str::<JobSpec>(&stored).unwrap(), spec);
    let vars = JobVars::default();
    let dest = spec.dest(&vars).unwrap();
    assert!(dest.starts_with("s3://") && dest.ends_with('/'), "{dest}");
    let fields = [("prompt".to_owned(), "a street".into())];
    let row = InputRow {
        uri: Some("s3://data/rooms/a.jpg".to_owned()),
        path: Some("rooms/a".to_owned()),
        fields: fields.into(),
        ..InputRow::default()
    };
    let mut keys = std::collections::HashSet::new();
    for i in 0..spec.items_per_row().min(200) {
        for output in spec.item(i, &row, &vars).iter().flat_map(|item| &item.outputs) {
            assert!(output.key.split('/').all(|part| part != ".."), "{}", output.key);
            assert!(keys.insert(output.key.clone()), "{} twice", output.key);
        }
    }
}

#[test]
fn no_mutation_of_an_example_panics() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("specs");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "yaml"));
    files.sort();
    let rounds: usize = std::env::var("FUZZ_ROUNDS").map_or(40, |rounds| rounds.parse().unwrap());
    for (n, file) in files.iter().enumerate() {
        let text = std::fs::read_to_string(file).unwrap();
        for round in 0..rounds {
            let mut dice = Dice((n * 1_000_003 + round) as u64);
            let mut chars: Vec<char> = text.chars().collect();
            for _ in 0..=dice.below(4) {
                let (from, to) = (dice.below(chars.len()), dice.below(chars.len()));
                match dice.below(5) {
                    0 => drop(chars.splice(from..(from + dice.below(9)).min(chars.len()), [])),
                    1 | 2 => {
                        drop(chars.splice(from..from, PIECES[dice.below(PIECES.len())].chars()))
                    }
                    3 => chars.swap(from, to),
                    _ => chars.truncate(from),
                }
                if chars.is_empty() {
                    break;
                }
            }
            let mutated: String = chars.into_iter().collect();
            match parse("job.yaml", &mutated) {
                Ok(parsed) => use_it(&parsed.spec),
                Err(errors) => {
                    assert!(
                        errors.diagnostics.iter().all(|found| found.code != "spec::internal"),
                        "refused without a reason:\n{mutated}"
                    );
                    assert!(errors.to_string().starts_with("job.yaml:"), "{errors}");
                }
            }
        }
    }
}

#[test]
fn other_ways_of_writing_the_same_are_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("specs");
    let text = std::fs::read_to_string(folder.join("small_text_to_image.yaml")).unwrap();
    let spec = parse("job.yaml", &text).unwrap().spec;
    let value: serde_json::Value = serde_yaml::from_str(&text).unwrap();
    let tabs = serde_json::to_string_pretty(&value).unwrap().replace("  ", "\t");
    for (what, other) in [
        ("CRLF", text.replace('\n', "\r\n")),
        ("BOM", format!("\u{feff}{text}")),
        ("JSON", value.to_string()),
        ("JSON with tabs", tabs),
        ("document markers", format!("---\n{text}...\n")),
    ] {
        let parsed = parse("job.yaml", &other).unwrap_or_else(|errors| panic!("{what}: {errors}"));
        assert_eq!(parsed.spec, spec, "{what}");
    }
}

#[test]
fn a_description_is_kept_up_to_a_thousand_characters() {
    let spec = |about: &str| {
        let text = format!(
            "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {{name: a, description: \"{about}\"}}\n\
             input: {{inline: [{{id: a, prompt: p}}]}}\ngenerate: {{size: 64x64}}\noutput: {{dest: \"s3://out/c/\"}}\n"
        );
        nightshift_jobs::parse("job.yaml", &text)
    };
    let parsed = spec("for the demo").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(parsed.spec.about(), Some("for the demo"));
    assert!(spec(&"é".repeat(1_000)).is_ok());
    let errors = spec(&"é".repeat(1_001)).unwrap_err().to_string();
    assert!(errors.contains("metadata.description has 1001 characters, limit 1000"), "{errors}");
}
