//! `model`: comparing, writing, converting and measuring model folders.

mod memory;

use std::io::Write;
use std::path::Path;

use nightshift_engine::conform::{self, Check, Status};
use nightshift_engine::quantise;
use nightshift_engine::random::Options;

use crate::cli::ModelVerb;
use crate::exit::{Exit, Failure};
use crate::models::{write_random_with, write_whole};
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
            format!("{}: nothing to compare; it has no golden file of a known name", dir.display());
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
        let message = format!("{}: not a model folder: it has no config.json", from.display());
        return Err(Failure::new(Exit::NotFound, message).into());
    }
    write_whole(to, |unfinished| Ok(quantise::quantise(from, unfinished)?))?;
    ui.note(&format!("wrote {} in 4 bits", to.display()));
    Ok(Exit::Ok)
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
