//! Runs a command (the test runner) with one private Postgres cluster for all of its processes:
//! `nightshift-test-cluster cargo nextest run`. The cluster is gone when the command is.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightshift_lab::run_under(std::env::args_os().skip(1))
}
