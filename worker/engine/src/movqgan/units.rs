//! Single modules built from given weights, for comparisons with the reference.

use super::attention::Attention;
use super::blocks::Resnet;
use super::conv::{Conv, Kind};
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
    Ok(Conv::new(kind, cin, cout, &weight, tensors(&format!("{name}.bias"))?.1))
}

/// A norm, modulated when it has a `norm_layer`; `prefix` is empty or ends in a dot.
fn norm_at(tensors: &Tensors<'_>, prefix: &str) -> Result<Norm, String> {
    let modulated = tensors(&format!("{prefix}norm_layer.weight")).is_ok();
    let own = if modulated { format!("{prefix}norm_layer.") } else { prefix.to_owned() };
    let part = |p: &str| Ok::<_, String>(tensors(&format!("{own}{p}"))?.1);
    let point = |p: &str| conv(tensors, &format!("{prefix}{p}"), Kind::Point);
    let modulation = if modulated { Some((point("conv_y")?, point("conv_b")?)) } else { None };
    Ok(Norm { weight: part("weight")?, bias: part("bias")?, modulation })
}

/// A norm, plain or modulated.
pub(crate) fn norm(
    t: &Tensors<'_>,
    prefix: &str,
    x: &Map,
    zq: Option<&Map>,
    pool: &Pool,
) -> Result<Map, String> {
    Ok(norm_at(t, prefix)?.apply(x, zq, false, pool))
}

/// Downsampling.
pub(crate) fn down(t: &Tensors<'_>, x: &Map, pool: &Pool) -> Result<Map, String> {
    Ok(conv(t, "conv", Kind::Down)?.forward(&x.into(), pool))
}

/// Upsampling.
pub(crate) fn up(t: &Tensors<'_>, x: &Map, pool: &Pool) -> Result<Map, String> {
    Ok(conv(t, "conv", Kind::Up)?.forward(&x.into(), pool))
}

/// The residual block.
pub(crate) fn resnet(
    t: &Tensors<'_>,
    x: Map,
    zq: Option<&Map>,
    pool: &Pool,
) -> Result<Map, String> {
    let nin_shortcut = match t("nin_shortcut.weight") {
        Ok(_) => Some(conv(t, "nin_shortcut", Kind::Point)?),
        Err(_) => None,
    };
    let block = Resnet {
        name: String::new(),
        norm1: norm_at(t, "norm1.")?,
        conv1: conv(t, "conv1", Kind::Same)?,
        norm2: norm_at(t, "norm2.")?,
        conv2: conv(t, "conv2", Kind::Same)?,
        nin_shortcut,
    };
    Ok(block.forward(x, zq, pool, &mut Trace::off()))
}

/// Attention.
pub(crate) fn attention(
    t: &Tensors<'_>,
    x: Map,
    zq: Option<&Map>,
    pool: &Pool,
) -> Result<Map, String> {
    let point = |part: &str| conv(t, part, Kind::Point);
    let (q, k, v, proj_out) = (point("q")?, point("k")?, point("v")?, point("proj_out")?);
    let block = Attention { name: String::new(), norm: norm_at(t, "norm.")?, q, k, v, proj_out };
    Ok(block.forward(x, zq, pool, &mut Trace::off()))
}

/// x * sigmoid(x).
pub(crate) fn swish(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&x| silu(x)).collect()
}
