//! The client alone, without the engine: for trying commands out against any daemon.

fn main() -> std::process::ExitCode {
    ferry_cli::main(std::env::args_os())
}
