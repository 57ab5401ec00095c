//! `up`: the local system, until someone stops it.

use std::io::Write;

use crate::config::worker::worker_config;
use crate::connect;
use crate::context::Context;
use crate::exit::Exit;
use crate::local::{Options, System};

/// Starts everything, says how to talk to it, and stays.
///
/// # Errors
/// What keeps the system from starting, or why it broke.
pub async fn run(context: Context, s3_port: u16) -> anyhow::Result<Exit> {
    let worker = worker_config(&context.config)?;
    let mut system = tokio::select! {
        system = System::start(&context, Options { s3_port, worker }) => system?,
        () = connect::interrupted() => return Ok(Exit::Interrupted),
    };
    {
        let mut out = std::io::stdout().lock();
        writeln!(out, "# the local system is up; in another shell:")?;
        writeln!(out, "source {}", system.env_file().display())?;
        writeln!(out, "# which sets (passwords are only in that file):")?;
        for line in system.env_shown() {
            writeln!(out, "# {line}")?;
        }
        writeln!(
            out,
            "# then: nightshift submit SPEC, nightshift ps, psql \"$DATABASE_URL\"; as the owner of the database: nightshift admin"
        )?;
        writeln!(out, "# objects are plain files below {}", system.folder_of("").display())?;
        out.flush()?;
    }
    let broken = tokio::select! {
        error = system.broken() => Some(error),
        () = connect::interrupted() => None,
    };
    context
        .ui
        .note("stopping; pictures in progress will be finished (interrupt again to drop them)");
    system.stop(connect::interrupted()).await?;
    match broken {
        Some(error) => Err(error),
        None => Ok(Exit::Ok),
    }
}
