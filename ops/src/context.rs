//! What every verb gets.

use crate::config::Config;
use crate::ui::Ui;

/// How to talk, and what is configured.
#[derive(Clone)]
pub struct Context {
    /// How to talk.
    pub ui: Ui,
    /// What is configured.
    pub config: Config,
    /// How often `-v` was given.
    pub verbose: u8,
}
