//! A password on its way to the database. It is never printed, and never an argument.

use std::io::{BufRead, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::cli::PasswordArgs;
use crate::exit::{Exit, Failure};
use crate::secret::random_password;

/// A password, and the file that was made for it.
pub(super) struct Password {
    text: String,
    file: Option<PathBuf>,
}

impl Password {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Removes the file: the login was not made.
    pub(super) fn discard(self) {
        if let Some(path) = self.file {
            let _left_behind = std::fs::remove_file(path);
        }
    }
}

/// Whether one was asked for at all.
pub(super) fn given(typed: &PasswordArgs) -> bool {
    typed.password_stdin || typed.password_env.is_some() || typed.password_file.is_some()
}

/// Reads or makes the password.
///
/// # Errors
/// [`Exit::Usage`] when no password is given, or the file exists.
pub(super) fn take(typed: &PasswordArgs) -> anyhow::Result<Password> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    let read = |text: String, from: &str| match text.trim_end_matches(['\r', '\n']) {
        "" => Err(usage(format!("{from} holds no password"))),
        text => Ok(Password { text: text.to_owned(), file: None }),
    };
    if let Some(path) = &typed.password_file {
        let text = random_password()?;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        return Ok(Password { text, file: Some(path.clone()) });
    }
    if let Some(name) = &typed.password_env {
        return Ok(read(std::env::var(name).unwrap_or_default(), name)?);
    }
    if typed.password_stdin {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        return Ok(read(line, "standard input")?);
    }
    Err(usage("a login needs a password".to_owned())
        .help("give --password-file FILE, --password-env VARIABLE or --password-stdin")
        .into())
}
