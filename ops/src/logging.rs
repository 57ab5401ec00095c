//! Where log lines go: standard error for a service, a file for the local system.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Starts logging; `file` is appended to. Only the first call of a process has an effect.
///
/// # Errors
/// [`Exit::Usage`] when the filter cannot be read; the file cannot be opened.
pub fn init(context: &Context, file: Option<&Path>) -> anyhow::Result<()> {
    let configured = context.config.get("log").unwrap_or("warn");
    let words = match (context.ui.quiet, context.verbose) {
        (true, _) => "error".to_owned(),
        (false, 0) => configured.to_owned(),
        (false, 1) => format!("{configured},nightshift=debug"),
        (false, _) => format!("{configured},nightshift=trace"),
    };
    let filter = EnvFilter::try_new(&words)
        .map_err(|error| Failure::new(Exit::Usage, format!("log filter \"{words}\": {error}")))?;
    let writer = match file {
        None => BoxMakeWriter::new(std::io::stderr),
        Some(path) => {
            let file = File::options()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            BoxMakeWriter::new(Arc::new(file))
        }
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(file.is_none() && context.ui.color)
        .with_writer(writer);
    // Fails only when logging has started before, which is fine.
    let _ = log.try_init();
    Ok(())
}
