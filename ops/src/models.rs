//! Model folders that are made here: whole or not there.

use std::path::Path;

use nightshift_engine::random::{self, ImageTokenizerSize, Options, Preset};

use crate::exit::{Exit, Failure};

/// Writes a small random model.
///
/// # Errors
/// The folder is there already, or a file cannot be written.
pub fn write_random(dir: &Path, seed: u64) -> anyhow::Result<()> {
    let options = Options {
        preset: Preset::Tiny,
        seed,
        sharp: false,
        image_tokenizer: ImageTokenizerSize::Small,
    };
    write_random_with(dir, &options)
}

/// Writes a random model of any size.
///
/// # Errors
/// As [`write_random`].
pub fn write_random_with(dir: &Path, options: &Options) -> anyhow::Result<()> {
    write_whole(dir, |to| Ok(random::write_with(to, options)?))
}

/// Lets `write` fill a new folder so that `dir` appears only when it is whole.
///
/// # Errors
/// As [`write_random`].
pub fn write_whole(
    dir: &Path,
    write: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if dir.exists() {
        let message = format!("{} is already there", dir.display());
        return Err(Failure::new(Exit::Refused, message).help("choose a new folder").into());
    }
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = dir.with_file_name(format!(".{name}.{}", std::process::id()));
    let whole = write(&unfinished).and_then(|()| Ok(std::fs::rename(&unfinished, dir)?));
    whole.map_err(|error| {
        // A half-written folder is of no use to anyone; that it is gone matters less than why writing failed.
        let _ = std::fs::remove_dir_all(&unfinished);
        Failure::new(Exit::Usage, format!("cannot write a model to {}: {error}", dir.display()))
            .into()
    })
}
