//! Mistakes that show only at planning have the words and the form of those of the text.

use nightshift_jobs::{Globs, Parsed, parse, places};

const TEXT: &str = "\
apiVersion: nightshift/v1
kind: edit
metadata: {name: rooms}
input:
  prefix: s3://ml-data/rooms/
  include: [\"**/*.jpg\"]
turns: [{name: oak, instruction: \"make the table light oak\"}]
generate: {panel: 512x512}
output:
  dest: s3://ml-out/rooms/
limits: {max_gpu_hours: 12}
";

fn parsed() -> Parsed {
    parse("job.yaml", TEXT).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn mistakes_of_planning_point_at_the_spec() {
    let Parsed { spec, places, .. } = parsed();
    let empty = places.empty_input(spec.input(), 1204);
    assert_eq!(
        empty.render("job.yaml", TEXT),
        "job.yaml:5:3: no input matches prefix s3://ml-data/rooms/ with **/*.jpg (0 of 1 204 objects)\n\
         5 |   prefix: s3://ml-data/rooms/\n  |   ^^^^^^\nhelp: set input.allow_empty to accept it"
    );
    for (found, expected) in [
        (
            places.dest_not_writable(
                "s3://ml-out/rooms/",
                "AccessDenied on PutObject (probe key _nightshift/probe-1)",
            ),
            "job.yaml:10:9: s3://ml-out/rooms/: AccessDenied on PutObject (probe key _nightshift/probe-1)",
        ),
        (
            places.dest_in_use("s3://ml-out/rooms/", "job 7 (rooms)"),
            "job.yaml:10:9: s3://ml-out/rooms/ belongs to job 7 (rooms)",
        ),
        (
            places.over_budget(38_400, 324.0, 2, 12.0),
            "job.yaml:11:25: 38 400 images ≈ 3 456 GPU-h (at 324 s/image, measured on 2 workers) exceeds limits.max_gpu_hours 12",
        ),
        (
            places.name_not_unique(spec.input(), 200, "0000.png"),
            "job.yaml:9:1: output.name gives the same key for 200 items (e.g. \"0000.png\")",
        ),
    ] {
        let said = found.render("job.yaml", TEXT);
        assert_eq!(said.lines().next(), Some(expected));
    }
}

#[test]
fn mistakes_of_a_manifest_point_into_it() {
    let uri = "s3://data/x.jsonl";
    for (found, expected) in [
        (
            places::manifest_line(8123, 17, "control character in string", 8122),
            "s3://data/x.jsonl:8123:17: invalid JSON (control character in string); 8122 rows before it are fine",
        ),
        (
            places::duplicate_id(911, "a17", 44),
            "s3://data/x.jsonl:911:1: id \"a17\" was already used on line 44",
        ),
        (
            places::duplicate_row(9, 4),
            "s3://data/x.jsonl:9:1: this row is the same as the one on line 4\nhelp: give the rows ids with columns.id",
        ),
    ] {
        assert_eq!(found.render(uri, ""), expected);
    }
}

#[test]
fn listings_take_what_the_spec_says() {
    let Parsed { spec, .. } = parsed();
    let nightshift_jobs::InputSpec::Prefix { include, exclude, .. } = spec.input() else {
        panic!("a prefix input was read as another");
    };
    let globs = Globs::new(include, exclude).expect("validated");
    assert!(globs.takes("kitchen/a.jpg") && !globs.takes("kitchen/a.png"));
}
