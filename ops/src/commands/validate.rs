//! `validate`: every mistake of every file, without any server.

use std::io::Write;
use std::path::PathBuf;

use crate::exit::Exit;
use crate::spec_file::SpecFile;
use crate::ui::Ui;

/// Checks the files. Mistakes and warnings go to standard error; a valid file is one line on standard output.
///
/// # Errors
/// A file that cannot be read, or standard output that cannot be written.
pub fn run(ui: Ui, files: &[PathBuf], runnable: bool) -> anyhow::Result<Exit> {
    let mut worst = Exit::Ok;
    let mut out = std::io::stdout().lock();
    for path in files {
        let file = match SpecFile::read(path) {
            Ok(file) => file,
            Err(failure) => {
                ui.error(&failure.message, failure.help.as_deref());
                worst = if worst == Exit::Ok { failure.exit } else { worst };
                continue;
            }
        };
        match nightshift_jobs::parse(&file.name, &file.text) {
            Err(errors) => {
                ui.write(&errors.to_string());
                worst = Exit::Usage;
            }
            Ok(parsed) => {
                for warning in &parsed.warnings {
                    ui.note(&warning.render(&file.name, &file.text));
                }
                let lacks = nightshift_scheduler::cannot_run(&file.name, &file.text, &parsed);
                if let Some(words) = &lacks {
                    ui.write(words);
                    worst = if runnable { Exit::Usage } else { worst };
                }
                let note =
                    if lacks.is_some() { "valid; this build cannot run it" } else { "valid" };
                writeln!(out, "{}: {note}", file.name)?;
            }
        }
    }
    Ok(worst)
}
