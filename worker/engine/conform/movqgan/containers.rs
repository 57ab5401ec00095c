//! The same tensors in many PyTorch containers.

use std::path::{Path, PathBuf};

use super::{Fixture, Outcome, Run, name_of};

pub(super) fn run(run: &mut Run) {
    let expected = run.files("containers", &[".safetensors"]);
    for path in run.files("containers", &[".ckpt", ".pt", ".pth", ".bin"]) {
        let label = format!("containers/{}", name_of(&path));
        match expectation(&expected, &path) {
            Some(expected) => run.check(&label, 0.0, |_| compare(expected, &path)),
            None => run.report.not_covered(&label, "there is no file with the expected values"),
        }
    }
}

/// `expected_KIND.safetensors` for names that end in `_KIND`, else `expected.safetensors`.
fn expectation<'a>(expected: &'a [PathBuf], container: &Path) -> Option<&'a PathBuf> {
    let stem = container.file_stem()?.to_string_lossy().into_owned();
    let special = |path: &&PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        name.strip_prefix("expected").is_some_and(|kind| !kind.is_empty() && stem.ends_with(kind))
    };
    expected
        .iter()
        .find(special)
        .or_else(|| expected.iter().find(|path| name_of(path) == "expected.safetensors"))
}

/// Expected tensors that are missing or differ in type, shape or any value. Others may be there.
fn compare(expected: &Path, container: &Path) -> Outcome {
    let (expected, got) = (Fixture::open(expected)?, Fixture::open(container)?);
    let mut wrong = 0.0;
    for name in expected.names() {
        let (a, b) = (&expected.tensors.entries()[name], got.tensors.entries().get(name));
        let Some(b) = b else {
            return Err(format!("tensor `{name}` is missing"));
        };
        if a.dtype != b.dtype || a.shape != b.shape {
            return Err(format!(
                "tensor `{name}` is {:?} {:?}, not {:?} {:?}",
                b.dtype, b.shape, a.dtype, a.shape
            ));
        }
        wrong += expected.tensor(name)?.differing(got.tensor(name)?.data.into_iter())?;
    }
    Ok(wrong)
}
