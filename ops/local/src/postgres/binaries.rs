//! Finds the PostgreSQL server programs of this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// One installed PostgreSQL.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    folder: PathBuf,
}

impl Programs {
    pub(super) fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }
}

/// The programs for `cluster`: of the major version that made it, else the newest.
pub(super) fn find(cluster: &Path) -> Result<Programs, Error> {
    let folders = candidates();
    let mut found = BTreeMap::new();
    for folder in &folders {
        if let Some(major) = major_version(folder) {
            found.entry(major).or_insert_with(|| Programs { folder: folder.clone() });
        }
    }
    let wanted = std::fs::read_to_string(cluster.join("PG_VERSION"))
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok());
    match wanted {
        _ if found.is_empty() => {
            let looked = folders
                .iter()
                .map(|folder| folder.display().to_string())
                .collect::<Vec<_>>()
                .join(", ");
            Err(Error::BinariesMissing { looked })
        }
        None => Ok(found.pop_last().expect("checked above that it is not empty").1),
        Some(wanted) => found.remove(&wanted).ok_or_else(|| {
            let found = found.keys().map(u32::to_string).collect::<Vec<_>>().join(", ");
            Error::VersionMismatch { cluster: cluster.to_path_buf(), wanted, found }
        }),
    }
}

/// Where they may be: what `pg_config` says, Debian's folder per version, and PATH.
fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output()
        && output.status.success()
    {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    if let Some(path) = std::env::var_os("PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    folders
}

/// Major version of the server in `folder`; none if one of the two programs is missing or does not run.
fn major_version(folder: &Path) -> Option<u32> {
    let postgres = folder.join("postgres");
    if !postgres.is_file() || !folder.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(postgres).arg("--version").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.7 (Debian 15.7-0+deb12u1)` is 15.
fn parse_version(text: &str) -> Option<u32> {
    let version = text.split_whitespace().nth(2)?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_released_and_development_servers() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.7 (Debian 15.7-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_version("sh: not found"), None);
    }
}
