//! Which file of a crate uses names of which other one, read from the text: `use` lines, and paths in code that begin with `crate`,
//! `super`, `self`, a child module or an imported name. A name that a parent re-exports is followed to the file that defines it,
//! so a re-export neither hides an arrow nor makes one. Code under `#[cfg(test)]`, files `tests.rs` and folders `tests` do not count.
//!
//! What it cannot see are method calls: a method belongs to its type, and the type is named where the value comes from.

use std::collections::{BTreeMap, BTreeSet};

use crate::tokens::{Token, closing, tokens, without_attributes};

/// File -> the files that it uses -> the names that it takes from them. Paths are relative to the crate's `src`.
pub(crate) type Arrows = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Reads a crate. `files` are the texts of all its `.rs` files by path below `src`; the first of `lib.rs` and `main.rs` is the root.
///
/// # Panics
/// There is no root, or a declared module has no file.
pub(crate) fn arrows(files: &BTreeMap<String, String>) -> Arrows {
    let modules = Modules::of(files, false);
    let mut arrows: Arrows =
        modules.all.values().map(|module| (module.file.clone(), BTreeMap::new())).collect();
    for module in modules.all.values() {
        for path in &module.uses {
            if let Some(Found::Item(file, name)) = modules.resolve(module, path, 0)
                && file != module.file
            {
                let from = arrows.entry(module.file.clone()).or_default();
                from.entry(file).or_default().insert(name);
            }
        }
    }
    arrows
}

/// Files that no `mod` line reaches, programs apart.
pub(crate) fn unreached(files: &BTreeMap<String, String>) -> Vec<String> {
    let reached = Modules::of(files, true);
    let reached: BTreeSet<&String> = reached.all.values().map(|module| &module.file).collect();
    let program = |file: &str| file == "main.rs" || file.starts_with("bin/");
    files.keys().filter(|file| !reached.contains(file) && !program(file)).cloned().collect()
}

type Path = Vec<String>;

#[derive(Default)]
struct Modules {
    all: BTreeMap<Path, Module>,
    /// Whether tests are read too.
    tests: bool,
}

/// A module: a file, or an inline module within one.
#[derive(Default)]
struct Module {
    path: Path,
    file: String,
    /// Names defined here.
    items: BTreeSet<String>,
    children: BTreeSet<String>,
    /// Imported name -> what it stands for. A function's own imports count as the module's.
    imports: BTreeMap<String, Vec<Path>>,
    /// Modules imported with `*`.
    globs: Vec<Path>,
    /// Paths that the code takes names from.
    uses: Vec<Path>,
}

enum Found {
    Module(Path),
    /// The file that defines a name, and the name.
    Item(String, String),
}

impl Modules {
    fn of(files: &BTreeMap<String, String>, tests: bool) -> Self {
        let mut modules = Self { tests, ..Self::default() };
        let root = ["lib.rs", "main.rs"].into_iter().find(|name| files.contains_key(*name));
        modules.read(files, root.expect("a crate has a lib.rs or a main.rs"), Vec::new());
        modules
    }

    fn read(&mut self, files: &BTreeMap<String, String>, file: &str, path: Path) {
        let text = files.get(file).unwrap_or_else(|| panic!("no file {file}"));
        let tokens = without_attributes(&tokens(text), self.tests);
        let mut declared = Vec::new();
        self.block(&tokens, file, path.clone(), &mut declared);
        let base = match file.rsplit_once('/') {
            _ if path.is_empty() => String::new(),
            Some((folder, "mod.rs")) => format!("{folder}/"),
            _ => format!("{}/", file.trim_end_matches(".rs")),
        };
        for child in declared {
            if child == "tests" && !self.tests {
                continue;
            }
            let name = [format!("{base}{child}.rs"), format!("{base}{child}/mod.rs")]
                .into_iter()
                .find(|name| files.contains_key(name))
                .unwrap_or_else(|| panic!("{file} declares {child}, which has no file"));
            let mut its = path.clone();
            its.push(child);
            self.read(files, &name, its);
        }
    }

    /// Reads the tokens of one module; collects the children that have files of their own.
    fn block(&mut self, tokens: &[Token], file: &str, path: Path, declared: &mut Vec<String>) {
        let mut module = Module { path: path.clone(), file: file.to_owned(), ..Module::default() };
        let mut depth = 0_usize;
        let mut at = 0;
        while at < tokens.len() {
            let before = at.checked_sub(1).map(|before| tokens[before].as_str());
            let word = tokens[at].as_str();
            let name = tokens.get(at + 1).map_or("", Token::as_str);
            let after = tokens.get(at + 2).map_or("", Token::as_str);
            match word {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                "use" => {
                    let end = at
                        + tokens[at..].iter().position(|t| t.as_str() == ";").expect("`use` ends");
                    let exported = matches!(before, Some("pub" | ")"));
                    module.import(&tokens[at + 1..end], exported);
                    at = end;
                }
                "mod" if after == ";" => {
                    module.children.insert(name.to_owned());
                    declared.push(name.to_owned());
                    at += 2;
                }
                "mod" if after == "{" => {
                    let end = at + 2 + closing(&tokens[at + 2..]);
                    let mut inner = path.clone();
                    inner.push(name.to_owned());
                    self.block(&tokens[at + 3..end], file, inner, declared);
                    module.children.insert(name.to_owned());
                    at = end;
                }
                "struct" | "enum" | "union" | "trait" | "type" | "const" | "static" | "fn"
                    if depth == 0 =>
                {
                    let name = if matches!(name, "fn" | "unsafe" | "mut" | "extern") {
                        after
                    } else {
                        name
                    };
                    module.items.insert(name.to_owned());
                }
                "macro_rules" => drop(module.items.insert(after.to_owned())),
                _ if tokens[at].is_word() && before != Some("::") && !is_field(&tokens[..at]) => {
                    let mut used = vec![word.to_owned()];
                    while tokens.get(at + 1).is_some_and(|t| t.as_str() == "::")
                        && tokens.get(at + 2).is_some_and(Token::is_word)
                    {
                        used.push(tokens[at + 2].as_str().to_owned());
                        at += 2;
                    }
                    module.uses.push(used);
                }
                _ => {}
            }
            at += 1;
        }
        self.all.insert(path, module);
    }

    /// What a path stands for that is written in a module; `None`: something outside the crate, a local name, a language word.
    fn resolve(&self, module: &Module, path: &[String], depth: usize) -> Option<Found> {
        // Imports that lead in a circle: `use bytes::bytes` of another crate looks like one.
        if depth > 8 {
            return None;
        }
        let (first, mut rest) = path.split_first()?;
        let above = |path: &Path| path.split_last().map(|(_, above)| Found::Module(above.to_vec()));
        let mut found = match first.as_str() {
            "crate" => Found::Module(Vec::new()),
            "self" => Found::Module(module.path.clone()),
            "super" => above(&module.path)?,
            name => self.name(module, name, rest.is_empty(), depth)?,
        };
        while let (Found::Module(at), Some((next, tail))) = (&found, rest.split_first()) {
            let inside = self.all.get(at)?;
            found = match next.as_str() {
                "super" => above(at)?,
                name => match self.name(inside, name, tail.is_empty(), depth) {
                    Some(found) => found,
                    // The compiler has found it there, so a macro has made it.
                    None if inside.globs.is_empty() && !inside.imports.contains_key(name) => {
                        Found::Item(inside.file.clone(), name.to_owned())
                    }
                    None => return None,
                },
            };
            rest = tail;
        }
        Some(found)
    }

    /// What a name stands for inside a module. One that more of a path follows is rather a child than an item.
    fn name(&self, module: &Module, name: &str, last: bool, depth: usize) -> Option<Found> {
        let child = module
            .children
            .contains(name)
            .then(|| Found::Module(module.path.iter().cloned().chain([name.to_owned()]).collect()));
        if child.is_some() && !last {
            return child;
        }
        if module.items.contains(name) {
            return Some(Found::Item(module.file.clone(), name.to_owned()));
        }
        let imported = module.imports.get(name).into_iter().flatten();
        let mut imported = imported.filter_map(|path| self.resolve(module, path, depth + 1));
        let globbed = || {
            module.globs.iter().find_map(|glob| match self.resolve(module, glob, depth + 1)? {
                Found::Module(at) => self.name(self.all.get(&at)?, name, last, depth + 1),
                Found::Item(..) => None,
            })
        };
        imported.next().or(child).or_else(globbed)
    }
}

impl Module {
    /// Takes what stands between `use` and `;`. What is not re-exported is used, or the compiler would complain.
    fn import(&mut self, tokens: &[Token], exported: bool) {
        let mut paths = Vec::new();
        tree(tokens, &[], &mut paths);
        for (path, alias) in paths {
            match alias {
                Some(alias) => {
                    if !exported {
                        self.uses.push(path.clone());
                    }
                    self.imports.entry(alias).or_default().push(path);
                }
                None => self.globs.push(path),
            }
        }
    }
}

/// The paths of a `use` tree, each with the name that it gives; none for `*`.
fn tree(tokens: &[Token], prefix: &[String], found: &mut Vec<(Path, Option<String>)>) {
    let mut path = prefix.to_vec();
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "::" if at == 0 && prefix.is_empty() => return,
            "::" => {}
            "{" => {
                let inside = &tokens[at + 1..at + closing(&tokens[at..])];
                for branch in branches(inside) {
                    tree(branch, &path, found);
                }
                return;
            }
            "*" => return found.push((path, None)),
            "as" => {
                let alias = tokens.get(at + 1).map(|token| token.as_str().to_owned());
                return found.push((path, alias));
            }
            "self" if !prefix.is_empty() => {}
            word => path.push(word.to_owned()),
        }
    }
    let alias = path.last().cloned();
    if alias.is_some() {
        found.push((path, alias));
    }
}

/// Whether what follows these tokens is a field or a method: after one dot, not after two.
fn is_field(before: &[Token]) -> bool {
    let dot = |token: &Token| token.as_str() == ".";
    before.last().is_some_and(dot) && !before.iter().rev().nth(1).is_some_and(dot)
}

/// The parts between commas outside of inner braces.
fn branches(tokens: &[Token]) -> Vec<&[Token]> {
    let mut depth = 0;
    tokens
        .split(|token| {
            match token.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            depth == 0 && token.as_str() == ","
        })
        .filter(|branch| !branch.is_empty())
        .collect()
}
