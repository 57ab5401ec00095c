//! `bench`: figures about this machine and this build.

mod engine;
mod queue;

use crate::cli::BenchVerb;
use crate::exit::Exit;
use crate::ui::Ui;

/// Runs a `bench` verb.
///
/// # Errors
/// What is to be measured cannot be run.
pub fn run(ui: Ui, verb: &BenchVerb) -> anyhow::Result<Exit> {
    match verb {
        BenchVerb::Engine(args) => engine::run(ui, args),
        BenchVerb::Queue(args) => super::block_on(queue::run(ui, args)),
    }
}
