//! The nano checkpoint, carried in the program: a local system has a trained model without a download.

use std::path::Path;

/// The model's name in specs.
pub const NAME: &str = "nano";

/// The files of `ops/nano/checkpoint`.
const FILES: [(&str, &[u8]); 6] = [
    ("config.json", include_bytes!("../checkpoint/config.json")),
    ("generation_config.json", include_bytes!("../checkpoint/generation_config.json")),
    ("model.safetensors", include_bytes!("../checkpoint/model.safetensors")),
    (
        "movqgan/nano/movqgan_nano.ckpt",
        include_bytes!("../checkpoint/movqgan/nano/movqgan_nano.ckpt"),
    ),
    ("tokenizer.json", include_bytes!("../checkpoint/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../checkpoint/tokenizer_config.json")),
];

/// Writes the checkpoint to a folder, unless it is there already; an older one is replaced as a whole.
///
/// # Errors
/// Those of the file system.
pub fn ensure(dir: &Path) -> std::io::Result<()> {
    let same = |(name, bytes): &(&str, &[u8])| {
        std::fs::read(dir.join(name)).is_ok_and(|found| found == *bytes)
    };
    if FILES.iter().all(same) {
        return Ok(());
    }
    let beside = dir.with_extension("new");
    for leftover in [&beside, dir] {
        if leftover.exists() {
            std::fs::remove_dir_all(leftover)?;
        }
    }
    for (name, bytes) in FILES {
        let path = beside.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&beside))?;
        std::fs::write(path, bytes)?;
    }
    std::fs::rename(&beside, dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightshift_engine::{KvCache, LoadOptions, Model, Weights};

    #[test]
    fn it_loads_and_a_changed_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join(NAME);
        ensure(&dir).unwrap();
        let options = LoadOptions {
            weights: Weights::F32,
            kv_cache: KvCache::F32,
            threads: 1,
            codes_only: false,
        };
        Model::load(&dir, &options).unwrap();
        std::fs::write(dir.join("config.json"), "{}").unwrap();
        std::fs::write(dir.join("left.over"), "").unwrap();
        ensure(&dir).unwrap();
        Model::load(&dir, &options).unwrap();
        assert!(!dir.join("left.over").exists());
    }

    #[test]
    fn it_is_small_enough_to_ship() {
        let bytes: usize = FILES.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes < 12_000_000, "{bytes} bytes");
    }
}
