//! The nightshift program.

fn main() -> std::process::ExitCode {
    nightshift::run(std::env::args_os())
}
