//! Entry point of `ferry-shim`, executed by the engine with its connection as descriptor 3, and of the init of containers
//! that want one, under its name.

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if std::path::Path::new(&name).file_name() == Some(ferry_shim::init::NAME.as_ref()) {
        return ferry_shim::init::run(args);
    }
    if args.next().is_some_and(|first| first == ferry_shim::log::compress::COMMAND) {
        let mut word = || args.next().unwrap_or_default().to_string_lossy().into_owned();
        let (inode, last) = (word(), word());
        // Who started it sees the status and keeps the file as it was.
        return ferry_shim::log::compress::run(&inode, &last)
            .map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let result = ferry_shim::prepare().and_then(ferry_shim::run);
    match result {
        Ok(ferry_shim::Ending::Unused | ferry_shim::Ending::Finished) => ExitCode::SUCCESS,
        // The engine got the error as an answer.
        Ok(ferry_shim::Ending::LaunchFailed) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody else is left to tell, and nothing if this fails too.
            let _ = writeln!(std::io::stderr(), "ferry-shim: {error}");
            ExitCode::FAILURE
        }
    }
}
