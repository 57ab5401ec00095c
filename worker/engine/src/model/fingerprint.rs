//! The name of everything that decides bytes: weights, tokenizers, numeric class, kernels.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::LoadError;
use crate::files::failed;

/// Raised whenever a change of the code changes the bits of any result.
pub(super) const KERNEL_REVISION: u32 = 1;

const BUFFER: usize = 1 << 20;

/// Hex sha256 over the kernel revision, the numeric class and each file's role, length and contents. Names and folders do
/// not count.
///
/// # Errors
/// A file cannot be read.
pub(super) fn of(class: &str, files: &[(&str, PathBuf)]) -> Result<String, LoadError> {
    let mut hash = Sha256::new();
    hash.update(format!("nightshift engine {KERNEL_REVISION}\n{class}\n"));
    for (role, path) in files {
        add_file(&mut hash, role, path).map_err(failed(path))?;
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn add_file(hash: &mut Sha256, role: &str, path: &Path) -> std::io::Result<()> {
    let mut file = std::fs::File::open(path)?;
    hash.update(format!("{role} {}\n", file.metadata()?.len()));
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        hash.update(&buffer[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_and_class_count_and_names_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (a, b, c) = (file("a", "one"), file("b", "one"), file("c", "two"));
        let print = |class: &str, path: &PathBuf| of(class, &[("weights", path.clone())]).unwrap();
        assert_eq!(print("cpu", &a), print("cpu", &b));
        assert_ne!(print("cpu", &a), print("cpu", &c));
        assert_ne!(print("cpu", &a), print("cuda", &a));
        assert_eq!(print("cpu", &a).len(), 64);
    }
}
