//! The nightshift program.
fn main() {}
