//! Small files read and written whole, with errors that name them.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::LoadError;

/// For `map_err`: an error of reading or writing `path`.
pub(crate) fn failed(path: &Path) -> impl Fn(std::io::Error) -> LoadError + '_ {
    |source| LoadError::File { path: path.to_owned(), source }
}

/// A file that is there but is not what its name promises.
pub(crate) fn malformed(path: &Path, reason: impl ToString) -> LoadError {
    LoadError::Format { path: path.to_owned(), reason: reason.to_string() }
}

/// The bytes of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(failed(path))
}

/// The value of a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, LoadError> {
    serde_json::from_slice(&read(path)?).map_err(|error| malformed(path, error))
}

/// Makes a folder and those above it.
pub(crate) fn make_dir(path: &Path) -> Result<(), LoadError> {
    std::fs::create_dir_all(path).map_err(failed(path))
}
