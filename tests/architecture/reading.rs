//! The reading path of ARCHITECTURE.md: its files and functions exist, are about as long as it says, and are few enough lines.

use crate::rooms::top;

/// The whole path, in lines.
const LINES_MAX: usize = 3_200;

/// One row of the table: a file, or named items of it.
struct Stop<'a> {
    file: &'a str,
    /// The whole file when empty.
    items: Vec<&'a str>,
    lines: usize,
}

/// Place and lines of a row of the table.
fn row(line: &str) -> Option<[&str; 2]> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let [_, number, place, lines, _, _] = cells[..] else { return None };
    number.parse::<u32>().ok().map(|_| [place, lines])
}

/// The rows `| n | file: item, item | lines | why |`, file and items in backticks, below the heading "Reading path".
fn stops(page: &str) -> Vec<Stop<'_>> {
    let section = page.split("\n## Reading path\n").nth(1).expect("the page has a reading path");
    let section = section.split("\n## ").next().expect("a section");
    section
        .lines()
        .filter_map(row)
        .map(|[place, lines]| {
            let mut names = place.split('`').skip(1).step_by(2);
            Stop {
                file: names.next().expect("a row names a file in backticks"),
                items: names.collect(),
                lines: lines
                    .parse()
                    .unwrap_or_else(|_| panic!("{lines:?} is not a number of lines")),
            }
        })
        .collect()
}

/// Lines of an item of a text, with its comments: of Rust to the brace that ends it, of SQL to the end of the function's body.
fn lines_of(text: &str, item: &str) -> Option<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let begins = |line: &str| {
        let Some((before, after)) = line.split_once(item) else { return false };
        let keyword = before.split_whitespace().next_back().unwrap_or_default();
        let keywords = ["fn", "struct", "enum", "trait", "function"];
        (keywords.contains(&keyword) || item.starts_with("impl "))
            && !before.contains("//")
            && !before.contains("--")
            && after.starts_with(|c: char| !c.is_alphanumeric() && c != '_')
    };
    let start = lines.iter().position(|line| begins(line))?;
    let indent = lines[start].len() - lines[start].trim_start().len();
    let end = lines[start..].iter().position(|line| {
        *line == format!("{}}}", " ".repeat(indent))
            || line.ends_with("$$;")
            || line.ends_with("$;")
    })?;
    let comment =
        |line: &&&str| ["//", "#[", "--"].iter().any(|mark| line.trim_start().starts_with(mark));
    let above = lines[..start].iter().rev().take_while(comment).count();
    Some(above + end + 1)
}

#[test]
fn the_reading_path_is_short_and_true() {
    let page = std::fs::read_to_string(top().join("ARCHITECTURE.md")).expect("the page");
    let stops = stops(&page);
    assert!(stops.len() > 5, "the path has {} stops", stops.len());
    let (mut sum, mut wrong) = (0, Vec::new());
    for Stop { file, items, lines } in &stops {
        let Ok(text) = std::fs::read_to_string(top().join(file)) else {
            wrong.push(format!("{file} does not exist"));
            continue;
        };
        let counted = match items[..] {
            [] => text.lines().count(),
            _ => items
                .iter()
                .map(|item| {
                    lines_of(&text, item).unwrap_or_else(|| {
                        wrong.push(format!("{file} has no {item}"));
                        0
                    })
                })
                .sum(),
        };
        if counted.abs_diff(*lines) > 5 + counted / 10 {
            wrong.push(format!("{file} {items:?} has {counted} lines, not {lines}"));
        }
        sum += counted;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(sum <= LINES_MAX, "the path has {sum} lines; at most {LINES_MAX} are allowed");
    println!("the reading path has {sum} lines");
}

#[test]
fn an_item_is_measured_with_its_comments() {
    let rust =
        "/// One.\n#[must_use]\npub fn one(\n    a: u8,\n) -> u8 {\n    a\n}\n\nfn one_more() {}\n";
    assert_eq!(lines_of(rust, "one"), Some(7));
    assert_eq!(lines_of(rust, "two"), None);
    let sql = "-- Claims.\ncreate or replace function claim(worker bigint)\nas $$\nbegin\nend $$;\nselect 1;\n";
    assert_eq!(lines_of(sql, "claim"), Some(5));
}
