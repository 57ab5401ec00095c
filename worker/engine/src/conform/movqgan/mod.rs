//! Comparisons of the MoVQGAN fixtures; tolerances are those that the fixtures' README states.

mod containers;
mod model;
mod preprocess;
mod units;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::{Check, Status};
use crate::checkpoint::Checkpoint;
use crate::kernels::Pool;
use crate::movqgan::map::Map;

/// Runs every comparison that a MoVQGAN fixture folder holds. An empty list means that nothing was found to compare.
pub fn movqgan(dir: &Path) -> Vec<Check> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut run = Run { dir: dir.to_owned(), pool: Pool::new(threads), checks: Vec::new() };
    model::run(&mut run);
    units::run(&mut run);
    containers::run(&mut run);
    preprocess::run(&mut run);
    run.checks
}

/// A folder, and the checks made so far.
struct Run {
    dir: PathBuf,
    pool: Pool,
    checks: Vec<Check>,
}

/// Worst error of a comparison, or why there is none.
type Outcome = Result<f64, String>;

impl Run {
    /// The path of a file of the folder, when it is there.
    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.dir.join(name)).filter(|path| path.is_file())
    }

    /// Files directly in the folder (or a subfolder of it) whose name ends so, sorted.
    fn files(&self, folder: &str, endings: &[&str]) -> Vec<PathBuf> {
        let Ok(listing) = std::fs::read_dir(self.dir.join(folder)) else {
            return Vec::new();
        };
        let wanted = |path: &PathBuf| {
            let name = name_of(path);
            path.is_file() && endings.iter().any(|end| name.ends_with(end))
        };
        let mut files: Vec<PathBuf> =
            listing.flatten().map(|entry| entry.path()).filter(wanted).collect();
        files.sort();
        files
    }

    /// Runs one comparison; a panic or an error in it is a failed check.
    fn check(&mut self, name: String, tolerance: f64, compare: impl FnOnce(&Pool) -> Outcome) {
        let outcome = catch_unwind(AssertUnwindSafe(|| compare(&self.pool)))
            .unwrap_or_else(|panic| Err(panic_text(&*panic)));
        // Not-a-number fails too.
        let (worst, status, note) = match outcome {
            Ok(worst) if worst <= tolerance => (worst, Status::Ok, String::new()),
            Ok(worst) => (worst, Status::Fail, String::new()),
            Err(note) => (f64::INFINITY, Status::Fail, note),
        };
        self.checks.push(Check { name, worst, tolerance, status, note });
    }

    /// Records what this build does not compare.
    fn not_covered(&mut self, name: String, note: &str) {
        let note = note.to_owned();
        self.checks.push(Check {
            name,
            worst: 0.0,
            tolerance: 0.0,
            status: Status::NotCovered,
            note,
        });
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no reason given"))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A tensor file of the fixtures.
struct Fixture {
    tensors: Checkpoint,
}

/// A tensor with its shape.
struct Tensor {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Fixture {
    fn open(path: &Path) -> Result<Self, String> {
        Checkpoint::open(path).map(|tensors| Self { tensors }).map_err(|error| error.to_string())
    }

    fn names(&self) -> Vec<String> {
        self.tensors.entries().keys().cloned().collect()
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.entries().contains_key(name)
    }

    fn tensor(&self, name: &str) -> Result<Tensor, String> {
        let data = self.tensors.read_f64(name).map_err(|error| error.to_string())?;
        Ok(Tensor { shape: self.tensors.entries()[name].shape.clone(), data })
    }

    /// All names' parts before the first dot, in order, each once.
    fn prefixes(&self) -> Vec<String> {
        let mut prefixes: Vec<String> = self
            .names()
            .iter()
            .filter_map(|name| Some(name.split_once('.')?.0.to_owned()))
            .collect();
        prefixes.dedup();
        prefixes
    }
}

impl Tensor {
    fn f32(&self) -> Vec<f32> {
        self.data.iter().map(|&v| v as f32).collect()
    }

    /// The pictures of a (batch, c, h, w) tensor.
    fn maps(&self) -> Result<Vec<Map>, String> {
        let [_, c, h, w] = self.shape[..] else {
            return Err(format!("shape {:?} is not (batch, c, h, w)", self.shape));
        };
        let data = self.f32();
        Ok(data.chunks_exact((c * h * w).max(1)).map(|chw| Map::from_chw(chw, c, h, w)).collect())
    }

    /// The only picture of a (1, c, h, w) tensor.
    fn map(&self) -> Result<Map, String> {
        let mut maps = self.maps()?;
        match (maps.pop(), maps.pop()) {
            (Some(map), None) => Ok(map),
            _ => Err(format!("a batch of one is expected, not {:?}", self.shape)),
        }
    }

    /// Largest `|got - expected| / (absolute + relative |expected|)` in units of `absolute`: compare it with `absolute`.
    fn worst(&self, got: &[f32], absolute: f64, relative: f64) -> Outcome {
        if got.len() != self.data.len() {
            return Err(format!(
                "{} values were computed, {:?} are expected",
                got.len(),
                self.shape
            ));
        }
        let error = |(&got, &expected): (&f32, &f64)| {
            let difference = (f64::from(got) - expected).abs();
            // Equal infinities agree; their difference is no number.
            if f64::from(got) == expected {
                0.0
            } else {
                difference / (1.0 + relative / absolute * expected.abs())
            }
        };
        Ok(got
            .iter()
            .zip(&self.data)
            .map(error)
            .fold(0.0, |worst, e| if e > worst || e.is_nan() { e } else { worst }))
    }

    /// How many values differ.
    fn differing(&self, got: impl ExactSizeIterator<Item = f64>) -> Outcome {
        if got.len() != self.data.len() {
            return Err(format!(
                "{} values were computed, {:?} are expected",
                got.len(),
                self.shape
            ));
        }
        Ok(got.zip(&self.data).filter(|(got, expected)| got != *expected).count() as f64)
    }
}
