//! What `torch.save` writes: a pickle that names storages, and the storages.

use std::collections::BTreeMap;

use super::entry::{Entry, Source};
use super::pickle::{Id, Storage, Tensor, Unpickled, Value, unpickle};
use super::zip::{self, Stored};

/// Bytes of one pickle; a state dict of a thousand tensors has a tenth of a megabyte.
const PICKLE_LIMIT_BYTES: u64 = 16 << 20;

/// The zip form: `<root>/data.pkl`, `<root>/data/<key>`, whatever the root folder is called.
pub(super) fn zipped(source: &Source<'_>) -> Result<BTreeMap<String, Entry>, String> {
    let entries = zip::entries(source)?;
    let mut pickles =
        entries.iter().filter(|(name, _)| *name == "data.pkl" || name.ends_with("/data.pkl"));
    let (Some((name, pickle)), None) = (pickles.next(), pickles.next()) else {
        return Err(
            "it is a zip file without exactly one data.pkl, so it is not a PyTorch checkpoint"
                .to_owned(),
        );
    };
    let root = &name[..name.len() - "data.pkl".len()];
    if let Some(order) = entries.get(&format!("{root}byteorder"))
        && source.read(order.start, order.bytes.min(16))? != b"little"
    {
        return Err("its numbers are big-endian, which is not read".to_owned());
    }
    if pickle.bytes > PICKLE_LIMIT_BYTES {
        return Err(format!(
            "a data.pkl of {} bytes is larger than the limit of {PICKLE_LIMIT_BYTES}",
            pickle.bytes
        ));
    }
    let unpickled = unpickle(&source.read(pickle.start, pickle.bytes)?)?;
    let storages = |storage: &Storage| {
        let name = format!("{root}data/{}", storage.key);
        entries.get(&name).copied().ok_or_else(|| format!("its storage `{name}` is missing"))
    };
    collect(&unpickled, storages)
}

/// `torch.save`'s form before version 1.6: five pickles, then the storages in the order of the fifth.
pub(super) fn legacy(source: &Source<'_>) -> Result<BTreeMap<String, Entry>, String> {
    /// `torch.serialization.MAGIC_NUMBER`.
    const MAGIC: i128 = 0x1950a86a20f9469cfc6c;
    let head = source.read(0, source.len.min(PICKLE_LIMIT_BYTES))?;
    let mut rest = head.as_slice();
    let mut next = || {
        let unpickled = unpickle(rest)?;
        rest = &rest[unpickled.consumed..];
        Ok::<_, String>((unpickled, head.len() - rest.len()))
    };
    let (magic, _) = next()?;
    if !matches!(magic.values[magic.root], Value::Int(MAGIC)) {
        return Err("it is a pickle, but not one that torch.save wrote".to_owned());
    }
    let (protocol, _) = next()?;
    if !matches!(protocol.values[protocol.root], Value::Int(1001)) {
        return Err("its legacy format version is unknown".to_owned());
    }
    let (system, _) = next()?;
    if big_endian(&system) {
        return Err("its numbers are big-endian, which is not read".to_owned());
    }
    let (state, _) = next()?;
    let (keys, data_start) = next()?;
    let lengths = storage_lengths(&state);
    let mut at = data_start as u64;
    let mut storages = BTreeMap::new();
    let Value::List(order) = &keys.values[keys.root] else {
        return Err("its list of storages is missing".to_owned());
    };
    for &key in order {
        let Value::Str(key) = &keys.values[key] else {
            return Err("a storage key is not a string".to_owned());
        };
        let storage =
            lengths.get(key.as_str()).ok_or_else(|| format!("storage `{key}` has no tensor"))?;
        let count = source.u64_at(at)?;
        let bytes =
            count.checked_mul(storage.dtype.bytes()).filter(|_| count == storage.len as u64);
        let bytes = bytes
            .ok_or_else(|| format!("storage `{key}` has another length than its tensors say"))?;
        let start = at + 8;
        if start.checked_add(bytes).is_none_or(|end| end > source.len) {
            return Err(format!("storage `{key}` lies beyond the end of the file"));
        }
        storages.insert(key.clone(), Stored { start, bytes });
        at = start + bytes;
    }
    collect(&state, |storage: &Storage| {
        storages
            .get(&storage.key)
            .copied()
            .ok_or_else(|| format!("its storage `{}` is missing", storage.key))
    })
}

fn big_endian(system: &Unpickled) -> bool {
    let Value::Dict(items) = &system.values[system.root] else {
        return false;
    };
    items.iter().any(|&(key, value)| {
        matches!(&system.values[key], Value::Str(key) if key == "little_endian")
            && matches!(system.values[value], Value::Bool(false))
    })
}

fn storage_lengths(state: &Unpickled) -> BTreeMap<&str, &Storage> {
    let storages = state.values.iter().filter_map(|value| match value {
        Value::Storage(storage) => Some((storage.key.as_str(), storage)),
        _ => None,
    });
    storages.collect()
}

/// The tensors of the state dict: of the top level, or of its `state_dict` where a trainer wrapped it. Other values are
/// ignored there (counters, settings), and so is everything beside `state_dict`.
fn collect(
    unpickled: &Unpickled,
    storage_of: impl Fn(&Storage) -> Result<Stored, String>,
) -> Result<BTreeMap<String, Entry>, String> {
    let top = dict(unpickled, unpickled.root).ok_or("its top level is not a dict")?;
    let wrapped = top.iter().rev().find(|(key, _)| text(unpickled, *key) == Some("state_dict"));
    let items = match wrapped {
        Some(&(_, inner)) => dict(unpickled, inner).ok_or("its `state_dict` is not a dict")?,
        None => top,
    };
    let mut entries = BTreeMap::new();
    for &(key, value) in items {
        let (Some(name), Value::Tensor(tensor)) = (text(unpickled, key), &unpickled.values[value])
        else {
            continue;
        };
        let entry =
            entry(tensor, &storage_of).map_err(|reason| format!("tensor `{name}`: {reason}"))?;
        entries.insert(name.to_owned(), entry);
    }
    if entries.is_empty() { Err("there is no tensor in it".to_owned()) } else { Ok(entries) }
}

fn entry(
    tensor: &Tensor,
    storage_of: impl Fn(&Storage) -> Result<Stored, String>,
) -> Result<Entry, String> {
    let stored = storage_of(&tensor.storage)?;
    let dtype = tensor.storage.dtype;
    if (tensor.storage.len as u64)
        .checked_mul(dtype.bytes())
        .is_none_or(|bytes| bytes > stored.bytes)
    {
        return Err(format!(
            "its storage has {} bytes, not {} elements",
            stored.bytes, tensor.storage.len
        ));
    }
    Entry::view(
        dtype,
        tensor.shape.clone(),
        tensor.strides.clone(),
        tensor.offset,
        stored.start,
        stored.bytes,
    )
}

fn dict(unpickled: &Unpickled, id: Id) -> Option<&[(Id, Id)]> {
    match &unpickled.values[id] {
        Value::Dict(items) => Some(items),
        _ => None,
    }
}

fn text(unpickled: &Unpickled, id: Id) -> Option<&str> {
    match &unpickled.values[id] {
        Value::Str(text) => Some(text),
        _ => None,
    }
}
