//! The matrix means what it means in GitHub Actions, and items run through it in a fixed order.

use nightshift_jobs::{JobVars, parse};

/// The combinations of a matrix in the order of the cells, as `key=value` words.
fn cells(matrix: &str) -> Vec<String> {
    let text = format!(
        "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {{name: m}}\ninput: {{inline: [{{id: a, prompt: x}}, {{id: b, prompt: y}}]}}\n\
         generate: {{size: 64x64, seeds: {{start: 1, vary: cells}}}}\noutput: {{dest: s3://out/x/}}\nmatrix: {matrix}\n"
    );
    let parsed = parse("job.yaml", &text).unwrap_or_else(|errors| panic!("{errors}"));
    let row = match parsed.spec.input() {
        nightshift_jobs::InputSpec::Inline { rows } => rows[1].clone(),
        other => panic!("{other:?}"),
    };
    let per_row = parsed.spec.items_per_row();
    let words = |i| {
        let item = parsed.spec.item(per_row + i, &row, &JobVars::default()).expect("a good row");
        let words: Vec<String> =
            item.cell.iter().map(|(key, value)| format!("{key}={value}")).collect();
        words.join(" ").replace('"', "")
    };
    (0..per_row).map(words).collect()
}

#[test]
fn the_product_runs_the_last_dimension_fastest() {
    assert_eq!(cells("{b: [1, 2], a: [x, y]}"), ["a=x b=1", "a=y b=1", "a=x b=2", "a=y b=2"]);
}

#[test]
fn exclude_comes_before_include() {
    let matrix = "{a: [x, y], b: [1, 2], exclude: [{a: x}, {a: y, b: 2}], include: [{a: x, b: 1}]}";
    assert_eq!(cells(matrix), ["a=y b=1", "a=x b=1"]);
}

/// The example of GitHub's own documentation, "Example: Expanding configurations".
#[test]
fn include_extends_what_it_does_not_contradict() {
    let matrix = "{fruit: [apple, pear], animal: [cat, dog], include: [{color: green}, {color: pink, animal: cat}, \
                  {fruit: apple, shape: circle}, {fruit: banana}, {fruit: banana, animal: cat}]}";
    assert_eq!(
        cells(matrix),
        [
            "animal=cat color=pink fruit=apple shape=circle",
            "animal=dog color=green fruit=apple shape=circle",
            "animal=cat color=pink fruit=pear",
            "animal=dog color=green fruit=pear",
            "fruit=banana",
            "animal=cat fruit=banana",
        ]
    );
}

#[test]
fn numbers_are_compared_as_numbers() {
    assert_eq!(cells("{cfg: [2, 6.0], exclude: [{cfg: 6}]}"), ["cfg=2"]);
}

#[test]
fn include_alone_is_a_list_of_combinations() {
    assert_eq!(cells("{include: [{a: 1}, {a: 2, b: 3}]}"), ["a=1", "a=2 b=3"]);
}
