//! A byte-level tokenizer with the named special tokens.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Ids of the vocabulary: 256 bytes, the special tokens, the image tokens, a placeholder.
#[derive(Debug)]
pub(super) struct Ids {
    /// Special tokens by name, image tokens apart.
    special: Vec<(String, u32)>,
    image: std::ops::Range<u32>,
}

/// The largest number of grids that has a token: 2048 pixels.
const GRIDS: u32 = 64;

impl Ids {
    /// Everything directly after the bytes.
    pub(super) fn small(codes: u32) -> Self {
        let grids = (0..=GRIDS).map(|n| format!("<reserved{:05}>", 8800 + n));
        let names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<racm3:break>", "<eoss>"]
            .map(str::to_owned);
        let reserved =
            ["08796", "08797", "08798", "08799"].map(|digits| format!("<reserved{digits}>"));
        let names =
            names.into_iter().chain(reserved).chain(grids).chain(["<reserved08706>".to_owned()]);
        let special: Vec<(String, u32)> = names.zip(256..).collect();
        let first = 256 + special.len() as u32;
        Self { special, image: first..first + codes }
    }

    /// At the ids of the released vocabulary.
    pub(super) fn released() -> Self {
        let fixed = [
            ("<|endoftext|>", 151_643),
            ("<|im_start|>", 151_644),
            ("<|im_end|>", 151_645),
            ("<racm3:break>", 151_665),
            ("<eoss>", 151_666),
            ("<reserved08796>", 151_667),
            ("<reserved08797>", 151_668),
            ("<reserved08798>", 151_669),
            ("<reserved08799>", 151_670),
            ("<reserved08706>", 151_771),
        ];
        let mut special: Vec<(String, u32)> =
            fixed.into_iter().map(|(name, id)| (name.to_owned(), id)).collect();
        special.extend((0..=GRIDS).map(|n| (format!("<reserved{:05}>", 8800 + n), 151_671 + n)));
        Self { special, image: 155_000..171_384 }
    }

    pub(super) fn codes(&self) -> usize {
        self.image.len()
    }

    /// One more than the last id, which is the placeholder's.
    pub(super) fn vocab_size(&self) -> usize {
        self.image.end as usize + 1
    }

    fn added(&self) -> impl Iterator<Item = (String, u32)> {
        let first = self.image.start;
        let codes = self.image.clone().map(move |id| (format!("<MOVQGAN{}>", id - first), id));
        self.special
            .clone()
            .into_iter()
            .chain(codes)
            .chain([("<|image|>".to_owned(), self.image.end)])
    }

    /// Every token name with its id, as `config.json` has it.
    pub(super) fn vocabulary_map(&self) -> BTreeMap<String, u32> {
        bytes().chain(self.added()).collect()
    }

    /// `tokenizer.json`.
    pub(super) fn tokenizer(&self) -> Value {
        let added: Vec<Value> = self
            .added()
            .map(|(content, id)| {
                json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": true})
            })
            .collect();
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": bytes().collect::<BTreeMap<_, _>>(), "merges": [],
            },
        })
    }

    /// `tokenizer_config.json`: no begin token, so the end token is prepended.
    pub(super) fn tokenizer_config(&self) -> Value {
        json!({"bos_token": null, "eos_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast",
               "clean_up_tokenization_spaces": false})
    }
}

/// The 256 bytes under the names that byte-level tokenizers give them: printable ones themselves, others from U+0100 on.
fn bytes() -> impl Iterator<Item = (String, u32)> {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut others = 256..;
    (0..256).map(move |byte| {
        let code = if printable(byte) { byte } else { others.next().unwrap_or(byte) };
        (char::from_u32(code).map_or_else(String::new, String::from), byte)
    })
}
