//! The rows of items whose objects are stored.

use std::time::Duration;

use nightshift_jobs::{Decoding, Item, Window};
use nightshift_store::{Artifact, ItemReport, ItemStatus, signed};
use serde_json::{Map, Value, json};

use super::inputs::GivenFacts;
use crate::job::Job;

/// The row of an item whose objects are stored; the caller adds what the engine spent.
pub(super) fn ok(
    job: &Job,
    item: &Item,
    artifacts: Vec<Artifact>,
    given: Option<&GivenFacts>,
) -> ItemReport {
    ItemReport {
        index: signed(item.index),
        status: ItemStatus::Ok,
        item_id: Some(item.item_id.clone()),
        seed: Some(signed(item.seed)),
        fingerprint: Some(job.fingerprint.clone()),
        error_code: None,
        error_message: None,
        artifacts,
        gpu_ms: None,
        tokens: None,
        steps: None,
        info: info(item, given),
    }
}

/// The row's `info`: the input that was read, and the window that is part of a coupled result.
fn info(item: &Item, given: Option<&GivenFacts>) -> Option<Value> {
    let mut info = Map::new();
    if let Some(facts) = given {
        info.insert("input".to_owned(), json!(facts));
    }
    if let (Decoding::Coupled, Window::Fixed(positions)) =
        (item.sampler.decoding, item.sampler.window)
    {
        info.insert("window".to_owned(), json!(positions));
    }
    (!info.is_empty()).then(|| info.into())
}

/// What the engine spent on an item.
pub(super) struct Spent {
    pub(super) busy: Duration,
    pub(super) tokens: u32,
    pub(super) steps: u32,
}

impl Spent {
    /// The row with these numbers as the database keeps them.
    pub(super) fn on(self, row: ItemReport) -> ItemReport {
        let clamp = |n: u128| Some(i32::try_from(n).unwrap_or(i32::MAX));
        ItemReport {
            gpu_ms: clamp(self.busy.as_millis()),
            tokens: clamp(self.tokens.into()),
            steps: clamp(self.steps.into()),
            ..row
        }
    }
}
