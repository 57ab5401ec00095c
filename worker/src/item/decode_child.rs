//! The limited process that decodes one image: the program itself under the hidden verb `decode-image`.
//!
//! A line of JSON (`Order`) and the file's bytes come on stdin; a line of JSON (`Answer`) and the pixels of the fitted
//! panel go to stdout. A decoder that is fooled by its input can do no more than die: it holds no credentials (the worker
//! clears its environment), writes no file, and ends at its limits of memory and processor time.

use std::io::{BufRead, Read, Write};
use std::process::ExitCode;

use nightshift_engine::image::{self, CropBox, Limits, RgbImage, apply_orientation, fit};
use nightshift_jobs::Fit;
use serde::{Deserialize, Serialize};

/// The argument that turns the program into a decoder.
pub const VERB: &str = "decode-image";

/// Bytes of a line of JSON in either direction.
pub(crate) const LINE_BYTES_MAX: u64 = 16 * 1024;

/// What the worker asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Width of the panel in pixels.
    pub(crate) width: u32,
    /// Height of the panel in pixels.
    pub(crate) height: u32,
    pub(crate) fit: Fit,
    pub(crate) max_pixels: u64,
    /// Address space of this process in bytes.
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_seconds: u64,
}

/// The decoder's answer, which precedes the pixels.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The panel's pixels follow: `height * width * 3` bytes.
    Decoded(Facts),
    /// Nothing follows.
    Failed { code: String, message: String },
}

/// What is worth knowing of a picture that was fitted into a panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Width in pixels, turned upright.
    pub(crate) width: u32,
    /// Height in pixels, turned upright.
    pub(crate) height: u32,
    /// EXIF orientation as stored, 1 to 8; it was applied.
    pub(crate) orientation: u8,
    /// Which part of the picture is seen where in the panel.
    pub(crate) crop: CropBox,
}

/// Decodes the image on stdin. Returns failure only when the order cannot be read or the answer cannot be written.
#[must_use]
pub fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the decoder failed");
            ExitCode::FAILURE
        }
    }
}

fn work() -> std::io::Result<()> {
    let mut stdin = std::io::stdin().lock();
    let mut line = String::new();
    (&mut stdin).take(LINE_BYTES_MAX).read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line)?;
    limit(&order)?;
    let mut bytes = Vec::new();
    stdin.read_to_end(&mut bytes)?;
    let mut stdout = std::io::stdout().lock();
    let (answer, panel) = match decode(&bytes, &order) {
        Ok((panel, facts)) => (Answer::Decoded(facts), panel.data),
        Err(error) => {
            let (code, message) = (error.code().to_owned(), error.to_string());
            (Answer::Failed { code, message }, Vec::new())
        }
    };
    writeln!(stdout, "{}", serde_json::to_string(&answer)?)?;
    stdout.write_all(&panel)?;
    stdout.flush()
}

/// The panel that an order asks for.
fn decode(bytes: &[u8], order: &Order) -> Result<(RgbImage, Facts), image::DecodeError> {
    let limits = Limits { max_pixels: order.max_pixels, ..Limits::default() };
    let mut raw = image::decode(bytes, &limits)?;
    let orientation = raw.orientation;
    if orientation != 1 {
        // The reference ignores the orientation; people expect their photographs upright.
        raw = apply_orientation(&raw);
    }
    let (panel, crop) = match order.fit {
        Fit::CenterCrop => fit::center_crop(&raw, order.width, order.height),
        Fit::Pad => fit::pad(&raw, order.width, order.height, fit::Border::White),
    };
    Ok((panel, Facts { width: raw.width, height: raw.height, orientation, crop }))
}

/// Bounds this process before it looks at a single byte of the image.
fn limit(order: &Order) -> std::io::Result<()> {
    let limits = [
        (libc::RLIMIT_AS, order.memory_bytes),
        (libc::RLIMIT_CPU, order.cpu_seconds),
        (libc::RLIMIT_FSIZE, 0),
        (libc::RLIMIT_CORE, 0),
    ];
    for (what, most) in limits {
        let value = libc::rlimit { rlim_cur: most, rlim_max: most };
        #[expect(unsafe_code, reason = "the standard library cannot set resource limits")]
        // SAFETY: `value` is a valid rlimit for the duration of the call, which only reads it.
        let done = unsafe { libc::setrlimit(what, &raw const value) };
        if done != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}
