//! The model's structure from the names and shapes of its tensors: number of levels and blocks, channels, attentions and
//! shortcuts are whatever the file has, as long as it is consistent. Names as in the checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use super::blocks::Level;
use super::codebook::Codebook;
use super::conv::Kind;
use super::decoder::Decoder;
use super::encoder::Encoder;
use super::loader::Loader;
use super::{Config, MoVqGan, MovqError};
use crate::checkpoint::Checkpoint;

/// Loads the model of a checkpoint.
pub(super) fn load(checkpoint: &Checkpoint) -> Result<MoVqGan, MovqError> {
    model(&Loader::of_file(checkpoint))
}

/// The structure that tensors of these names and shapes make; without their values.
pub(super) fn structure(shapes: &BTreeMap<String, Vec<usize>>) -> Result<Config, MovqError> {
    Ok(model(&Loader::of_shapes(shapes))?.config)
}

fn model(loader: &Loader<'_>) -> Result<MoVqGan, MovqError> {
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
fn encoder(loader: &Loader<'_>) -> Result<(Encoder, Vec<usize>), MovqError> {
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
fn decoder(loader: &Loader<'_>, embed_dim: usize) -> Result<(Decoder, Vec<usize>), MovqError> {
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

pub(super) fn open(path: &Path) -> Result<MoVqGan, MovqError> {
    load(&Checkpoint::open(path)?)
}
