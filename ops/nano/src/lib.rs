//! Toy scenes with known truth: the nano model's training data and its examination.
//!
//! Promise: everything of a seed is a function of the seed, the same bytes on every machine: no clock, no thread, and no arithmetic
//! beyond `+ - * /` and square roots.
//!
//! Main path: [`layout`] places objects, [`render`] draws them, [`maps`], [`caption`] and [`edit`] derive the rest, [`sample`] holds it
//! together, [`store`] writes it for the training. [`detect`] reads pictures back, [`metrics`] compares maps, [`eval`] examines a model.

pub mod caption;
pub mod checkpoint;
pub mod detect;
pub mod edit;
pub mod eval;
pub mod geometry;
pub mod layout;
pub mod maps;
pub mod metrics;
pub mod palette;
pub mod person;
pub mod render;
pub mod rng;
pub mod sample;
pub mod scene;
pub mod sheet;
pub mod store;

#[cfg(test)]
mod tests;
