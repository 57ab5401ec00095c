//! The decoding process alone, for the tests of this crate; users have it as a hidden verb of `nightshift`.

fn main() -> std::process::ExitCode {
    nightshift_worker::decode_child::main()
}
