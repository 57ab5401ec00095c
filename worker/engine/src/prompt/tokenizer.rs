//! Text to token ids, and the ids of the special tokens, always by name.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::LoadError;
use crate::files::{failed, malformed, read, read_json};
use crate::transformer::config::Config;

/// A byte-level BPE tokenizer in Hugging Face form. Text is always plain: names of special tokens inside a caption are
/// ordinary characters.
#[derive(Debug)]
pub struct Tokenizer {
    plain: tokenizers::Tokenizer,
    added: HashMap<String, u32>,
    /// The token before every prompt: `bos_token` of `tokenizer_config.json`, or `eos_token` where there is none.
    bos: u32,
}

/// Ids of the tokens that structure a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIds {
    /// Begin of sequence, before every prompt.
    pub bos: u32,
    /// End of a turn.
    pub separator: u32,
    /// Begin of an image.
    pub image_start: u32,
    /// End of an image.
    pub image_end: u32,
    /// End of a row of codes.
    pub new_line: u32,
    /// Grid token of each number of grids, `None` where the vocabulary has none.
    pub grids: Vec<Option<u32>>,
    /// Image tokens in code order.
    pub image: Range<u32>,
}

const IMAGE_START: &str = "<racm3:break>";
const IMAGE_END: &str = "<eoss>";
const NEW_LINE: &str = "<reserved08799>";
const SEPARATOR: &str = "<reserved08706>";
const MAX_GRIDS: u32 = 199;

impl Tokenizer {
    /// Reads `tokenizer.json` (or `tokenizer.json.gz`) and `tokenizer_config.json` of a folder.
    ///
    /// # Errors
    /// A file is missing or malformed, or neither a begin nor an end token is set.
    pub fn read(dir: &Path) -> Result<Self, LoadError> {
        let (path, text) = read_tokenizer(dir)?;
        let mut json: Value =
            serde_json::from_slice(&text).map_err(|error| malformed(&path, error))?;
        let mut added = HashMap::new();
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            if let (Some(name), Some(id)) = (token["content"].as_str(), token["id"].as_u64()) {
                added.insert(name.to_owned(), id as u32);
            }
        }
        // Without its added tokens the tokenizer cannot match any inside a text.
        json["added_tokens"] = Value::Array(Vec::new());
        let bytes = json.to_string();
        let plain =
            tokenizers::Tokenizer::from_bytes(&bytes).map_err(|error| malformed(&path, error))?;
        let mut tokenizer = Self { plain, added, bos: 0 };
        tokenizer.bos = tokenizer.read_bos(&dir.join("tokenizer_config.json"))?;
        Ok(tokenizer)
    }

    /// Token ids of a text, no token added before or after.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, LoadError> {
        let encoding = self
            .plain
            .encode_fast(text, false)
            .map_err(|error| LoadError::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The id of a token by its name.
    pub fn id(&self, name: &str) -> Option<u32> {
        self.added.get(name).copied().or_else(|| self.plain.token_to_id(name))
    }

    /// The structuring ids, all by name.
    ///
    /// # Errors
    /// Names the token that is missing.
    pub fn token_ids(&self, config: &Config) -> Result<TokenIds, LoadError> {
        let need = |name: &str| {
            let id = self.id(name).ok_or_else(|| {
                LoadError::Tokenizer(format!("the vocabulary has no token `{name}`"))
            })?;
            if id as usize >= config.vocab_size {
                let reason =
                    format!("`{name}` has id {id}, outside a vocabulary of {}", config.vocab_size);
                return Err(LoadError::Tokenizer(reason));
            }
            Ok(id)
        };
        let grids = (0..=MAX_GRIDS).map(|n| self.id(&format!("<reserved{:05}>", 8800 + n)));
        let names: Vec<(String, u32)> =
            self.added.iter().map(|(name, id)| (name.clone(), *id)).collect();
        Ok(TokenIds {
            bos: self.bos,
            separator: need(SEPARATOR)?,
            image_start: need(IMAGE_START)?,
            image_end: need(IMAGE_END)?,
            new_line: need(NEW_LINE)?,
            grids: grids.map(|id| id.filter(|id| (*id as usize) < config.vocab_size)).collect(),
            image: config.image_tokens(&names)?,
        })
    }

    fn read_bos(&self, path: &Path) -> Result<u32, LoadError> {
        let config: Value = read_json(path)?;
        // A token is written as its text or as an object that holds it.
        let named = |key: &str| config[key].as_str().or_else(|| config[key]["content"].as_str());
        let name = named("bos_token").or_else(|| named("eos_token"));
        let name = name.ok_or_else(|| {
            LoadError::Tokenizer("neither `bos_token` nor `eos_token` is set".to_owned())
        })?;
        self.id(name)
            .ok_or_else(|| LoadError::Tokenizer(format!("the vocabulary has no token `{name}`")))
    }
}

impl TokenIds {
    /// The grid token of a number of grids of 32 pixels.
    pub fn grid(&self, n: usize) -> Option<u32> {
        self.grids.get(n).copied().flatten()
    }

    /// Number of codes.
    pub fn codes(&self) -> usize {
        self.image.len()
    }
}

/// The tokenizer files of a folder that exist, for fingerprints.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let names = ["tokenizer.json", "tokenizer.json.gz", "tokenizer_config.json"];
    names.iter().map(|name| dir.join(name)).filter(|path| path.exists()).collect()
}

fn read_tokenizer(dir: &Path) -> Result<(PathBuf, Vec<u8>), LoadError> {
    let plain = dir.join("tokenizer.json");
    let packed = dir.join("tokenizer.json.gz");
    if !plain.exists() && packed.exists() {
        let mut text = Vec::new();
        let bytes = read(&packed)?;
        let mut unpacked = flate2::read::GzDecoder::new(&bytes[..]);
        unpacked.read_to_end(&mut text).map_err(failed(&packed))?;
        return Ok((packed, text));
    }
    let text = read(&plain)?;
    Ok((plain, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/conformance/golden/transformer/tiny")
    }

    #[test]
    fn ids_come_by_name_and_bos_falls_back_to_eos() {
        let tokenizer = Tokenizer::read(&tiny()).unwrap();
        let ids = tokenizer.token_ids(&Config::read(&tiny().join("config.json")).unwrap()).unwrap();
        assert_eq!(
            (ids.bos, ids.separator, ids.image_start, ids.image_end, ids.new_line),
            (256, 291, 260, 261, 265)
        );
        assert_eq!(
            (ids.grid(1), ids.grid(24), ids.grid(25), ids.image.clone()),
            (Some(267), Some(290), None, 320..384)
        );
    }

    #[test]
    fn names_of_special_tokens_in_a_caption_are_plain_text() {
        let tokenizer = Tokenizer::read(&tiny()).unwrap();
        let ids = tokenizer.encode("<eoss>").unwrap();
        assert_eq!(ids, b"<eoss>".map(u32::from));
    }
}
