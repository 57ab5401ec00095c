//! The system's own client, as users have it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

fn client(url: &str) -> Command {
    let mut command = Command::new("psql");
    command.args([
        "--no-psqlrc",
        "--quiet",
        "--tuples-only",
        "--no-align",
        "--set=ON_ERROR_STOP=1",
    ]);
    command.arg(url);
    command
}

/// Runs SQL and returns what psql prints, unaligned.
///
/// # Panics
/// When psql cannot be run or the server refuses; the panic carries its words.
pub fn psql(url: &str, sql: &str) -> String {
    try_psql(url, sql).unwrap_or_else(|error| panic!("psql: {error}\n{sql}"))
}

/// Like [`psql`], with the server's refusal as an error.
///
/// # Errors
/// What psql printed on standard error.
pub fn try_psql(url: &str, sql: &str) -> Result<String, String> {
    let output = client(url)
        .args(["--command", sql])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A psql that stays open: for tests that run thousands of statements.
#[derive(Debug)]
pub struct Session {
    psql: Child,
    answers: BufReader<ChildStdout>,
}

impl Session {
    pub(crate) fn open(url: &str) -> Self {
        let mut psql = client(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("psql can be run");
        let answers = BufReader::new(psql.stdout.take().expect("its output is piped"));
        Self { psql, answers }
    }

    /// Runs statements that answer nothing, and waits for their end.
    ///
    /// # Panics
    /// When one fails: psql ends then.
    pub fn run(&mut self, statements: &str) {
        let input = self.psql.stdin.as_mut().expect("its input is piped");
        writeln!(input, "{statements}\n\\echo done").expect("psql reads");
        let mut line = String::new();
        while line.trim() != "done" {
            line.clear();
            let read = self.answers.read_line(&mut line).expect("psql answers");
            assert!(read > 0, "psql ended at {statements}");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.psql.stdin.take());
        let _ended = self.psql.wait();
    }
}
