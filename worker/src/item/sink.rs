//! Publication: files become objects of deterministic keys, written once, and recognised when they are there already.
//!
//! The row in the database is the truth; the conditions of the object store are a second wall. Nothing is sent for a lease
//! that is not trusted any more.

use std::collections::{BTreeMap, BTreeSet};

use nightshift_jobs::Item;
use nightshift_objects::{Error as ObjectError, ObjectInfo, Put, PutOutcome, S3Uri, SHA256_KEY};
use nightshift_store::{Artifact, signed};

use super::inputs::GivenFacts;
use super::render::File;
use crate::failure::{Failure, ShardError, Stop, Unserved};
use crate::job::Job;
use crate::work::Work;

/// Metadata names on every object.
const ITEM_KEY: &str = "item-id";
const SPEC_KEY: &str = "spec-sha256";
const FINGERPRINT_KEY: &str = "fingerprint";
const INPUT_KEY: &str = "input";

/// Pages of a listing before single questions are cheaper.
const LIST_PAGES_MAX: usize = 10;
/// How often an object may vanish between "it is there" and the look at it.
const VANISH_MAX: usize = 3;

/// Stores the files of an item.
///
/// # Errors
/// The lease ended, or the destination refuses writes; the item's own failure is `key_conflict` when another object has its key,
/// `bad_key` when the key cannot be sent.
pub(crate) async fn publish(
    work: &Work<'_>,
    item: &Item,
    files: Vec<File>,
    given: Option<&GivenFacts>,
) -> Result<Vec<Artifact>, Stop> {
    let mut artifacts = Vec::with_capacity(files.len());
    for file in files {
        let how = Put {
            create_only: work.has_conditions() && !work.job.overwrites(),
            content_type: file.content_type.to_owned(),
            metadata: metadata(&work.job, item, &file, given),
        };
        artifacts.push(publish_file(work, item, &file, &how).await?);
    }
    Ok(artifacts)
}

async fn publish_file(
    work: &Work<'_>,
    item: &Item,
    file: &File,
    how: &Put,
) -> Result<Artifact, Stop> {
    let (job, objects) = (&work.job, &work.shared.objects);
    let uri = job.uri(&file.key);
    let role = file.role.as_str();
    // Where conditions cannot be relied on, look first: the fence alone keeps writers apart.
    let mut look = !work.has_conditions() && !job.overwrites();
    for _ in 0..VANISH_MAX {
        if look && let Some(there) = work.reading(&uri, || objects.head(&uri)).await? {
            let ours = recognise(job, item, &there, role, &file.key);
            return ours.ok_or_else(|| conflict(job, &uri, &there).into());
        }
        match work.writing(&uri, || objects.put(&uri, file.body.clone(), how)).await {
            Ok(PutOutcome::Created) => {
                return Ok(Artifact {
                    role: role.to_owned(),
                    key: file.key.clone(),
                    bytes: signed(file.body.len() as u64),
                    sha256: file.sha256.clone(),
                });
            }
            Ok(PutOutcome::AlreadyExists) => look = true,
            Err(Unserved::Object(error @ ObjectError::Invalid { .. })) => {
                return Err(Failure::own("bad_key", error.to_string()).into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(ShardError::failed("storage", format!("{uri} keeps appearing and vanishing")).into())
}

fn metadata(
    job: &Job,
    item: &Item,
    file: &File,
    given: Option<&GivenFacts>,
) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::from([
        (ITEM_KEY.to_owned(), item.item_id.clone()),
        (SPEC_KEY.to_owned(), job.content_sha256.clone()),
        (FINGERPRINT_KEY.to_owned(), job.fingerprint.clone()),
        (SHA256_KEY.to_owned(), file.sha256.clone()),
    ]);
    if let Some(given) = given {
        let facts = serde_json::to_string(given).expect("plain numbers and text become JSON");
        metadata.insert(INPUT_KEY.to_owned(), facts);
    }
    metadata
}

/// The artifact that an existing object is, when it is this item's under this fingerprint.
fn recognise(
    job: &Job,
    item: &Item,
    there: &ObjectInfo,
    role: &str,
    key: &str,
) -> Option<Artifact> {
    let same = says(there, ITEM_KEY, &item.item_id) && is_of(job, there);
    let sha256 = there.metadata.get(SHA256_KEY).filter(|sha256| sha256.len() == 64 && same)?;
    Some(Artifact {
        role: role.to_owned(),
        key: key.to_owned(),
        bytes: signed(there.bytes),
        sha256: sha256.clone(),
    })
}

fn says(there: &ObjectInfo, name: &str, value: &str) -> bool {
    there.metadata.get(name).is_some_and(|text| text == value)
}

/// Whether an object is a result of this spec under this fingerprint.
fn is_of(job: &Job, there: &ObjectInfo) -> bool {
    says(there, SPEC_KEY, &job.content_sha256) && says(there, FINGERPRINT_KEY, &job.fingerprint)
}

fn conflict(job: &Job, uri: &S3Uri, there: &ObjectInfo) -> Failure {
    let what = match there.metadata.get(ITEM_KEY) {
        Some(item) if is_of(job, there) => {
            let words = format!(
                "{uri} holds item {item} of this spec: `output.name` gives both items the same key"
            );
            return Failure::own("key_conflict", words);
        }
        Some(item) => format!("the picture of item {item}, or of another spec or engine"),
        None => "an object that nightshift did not write".to_owned(),
    };
    Failure::own(
        "key_conflict",
        format!("{uri} holds {what}; `output.on_existing: overwrite` would replace it"),
    )
}

/// Which of a shard's keys have an object already.
pub(crate) enum Existing {
    /// These whole keys and no others.
    Only(BTreeSet<String>),
    /// Too many neighbours to list: ask for each.
    Unknown,
}

impl Existing {
    /// Lists the objects that share the longest common prefix of the keys.
    ///
    /// # Errors
    /// [`ShardError`]: the lease ended, or the destination cannot be listed.
    pub(crate) async fn of(work: &Work<'_>, items: &[Item]) -> Result<Self, ShardError> {
        let keys: Vec<&str> =
            items.iter().flat_map(|item| &item.outputs).map(|output| output.key.as_str()).collect();
        let prefix = work.job.uri(common_prefix(&keys));
        let mut found = BTreeSet::new();
        let mut after = None;
        for _ in 0..LIST_PAGES_MAX {
            let list = || work.shared.objects.list_page(&prefix, after.clone());
            let page = work.reading(&prefix, list).await?;
            found.extend(page.objects.into_iter().map(|object| object.key));
            after = page.next;
            if after.is_none() {
                return Ok(Self::Only(found));
            }
        }
        Ok(Self::Unknown)
    }

    fn may_hold(&self, key: &str) -> bool {
        match self {
            Self::Only(keys) => keys.contains(key),
            Self::Unknown => true,
        }
    }
}

fn common_prefix<'a>(keys: &[&'a str]) -> &'a str {
    let Some((first, rest)) = keys.split_first() else {
        return "";
    };
    let mut length = first.len();
    for key in rest {
        length = first.bytes().zip(key.bytes()).take(length).take_while(|(a, b)| a == b).count();
    }
    &first[..first.floor_char_boundary(length)]
}

/// An item that an earlier attempt has published whole without living to report it.
pub(crate) struct Adopted {
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) given: Option<GivenFacts>,
}

/// Looks for an earlier attempt's objects of an item.
///
/// # Errors
/// [`ShardError`]: the lease ended, or the destination cannot be read.
pub(crate) async fn adopt(
    work: &Work<'_>,
    item: &Item,
    existing: &Existing,
) -> Result<Option<Adopted>, ShardError> {
    let job = &work.job;
    let mut adopted = Adopted { artifacts: Vec::new(), given: None };
    if !item.outputs.iter().all(|output| existing.may_hold(&job.uri(&output.key).key)) {
        return Ok(None);
    }
    for output in &item.outputs {
        let uri = job.uri(&output.key);
        let Some(there) = work.reading(&uri, || work.shared.objects.head(&uri)).await? else {
            return Ok(None);
        };
        let Some(artifact) = recognise(job, item, &there, output.role.as_str(), &output.key) else {
            return Ok(None);
        };
        adopted.artifacts.push(artifact);
        adopted.given =
            there.metadata.get(INPUT_KEY).and_then(|text| serde_json::from_str(text).ok());
    }
    Ok(Some(adopted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_prefix_is_cut_at_a_character() {
        assert_eq!(common_prefix(&["data/a/1.png", "data/a/2.png", "data/ab"]), "data/a");
        assert_eq!(common_prefix(&["data/é.png", "data/è.png"]), "data/");
        assert_eq!(common_prefix(&["same"]), "same");
        assert_eq!(common_prefix(&[]), "");
    }
}
