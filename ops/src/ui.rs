//! Standard error is conversation: notes, errors and progress, for people.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often progress is printed without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// How to talk to the person at the terminal.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    /// Errors only.
    pub quiet: bool,
    /// Colours are wanted and possible.
    pub color: bool,
    /// Standard error is a terminal.
    pub terminal: bool,
}

impl Ui {
    /// From the flags and the surroundings of this process.
    #[must_use]
    pub fn new(quiet: bool, no_color: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let forbidden =
            no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { quiet, color: terminal && !forbidden, terminal }
    }

    /// A message about what happens; left out with `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.write(text);
        }
    }

    /// `error: ...` and `help: ...`.
    pub fn error(&self, message: &str, help: Option<&str>) {
        let head = if self.color { "\u{1b}[1;31merror\u{1b}[0m" } else { "error" };
        self.write(&format!("{head}: {message}"));
        if let Some(help) = help {
            self.write(&format!("help: {help}"));
        }
    }

    /// `warning: ...`; left out with `--quiet`.
    pub fn warning(&self, message: &str) {
        let head = if self.color { "\u{1b}[1;33mwarning\u{1b}[0m" } else { "warning" };
        self.note(&format!("{head}: {message}"));
    }

    /// A text of several lines as it is, such as rendered spec errors.
    pub fn write(&self, text: &str) {
        // Nobody is left to be told when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{}", text.trim_end_matches('\n'));
    }
}

/// Progress of one job: a bar on a terminal, else a line every 30 seconds.
pub struct Progress {
    ui: Ui,
    name: String,
    bar: Option<ProgressBar>,
    last_line: Instant,
    last_done: u64,
}

impl Progress {
    /// Starts to tell about the job `name`.
    #[must_use]
    pub fn new(ui: Ui, name: String) -> Self {
        let bar = (ui.terminal && !ui.quiet).then(|| {
            let style = if ui.color {
                "{spinner:.green} {prefix} [{bar:30.green}] {pos}/{len} {msg} {elapsed}"
            } else {
                "{spinner} {prefix} [{bar:30}] {pos}/{len} {msg} {elapsed}"
            };
            let bar = ProgressBar::new(0);
            bar.set_style(
                ProgressStyle::with_template(style)
                    .expect("the template is fixed")
                    .progress_chars("=> "),
            );
            bar.set_prefix(name.clone());
            bar
        });
        Self { ui, name, bar, last_line: Instant::now(), last_done: 0 }
    }

    /// Shows the progress of the job.
    pub fn update(&mut self, state: &str, done: u64, failed: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(if failed > 0 {
                format!("{failed} failed, {state}")
            } else {
                state.to_owned()
            });
            bar.tick();
        } else if self.last_line.elapsed() >= LINE_EVERY {
            let rate = (done - self.last_done.min(done)) as f64
                / self.last_line.elapsed().as_secs_f64()
                * 60.0;
            self.ui.note(&format!(
                "{}: {state}, {done} of {total} items, {failed} failed, {rate:.1} items/min",
                self.name
            ));
            self.last_line = Instant::now();
            self.last_done = done;
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
