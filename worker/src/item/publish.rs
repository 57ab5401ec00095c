//! A picture that the engine has drawn becomes the objects and the row of its item.

use std::sync::Arc;
use std::time::Duration;

use nightshift_engine::Picture;
use nightshift_store::{ItemReport, ItemStatus};

use super::feed::Prepared;
use super::render::{self, File};
use super::{report, sink};
use crate::failure::{Failure, ShardError, Stop};
use crate::lease::Guard;
use crate::shared::Shared;
use crate::work::Work;

/// Encodes and stores a picture. `busy` is the engine's time for it.
///
/// # Errors
/// [`ShardError`]: the lease ended, or the destination refuses writes. A failure of the item is its row.
pub(crate) async fn publish(
    shared: &Shared,
    guard: &Guard,
    prepared: Prepared,
    picture: Box<Picture>,
    busy: Duration,
) -> Result<ItemReport, ShardError> {
    let spent = report::Spent { busy, tokens: picture.tokens, steps: picture.steps };
    let work = Work { shared, guard, job: Arc::clone(&prepared.job) };
    let (item, given) = (&prepared.item, prepared.given.as_ref().map(|given| &given.facts));
    let stored = async {
        let files = render(&prepared, picture).await?;
        sink::publish(&work, item, files, given).await
    };
    let row = match stored.await {
        Ok(artifacts) => report::ok(&work.job, item, artifacts, given),
        Err(Stop::Item(failure)) => failure.report(item.index, Some(item), ItemStatus::Failed),
        Err(Stop::Shard(error)) => return Err(error),
    };
    Ok(spent.on(row))
}

/// Runs off the async threads: encoding takes longer than a poll may.
async fn render(prepared: &Prepared, picture: Box<Picture>) -> Result<Vec<File>, Failure> {
    let (job, item, given) =
        (Arc::clone(&prepared.job), prepared.item.clone(), prepared.given.clone());
    let rendered = tokio::task::spawn_blocking(move || {
        let Some(image) = picture.image else {
            return Err(Failure::own(
                "no_image_tokenizer",
                "the model was loaded without its image tokenizer",
            ));
        };
        render::files(&item, &image, given.as_deref(), job.origin())
    });
    rendered.await.unwrap_or_else(|error| Err(Failure::own("render_panic", error.to_string())))
}
