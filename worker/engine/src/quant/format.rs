//! Names of the stored formats.

use std::str::FromStr;

/// Format of the transformer's matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weights {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// 4-bit codes in groups of 128.
    Int4,
}

/// Format of the key and value cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvCache {
    /// bfloat16.
    Bf16,
    /// 32-bit floats.
    F32,
    /// 8-bit codes with a scale for each head and position.
    Int8,
}

impl Weights {
    /// The name used in specs and fingerprints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int4 => "int4",
        }
    }
}

impl KvCache {
    /// The name used in specs and fingerprints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

impl FromStr for Weights {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::F32, Self::Bf16, Self::Int4]
            .into_iter()
            .find(|format| format.as_str() == name)
            .ok_or_else(|| {
                format!("unknown weights format `{name}`; the formats are f32, bf16 and int4")
            })
    }
}

impl FromStr for KvCache {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::Bf16, Self::F32, Self::Int8]
            .into_iter()
            .find(|format| format.as_str() == name)
            .ok_or_else(|| {
                format!("unknown cache format `{name}`; the formats are bf16, f32 and int8")
            })
    }
}
