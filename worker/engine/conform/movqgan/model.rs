//! The whole model: weights, encoding, decoding, activations.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Fixture, Run, Tensor, name_of};
use crate::conform::fixture::json;
use crate::image::RgbImage;
use crate::movqgan::pixels::{scale_table, to_image, to_map};
use crate::movqgan::trace::Trace;
use crate::movqgan::{MoVqGan, structure};

const LATENT: f64 = 1e-4;
const STAGE: f64 = 1e-4;
const OUTPUT: f64 = 5e-5;
/// Share of the decoded bytes that may differ, by one level.
const BYTES_SHARE: f64 = 1e-3;

pub(super) fn run(run: &mut Run) {
    let model = load(run);
    lists(run);
    let encode = run.open("encode.safetensors");
    let decode = run.open("decode.safetensors");
    let stages = run.open("stages.safetensors");
    if let Some(encode) = &encode
        && encode.has("u8_lut")
    {
        run.check("encode.safetensors: u8_lut", 0.0, |_| {
            encode.tensor("u8_lut")?.differing(scale_table().into_iter().map(f64::from))
        });
    }
    let Some(model) = model else {
        if encode.is_some() || decode.is_some() || stages.is_some() {
            let missing = |_: &_| {
                Err("no weights of an image tokenizer could be loaded from the folder".to_owned())
            };
            run.check("model", 0.0, missing);
        }
        return;
    };
    if let Some(encode) = &encode {
        encoding(run, &model, encode);
    }
    if let Some(decode) = &decode {
        decoding(run, &model, decode);
    }
    if let Some(stages) = &stages {
        activations(run, &model, stages, encode.as_ref(), decode.as_ref());
    }
}

/// Loads every weights file of the folder; the first that loads is used.
fn load(run: &mut Run) -> Option<MoVqGan> {
    let mut files = run.files("", &[".safetensors", ".ckpt", ".pt", ".pth"]);
    let is_weights = |path: &std::path::PathBuf| {
        !name_of(path).ends_with(".safetensors")
            || Fixture::open(path).is_ok_and(|f| f.has("encoder.conv_in.weight"))
    };
    files.retain(is_weights);
    let mut model = None;
    for path in &files {
        run.check(&format!("{}: loads", name_of(path)), 0.0, |_| {
            let loaded = MoVqGan::open(path).map_err(|error| error.to_string())?;
            model.get_or_insert(loaded);
            Ok(0.0)
        });
    }
    for pair in files.windows(2) {
        let name = format!("{}: equals {}", name_of(&pair[1]), name_of(&pair[0]));
        run.check(&name, 0.0, |_| {
            unequal_tensors(&Fixture::open(&pair[0])?, &Fixture::open(&pair[1])?)
        });
    }
    let config: Option<Value> = json(&run.dir, "config.json").ok();
    if let (Some(model), Some(config)) = (&model, config) {
        run.check("config.json: structure", 0.0, |_| unequal_settings(model, &config));
    }
    model
}

/// Tensors of two files that are not the same, by name, shape or any bit.
fn unequal_tensors(a: &Fixture, b: &Fixture) -> Result<f64, String> {
    let mut unequal = b.names().filter(|name| !a.has(name)).count();
    for name in a.names() {
        let same = b.has(name) && {
            let (x, y): (Tensor, Tensor) = (a.tensor(name)?, b.tensor(name)?);
            x.shape == y.shape
                && x.data.iter().zip(&y.data).all(|(x, y)| x.to_bits() == y.to_bits())
        };
        unequal += usize::from(!same);
    }
    Ok(unequal as f64)
}

/// Settings of the constructor that the inferred structure does not have.
fn unequal_settings(model: &MoVqGan, config: &Value) -> Result<f64, String> {
    let found = model.config();
    let settings = &config["config"];
    let dd = &settings["ddconfig"];
    let number = |value: &Value| value.as_u64().map(|v| v as usize);
    let mut wrong = Vec::new();
    let mut compare = |what: &str, expected: Option<Vec<usize>>, found: Vec<usize>| {
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            wrong.push(format!("{what} is {expected:?}, inferred {found:?}"));
        }
    };
    let one = |value: &Value| number(value).map(|v| vec![v]);
    let ch = number(&dd["ch"]);
    let widths: Option<Vec<usize>> =
        dd["ch_mult"].as_array().and_then(|m| m.iter().map(|m| Some(number(m)? * ch?)).collect());
    compare("n_embed", one(&settings["n_embed"]), vec![found.n_embed]);
    compare("embed_dim", one(&settings["embed_dim"]), vec![found.embed_dim]);
    compare("z_channels", one(&dd["z_channels"]), vec![found.z_channels]);
    compare("encoder channels", widths.clone(), found.encoder_channels.clone());
    compare("decoder channels", widths, found.decoder_channels.clone());
    compare("num_res_blocks", one(&dd["num_res_blocks"]), vec![found.encoder_blocks]);
    compare("downsample_factor", one(&config["downsample_factor"]), vec![found.factor()]);
    compare("n_params", one(&config["n_params"]), vec![found.parameters as usize]);
    match wrong.is_empty() {
        true => Ok(0.0),
        false => Err(wrong.join("; ")),
    }
}

/// Lists of tensor names and shapes of other models: each must be understood as a whole.
fn lists(run: &mut Run) {
    for path in run.files("", &[".tsv"]) {
        run.check(&format!("{}: structure", name_of(&path)), 0.0, |_| {
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
            let mut shapes = BTreeMap::new();
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                let (name, shape) =
                    line.split_once('\t').ok_or_else(|| format!("no tab in {line:?}"))?;
                let sides: Result<Vec<usize>, _> =
                    shape.trim().split('x').map(str::parse).collect();
                shapes.insert(name.to_owned(), sides.map_err(|_| format!("no shape in {line:?}"))?);
            }
            structure(&shapes).map(|_| 0.0).map_err(|error| error.to_string())
        });
    }
}

/// The picture of a u8 (h, w, 3) tensor.
fn picture(fixture: &Fixture, name: &str) -> Result<RgbImage, String> {
    let tensor = fixture.tensor(name)?;
    let [h, w, 3] = tensor.shape[..] else {
        return Err(format!("{name}: shape {:?} is not (h, w, 3)", tensor.shape));
    };
    let data = tensor.data.iter().map(|&v| v as u8).collect();
    RgbImage::from_raw(w as u32, h as u32, data).ok_or_else(|| format!("{name}: empty"))
}

fn codes(tensor: &Tensor) -> Vec<u32> {
    tensor.data.iter().map(|&v| v as u32).collect()
}

fn encoding(run: &mut Run, model: &MoVqGan, encode: &Fixture) {
    for case in encode.prefixes() {
        let (u8_name, name) = (format!("{case}.u8"), |part: &str| format!("{case}.{part}"));
        if !encode.has(&u8_name) {
            continue;
        }
        let label = |part: &str| format!("encode.safetensors: {case}.{part}");
        if encode.has(&name("norm")) {
            run.check(&label("norm"), 0.0, |_| {
                let scaled = to_map(&picture(encode, &u8_name)?).to_chw();
                encode.tensor(&name("norm"))?.differing(scaled.into_iter().map(f64::from))
            });
        }
        if encode.has(&name("latent")) {
            run.check(&label("latent"), LATENT, |pool| {
                let latents =
                    model.latents(&to_map(&picture(encode, &u8_name)?), pool, &mut Trace::off());
                encode.tensor(&name("latent"))?.worst(&latents.to_chw(), LATENT, 0.0)
            });
        }
        if encode.has(&name("codes")) {
            run.check(&label("codes"), 0.0, |pool| {
                let got = model
                    .encode(&picture(encode, &u8_name)?, pool)
                    .map_err(|error| error.to_string())?;
                encode.tensor(&name("codes"))?.differing(got.into_iter().map(f64::from))
            });
        }
    }
}

fn decoding(run: &mut Run, model: &MoVqGan, decode: &Fixture) {
    for case in decode.prefixes() {
        let name = |part: &str| format!("{case}.{part}");
        if !decode.has(&name("codes")) {
            continue;
        }
        let label = |part: &str| format!("decode.safetensors: {case}.{part}");
        let zq = || {
            let tensor = decode.tensor(&name("codes"))?;
            let [h, w] = tensor.shape[..] else {
                return Err(format!("shape {:?} is not (h, w)", tensor.shape));
            };
            model.code_vectors(&codes(&tensor), h, w).map_err(|error| error.to_string())
        };
        if decode.has(&name("zq")) {
            run.check(&label("zq"), 0.0, |_| {
                decode.tensor(&name("zq"))?.differing(zq()?.to_chw().into_iter().map(f64::from))
            });
        }
        let mut rendered = None;
        if decode.has(&name("out")) {
            run.check(&label("out"), OUTPUT, |pool| {
                let out = rendered.insert(model.render(&zq()?, pool, &mut Trace::off()));
                decode.tensor(&name("out"))?.worst(&out.to_chw(), OUTPUT, 0.0)
            });
        }
        if decode.has(&name("u8")) {
            run.check(&label("u8: share off by one level"), BYTES_SHARE, |pool| {
                let out = match rendered {
                    Some(out) => out,
                    None => model.render(&zq()?, pool, &mut Trace::off()),
                };
                bytes_off(&picture(decode, &name("u8"))?, &to_image(&out))
            });
        }
    }
}

/// The share of bytes that differ; more than one level anywhere is an error.
fn bytes_off(expected: &RgbImage, got: &RgbImage) -> Result<f64, String> {
    if (expected.width, expected.height) != (got.width, got.height) {
        return Err(format!(
            "the picture is {}x{}, not {}x{}",
            got.width, got.height, expected.width, expected.height
        ));
    }
    let off: Vec<u8> = expected.data.iter().zip(&got.data).map(|(a, b)| a.abs_diff(*b)).collect();
    match off.iter().max() {
        Some(&worst) if worst > 1 => Err(format!("a value is off by {worst} levels")),
        _ => Ok(off.iter().filter(|&&d| d > 0).count() as f64 / off.len().max(1) as f64),
    }
}

/// Activations of one encoding and one decoding; which ones stands in config.json.
fn activations(
    run: &mut Run,
    model: &MoVqGan,
    stages: &Fixture,
    encode: Option<&Fixture>,
    decode: Option<&Fixture>,
) {
    let config = json::<Value>(&run.dir, "config.json").unwrap_or_default();
    let named = |key: &str, default: &str| config[key].as_str().unwrap_or(default).to_owned();
    let (image, case) = (named("stage_image", "img0"), named("stage_decode_case", "case0"));
    let mut seen: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    run.check("stages.safetensors: run", 0.0, |pool| {
        let mut keep = |name: &str, map: &crate::movqgan::map::Map| {
            drop(seen.insert(name.to_owned(), map.to_chw()))
        };
        let mut trace = Trace::to(&mut keep);
        if let Some(encode) = encode.filter(|f| f.has(&format!("{image}.u8"))) {
            model.latents(&to_map(&picture(encode, &format!("{image}.u8"))?), pool, &mut trace);
        }
        if let Some(decode) = decode.filter(|f| f.has(&format!("{case}.codes"))) {
            let tensor = decode.tensor(&format!("{case}.codes"))?;
            let [h, w] = tensor.shape[..] else {
                return Err(format!("shape {:?} is not (h, w)", tensor.shape));
            };
            let zq =
                model.code_vectors(&codes(&tensor), h, w).map_err(|error| error.to_string())?;
            model.render(&zq, pool, &mut trace);
        }
        Ok(0.0)
    });
    for name in stages.names() {
        let label = format!("stages.safetensors: {name}");
        // A resampling module is its convolution.
        let got = seen.get(name).or_else(|| seen.get(name.strip_suffix(".conv")?));
        match got {
            Some(got) => {
                run.check(&label, STAGE, |_| stages.tensor(name)?.worst(got, STAGE, STAGE))
            }
            None => run.report.not_covered(
                &label,
                "no such activation is computed, or its input is not in the folder",
            ),
        }
    }
}
