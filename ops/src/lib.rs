//! The one program: every verb a user types.
//!
//! Promise: standard output is data, standard error is for people, and the exit code is one of [`exit::Exit`].
//! Main path: [`cli`] says what was typed, [`config`] what is meant, and one function of [`commands`] does it.
//! It knows every other package; none knows it.

#![forbid(unsafe_code)]

pub mod cli;
pub mod commands;
pub mod config;
pub mod connect;
pub mod context;
pub mod exit;
pub mod failure;
pub mod local;
pub mod logging;
pub mod models;
pub mod output;
mod secret;
pub mod spec_file;
pub mod ui;
pub mod units;
pub mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

/// Runs the program with `args`, the program's own name first.
///
/// # Panics
/// Only on a bug.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // Before anything else is set up: this process is the small, limited child of a worker.
    if args.get(1).is_some_and(|verb| verb == "decode-image") {
        return commands::decode_image();
    }
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output with code 0, mistakes to standard error with code 2.
            let _ = error.print();
            return if error.use_stderr() {
                exit::Exit::Usage.into()
            } else {
                exit::Exit::Ok.into()
            };
        }
    };
    let ui = ui::Ui::new(cli.global.quiet, cli.global.no_color);
    match commands::dispatch(ui, cli) {
        Ok(exit) => exit.into(),
        Err(error) => failure::report(&ui, &error).into(),
    }
}
