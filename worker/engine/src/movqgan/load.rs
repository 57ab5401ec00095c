//! The model's structure from the names and shapes of its tensors: number of levels and blocks, channels, attentions and
//! shortcuts are whatever the file has, as long as it is consistent. Names as in the checkpoint.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::attention::Attention;
use super::blocks::{Level, Mid, Resnet};
use super::codebook::Codebook;
use super::conv::{Conv, Kind};
use super::decoder::Decoder;
use super::encoder::Encoder;
use super::norm::Norm;
use super::{Config, MoVqGan};
use crate::checkpoint::Checkpoint;
use crate::error::LoadError;

/// Loads the model of a file.
pub(super) fn open(path: &Path) -> Result<MoVqGan, LoadError> {
    model(&Loader::of_file(&Checkpoint::open(path)?))
}

/// The model that tensors of these names and shapes make, without their values.
///
/// # Errors
/// [`LoadError::Tensor`], as loading would say.
pub fn structure(shapes: &BTreeMap<String, Vec<usize>>) -> Result<Config, LoadError> {
    Ok(model(&Loader::of_shapes(shapes))?.config)
}

/// The model of a weights file, without reading its values.
///
/// # Errors
/// As [`MoVqGan::open`].
pub fn structure_of(path: &Path) -> Result<Config, LoadError> {
    let checkpoint = Checkpoint::open(path)?;
    let loader = Loader { values: None, ..Loader::of_file(&checkpoint) };
    Ok(model(&loader)?.config)
}

fn model(loader: &Loader<'_>) -> Result<MoVqGan, LoadError> {
    let [n_embed, embed_dim] = loader.shape_of("quantize.embedding.weight")?;
    let table = loader.tensor("quantize.embedding.weight", &[n_embed, embed_dim])?;
    let [z_out, ..] = loader.shape_of::<4>("encoder.conv_out.weight")?;
    let [_, z_in, ..] = loader.shape_of::<4>("decoder.conv_in.weight")?;
    let quant_conv = loader.conv("quant_conv", Kind::Point, z_out, Some(embed_dim))?.0;
    let post_quant_conv = loader.conv("post_quant_conv", Kind::Point, embed_dim, Some(z_in))?.0;
    let (encoder, down_channels) = encoder(loader)?;
    let (decoder, up_channels) = decoder(loader, embed_dim)?;
    if down_channels.len() != up_channels.len() {
        let reason = format!(
            "the decoder has {} levels, the encoder {}",
            up_channels.len(),
            down_channels.len()
        );
        return Err(loader.error("decoder.up", reason));
    }
    loader.check_leftovers()?;
    let config = Config {
        n_embed,
        embed_dim,
        z_channels: z_in,
        encoder_channels: down_channels,
        decoder_channels: up_channels,
        encoder_blocks: encoder.down[0].blocks.len(),
        attention_levels: (0..encoder.down.len())
            .filter(|&i| encoder.down[i].blocks[0].1.is_some())
            .collect(),
        parameters: loader.parameters(),
    };
    Ok(MoVqGan {
        config,
        encoder,
        decoder,
        codebook: Codebook::new(table.len() / embed_dim, embed_dim, table),
        quant_conv,
        post_quant_conv,
    })
}

/// The encoder, and the channels of its levels.
fn encoder(loader: &Loader<'_>) -> Result<(Encoder, Vec<usize>), LoadError> {
    let (conv_in, mut channels) = loader.conv("encoder.conv_in", Kind::Same, 3, None)?;
    let n_levels = loader.count("encoder.down")?;
    let (mut down, mut widths) = (Vec::new(), Vec::new());
    for i in 0..n_levels {
        let name = format!("encoder.down.{i}");
        let (blocks, out) = loader.blocks(&name, channels, None)?;
        channels = out;
        widths.push(channels);
        let resample = if i + 1 < n_levels {
            Some(
                loader
                    .conv(&format!("{name}.downsample.conv"), Kind::Down, channels, Some(channels))?
                    .0,
            )
        } else {
            None
        };
        down.push(Level { blocks, resample });
    }
    let mid = loader.mid("encoder.mid", channels, None)?;
    let norm_out = loader.norm("encoder.norm_out", channels, None)?;
    let (conv_out, _) = loader.conv("encoder.conv_out", Kind::Same, channels, None)?;
    Ok((Encoder { conv_in, down, mid, norm_out, conv_out }, widths))
}

/// The decoder, and the channels of its levels in stored order.
fn decoder(loader: &Loader<'_>, embed_dim: usize) -> Result<(Decoder, Vec<usize>), LoadError> {
    let [_, z_in, ..] = loader.shape_of::<4>("decoder.conv_in.weight")?;
    let (conv_in, mut channels) = loader.conv("decoder.conv_in", Kind::Same, z_in, None)?;
    let zq = Some(embed_dim);
    let mid = loader.mid("decoder.mid", channels, zq)?;
    let (mut up, mut widths) = (Vec::new(), Vec::new());
    for i in (0..loader.count("decoder.up")?).rev() {
        let name = format!("decoder.up.{i}");
        let (blocks, out) = loader.blocks(&name, channels, zq)?;
        channels = out;
        widths.push(channels);
        let resample = if i > 0 {
            Some(
                loader
                    .conv(&format!("{name}.upsample.conv"), Kind::Up, channels, Some(channels))?
                    .0,
            )
        } else {
            None
        };
        up.push(Level { blocks, resample });
    }
    up.reverse();
    widths.reverse();
    let norm_out = loader.norm("decoder.norm_out", channels, zq)?;
    let (conv_out, _) = loader.conv("decoder.conv_out", Kind::Same, channels, Some(3))?;
    Ok((Decoder { conv_in, mid, up, norm_out, conv_out }, widths))
}

/// Parts of a checkpoint that are the model; everything else (EMA copies, losses, counters) is ignored, as upstream ignores it.
const PARTS: [&str; 5] = ["encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv."];
/// Groups of every norm.
const GROUPS: usize = 32;
/// A file with more levels or blocks than this is not a MoVQGAN.
const COUNT_MAX: usize = 64;

/// Hands out tensors and remembers which.
pub(crate) struct Loader<'a> {
    shapes: BTreeMap<String, Vec<usize>>,
    /// Where the values are; without it only names and shapes are checked.
    values: Option<&'a Checkpoint>,
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Loader<'a> {
    /// Tensors of a file.
    pub(crate) fn of_file(checkpoint: &'a Checkpoint) -> Self {
        let entries = checkpoint.entries().iter();
        let shapes = entries.map(|(name, entry)| (name.clone(), entry.shape.clone())).collect();
        Self { shapes, values: Some(checkpoint), used: RefCell::default() }
    }

    /// Names and shapes alone.
    fn of_shapes(shapes: &BTreeMap<String, Vec<usize>>) -> Self {
        Self { shapes: shapes.clone(), values: None, used: RefCell::default() }
    }

    fn error(&self, name: &str, reason: impl Into<String>) -> LoadError {
        LoadError::Tensor { name: name.to_owned(), reason: reason.into() }
    }

    fn has(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    fn shape(&self, name: &str) -> Result<&[usize], LoadError> {
        let shape = self.shapes.get(name).ok_or_else(|| self.error(name, "it is missing"))?;
        Ok(shape)
    }

    /// The shape of a tensor that must have N dimensions, none of them empty.
    fn shape_of<const N: usize>(&self, name: &str) -> Result<[usize; N], LoadError> {
        let shape = self.shape(name)?;
        match <[usize; N]>::try_from(shape) {
            Ok(shape) if !shape.contains(&0) => Ok(shape),
            _ => {
                Err(self
                    .error(name, format!("its shape is {shape:?}, {N} dimensions are expected")))
            }
        }
    }

    /// A tensor of finite floats of exactly this shape; empty when only names and shapes are known.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let found = self.shape(name)?;
        if found != shape {
            return Err(self.error(name, format!("its shape is {found:?}, not {shape:?}")));
        }
        self.used.borrow_mut().insert(name.to_owned());
        let Some(checkpoint) = self.values else {
            return Ok(Vec::new());
        };
        let dtype = checkpoint.entries()[name].dtype;
        if !dtype.is_float() {
            return Err(self.error(name, format!("its elements are {dtype:?}, not floats")));
        }
        let values = checkpoint.read_f32(name)?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(i) => Err(self.error(name, format!("element {i} is not a finite number"))),
            None => Ok(values),
        }
    }

    /// A convolution and its output channels.
    pub(crate) fn conv(
        &self,
        name: &str,
        kind: Kind,
        cin: usize,
        cout: Option<usize>,
    ) -> Result<(Conv, usize), LoadError> {
        let weight_name = format!("{name}.weight");
        let cout = match cout {
            Some(cout) => cout,
            None => self.shape_of::<4>(&weight_name)?[0],
        };
        let side = kind.side();
        let weight = self.tensor(&weight_name, &[cout, cin, side, side])?;
        let bias = self.tensor(&format!("{name}.bias"), &[cout])?;
        let conv = match self.values {
            Some(_) => Conv::new(kind, cin, cout, &weight, bias),
            None => Conv::hollow(kind, cin, cout),
        };
        Ok((conv, cout))
    }

    /// A plain norm, or with `zq` (length of a code vector) a modulated one.
    pub(crate) fn norm(
        &self,
        name: &str,
        channels: usize,
        zq: Option<usize>,
    ) -> Result<Norm, LoadError> {
        if !channels.is_multiple_of(GROUPS) {
            return Err(
                self.error(name, format!("{channels} channels do not divide into {GROUPS} groups"))
            );
        }
        let own = if zq.is_some() { format!("{name}.norm_layer") } else { name.to_owned() };
        let weight = self.tensor(&format!("{own}.weight"), &[channels])?;
        let bias = self.tensor(&format!("{own}.bias"), &[channels])?;
        let point = |part: &str, zq| {
            Ok::<_, LoadError>(
                self.conv(&format!("{name}.{part}"), Kind::Point, zq, Some(channels))?.0,
            )
        };
        let modulation = match zq {
            Some(zq) => Some((point("conv_y", zq)?, point("conv_b", zq)?)),
            None => None,
        };
        Ok(Norm { weight, bias, modulation })
    }

    /// A residual block and its output channels.
    pub(crate) fn resnet(
        &self,
        name: &str,
        cin: usize,
        zq: Option<usize>,
    ) -> Result<(Resnet, usize), LoadError> {
        let norm1 = self.norm(&format!("{name}.norm1"), cin, zq)?;
        let (conv1, cout) = self.conv(&format!("{name}.conv1"), Kind::Same, cin, None)?;
        let norm2 = self.norm(&format!("{name}.norm2"), cout, zq)?;
        let (conv2, _) = self.conv(&format!("{name}.conv2"), Kind::Same, cout, Some(cout))?;
        let nin_shortcut = if cin == cout {
            None
        } else {
            Some(self.conv(&format!("{name}.nin_shortcut"), Kind::Point, cin, Some(cout))?.0)
        };
        Ok((Resnet { name: name.to_owned(), norm1, conv1, norm2, conv2, nin_shortcut }, cout))
    }

    /// An attention block.
    pub(crate) fn attention(
        &self,
        name: &str,
        channels: usize,
        zq: Option<usize>,
    ) -> Result<Attention, LoadError> {
        let point = |part: &str| {
            Ok::<_, LoadError>(
                self.conv(&format!("{name}.{part}"), Kind::Point, channels, Some(channels))?.0,
            )
        };
        Ok(Attention {
            name: name.to_owned(),
            norm: self.norm(&format!("{name}.norm"), channels, zq)?,
            q: point("q")?,
            k: point("k")?,
            v: point("v")?,
            proj_out: point("proj_out")?,
        })
    }

    /// All blocks of a level with their attentions, and the level's channels.
    #[expect(clippy::type_complexity, reason = "the level's own field type")]
    fn blocks(
        &self,
        level: &str,
        mut channels: usize,
        zq: Option<usize>,
    ) -> Result<(Vec<(Resnet, Option<Attention>)>, usize), LoadError> {
        let with_attention = self.has(&format!("{level}.attn.0.q.weight"));
        let mut blocks = Vec::new();
        for j in 0..self.count(&format!("{level}.block"))? {
            let (block, out) = self.resnet(&format!("{level}.block.{j}"), channels, zq)?;
            channels = out;
            let attention = match with_attention {
                true => Some(self.attention(&format!("{level}.attn.{j}"), channels, zq)?),
                false => None,
            };
            blocks.push((block, attention));
        }
        Ok((blocks, channels))
    }

    fn mid(&self, name: &str, channels: usize, zq: Option<usize>) -> Result<Mid, LoadError> {
        let block = |part: &str| {
            let name = format!("{name}.{part}");
            match self.resnet(&name, channels, zq)? {
                (block, out) if out == channels => Ok(block),
                (_, out) => Err(self.error(
                    &format!("{name}.conv1.weight"),
                    format!("{out} channels, not {channels}"),
                )),
            }
        };
        let (block_1, block_2) = (block("block_1")?, block("block_2")?);
        Ok(Mid {
            block_1,
            attn_1: self.attention(&format!("{name}.attn_1"), channels, zq)?,
            block_2,
        })
    }

    /// How many consecutive `prefix.0`, `prefix.1`, ... there are; at least one.
    fn count(&self, prefix: &str) -> Result<usize, LoadError> {
        let exists = |i: usize| {
            let start = format!("{prefix}.{i}.");
            self.shapes
                .range(start.clone()..)
                .next()
                .is_some_and(|(name, _)| name.starts_with(&start))
        };
        match (0..COUNT_MAX).take_while(|&i| exists(i)).count() {
            0 => Err(self.error(&format!("{prefix}.0"), "it is missing")),
            n => Ok(n),
        }
    }

    /// A tensor inside the model that nothing used means that the model is another one than was understood.
    fn check_leftovers(&self) -> Result<(), LoadError> {
        let used = self.used.borrow();
        let left = |name: &&String| {
            PARTS.iter().any(|part| name.starts_with(part)) && !used.contains(*name)
        };
        match self.shapes.keys().find(left) {
            Some(name) => Err(self.error(name, "it has no place in the model")),
            None => Ok(()),
        }
    }

    fn parameters(&self) -> u64 {
        let used = self.used.borrow();
        used.iter().map(|name| self.shapes[name].iter().product::<usize>() as u64).sum()
    }
}
