//! Names that never depend on order: row ids, item ids, seeds, and the JSON form they are computed from.

use serde_json::Value;

/// JSON with sorted keys and no spaces: the same value gives the same bytes wherever it was read.
pub fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            // serde_json keeps the order of insertion when some other crate turns that feature on: sort here.
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            out.push('{');
            for (n, key) in keys.into_iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for (n, element) in list.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write_canonical(element, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// The first 32 hexadecimal digits of the BLAKE3 hash of the parts, each preceded by its length so that no two lists of parts
/// run together.
pub(crate) fn hash128(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// One step of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn splitmix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The seed of image `k` of a row, in `0 .. 2^63`: a function of the start, the row's id and `k`, never of the row's position
/// and never of the values of a sweep, so that all cells over one row share their seeds.
///
/// `splitmix(splitmix(splitmix(start) ^ h) ^ k) mod 2^63`, where `h` is the first 8 bytes of BLAKE3(row_id), little endian.
pub fn seed(start: u64, row_id: &str, k: u64) -> u64 {
    let hash = blake3::hash(row_id.as_bytes());
    let mut head = [0; 8];
    head.copy_from_slice(&hash.as_bytes()[..8]);
    splitmix(splitmix(splitmix(start) ^ u64::from_le_bytes(head)) ^ k) & (u64::MAX >> 1)
}

/// Serde for seeds: a JSON number up to 2^53, above it a decimal string, because many JSON readers keep only doubles.
pub(crate) mod json_seed {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const EXACT_IN_DOUBLE: u64 = 1 << 53;

    pub(crate) fn serialize<S: Serializer>(seed: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        if *seed <= EXACT_IN_DOUBLE {
            serializer.serialize_u64(*seed)
        } else {
            serializer.collect_str(seed)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Number(n) => {
                n.as_u64().ok_or_else(|| D::Error::custom("a seed must be a whole number from 0"))
            }
            serde_json::Value::String(s) => s.parse().map_err(D::Error::custom),
            _ => Err(D::Error::custom("a seed must be a number, or a string of digits")),
        }
    }

    /// The same for lists of seeds.
    pub(crate) mod list {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        #[derive(Serialize, Deserialize)]
        struct One(#[serde(with = "super")] u64);

        pub(crate) fn serialize<S: Serializer>(
            seeds: &[u64],
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(seeds.iter().map(|seed| One(*seed)))
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Vec<u64>, D::Error> {
            Ok(Vec::<One>::deserialize(deserializer)?.into_iter().map(|one| one.0).collect())
        }
    }
}
