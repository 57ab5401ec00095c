//! The rooms of each crate in their order, and what may not be: a circle between files or between folders, an arrow that runs up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::reader::{Arrows, arrows, unreached};

/// The order of the rooms; its first lines say how it is read.
const ROOMS: &str = include_str!("rooms.txt");

/// The layers of a crate from the lowest up, each with its rooms.
pub(crate) type Layers<'a> = Vec<Vec<&'a str>>;

/// Crate folder -> layers.
fn layers(text: &str) -> BTreeMap<&str, Layers<'_>> {
    let mut crates: BTreeMap<&str, Layers<'_>> = BTreeMap::new();
    let mut current = "";
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("    ") {
            None => {
                current = line;
                crates.entry(line).or_default();
            }
            Some(rooms) => {
                let layer = rooms.split_whitespace().collect();
                crates.get_mut(current).expect("rooms stand below their crate").push(layer);
            }
        }
    }
    crates
}

/// What is wrong with a crate, in words.
pub(crate) fn faults(files: &BTreeMap<String, String>, layers: &Layers<'_>) -> Vec<String> {
    let arrows = arrows(files);
    let mut found: Vec<String> =
        unreached(files).iter().map(|file| format!("{file} is reached by no `mod`")).collect();
    found.extend(circles(&arrows));
    found.extend(upward(&arrows, layers));
    found
}

/// The circles among files and, folder by folder, among what lies in it. A module file and the files in its folder are one module: what
/// its parts share may stand in the module file, so an arrow from a part to it does not count.
pub(crate) fn circles(arrows: &Arrows) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: BTreeSet<String> = BTreeSet::from([String::new()]);
    for file in arrows.keys() {
        folders.extend(file.match_indices('/').map(|(at, _)| file[..at + 1].to_owned()));
    }
    let same = |file: &str| Some(file.to_owned());
    found.extend(circles_of(arrows, same).map(|circle| format!("circle of files: {circle}")));
    for folder in folders {
        let part = |file: &str| part(file, &folder, arrows);
        found.extend(
            circles_of(arrows, part).map(|circle| format!("circle in {folder:?}: {circle}")),
        );
    }
    found
}

/// What of a folder a file belongs to: a folder below it, or the file itself. `x.rs` belongs to the folder `x` beside it.
fn part(file: &str, folder: &str, arrows: &Arrows) -> Option<String> {
    let below = file.strip_prefix(folder)?;
    let name = below.split_once('/').map_or(below, |(name, _)| name);
    let name = name.trim_end_matches(".rs");
    let inside = format!("{folder}{name}/");
    let is_folder = arrows.keys().any(|file| file.starts_with(&inside));
    Some(if is_folder { inside } else { format!("{folder}{name}.rs") })
}

/// The circles among the parts that files belong to, each with the arrows that tie it.
fn circles_of(
    arrows: &Arrows,
    part: impl Fn(&str) -> Option<String>,
) -> impl Iterator<Item = String> {
    let mut graph: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (from, targets) in arrows {
        for (to, names) in targets {
            if let (Some(a), Some(b)) = (part(from), part(to))
                && a != b
                && !is_own_module(from, to)
            {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let words = format!("{from} -> {to} ({})", names.join(", "));
                graph.entry(a).or_default().entry(b).or_insert(words);
            }
        }
    }
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        graph.keys().map(|node| (node, reach(&graph, node))).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (node, its) in &reached {
        let back = |other: &&String| reached.get(*other).is_some_and(|its| its.contains(node));
        let circle: BTreeSet<&String> = its.iter().copied().filter(back).collect();
        if circle.contains(node) && seen.insert(circle.clone()) {
            let tie = |from: &String| {
                let to = graph[from].iter().filter(|(to, _)| circle.contains(to));
                to.map(|(_, words)| words.clone()).collect::<Vec<_>>()
            };
            let ties: Vec<String> = circle.iter().flat_map(|from| tie(from)).collect();
            found.push(ties.join("; "));
        }
    }
    found.into_iter()
}

/// Whether a file lies in the folder whose module file (`x/mod.rs`, or `x.rs` beside it) the other one is.
fn is_own_module(file: &str, module: &str) -> bool {
    let folder = module.strip_suffix("mod.rs").map(str::to_owned);
    file.starts_with(&folder.unwrap_or_else(|| module.replace(".rs", "/")))
}

/// Everything that can be reached from a node, along one arrow or more.
fn reach<'a>(
    graph: &'a BTreeMap<String, BTreeMap<String, String>>,
    from: &String,
) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&String> = graph.get(from).into_iter().flat_map(BTreeMap::keys).collect();
    while let Some(node) = open.pop() {
        if reached.insert(node) {
            open.extend(graph.get(node).into_iter().flat_map(BTreeMap::keys));
        }
    }
    reached
}

/// The arrows that do not run down, and rooms that the order lacks or that do not exist. `lib.rs` is above all rooms.
pub(crate) fn upward(arrows: &Arrows, layers: &Layers<'_>) -> Vec<String> {
    let room = |file: &str| {
        let name = file.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        (name != "lib").then(|| name.to_owned())
    };
    let heights: BTreeMap<&str, usize> = (layers.iter().enumerate())
        .flat_map(|(at, rooms)| rooms.iter().map(move |room| (*room, at)))
        .collect();
    let rooms: BTreeSet<String> = arrows.keys().filter_map(|file| room(file)).collect();
    let mut found = Vec::new();
    for name in &rooms {
        if !heights.contains_key(name.as_str()) {
            found.push(format!("{name} has no place in the order of rooms"));
        }
    }
    for name in heights.keys() {
        if !rooms.contains(*name) {
            found.push(format!("{name} has a place in the order and does not exist"));
        }
    }
    let height = |room: &Option<String>| match room {
        Some(room) => heights.get(room.as_str()).copied(),
        None => Some(layers.len()),
    };
    for (from, targets) in arrows {
        for (to, names) in targets {
            let (a, b) = (room(from), room(to));
            if a != b
                && let (Some(high), Some(low)) = (height(&a), height(&b))
                && high <= low
            {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                found.push(format!("runs up: {from} -> {to} ({})", names.join(", ")));
            }
        }
    }
    found
}

/// The files below a crate's `src`, and of modules that lie beside it (`#[path]`), by their paths from the module's folder.
fn source(src: &Path) -> BTreeMap<String, String> {
    let crate_folder = src.parent().expect("src lies in a crate");
    let beside = std::fs::read_dir(crate_folder).expect("a folder of the layout");
    let beside = beside.map(|entry| entry.expect("an entry").path());
    let modules = beside.filter(|path| path.join("mod.rs").exists());
    let mut files = below(src, src);
    files.extend(modules.flat_map(|module| below(&module, crate_folder)));
    files
}

fn below(folder: &Path, base: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder of the layout") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path.strip_prefix(base).expect("below it").to_str().expect("UTF-8");
                files.insert(name.to_owned(), std::fs::read_to_string(&path).expect("a text"));
            }
        }
    }
    files
}

pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_owned()
}

#[test]
fn no_crate_has_a_circle_or_an_arrow_that_runs_up() {
    let mut found = Vec::new();
    for (name, layers) in layers(ROOMS) {
        let files = source(&top().join(name));
        found.extend(faults(&files, &layers).into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
