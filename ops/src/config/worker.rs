//! What is configured for a worker, and the models that it loads.

use std::time::Duration;

use nightshift_engine::{KvCache, Weights};
use nightshift_worker::Models;

use super::Config;
use super::scheduler::process_name;
use crate::exit::{Exit, Failure};
use crate::units::threads;

/// What is configured for a worker.
///
/// # Errors
/// [`Exit::Usage`] for an unknown numeric format.
pub fn worker_config(config: &Config) -> Result<nightshift_worker::Config, Failure> {
    let list = |key: &str| -> Vec<String> {
        let text = config.get(key).unwrap_or_default();
        text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let formats = list("worker.formats");
    let formats: Option<Vec<_>> = formats.iter().map(|text| parse_format(text)).collect();
    let number = |key: &str| usize::try_from(config.number(key)).unwrap_or(usize::MAX);
    let lease = Duration::from_millis(config.number("worker.lease_ms"));
    Ok(nightshift_worker::Config {
        name: config.get("worker.name").map_or_else(process_name, str::to_owned),
        labels: list("worker.labels")
            .iter()
            .map(|label| {
                let (key, value) = label.split_once('=')?;
                Some((key.to_owned(), value.to_owned()))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| {
                Failure::new(
                    Exit::Usage,
                    "worker.labels: expected key=value, such as pool=night, separated by commas",
                )
            })?,
        memory_bytes: match config.number("worker.memory_mb") {
            0 => machine_memory().unwrap_or(0),
            megabytes => megabytes.saturating_mul(1_000_000),
        },
        models_dir: config.models_dir(),
        models: list("worker.models"),
        formats: formats.ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                "worker.formats: expected weights/kv_cache, such as f32/f32, separated by commas",
            )
        })?,
        slots: number("worker.slots"),
        cache_bytes: match config.number("worker.cache_mb") {
            0 => None,
            megabytes => Some(megabytes.saturating_mul(1_000_000)),
        },
        threads: threads(number("worker.threads")),
        lease,
        progress_every: (lease / 6).min(Duration::from_secs(5)),
        grace: Duration::from_millis(config.number("worker.grace_ms")),
        ..nightshift_worker::Config::default()
    })
}

/// `f32/bf16` as weights and cache.
#[must_use]
pub fn parse_format(text: &str) -> Option<(Weights, KvCache)> {
    let (weights, cache) = text.split_once('/')?;
    let weights =
        [Weights::F32, Weights::Bf16, Weights::Int4].into_iter().find(|w| w.as_str() == weights)?;
    let cache =
        [KvCache::F32, KvCache::Bf16, KvCache::Int8].into_iter().find(|c| c.as_str() == cache)?;
    Some((weights, cache))
}

/// Memory of this machine in bytes, as Linux says it.
fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Loads the models beside the runtime; it takes seconds to minutes.
///
/// # Errors
/// [`Exit::Usage`]: there is no model, or one cannot be loaded.
pub async fn load(config: nightshift_worker::Config) -> anyhow::Result<Models> {
    let dir = config.models_dir.clone();
    let loaded = tokio::task::spawn_blocking(move || Models::load(&config)).await?;
    loaded.map_err(|error| {
        Failure::new(Exit::Usage, error.to_string())
            .help(format!(
                "models_dir is {}; it holds one folder per model, and `nightshift model random {}` makes a small one",
                dir.display(),
                dir.join("tiny").display()
            ))
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_weights_and_cache() {
        assert_eq!(parse_format("f32/bf16"), Some((Weights::F32, KvCache::Bf16)));
        assert_eq!(parse_format("int4/int8"), Some((Weights::Int4, KvCache::Int8)));
        assert_eq!(parse_format("f32"), None);
        assert_eq!(parse_format("f16/f32"), None);
    }
}
