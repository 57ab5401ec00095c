//! A copy of the nightshift program, so that tests can run it and kill it.

fn main() {}
