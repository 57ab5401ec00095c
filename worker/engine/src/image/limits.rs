//! What a picture may cost, and why bytes did not become a picture.

/// What a picture may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Pixels, width times height.
    pub max_pixels: u64,
    /// Width and height, each in pixels.
    pub max_side: u32,
    /// Bytes of the decoded pixels, and of any buffer a decoder asks for.
    pub max_bytes_out: u64,
    /// Longer side over shorter side.
    pub max_aspect: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pixels: 100_000_000,
            max_side: 65_500,
            max_bytes_out: 512 << 20,
            max_aspect: 200,
        }
    }
}

impl Limits {
    /// Checks a size from a header, `bytes_per_pixel` as the decoder will produce.
    pub(crate) fn check(
        &self,
        width: u32,
        height: u32,
        bytes_per_pixel: u64,
    ) -> Result<(), DecodeError> {
        if width == 0 || height == 0 {
            return Err(DecodeError::NotAnImage {
                reason: format!("its size is {width}x{height}"),
            });
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels || width.max(height) > self.max_side {
            let (max_pixels, max_side) = (self.max_pixels, self.max_side);
            return Err(DecodeError::TooManyPixels { width, height, max_pixels, max_side });
        }
        if u64::from(width.max(height)) > u64::from(width.min(height)) * u64::from(self.max_aspect)
        {
            return Err(DecodeError::BadAspect { width, height, max_aspect: self.max_aspect });
        }
        if pixels.saturating_mul(bytes_per_pixel) > self.max_bytes_out {
            return Err(DecodeError::DecompressionLimit {
                what: "the pixels",
                limit_bytes: self.max_bytes_out,
            });
        }
        Ok(())
    }
}

/// Why bytes did not become a picture. None of them is worth a retry with the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No known picture, or one whose structure is broken.
    #[error("not an image: {reason}")]
    NotAnImage {
        /// What was found instead.
        reason: String,
    },
    /// The file ends, or its data is damaged, before the picture is complete.
    #[error("the image is truncated or damaged: {reason}")]
    TruncatedImage {
        /// Where it went wrong.
        reason: String,
    },
    /// The header names more pixels than allowed.
    #[error(
        "{width}x{height} pixels are more than the limit of {max_pixels} pixels and {max_side} a side"
    )]
    TooManyPixels {
        /// Width in the header.
        width: u32,
        /// Height in the header.
        height: u32,
        /// Limit of the product.
        max_pixels: u64,
        /// Limit of each side.
        max_side: u32,
    },
    /// A kind of picture that is never decoded here.
    #[error("unsupported image format: {format}")]
    UnsupportedFormat {
        /// Its name.
        format: String,
    },
    /// Something in the file unpacks to more than allowed.
    #[error("{what} would unpack to more than {limit_bytes} bytes")]
    DecompressionLimit {
        /// The part of the file.
        what: &'static str,
        /// The limit.
        limit_bytes: u64,
    },
    /// One side is too many times the other.
    #[error("{width}x{height} is narrower than 1:{max_aspect}")]
    BadAspect {
        /// Width in the header.
        width: u32,
        /// Height in the header.
        height: u32,
        /// The limit.
        max_aspect: u32,
    },
}

impl DecodeError {
    /// The stable code of an item error.
    pub fn code(&self) -> &'static str {
        match self {
            DecodeError::NotAnImage { .. } => "not_an_image",
            DecodeError::TruncatedImage { .. } => "truncated_image",
            DecodeError::TooManyPixels { .. } => "too_many_pixels",
            DecodeError::UnsupportedFormat { .. } => "unsupported_format",
            DecodeError::DecompressionLimit { .. } => "decompression_limit",
            DecodeError::BadAspect { .. } => "bad_aspect",
        }
    }
}
