//! `completion`: a script for the shell.

use std::io::Write;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::exit::Exit;

/// Prints the completion script of `shell`.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    // Into memory first: the generator panics when its writer fails, and a reader like `head` may leave early.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "nightshift", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Ok)
}
