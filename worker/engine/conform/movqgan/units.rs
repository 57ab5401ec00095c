//! Single modules and the quantiser.

use super::{Fixture, Outcome, Run, Tensor};
use crate::error::LoadError;
use crate::kernels::{Pool, silu};
use crate::movqgan::codebook::Codebook;
use crate::movqgan::conv::Kind;
use crate::movqgan::load::Loader;
use crate::movqgan::map::Map;
use crate::movqgan::pixels;
use crate::movqgan::trace::Trace;

const UNIT: f64 = 1e-5;

pub(super) fn run(run: &mut Run) {
    if let Some(fixture) = run.open("units.safetensors") {
        modules(run, &fixture);
    }
    if let Some(fixture) = run.open("quantize.safetensors") {
        quantize(run, &fixture);
    }
}

/// Which module a unit is, by the parameters it has.
#[derive(Clone, Copy, PartialEq)]
enum Module {
    Swish,
    Post,
    Norm,
    Resnet,
    Attention,
    Down,
    Up,
}

fn module_of(fixture: &Fixture, name: &str) -> Option<Module> {
    let has = |part: &str| fixture.has(&format!("{name}.p.{part}"));
    let sizes = |part: &str| Some(fixture.tensor(&format!("{name}.{part}")).ok()?.data.len());
    let no_parameters = !fixture.names().any(|n| n.starts_with(&format!("{name}.p.")));
    Some(match name {
        "swish" => Module::Swish,
        "post" => Module::Post,
        _ if no_parameters => return None,
        _ if has("norm_layer.weight") => Module::Norm,
        _ if has("q.weight") => Module::Attention,
        _ if has("conv1.weight") => Module::Resnet,
        _ if has("weight") && has("bias") => Module::Norm,
        _ if has("conv.weight") && sizes("out") > sizes("in0") => Module::Up,
        _ if has("conv.weight") && sizes("out") < sizes("in0") => Module::Down,
        _ => return None,
    })
}

fn modules(run: &mut Run, fixture: &Fixture) {
    for name in fixture.prefixes() {
        let label = format!("units.safetensors: {name}");
        let Some(module) = module_of(fixture, name) else {
            run.report.not_covered(&label, "no such module");
            continue;
        };
        let tolerance = if module == Module::Post { 0.0 } else { UNIT };
        run.check(&label, tolerance, |pool| compare(fixture, name, module, pool));
    }
}

fn compare(fixture: &Fixture, name: &str, module: Module, pool: &Pool) -> Outcome {
    let input = fixture.tensor(&format!("{name}.in0"))?;
    let expected = fixture.tensor(&format!("{name}.out"))?;
    match module {
        Module::Swish => return expected.worst(&swish(&input), UNIT, UNIT),
        Module::Post => return post(&input, &expected),
        _ => {}
    }
    let zq = match fixture.has(&format!("{name}.in1")) {
        true => fixture.tensor(&format!("{name}.in1"))?.maps()?,
        false => Vec::new(),
    };
    let (loader, parameters) = (Loader::of_file(&fixture.tensors), format!("{name}.p"));
    let mut got = Vec::new();
    for (i, x) in input.maps()?.into_iter().enumerate() {
        let out = one(&loader, &parameters, module, x, zq.get(i), pool);
        got.extend(out.map_err(|error| error.to_string())?.to_chw());
    }
    expected.worst(&got, UNIT, UNIT)
}

/// The output of a module that is loaded as the model's own are.
fn one(
    loader: &Loader<'_>,
    name: &str,
    module: Module,
    x: Map,
    zq: Option<&Map>,
    pool: &Pool,
) -> Result<Map, LoadError> {
    let (channels, modulation) = (x.c, zq.map(|zq| zq.c));
    let trace = &mut Trace::off();
    let resampled = |kind| {
        let (conv, _) = loader.conv(&format!("{name}.conv"), kind, channels, None)?;
        Ok(conv.forward(&(&x).into(), pool))
    };
    match module {
        Module::Resnet => {
            Ok(loader.resnet(name, channels, modulation)?.0.forward(x, zq, pool, trace))
        }
        Module::Attention => {
            Ok(loader.attention(name, channels, modulation)?.forward(x, zq, pool, trace))
        }
        Module::Down => resampled(Kind::Down),
        Module::Up => resampled(Kind::Up),
        Module::Norm => Ok(loader.norm(name, channels, modulation)?.apply(&x, zq, false, pool)),
        // Without parameters: compared above.
        Module::Swish | Module::Post => Ok(x),
    }
}

/// x * sigmoid(x).
fn swish(input: &Tensor) -> Vec<f32> {
    input.f32().into_iter().map(silu).collect()
}

/// (1, 3, h, w) floats to (h, w, 3) bytes.
fn post(input: &Tensor, expected: &Tensor) -> Outcome {
    let map = input.map()?;
    expected.differing(map.data.iter().map(|&x| f64::from(pixels::to_u8(x))))
}

fn quantize(run: &mut Run, fixture: &Fixture) {
    let parts = || {
        let table = fixture.tensor("codebook")?;
        let [n, dim] = table.shape[..] else {
            return Err(format!("codebook: shape {:?}", table.shape));
        };
        Ok((Codebook::new(n, dim, table.f32()), table, fixture.tensor("z")?.map()?))
    };
    run.check("quantize.safetensors: codes", 0.0, |pool| {
        let (codebook, _, z) = parts()?;
        fixture.tensor("codes")?.differing(codebook.nearest(&z, pool).into_iter().map(f64::from))
    });
    if fixture.has("zq_straight_through") {
        run.check("quantize.safetensors: zq_straight_through", 0.0, |pool| {
            let (codebook, _, z) = parts()?;
            let codes = codebook.nearest(&z, pool);
            let vectors = codebook.look_up(&codes, z.h, z.w).ok_or("a code beyond the codebook")?;
            let through = z.data.iter().zip(&vectors.data).map(|(z, e)| z + (e - z)).collect();
            let through = Map { data: through, ..z };
            fixture
                .tensor("zq_straight_through")?
                .differing(through.to_chw().into_iter().map(f64::from))
        });
    }
    if fixture.has("n_tied") {
        run.check("quantize.safetensors: n_tied", 0.0, |_| {
            let (_, table, z) = parts()?;
            let tied = z.data.chunks_exact(z.c).map(|z| {
                let distance = |e: &[f64]| -> f64 {
                    z.iter().zip(e).map(|(z, e)| (f64::from(*z) - e).powi(2)).sum()
                };
                let distances: Vec<f64> = table.data.chunks_exact(z.len()).map(distance).collect();
                let least = distances.iter().copied().fold(f64::INFINITY, f64::min);
                distances.iter().filter(|&&d| d == least).count() as f64
            });
            fixture.tensor("n_tied")?.differing(tied)
        });
    }
}
