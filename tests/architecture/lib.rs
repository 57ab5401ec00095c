//! Who may know whom, as tests: between packages, between the files and folders of each, and which library may be named where.
//! It depends on none of them, so that `cargo test -p nightshift-architecture` is a matter of seconds.

#![cfg(test)]
#![forbid(unsafe_code)]

mod harness;
mod made_up;
mod packages;
mod reader;
mod reading;
mod rooms;
mod tokens;
