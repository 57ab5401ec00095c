//! Comparisons of the MoVQGAN fixtures; tolerances are those that the fixtures' README states.

mod containers;
mod model;
mod preprocess;
mod units;

use std::path::{Path, PathBuf};

use super::Check;
use super::fixture::{Fixture, Tensor};
use super::report::{Outcome, Report};
use crate::kernels::Pool;
use crate::movqgan::map::Map;

/// Runs every comparison that a MoVQGAN fixture folder holds. An empty list means that nothing was found to compare.
pub fn movqgan(dir: &Path) -> Vec<Check> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut run = Run { dir: dir.to_owned(), pool: Pool::new(threads), report: Report::default() };
    model::run(&mut run);
    units::run(&mut run);
    containers::run(&mut run);
    preprocess::run(&mut run);
    run.report.checks
}

/// A folder, and the checks made so far.
struct Run {
    dir: PathBuf,
    pool: Pool,
    report: Report,
}

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
    fn check(&mut self, name: &str, tolerance: f64, compare: impl FnOnce(&Pool) -> Outcome) {
        self.report.check(name, tolerance, || compare(&self.pool));
    }

    /// A tensor file of the folder, when it is there; one that cannot be read is a failed check.
    fn open(&mut self, name: &str) -> Option<Fixture> {
        let path = self.file(name)?;
        self.read(name, || Fixture::open(&path))
    }

    /// What `read` gives; its error is a failed check.
    fn read<T>(&mut self, name: &str, read: impl FnOnce() -> Result<T, String>) -> Option<T> {
        match read() {
            Ok(found) => Some(found),
            Err(reason) => {
                self.check(name, 0.0, |_| Err(reason));
                None
            }
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Tensor {
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
        self.check_length(got.len())?;
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

    fn check_length(&self, found: usize) -> Result<(), String> {
        match found == self.data.len() {
            true => Ok(()),
            false => Err(format!("{found} values were computed, {:?} are expected", self.shape)),
        }
    }

    /// How many values differ.
    fn differing(&self, got: impl ExactSizeIterator<Item = f64>) -> Outcome {
        self.check_length(got.len())?;
        Ok(got.zip(&self.data).filter(|(got, expected)| got != *expected).count() as f64)
    }
}
