//! The seam to MoVQGAN: pictures to codes and back, in this crate's errors and at this crate's 8 pixels a code.

use std::path::{Path, PathBuf};

use crate::error::{EngineError, LoadError};
use crate::files::malformed;
use crate::image::RgbImage;
use crate::kernels::Pool;
use crate::movqgan::MoVqGan;

/// Pixels along the side of a code; the transformer's grids assume it.
const CODE_PIXELS: usize = 8;

/// A loaded image tokenizer.
#[derive(Debug)]
pub(crate) struct ImageTokenizer {
    model: MoVqGan,
    pool: Pool,
}

impl ImageTokenizer {
    /// Loads a weights file whose codebook must have `codes` entries, those of the transformer.
    pub(crate) fn load(path: &Path, codes: usize, threads: usize) -> Result<Self, LoadError> {
        let model = MoVqGan::open(path).map_err(|error| error.in_file(path))?;
        let config = model.config();
        if config.n_embed != codes {
            let found = config.n_embed;
            let reason = format!("{found} codes, but the transformer has {codes} image tokens");
            return Err(malformed(path, reason));
        }
        if config.factor() != CODE_PIXELS {
            let found = config.factor();
            let reason =
                format!("{found} pixels a code, but the transformer's grids have {CODE_PIXELS}");
            return Err(malformed(path, reason));
        }
        Ok(Self { model, pool: Pool::new(threads) })
    }

    pub(crate) fn encode(&self, image: &RgbImage) -> Result<Vec<u32>, EngineError> {
        self.model
            .encode(image, &self.pool)
            .map_err(|error| EngineError::ImageTokenizer(error.to_string()))
    }

    pub(crate) fn decode(
        &self,
        codes: &[u32],
        h: usize,
        w: usize,
    ) -> Result<RgbImage, EngineError> {
        self.model
            .decode(codes, h, w, &self.pool)
            .map_err(|error| EngineError::ImageTokenizer(error.to_string()))
    }
}

/// The image tokenizer's file: the first by name below `movqgan/`, else `movqgan*.{ckpt,safetensors}` beside the weights.
pub(crate) fn image_tokenizer_file(dir: &Path) -> Result<PathBuf, LoadError> {
    let mut found = Vec::new();
    let mut folders = vec![dir.join("movqgan")];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                folders.push(path);
            } else if is_checkpoint(&path) {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        let named = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("movqgan"))
        };
        found =
            entries(dir).into_iter().filter(|path| named(path) && is_checkpoint(path)).collect();
    }
    found.sort_unstable();
    found.into_iter().next().ok_or_else(|| {
        malformed(dir, "no image tokenizer at movqgan/ or movqgan*.{ckpt,safetensors}")
    })
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn is_checkpoint(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|ext| ext == "ckpt" || ext == "safetensors")
}
