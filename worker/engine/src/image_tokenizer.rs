//! The seam to MoVQGAN: pictures to codes and back, in this crate's errors and at this crate's 8 pixels a code.

use std::path::Path;

use crate::error::{EngineError, LoadError};
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
        let format = |reason: String| LoadError::Format { path: path.to_owned(), reason };
        let model = MoVqGan::open(path).map_err(|error| format(error.to_string()))?;
        let config = model.config();
        if config.n_embed != codes {
            return Err(format(format!(
                "{} codes, but the transformer has {codes} image tokens",
                config.n_embed
            )));
        }
        if config.factor() != CODE_PIXELS {
            return Err(format(format!(
                "{} pixels a code, but the transformer's grids have {CODE_PIXELS}",
                config.factor()
            )));
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
