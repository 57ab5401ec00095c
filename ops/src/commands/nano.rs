//! `nano`: toy scenes with known truth.

use anyhow::Context;
use nightshift_engine::image::png::{self, Pixels};

use crate::cli::{NanoVerb, ScenesArgs};
use crate::exit::{Exit, Failure};
use crate::ui::Ui;
use nightshift_nano::sample::Sample;
use nightshift_nano::sheet;
use nightshift_nano::store::Store;

/// Scenes on the contact sheet.
const SHEET: u64 = 12;

/// Runs a `nano` verb.
///
/// # Errors
/// A folder that is there already or cannot be written.
pub fn run(ui: Ui, verb: &NanoVerb) -> anyhow::Result<Exit> {
    match verb {
        NanoVerb::Scenes(args) => scenes(ui, args),
    }
}

fn scenes(ui: Ui, args: &ScenesArgs) -> anyhow::Result<Exit> {
    let dir = &args.dir;
    if dir.exists() {
        let message = format!("{} is already there", dir.display());
        return Err(Failure::new(Exit::Refused, message).help("choose a new folder").into());
    }
    let failed = || format!("cannot write to {}", dir.display());
    std::fs::create_dir_all(dir).with_context(failed)?;
    let mut store = Store::create(dir, args.count).with_context(failed)?;
    let mut rows = Vec::new();
    let mut captions = String::new();
    for seed in args.first..args.first + args.count {
        let sample = Sample::new(seed);
        store.push(&sample).with_context(failed)?;
        if args.png && seed - args.first < SHEET {
            rows.push(sheet::row(&sample));
            captions += &format!(
                "{seed}: {} | {} | {}: {}\n",
                sample.caption.text,
                sample.edit.instruction,
                sample.subject.description,
                sample.subject.caption
            );
        }
    }
    store.finish().with_context(failed)?;
    if args.png {
        let image = sheet::sheet(&rows);
        let bytes = png::write(Pixels::Rgb8(image.as_raw()), image.width(), image.height(), &[]);
        std::fs::write(dir.join("sheet.png"), bytes).with_context(failed)?;
        std::fs::write(dir.join("sheet.txt"), captions).with_context(failed)?;
    }
    ui.note(&format!("wrote {} scenes to {}", args.count, dir.display()));
    Ok(Exit::Ok)
}
