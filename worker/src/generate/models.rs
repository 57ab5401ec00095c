//! The models of a worker: folders on disk become engines with fixed slots.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nightshift_engine::{
    Engine, EngineError, Event, KvCache, LoadError, LoadOptions, Model, Request, Weights,
};

use super::{Generator, Offer};
use crate::config::Config;

/// Models in memory, each with its engine.
pub struct Models {
    slots: usize,
    cache_bytes: Option<u64>,
    by_key: BTreeMap<String, Loaded>,
}

struct Loaded {
    model: Arc<Model>,
    engine: Engine,
    /// Requests that are in a slot or whose picture is being decoded.
    running: usize,
    /// Requests that came before a slot was free.
    waiting: VecDeque<(u64, Request)>,
}

impl Loaded {
    /// Puts waiting requests into free slots; one that is refused fails.
    fn refill(&mut self) -> Vec<Event> {
        let mut refused = Vec::new();
        while self.engine.free_slots() > 0 {
            let Some((id, request)) = self.waiting.pop_front() else {
                break;
            };
            match self.engine.admit(id, request) {
                Ok(()) => self.running += 1,
                Err(error) => refused.push(Event::Failed { id, error }),
            }
        }
        refused
    }
}

/// Why a worker has no models.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// The models folder cannot be listed.
    #[error("models folder {dir}: {source}")]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is nothing to load.
    #[error("models folder {dir}: none of its folders contains a config.json")]
    Empty {
        /// The folder.
        dir: PathBuf,
    },
    /// A model cannot be loaded.
    #[error("model {name}: {source}")]
    Load {
        /// Its name.
        name: String,
        /// Why.
        source: LoadError,
    },
}

/// The name under which jobs ask for a model: `"name/weights/kv_cache"`.
#[must_use]
pub fn model_key(name: &str, weights: Weights, kv_cache: KvCache) -> String {
    format!("{name}/{}/{}", weights.as_str(), kv_cache.as_str())
}

impl Models {
    /// Loads what the configuration names. Takes seconds to minutes: call it before the runtime has anything to do.
    ///
    /// # Errors
    /// [`ModelsError`]: nothing to load, or the first model that cannot be.
    pub fn load(config: &Config) -> Result<Self, ModelsError> {
        let names = match config.models.as_slice() {
            [] => folders(&config.models_dir)?,
            names => names.to_vec(),
        };
        let mut by_key = BTreeMap::new();
        for name in names {
            for &(weights, kv_cache) in &config.formats {
                let options =
                    LoadOptions { weights, kv_cache, threads: config.threads, codes_only: false };
                let model = Model::load(&config.models_dir.join(&name), &options)
                    .map_err(|source| ModelsError::Load { name: name.clone(), source })?;
                let key = model_key(&name, weights, kv_cache);
                tracing::info!(model = %key, fingerprint = model.fingerprint(), "loaded a model");
                let engine = engine(&model, config.slots, config.cache_bytes);
                by_key.insert(key, Loaded { model, engine, running: 0, waiting: VecDeque::new() });
            }
        }
        Ok(Self { slots: config.slots, cache_bytes: config.cache_bytes, by_key })
    }
}

fn engine(model: &Arc<Model>, slots: usize, cache_bytes: Option<u64>) -> Engine {
    match cache_bytes {
        Some(bytes) => Engine::with_cache_bytes(Arc::clone(model), slots, bytes),
        None => Engine::new(Arc::clone(model), slots),
    }
}

/// Names of the folders that look like models, sorted.
fn folders(dir: &Path) -> Result<Vec<String>, ModelsError> {
    let list = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.path().join("config.json").is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    };
    let names = list().map_err(|source| ModelsError::Folder { dir: dir.to_owned(), source })?;
    match names.is_empty() {
        true => Err(ModelsError::Empty { dir: dir.to_owned() }),
        false => Ok(names),
    }
}

impl Generator for Models {
    fn models(&self) -> BTreeMap<String, Offer> {
        let offer = |model: &Model| Offer {
            fingerprint: model.fingerprint().to_owned(),
            coupled_window: u32::try_from(model.coupled_window()).unwrap_or(u32::MAX),
        };
        self.by_key.iter().map(|(key, loaded)| (key.clone(), offer(&loaded.model))).collect()
    }

    /// One more than the engine has: while a picture is decoded, its slot draws the next one.
    fn slots(&self) -> usize {
        self.slots + 1
    }

    fn admit(&mut self, ticket: u64, model: &str, request: Request) -> Result<(), EngineError> {
        let Some(loaded) = self.by_key.get_mut(model) else {
            return Err(EngineError::BadRequest(format!("this worker has no model {model}")));
        };
        if loaded.waiting.is_empty() && loaded.engine.free_slots() > 0 {
            loaded.engine.admit(ticket, request)?;
            loaded.running += 1;
        } else {
            loaded.waiting.push_back((ticket, request));
        }
        Ok(())
    }

    fn step(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for loaded in self.by_key.values_mut() {
            events.extend(loaded.refill());
            if loaded.running == 0 {
                continue;
            }
            let new = loaded.engine.step();
            loaded.running -=
                new.iter().filter(|event| !matches!(event, Event::Progress { .. })).count();
            events.extend(new);
        }
        events
    }

    fn cancel(&mut self, ticket: u64) {
        for loaded in self.by_key.values_mut() {
            if loaded.engine.cancel(ticket) {
                loaded.running -= 1;
            }
            loaded.waiting.retain(|(waiting, _)| *waiting != ticket);
        }
    }

    fn reset(&mut self) {
        for loaded in self.by_key.values_mut() {
            loaded.engine = engine(&loaded.model, self.slots, self.cache_bytes);
            loaded.running = 0;
            loaded.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use nightshift_engine::Sampler;
    use nightshift_engine::random::{self, Preset};

    use super::*;

    fn request() -> Request {
        Request {
            prompt: "a red ball".to_owned(),
            width: 64,
            height: 64,
            given: None,
            sampler: Sampler::default(),
            seed: 1,
        }
    }

    #[test]
    fn a_picture_beyond_the_cache_limit_is_refused_with_the_numbers_also_after_a_reset() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        random::write(&dir.join("tiny"), Preset::Tiny, 3).expect("a model is written");
        let load = |cache_bytes| {
            let config = Config { models_dir: dir.to_owned(), cache_bytes, ..Config::default() };
            Models::load(&config).expect("it loads")
        };
        let key = model_key("tiny", Weights::F32, KvCache::F32);
        let mut models = load(Some(2_000));
        for _ in 0..2 {
            match models.admit(1, &key, request()) {
                Err(EngineError::OutOfBudget { needed, available, .. }) => {
                    assert!(needed > available && available == 1_000, "{needed}")
                }
                other => panic!("{other:?}"),
            }
            models.reset();
        }
        let mut models = load(Some(1_000_000_000));
        assert_eq!(models.admit(1, &key, request()), Ok(()));
    }
}
