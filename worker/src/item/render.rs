//! A picture becomes the files of its item. Pure: the bytes are a function of (spec, seed, fingerprint) and nothing else.

use bytes::Bytes;
use nightshift_engine::RgbImage;
use nightshift_engine::image::{fit, npy, png};
use nightshift_jobs::{Encoding, Item, MapKind, NormalFrame, Output, Restore, Role, Task};
use nightshift_objects::sha256_hex;

use super::inputs::Given;
use super::maps;
use super::provenance;
use crate::failure::Failure;
use crate::job::Origin;

/// One file, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) role: Role,
    /// Relative to the destination.
    pub(crate) key: String,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    /// Hex.
    pub(crate) sha256: String,
}

/// The files of an item in the order of its outputs.
///
/// # Errors
/// [`Failure`] when the outputs do not fit the picture (a bug in the plan, not worth a panic of the worker).
pub(crate) fn files(
    item: &Item,
    picture: &RgbImage,
    given: Option<&Given>,
    origin: Origin<'_>,
) -> Result<Vec<File>, Failure> {
    item.outputs
        .iter()
        .map(|output| {
            let shown = shown(item, output.role, picture, given)?;
            let body = Bytes::from(encode(item, output, &shown, given, origin));
            Ok(File {
                role: output.role,
                key: output.key.clone(),
                content_type: output.encoding.content_type(),
                sha256: sha256_hex(&body),
                body,
            })
        })
        .collect()
}

/// The pixels that a file of this role shows.
fn shown(
    item: &Item,
    role: Role,
    picture: &RgbImage,
    given: Option<&Given>,
) -> Result<RgbImage, Failure> {
    let half = picture.height / 2;
    let upper = || picture.rows(0, half);
    let lower = || picture.rows(half, half);
    Ok(match (role, &item.task) {
        (Role::Joint, _) | (Role::Image, Task::TextToImage) => picture.clone(),
        (Role::Image, Task::Pair { .. }) => upper(),
        (Role::Image, _) | (Role::Map | Role::Npy | Role::Preview, Task::Pair { .. }) => lower(),
        (Role::Map | Role::Npy | Role::Preview, Task::Dense { .. }) => {
            match (item.restore, given) {
                (Restore::InputSize, Some(given)) => {
                    fit::restore(&lower(), &given.facts.picture.crop)
                }
                _ => lower(),
            }
        }
        // The panel as it was given, not as the image tokenizer saw it.
        (Role::Control, _) => given.map_or_else(upper, |given| given.panel.clone()),
        (role, _) => {
            let message = format!("a {} item has no {} file", item.kind, role.as_str());
            return Err(Failure::own("no_such_output", message));
        }
    })
}

fn encode(
    item: &Item,
    output: &Output,
    shown: &RgbImage,
    given: Option<&Given>,
    origin: Origin<'_>,
) -> Vec<u8> {
    let (width, height) = (shown.width, shown.height);
    let mut texts = Vec::new();
    if item.embed.png_text {
        texts = provenance::texts(item, output, given, origin);
    }
    match output.encoding {
        Encoding::Png8 => png::write(png::Pixels::Rgb8(&shown.data), width, height, &texts),
        Encoding::NormalPng8 { frame: NormalFrame::OpenglCamera } => {
            texts.push(text("normal:frame", "opengl_camera"));
            png::write(png::Pixels::Rgb8(&shown.data), width, height, &texts)
        }
        Encoding::DepthPng16 => {
            // The file always carries the factor: the numbers mean nothing without it.
            texts.push(text("depth:encoding", "affine_0_1 as png16, 0 is near, 65535 is far"));
            png::write(png::Pixels::Gray16(&maps::depth_16(shown)), width, height, &texts)
        }
        Encoding::PreviewSpectral => {
            png::write(png::Pixels::Rgb8(&maps::spectral(shown)), width, height, &texts)
        }
        Encoding::NpyF16 | Encoding::NpyF32 => {
            let (values, channels) = match &item.task {
                Task::Dense { map: MapKind::Normal } | Task::Pair { map: MapKind::Normal } => {
                    (maps::normals(shown), 3)
                }
                Task::Dense { map: MapKind::Depth } | Task::Pair { map: MapKind::Depth } => {
                    (maps::distances(shown), 1)
                }
                _ => (maps::brightness(shown), 1),
            };
            let mut shape = vec![height as usize, width as usize];
            if channels > 1 {
                shape.push(channels);
            }
            let dtype = match output.encoding {
                Encoding::NpyF16 => npy::Dtype::F16,
                _ => npy::Dtype::F32,
            };
            npy::write(&values, &shape, dtype)
        }
    }
}

fn text(key: &str, value: &str) -> png::Text {
    png::Text { key: key.to_owned(), value: value.to_owned() }
}
