//! Single modules built from given weights, for comparisons with the reference.

use super::attention::Attention;
use super::conv::{Conv, Input, Kind};
use super::map::Map;
use super::norm::Norm;
use super::trace::Trace;
use crate::kernels::{Pool, silu};

/// A tensor by name: shape and row-major elements.
pub(crate) type Tensors<'a> = dyn Fn(&str) -> Result<(Vec<usize>, Vec<f32>), String> + 'a;

fn conv(tensors: &Tensors<'_>, name: &str, kind: Kind) -> Result<Conv, String> {
    let (shape, weight) = tensors(&format!("{name}.weight"))?;
    let [cout, cin, ..] = shape[..] else {
        return Err(format!("{name}: shape {shape:?}"));
    };
    Ok(Conv::new(
        kind,
        cin,
        cout,
        &weight,
        tensors(&format!("{name}.bias"))?.1,
    ))
}

fn plain_norm(tensors: &Tensors<'_>, name: &str) -> Result<Norm, String> {
    let part = |p: &str| Ok::<_, String>(tensors(&format!("{name}{p}"))?.1);
    Ok(Norm {
        weight: part("weight")?,
        bias: part("bias")?,
        modulation: None,
    })
}

/// GroupNorm; `prefix` ends in a dot.
pub(crate) fn group_norm(
    t: &Tensors<'_>,
    prefix: &str,
    x: &Map,
    pool: &Pool,
) -> Result<Map, String> {
    Ok(plain_norm(t, prefix)?.apply(x, None, false, pool))
}

/// The modulated norm.
pub(crate) fn spatial_norm(
    t: &Tensors<'_>,
    prefix: &str,
    x: &Map,
    zq: &Map,
    pool: &Pool,
) -> Result<Map, String> {
    let mut norm = plain_norm(t, &format!("{prefix}norm_layer."))?;
    let point = |part: &str| conv(t, &format!("{prefix}{part}"), Kind::Point);
    norm.modulation = Some((point("conv_y")?, point("conv_b")?));
    Ok(norm.apply(x, Some(zq), false, pool))
}

/// Downsampling.
pub(crate) fn down(t: &Tensors<'_>, prefix: &str, x: &Map, pool: &Pool) -> Result<Map, String> {
    Ok(conv(t, &format!("{prefix}conv"), Kind::Down)?.forward(&x.into(), pool))
}

/// Upsampling.
pub(crate) fn up(t: &Tensors<'_>, prefix: &str, x: &Map, pool: &Pool) -> Result<Map, String> {
    Ok(conv(t, &format!("{prefix}conv"), Kind::Same)?.forward(&Input::upsampled(x), pool))
}

/// Attention with a plain norm.
pub(crate) fn attention(t: &Tensors<'_>, prefix: &str, x: Map, pool: &Pool) -> Result<Map, String> {
    let point = |part: &str| conv(t, &format!("{prefix}{part}"), Kind::Point);
    let norm = plain_norm(t, &format!("{prefix}norm."))?;
    let (q, k, v, proj_out) = (point("q")?, point("k")?, point("v")?, point("proj_out")?);
    let block = Attention {
        name: String::new(),
        norm,
        q,
        k,
        v,
        proj_out,
    };
    Ok(block.forward(x, None, pool, &mut Trace::off()))
}

/// x * sigmoid(x).
pub(crate) fn swish(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&x| silu(x)).collect()
}
