//! What an operator decides about a worker. Read once; the worker itself reads no environment.

use std::path::PathBuf;
use std::time::Duration;

use nightshift_engine::{KvCache, Weights};

/// Settings of one worker process.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name for people, for example host name and process id.
    pub name: String,
    /// What jobs may ask for with `resources.labels`.
    pub labels: std::collections::BTreeMap<String, String>,
    /// What jobs may ask for with `resources.gpu.min_memory`, in bytes; 0: not configured.
    pub memory_bytes: u64,
    /// Folder with one folder per model.
    pub models_dir: PathBuf,
    /// Which of them to load; empty loads every folder that holds a `config.json`.
    pub models: Vec<String>,
    /// Numeric formats in which each model is offered.
    pub formats: Vec<(Weights, KvCache)>,
    /// Pictures that are drawn at the same time, at least 1.
    pub slots: usize,
    /// Bytes that the caches of one model's slots may take, shared equally; a picture that needs more fails with the numbers.
    /// `None`: whatever the pictures need.
    pub cache_bytes: Option<u64>,
    /// Threads of a forward pass, at least 1; results do not depend on it.
    pub threads: usize,
    /// How long the database grants a lease without a sign of life.
    pub lease: Duration,
    /// Time between two reports of a lease; well below a third of `lease`.
    pub progress_every: Duration,
    /// Longest time between two claims while there is no work.
    pub poll_every: Duration,
    /// Where to listen for work, around any pooler; `None`: only ask every `poll_every`.
    pub listen: Option<nightshift_store::DatabaseConfig>,
    /// How long pictures in slots may be finished after the first signal to stop.
    pub grace: Duration,
    /// Program that decodes one image with the argument `decode-image` (see [`crate::item::decode_child`]).
    pub decoder: PathBuf,
    /// What one input image may cost.
    pub input: InputLimits,
    /// Items whose inputs are ready before the engine asks for them.
    pub prefetch: usize,
    /// Finished pictures that may wait for the object store before the engine stops taking new ones.
    pub uploads: usize,
    /// Folder for the files of a job that is being closed.
    pub spool: PathBuf,
}

impl Default for Config {
    /// Two slots, a lease of 30 s reported every 5 s, and this program as the decoder.
    fn default() -> Self {
        Self {
            name: format!("worker-{}", std::process::id()),
            labels: std::collections::BTreeMap::new(),
            memory_bytes: 0,
            models_dir: PathBuf::from("models"),
            models: Vec::new(),
            formats: vec![(Weights::F32, KvCache::F32)],
            slots: 2,
            cache_bytes: None,
            threads: 1,
            lease: Duration::from_secs(30),
            progress_every: Duration::from_secs(5),
            poll_every: Duration::from_millis(500),
            listen: None,
            grace: Duration::from_secs(30),
            decoder: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("nightshift")),
            input: InputLimits::default(),
            prefetch: 2,
            uploads: 4,
            spool: std::env::temp_dir(),
        }
    }
}

/// What one input image may cost before it is an error of its item.
#[derive(Debug, Clone)]
pub struct InputLimits {
    /// Size of the stored object in bytes.
    pub max_bytes: u64,
    /// Pixels of the decoded picture, refused from the header.
    pub max_pixels: u64,
    /// Address space of the decoding process in bytes.
    pub memory_bytes: u64,
    /// Processor time of the decoding process in seconds.
    pub cpu_seconds: u64,
    /// Wall time of the decoding process.
    pub wall: Duration,
}

impl Default for InputLimits {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_pixels: 100_000_000,
            memory_bytes: 2 << 30,
            cpu_seconds: 20,
            wall: Duration::from_secs(30),
        }
    }
}
