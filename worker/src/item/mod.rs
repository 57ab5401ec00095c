//! One item, from its input to its objects: fetched and decoded, fed to the engine, rendered and published.

mod decode;
pub mod decode_child;
pub(crate) mod feed;
pub(crate) mod inputs;
mod maps;
mod provenance;
pub(crate) mod publish;
mod render;
mod report;
mod sink;
