//! Inputs: the rows of a shard, and the image of an item, fetched and fitted.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

use nightshift_engine::RgbImage;
use nightshift_jobs::{GivenPanel, InputRow, Size};
use nightshift_objects::{Error as ObjectError, S3Uri, sha256_hex};
use nightshift_store::{InputChunk, Lease, signed, unsigned};
use serde::{Deserialize, Serialize};

use super::decode::decode;
use super::decode_child::Facts;
use crate::failure::{Failure, ShardError, Stop};
use crate::work::Work;

/// Bytes of one unpacked chunk; the scheduler packs at most 1,000 rows into one.
const CHUNK_BYTES_MAX: u64 = 256 << 20;
/// Neighbours that are asked for whether an input alone is refused, and how long one may take.
const NEIGHBOURS_MAX: usize = 3;
const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(5);
/// How long the failures of an endpoint are not held against one object.
const OUTAGE_MAX: Duration = Duration::from_secs(45);

/// An upper panel with what is worth knowing of its picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) panel: RgbImage,
    pub(crate) facts: GivenFacts,
}

/// Facts of a given picture. Travels with the item's row and with its objects, so that an adopted object keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GivenFacts {
    /// Hex, of the whole stored object.
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
    #[serde(flatten)]
    pub(crate) picture: Facts,
}

/// The input rows `from..to` by index.
///
/// # Errors
/// [`ShardError`]; `bad_chunk` when the stored chunks cannot be read or lack a row.
pub(crate) async fn rows(
    work: &Work<'_>,
    lease: &Lease,
    from: u64,
    to: u64,
) -> Result<BTreeMap<u64, InputRow>, ShardError> {
    let store = &work.shared.store;
    let chunks = work.patiently(|| store.inputs(lease, signed(from), signed(to))).await?;
    let mut rows = BTreeMap::new();
    for chunk in &chunks {
        for row in unpack(chunk)? {
            if (from..to).contains(&row.index) {
                rows.insert(row.index, row);
            }
        }
    }
    match rows.len() as u64 == to - from {
        true => Ok(rows),
        false => Err(bad_chunk(format!("some of the input rows {from}..{to} are missing"))),
    }
}

fn unpack(chunk: &InputChunk) -> Result<Vec<InputRow>, ShardError> {
    let mut text = String::new();
    let mut unpacked =
        flate2::read::MultiGzDecoder::new(chunk.data.as_slice()).take(CHUNK_BYTES_MAX);
    unpacked.read_to_string(&mut text).map_err(bad_chunk)?;
    let first = unsigned(chunk.first_row);
    text.lines()
        .zip(first..)
        .map(|(line, index)| {
            let row: InputRow = serde_json::from_str(line).map_err(bad_chunk)?;
            match row.index == index {
                true => Ok(row),
                false => Err(bad_chunk(format!("row {index} is numbered {}", row.index))),
            }
        })
        .collect()
}

fn bad_chunk(why: impl std::fmt::Display) -> ShardError {
    ShardError::failed("bad_chunk", format!("the stored input cannot be read: {why}"))
}

/// Fetches and fits the upper panel of an item. `neighbours` are other inputs of its shard: what they meet too is no fault of this one.
///
/// # Errors
/// The lease ended, the store does not know this worker, or the place or this machine is in trouble. The item's own failure is
/// `input_forbidden`, `input_missing`, `input_changed`, `input_too_large`, `input_denied`, or a code of the decoder.
pub(crate) async fn given(
    work: &Work<'_>,
    wanted: &GivenPanel,
    picture: Size,
    neighbours: &[S3Uri],
) -> Result<Given, Stop> {
    if !work.job.may_read(&wanted.uri) {
        let message = format!("{} is not under any input prefix of this tenant", wanted.uri);
        return Err(Failure::own("input_forbidden", message).into());
    }
    let uri: S3Uri = (wanted.uri.parse())
        .map_err(|error| Failure::bad_input("input_missing", format!("{error}")))?;
    let config = &work.shared.config;
    let (limit, etag) = (config.input.max_bytes, wanted.etag.as_deref());
    let begun = Instant::now();
    let read = || async {
        match work.shared.objects.get(&uri, limit, etag).await {
            Err(error @ ObjectError::Unauthenticated { .. }) => Err(error),
            Err(error) if error.is_of_the_place() => {
                // Only what its neighbours do not meet is this object's own fault, and an outage may spare them for a moment.
                let lasts = !error.is_transient() || begun.elapsed() > OUTAGE_MAX;
                match lasts && are_served(work, &uri, neighbours).await {
                    // The place may have recovered between the two questions.
                    true => match work.shared.objects.get(&uri, limit, etag).await {
                        Err(again @ ObjectError::Unauthenticated { .. }) => Err(again),
                        done => Ok(done),
                    },
                    false => Err(error),
                }
            }
            done => Ok(done),
        }
    };
    let failed = |error: ObjectError| Failure::bad_input(code_of(&error), error.to_string());
    let got = work.reading(&uri, read).await?.map_err(failed)?;
    let (sha256, bytes) = (sha256_hex(&got.body), got.bytes);
    let panel = Size { width: picture.width, height: picture.height / 2 };
    let (panel, picture) = work.guard.run(decode(config, got.body, panel, wanted.fit)).await??;
    Ok(Given { panel, facts: GivenFacts { sha256, bytes, picture } })
}

/// Whether one of the other inputs of a shard is served at the moment.
async fn are_served(work: &Work<'_>, uri: &S3Uri, neighbours: &[S3Uri]) -> bool {
    let others =
        neighbours.iter().filter(|other| *other != uri && work.job.may_read(&other.to_string()));
    for other in others.take(NEIGHBOURS_MAX) {
        let head = tokio::time::timeout(NEIGHBOUR_PATIENCE, work.shared.objects.head(other));
        if matches!(head.await, Ok(Ok(Some(_)))) {
            return true;
        }
    }
    false
}

fn code_of(error: &ObjectError) -> &'static str {
    match error {
        ObjectError::NotFound { .. } | ObjectError::Uri(_) => "input_missing",
        ObjectError::Changed { .. } => "input_changed",
        ObjectError::TooLarge { .. } => "input_too_large",
        ObjectError::Denied { .. } => "input_denied",
        _ => "input_unreadable",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn chunk(lines: &str) -> InputChunk {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(lines.as_bytes()).unwrap();
        InputChunk { first_row: 5, n_rows: 2, data: packed.finish().unwrap() }
    }

    #[test]
    fn rows_are_read_in_order_and_checked() {
        let rows = unpack(&chunk("{\"index\":5,\"id\":\"a\"}\n{\"index\":6}\n")).unwrap();
        assert_eq!((rows[0].id.as_deref(), rows[1].index), (Some("a"), 6));
        for broken in ["{\"index\":6}\n", "{}", "nonsense"] {
            let error = unpack(&chunk(broken)).unwrap_err();
            assert!(matches!(error, ShardError::Failed { code: "bad_chunk", .. }), "{error}");
        }
    }
}
