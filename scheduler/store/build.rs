//! Queries are checked against the prepared data in `.sqlx`, so that a build needs no database and a `DATABASE_URL` in somebody's
//! shell changes nothing. `ops/sqlx-prepare` sets `NIGHTSHIFT_SQLX_PREPARE` to check against a real one and write that data.
//!
//! The files of `migrations/` are embedded in the program: this lists them for `migrate.rs`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const MIGRATIONS: &str = "../../migrations";

fn main() {
    println!("cargo:rerun-if-env-changed=NIGHTSHIFT_SQLX_PREPARE");
    println!("cargo:rerun-if-changed={MIGRATIONS}");
    println!("cargo:rerun-if-changed=.sqlx");
    if std::env::var_os("NIGHTSHIFT_SQLX_PREPARE").is_none() {
        println!("cargo:rustc-env=SQLX_OFFLINE=true");
    }
    let mut listed = String::new();
    for folder in ["tables", "functions", "views", "upgrades"] {
        let _ = writeln!(listed, "const {}: &[File] = &[", folder.to_uppercase());
        for path in sql_files(&Path::new(MIGRATIONS).join(folder)) {
            let (name, path) =
                (path.file_stem().expect("a name"), path.canonicalize().expect("a path"));
            let _ = writeln!(listed, "    File {{ name: {name:?}, sql: include_str!({path:?}) }},");
        }
        listed.push_str("];\n");
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join("files.rs"), listed).expect("the list can be written");
}

/// The `.sql` files of a folder in the order of their names.
fn sql_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of migrations");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    files
}
