//! The reader and the rules on made-up crates: what must be found is found, and what must not be is not.

use std::collections::BTreeMap;

use crate::reader::arrows;
use crate::rooms::{circles, faults, upward};

/// A crate of made-up files.
fn made_up(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn a_circle_between_files_is_found() {
    let files = made_up(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::B; pub struct A(B);"),
        ("b.rs", "pub struct B; fn of(a: &super::a::A) -> crate::b::B { B }"),
    ]);
    let found = circles(&arrows(&files)).join("\n");
    assert!(found.contains("circle of files: a.rs -> b.rs (B); b.rs -> a.rs (A)"), "{found}");
}

#[test]
fn a_circle_between_folders_is_found_where_no_file_is_in_one() {
    let files = made_up(&[
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "pub mod one; pub mod two;"),
        ("a/one.rs", "pub struct One;"),
        ("a/two.rs", "use crate::b; fn two() { b::b() }"),
        ("b.rs", "use crate::a::one; pub fn b() { drop(one::One) }"),
    ]);
    let found = circles(&arrows(&files));
    assert_eq!(found, ["circle in \"\": a/two.rs -> b.rs (b); b.rs -> a/one.rs (One)"]);
}

#[test]
fn parts_of_a_module_may_use_what_its_own_file_holds() {
    let files = made_up(&[
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod one; pub struct Shared; fn all() { one::one(Shared) }"),
        ("a/one.rs", "pub fn one(_: super::Shared) {}"),
        ("b.rs", "mod two; pub struct Shared; fn all() { two::two(Shared) }"),
        ("b/two.rs", "pub fn two(_: super::Shared) {}"),
    ]);
    assert_eq!(circles(&arrows(&files)), [""; 0]);
}

#[test]
fn an_arrow_that_runs_up_is_found_and_so_is_a_room_without_a_place() {
    let files = made_up(&[
        ("lib.rs", "mod high; mod low; mod odd;"),
        ("high.rs", "pub fn high() {}"),
        ("low.rs", "fn low() { crate::high::high() }"),
        ("odd.rs", ""),
        ("lost.rs", ""),
    ]);
    let found = faults(&files, &vec![vec!["low"], vec!["high"], vec!["gone"]]);
    assert_eq!(
        found,
        [
            "lost.rs is reached by no `mod`",
            "odd has no place in the order of rooms",
            "gone has a place in the order and does not exist",
            "runs up: low.rs -> high.rs (high)",
        ]
    );
    assert_eq!(upward(&arrows(&files), &vec![vec!["high"], vec!["low", "odd"]]), [""; 0]);
    let same = upward(&arrows(&files), &vec![vec!["high", "low", "odd"]]);
    assert_eq!(
        same,
        ["runs up: low.rs -> high.rs (high)"],
        "rooms of a layer know nothing of each other"
    );
}

const LIB: (&str, &str) = ("lib.rs", "mod high; mod low; pub use low::thing::Thing;");

#[test]
fn a_name_that_is_exported_again_is_followed_to_where_it_is_defined() {
    let files = made_up(&[
        LIB,
        (
            "low/mod.rs",
            "pub(crate) mod thing; mod made; pub(crate) use thing::{Thing as Other, deeper::*}; pub use made::Made;",
        ),
        ("low/thing/mod.rs", "pub mod deeper; pub struct Thing;"),
        ("low/thing/deeper.rs", "pub fn deep() {} /* fn crate::high::High */"),
        ("low/made.rs", "make! { Made }"),
        (
            "high.rs",
            "use crate::Thing; fn f(_: crate::low::Other, _: crate::low::Made) { crate::low::deep(); let x = ..crate::Thing; }",
        ),
    ]);
    let arrows = arrows(&files);
    let from_high: Vec<&str> = arrows["high.rs"].keys().map(String::as_str).collect();
    assert_eq!(from_high, ["low/made.rs", "low/thing/deeper.rs", "low/thing/mod.rs"]);
    // Declaring a child and exporting its names is no arrow.
    assert!(arrows["lib.rs"].is_empty() && arrows["low/mod.rs"].is_empty());
}

#[test]
fn tests_texts_and_other_crates_make_no_arrows() {
    let files = made_up(&[
        LIB,
        ("low/mod.rs", "pub mod thing;"),
        (
            "low/thing.rs",
            r##"//! [`crate::high::High`]
            use high::High; use ::high::Other; use std::{fmt, io::{self, Read}};
            #[cfg(test)] use crate::high::{High as Tall};
            #[serde(with = "crate::high")] pub struct Thing<'a>(&'a str, char);
            fn words() { let s = "crate::high::High \" crate::high"; let r = r#"" crate::high::High"#; let c = '"'; io::high(c.high); }
            #[test] fn one() { crate::high::high() }
            #[cfg(test)] mod tests { use crate::high::High; }
            "##,
        ),
        ("high.rs", "pub struct High; #[cfg(test)] mod tests;"),
    ]);
    let all: Vec<_> = arrows(&files).into_values().flatten().collect();
    assert_eq!(all, []);
}
