//! Who is told of what.

use serde::{Deserialize, Serialize};

/// One receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// `https://` or `http://` address.
    pub webhook: String,
    /// What it is told of.
    pub events: Vec<NotifyEvent>,
    /// Name of the secret that signs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secret_env: Option<String>,
}

/// What is worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotifyEvent {
    /// The first shard was claimed.
    Started,
    /// All items are final, some of them perhaps failed.
    Finished,
    /// The job was stopped by a limit, or could not be closed.
    Failed,
    /// A user stopped it.
    Cancelled,
    /// Four fifths of `limits.max_gpu_hours` are used.
    #[serde(rename = "budget_80")]
    Budget80,
}

/// What is told when the spec does not say.
pub(crate) const DEFAULT_EVENTS: [NotifyEvent; 2] = [NotifyEvent::Finished, NotifyEvent::Failed];

crate::words::names!(NotifyEvent {
    Started => "started", Finished => "finished", Failed => "failed", Cancelled => "cancelled", Budget80 => "budget_80",
});
