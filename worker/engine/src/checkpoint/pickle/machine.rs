//! The opcodes that plain state dicts consist of, and the imports that they name.

use super::super::entry::Dtype;
use super::{Callable, Id, Storage, Tensor, Value};

/// Values of one pickle; a state dict of a thousand tensors needs some twenty thousand.
const VALUES_MAX: usize = 2_000_000;

/// The state of reading one pickle.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at each MARK.
    marks: Vec<usize>,
    memo: Vec<Option<Id>>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
        }
    }

    /// Bytes read so far.
    pub(super) fn consumed(&self) -> usize {
        self.at
    }

    /// Everything that was built.
    pub(super) fn into_values(self) -> Vec<Value> {
        self.values
    }

    /// Runs one opcode; the root at STOP.
    pub(super) fn step(&mut self) -> Result<Option<Id>, String> {
        let op = self.take(1)?[0];
        match op {
            b'.' => return self.pop().map(Some),
            0x80 => self.protocol()?,
            0x95 => drop(self.take(8)?), // FRAME: its length adds nothing
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => self.stack.push(*self.stack.last().ok_or("the stack is empty")?),
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            b'J' => self.int(4)?,
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'G' => {
                self.take(8)?;
                self.push(Value::Float)?
            }
            b'X' => self.string(4)?,
            0x8c => self.string(1)?,
            0x8d => self.string(8)?,
            b'U' | b'C' => self.blob(1)?,
            b'T' | b'B' => self.blob(4)?,
            0x8e => self.blob(8)?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b']' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            0x8f => self.push(Value::Set)?,
            0x90 => drop(self.pop_mark()?), // ADDITEMS: sets hold nothing that is read
            b't' => self.collect(Value::Tuple)?,
            b'l' => self.collect(Value::List)?,
            0x85..=0x87 => self.small_tuple(usize::from(op - 0x84))?,
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)?
            }
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            0x94 => self.remember(self.memo.len())?,
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b'c' => self.global()?,
            0x93 => self.stack_global()?,
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            _ => {
                return Err(format!(
                    "opcode 0x{op:02x} is refused: it does not occur in plain state dicts"
                ));
            }
        }
        Ok(None)
    }

    fn take(&mut self, n: u64) -> Result<&[u8], String> {
        let end = usize::try_from(n).ok().and_then(|n| self.at.checked_add(n));
        let part =
            end.and_then(|end| self.bytes.get(self.at..end)).ok_or("the pickle is cut off")?;
        self.at += part.len();
        Ok(part)
    }

    /// A little-endian unsigned number of `n` bytes, at most 8.
    fn uint(&mut self, n: u64) -> Result<u64, String> {
        Ok(self.take(n)?.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b)))
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.values.len() >= VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values"));
        }
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, String> {
        if self.marks.last().is_some_and(|&mark| self.stack.len() <= mark) {
            return Err("it pops below a mark".to_owned());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn protocol(&mut self) -> Result<(), String> {
        match self.uint(1)? {
            2..=5 => Ok(()),
            other => Err(format!("pickle protocol {other} is not read (2 to 5 are)")),
        }
    }

    /// An integer of `n` bytes; of four it has a sign.
    fn int(&mut self, n: u64) -> Result<(), String> {
        let v = self.uint(n)?;
        self.push(Value::Int(if n == 4 { (v as u32 as i32).into() } else { v.into() }))
    }

    /// A signed integer after its own length of `length_bytes`.
    fn long(&mut self, length_bytes: u64) -> Result<(), String> {
        let n = self.uint(length_bytes)?;
        if n > 16 {
            return Err(format!("an integer of {n} bytes"));
        }
        let bytes = self.take(n)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let fill = if negative { -1i128 } else { 0 };
        let value = bytes.iter().rev().fold(fill, |v, &b| v << 8 | i128::from(b));
        self.push(Value::Int(value))
    }

    fn string(&mut self, length_bytes: u64) -> Result<(), String> {
        let n = self.uint(length_bytes)?;
        let text =
            std::str::from_utf8(self.take(n)?).map_err(|_| "a string is not UTF-8")?.to_owned();
        self.push(Value::Str(text))
    }

    /// Byte strings are read over. Python 2 wrote keys so; those are kept when they are ASCII.
    fn blob(&mut self, length_bytes: u64) -> Result<(), String> {
        let n = self.uint(length_bytes)?;
        let bytes = self.take(n)?;
        let value = match std::str::from_utf8(bytes) {
            Ok(text) if text.is_ascii() => Value::Str(text.to_owned()),
            _ => Value::Bytes,
        };
        self.push(value)
    }

    /// A value of everything above the last mark.
    fn collect(&mut self, make: fn(Vec<Id>) -> Value) -> Result<(), String> {
        let items = self.pop_mark()?;
        self.push(make(items))
    }

    fn small_tuple(&mut self, n: usize) -> Result<(), String> {
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items))
    }

    fn top(&mut self) -> Result<&mut Value, String> {
        let id = *self.stack.last().ok_or("the stack is empty")?;
        Ok(&mut self.values[id])
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        match self.top()? {
            Value::List(list) => list.extend(items),
            _ => return Err("it appends to something that is not a list".to_owned()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), String> {
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err("a key without a value".to_owned());
        };
        match self.top()? {
            Value::Dict(dict) => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            _ => return Err("it sets items of something that is not a dict".to_owned()),
        }
        Ok(())
    }

    /// Remembers the top of the stack under an index of `n` bytes.
    fn put(&mut self, n: u64) -> Result<(), String> {
        let index = self.uint(n)? as usize;
        self.remember(index)
    }

    fn remember(&mut self, index: usize) -> Result<(), String> {
        let id = *self.stack.last().ok_or("the stack is empty")?;
        // Picklers number the memo without gaps; a far index would only ask for memory.
        if index > self.memo.len() + 1024 {
            return Err("a memo index without its predecessors".to_owned());
        }
        if index >= self.memo.len() {
            self.memo.resize(index + 1, None);
        }
        self.memo[index] = Some(id);
        Ok(())
    }

    fn get(&mut self, n: u64) -> Result<(), String> {
        let index = self.uint(n)? as usize;
        self.stack.push(self.memo.get(index).copied().flatten().ok_or("an unknown memo index")?);
        Ok(())
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(256).position(|&b| b == b'\n').ok_or("a name without an end")?;
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.at += end + 1;
        Ok(line)
    }

    fn global(&mut self) -> Result<(), String> {
        let (module, name) = (self.line()?, self.line()?);
        self.push(Value::Callable(callable(&module, &name)?))
    }

    fn stack_global(&mut self) -> Result<(), String> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (&self.values[module], &self.values[name]) {
            (Value::Str(module), Value::Str(name)) => {
                let callable = callable(module, name)?;
                self.push(Value::Callable(callable))
            }
            _ => Err("an import whose name is not a string".to_owned()),
        }
    }

    /// `('storage', StorageType, key, location, length[, view])`; the location (cpu, cuda:0) is ignored.
    fn persistent(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let items = self.tuple(id)?.to_vec();
        let [tag, kind, key, _, len, view @ ..] = items.as_slice() else {
            return Err("a persistent id of unknown form".to_owned());
        };
        if !view.iter().all(|&v| matches!(self.values[v], Value::None)) {
            return Err("a storage that is a view of another storage".to_owned());
        }
        match (&self.values[*tag], &self.values[*kind], &self.values[*key]) {
            (Value::Str(tag), Value::Callable(Callable::Storage(dtype)), Value::Str(key))
                if tag == "storage" =>
            {
                let storage = Storage { dtype: *dtype, key: key.clone(), len: self.size(*len)? };
                self.push(Value::Storage(storage))
            }
            _ => Err("a persistent id of unknown form".to_owned()),
        }
    }

    fn tuple(&self, id: Id) -> Result<&[Id], String> {
        match &self.values[id] {
            Value::Tuple(items) => Ok(items),
            _ => Err("a tuple is expected".to_owned()),
        }
    }

    fn size(&self, id: Id) -> Result<usize, String> {
        match self.values[id] {
            Value::Int(n) => usize::try_from(n).map_err(|_| format!("{n} is not a size")),
            _ => Err("a size is expected".to_owned()),
        }
    }

    fn sizes(&self, id: Id) -> Result<Vec<usize>, String> {
        let items = self.tuple(id)?;
        if items.len() > 8 {
            return Err(format!("a tensor of {} dimensions", items.len()));
        }
        items.iter().map(|&item| self.size(item)).collect()
    }

    fn reduce(&mut self) -> Result<(), String> {
        let (args, function) = (self.pop()?, self.pop()?);
        let Value::Callable(function) = self.values[function] else {
            return Err("it calls something that is not callable".to_owned());
        };
        let args = self.tuple(args)?.to_vec();
        match (function, args.as_slice()) {
            (Callable::OrderedDict, []) => self.push(Value::Dict(Vec::new())),
            (Callable::Size, &[sizes]) => {
                let items = self.tuple(sizes)?.to_vec();
                self.push(Value::Tuple(items))
            }
            (Callable::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
                let Value::Storage(storage) = &self.values[storage] else {
                    return Err("a tensor without a storage".to_owned());
                };
                let storage = storage.clone();
                let (offset, shape, strides) =
                    (self.size(offset)?, self.sizes(shape)?, self.sizes(strides)?);
                self.push(Value::Tensor(Tensor { storage, offset, shape, strides }))
            }
            // A parameter is its tensor.
            (Callable::RebuildParameter, &[tensor, ..])
                if matches!(self.values[tensor], Value::Tensor(_)) =>
            {
                self.stack.push(tensor);
                Ok(())
            }
            (other, args) => {
                Err(format!("{other:?} is called with {} arguments of unknown form", args.len()))
            }
        }
    }

    /// Attributes of a dict (`_metadata`) are dropped; nothing else can have any.
    fn build(&mut self) -> Result<(), String> {
        self.pop()?;
        match self.top()? {
            Value::Dict(_) => Ok(()),
            _ => Err("it sets the state of something that is not a dict".to_owned()),
        }
    }
}

/// The callable of an import; any other is refused by name.
fn callable(module: &str, name: &str) -> Result<Callable, String> {
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Callable::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Callable::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Callable::RebuildParameter,
        ("torch", "Size") => Callable::Size,
        ("torch", "DoubleStorage") => Callable::Storage(Dtype::F64),
        ("torch", "FloatStorage") => Callable::Storage(Dtype::F32),
        ("torch", "HalfStorage") => Callable::Storage(Dtype::F16),
        ("torch", "BFloat16Storage") => Callable::Storage(Dtype::Bf16),
        ("torch", "LongStorage") => Callable::Storage(Dtype::I64),
        ("torch", "IntStorage") => Callable::Storage(Dtype::I32),
        ("torch", "ShortStorage") => Callable::Storage(Dtype::I16),
        ("torch", "CharStorage") => Callable::Storage(Dtype::I8),
        ("torch", "ByteStorage") => Callable::Storage(Dtype::U8),
        ("torch", "BoolStorage") => Callable::Storage(Dtype::Bool),
        _ => {
            let shown: String =
                format!("{module}.{name}").chars().filter(|c| !c.is_control()).take(120).collect();
            return Err(format!(
                "the pickle imports `{shown}`, which is refused: only plain state dicts are read"
            ));
        }
    })
}
