//! A worker of two slots whose pictures are scripted, as a process of its own: for tests in which a worker dies.
//!
//! Arguments: database, object store, its two keys, a folder, the decoder.

use std::path::PathBuf;
use std::time::Duration;

use nightshift_objects::{Objects, StoreConfig};
use nightshift_store::{DatabaseConfig, Store};
use nightshift_worker::scripted::Scripted;
use nightshift_worker::{Config, run, shutdown};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, endpoint, key, secret, folder, decoder] = arguments.as_slice() else {
        return Err("six arguments".into());
    };
    let config = Config {
        lease: Duration::from_secs(2),
        progress_every: Duration::from_millis(200),
        poll_every: Duration::from_millis(50),
        decoder: PathBuf::from(decoder),
        spool: PathBuf::from(folder),
        ..Config::default()
    };
    let objects = Objects::connect(StoreConfig {
        endpoint: Some(endpoint.clone()),
        access_key_id: Some(key.clone()),
        secret_access_key: Some(secret.clone()),
        ..StoreConfig::default()
    })
    .await?;
    let store = Store::connect(&DatabaseConfig::new(database)).await?;
    let (generator, _script) = Scripted::new("nano/f32/f32", 2);
    // Asked by nobody: tests end it with a signal.
    let (_handle, stop) = shutdown();
    run(config, store, objects, Box::new(generator), stop).await?;
    Ok(())
}
