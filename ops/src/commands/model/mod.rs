//! `model`: comparing, writing, converting and measuring model folders.

mod memory;

use std::io::Write;
use std::path::Path;

use nightshift_engine::conform::{self, Check, Status};
use nightshift_engine::quantise;
use nightshift_engine::random::{self, ImageTokenizerSize, Options, Preset};

use crate::cli::ModelVerb;
use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// Runs a `model` verb.
///
/// # Errors
/// A folder that is missing, already there or cannot be written.
pub fn run(ui: Ui, verb: &ModelVerb) -> anyhow::Result<Exit> {
    match verb {
        ModelVerb::Conform { dir, kind } => conform(ui, dir, kind.as_deref()),
        ModelVerb::Random { dir, preset, sharp, tokenizer, seed } => {
            let options = Options {
                preset: *preset,
                seed: *seed,
                sharp: *sharp,
                image_tokenizer: *tokenizer,
            };
            random(ui, dir, &options)
        }
        ModelVerb::Quantize { from, to } => quantize(ui, from, to),
        ModelVerb::Memory(args) => memory::run(args),
    }
}

fn conform(ui: Ui, dir: &Path, kind: Option<&str>) -> anyhow::Result<Exit> {
    if !dir.is_dir() {
        return Err(
            Failure::new(Exit::NotFound, format!("{}: no such folder", dir.display())).into()
        );
    }
    let mut checks = Vec::new();
    if kind != Some("movqgan") {
        checks.extend(conform::transformer(dir));
    }
    if kind != Some("transformer") {
        checks.extend(conform::movqgan(dir));
    }
    if checks.is_empty() {
        let message =
            format!("{}: nothing to compare: no golden file of a known name", dir.display());
        return Err(Failure::new(Exit::NotFound, message)
            .help("the folder is one like tests/conformance/golden/transformer")
            .into());
    }
    print(&mut std::io::stdout().lock(), &checks)?;
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let failed = count(Status::Fail);
    ui.note(&format!(
        "{} ok, {failed} failed, {} not covered",
        count(Status::Ok),
        count(Status::NotCovered)
    ));
    Ok(if failed > 0 { Exit::ItemsFailed } else { Exit::Ok })
}

fn print(out: &mut dyn Write, checks: &[Check]) -> std::io::Result<()> {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in checks {
        let word = match check.status {
            Status::Ok => "ok",
            Status::Fail => "FAIL",
            Status::NotCovered => "not covered",
        };
        let line = format!(
            "{:<width$}  {:>10.3e}  {:>10.3e}  {word}  {}",
            check.name, check.worst, check.tolerance, check.note
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn random(ui: Ui, dir: &Path, options: &Options) -> anyhow::Result<Exit> {
    write_random_with(dir, options)?;
    ui.note(&format!("wrote a random model to {}: its pictures are noise", dir.display()));
    Ok(Exit::Ok)
}

fn quantize(ui: Ui, from: &Path, to: &Path) -> anyhow::Result<Exit> {
    if !from.join("config.json").is_file() {
        let message = format!("{}: no config.json, so no model folder", from.display());
        return Err(Failure::new(Exit::NotFound, message).into());
    }
    write_whole(to, |unfinished| Ok(quantise::quantise(from, unfinished)?))?;
    ui.note(&format!("wrote {} in 4 bits", to.display()));
    Ok(Exit::Ok)
}

/// Writes a small random model.
///
/// # Errors
/// The folder is there already, or a file cannot be written.
pub fn write_random(dir: &Path, seed: u64) -> anyhow::Result<()> {
    let options = Options {
        preset: Preset::Tiny,
        seed,
        sharp: false,
        image_tokenizer: ImageTokenizerSize::Small,
    };
    write_random_with(dir, &options)
}

/// Writes a random model of any size.
///
/// # Errors
/// As [`write_random`].
pub fn write_random_with(dir: &Path, options: &Options) -> anyhow::Result<()> {
    write_whole(dir, |to| Ok(random::write_with(to, options)?))
}

/// Lets `write` fill a new folder so that `dir` appears only when it is whole.
fn write_whole(dir: &Path, write: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if dir.exists() {
        let message = format!("{} is already there", dir.display());
        return Err(Failure::new(Exit::Refused, message).help("choose a new folder").into());
    }
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = dir.with_file_name(format!(".{name}.{}", std::process::id()));
    let whole = write(&unfinished).and_then(|()| Ok(std::fs::rename(&unfinished, dir)?));
    whole.map_err(|error| {
        // A half-written folder is of no use to anyone; that it is gone matters less than why writing failed.
        let _ = std::fs::remove_dir_all(&unfinished);
        Failure::new(Exit::Usage, format!("cannot write a model to {}: {error}", dir.display()))
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_check() {
        let check = |name: &str, worst, status, note: &str| Check {
            name: name.to_owned(),
            worst,
            tolerance: 1e-4,
            status,
            note: note.to_owned(),
        };
        let checks = [
            check("forward: logits", 3.2e-5, Status::Ok, ""),
            check("greedy: tokens", 2.0, Status::Fail, "first at 17"),
            check("int4: codes", 0.0, Status::NotCovered, "no int4 in this build"),
        ];
        let mut out = Vec::new();
        print(&mut out, &checks).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
        forward: logits    3.200e-5    1.000e-4  ok
        greedy: tokens      2.000e0    1.000e-4  FAIL  first at 17
        int4: codes         0.000e0    1.000e-4  not covered  no int4 in this build
        ");
    }
}
