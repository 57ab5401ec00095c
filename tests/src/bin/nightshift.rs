//! A copy of the nightshift program, so that tests can run it and kill it.

fn main() -> std::process::ExitCode {
    nightshift::run(std::env::args_os())
}
