//! A pickle reader that can only build data: dicts, lists, tuples, numbers, strings, and the few PyTorch callables of a
//! state dict. It runs nothing; any other import or opcode is refused by name.
//!
//! Every opcode consumes input and makes at most one value, so memory is bounded by the length of the pickle. Values live in
//! one arena and refer to each other by index, because pickled objects are shared and filled after they were shared.

mod machine;

use machine::Machine;

use super::entry::Dtype;

/// Index into [`Unpickled::values`].
pub(super) type Id = usize;

/// What a pickle can hold here.
#[derive(Debug, Clone)]
pub(super) enum Value {
    None,
    Bool(bool),
    /// Integers of at most 128 bits; larger ones are refused.
    Int(i128),
    Float,
    Str(String),
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Set,
    Callable(Callable),
    Storage(Storage),
    Tensor(Tensor),
}

/// A storage as named by a persistent id.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) dtype: Dtype,
    pub(super) key: String,
    /// Elements, as the pickle claims.
    pub(super) len: usize,
}

/// A view of a storage.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub(super) storage: Storage,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// The imports that are understood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Callable {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Storage(Dtype),
}

/// One unpickled object.
#[derive(Debug)]
pub(super) struct Unpickled {
    pub(super) values: Vec<Value>,
    pub(super) root: Id,
    /// Bytes up to and including STOP.
    pub(super) consumed: usize,
}

/// Reads one pickle from the start of `bytes`.
pub(super) fn unpickle(bytes: &[u8]) -> Result<Unpickled, String> {
    let mut machine = Machine::new(bytes);
    let root = loop {
        let at = machine.consumed();
        match machine.step() {
            Ok(Some(root)) => break root,
            Ok(None) => {}
            Err(reason) => return Err(format!("pickle byte {at}: {reason}")),
        }
    };
    let consumed = machine.consumed();
    Ok(Unpickled { values: machine.into_values(), root, consumed })
}
