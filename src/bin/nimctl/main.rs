//! `nimctl`: builds, names and verifies per-GPU inference profiles of ONNX models.
//!
//! This crate is the user interface only: arguments in, text or JSON out, errors into exit codes. The work is
//! done in `nimctl::ops`; only `output` prints.

mod called_as;
mod cli;
mod commands;
mod devices;
mod environment;
mod exit;
mod output;
mod progress;
mod signals;
mod table;

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    let arguments = cli::Arguments::parse_from(called_as::arguments(std::env::args_os()));
    let output = output::Output::new(arguments.global.output, arguments.global.quiet);
    let cancel = signals::cancel_on_signals();
    match commands::run(arguments, &output, &cancel) {
        Ok(code) => code,
        Err(failure) => output.failure(&failure),
    }
}
