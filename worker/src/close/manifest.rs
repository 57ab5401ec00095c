//! What an overwritten destination held before, and what of it is left to delete.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use nightshift_objects::Error as ObjectError;
use serde_json::Value;

use crate::failure::{ShardError, Unserved};
use crate::job::FOLDER;
use crate::work::Work;

/// Bytes of one line of an earlier manifest.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A set of keys in 8 bytes each. Two keys may look alike: then an old file stays that could have been deleted, never the
/// other way round.
#[derive(Debug, Default)]
pub(super) struct KeySet(HashSet<u64>);

impl KeySet {
    pub(super) fn insert(&mut self, key: &str) {
        self.0.insert(hash(key));
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.0.contains(&hash(key))
    }
}

fn hash(key: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
}

/// Deletes the objects that the destination's earlier manifest names and the new one does not.
///
/// # Errors
/// [`ShardError`]: the lease ended, or the destination refuses.
pub(super) async fn delete_stale(work: &Work<'_>, keep: &KeySet) -> Result<(), ShardError> {
    let (job, objects) = (&work.job, &work.shared.objects);
    let uri = job.own_uri("manifest.jsonl");
    let mut old = match work.reading(&uri, || objects.get_stream(&uri, None)).await {
        Ok(stream) => stream,
        Err(Unserved::Object(ObjectError::NotFound { .. })) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut rest: Vec<u8> = Vec::new();
    while let Some(chunk) = work.guard.run(old.next()).await?? {
        rest.extend_from_slice(&chunk);
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            if let Some(key) = stale(&line, keep) {
                let uri = job.uri(&key);
                work.writing(&uri, || objects.delete(&uri)).await?;
            }
        }
        if rest.len() > LINE_BYTES_MAX {
            // Not a manifest of ours: leave its objects alone.
            return Ok(());
        }
    }
    Ok(())
}

/// The key of a manifest line whose object is no longer needed.
fn stale(line: &[u8], keep: &KeySet) -> Option<String> {
    let entry: Value = serde_json::from_slice(line).ok()?;
    let key = entry["key"].as_str()?;
    let ours =
        !key.is_empty() && !key.starts_with(FOLDER) && !key.split('/').any(|part| part == "..");
    (ours && !keep.contains(key)).then(|| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_results_that_are_gone_are_stale() {
        let mut keep = KeySet::default();
        keep.insert("data/a.png");
        assert_eq!(stale(br#"{"key":"data/a.png"}"#, &keep), None);
        assert_eq!(stale(br#"{"key":"data/b.png"}"#, &keep).as_deref(), Some("data/b.png"));
        for odd in [
            r#"{"key":"_nightshift/plan.json"}"#,
            r#"{"key":"a/../../b"}"#,
            "{}",
            "x",
            r#"{"key":""}"#,
        ] {
            assert_eq!(stale(odd.as_bytes(), &keep), None, "{odd}");
        }
    }
}
