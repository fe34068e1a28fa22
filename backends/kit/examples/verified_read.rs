//! Reads a file as a worker does before it loads it: once, into memory, and hashed. Prints its digest. For `cargo xtask bench
//! verified-read`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use nimctl_backend_kit::verified::read_and_hash;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else { return ExitCode::FAILURE };
    match read_and_hash(Path::new(&path)) {
        Ok((bytes, digest)) => {
            let _ = writeln!(std::io::stdout(), "{digest} {}", bytes.len());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
