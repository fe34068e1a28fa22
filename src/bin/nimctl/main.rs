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
    let arguments = match cli::Arguments::try_parse_from(called_as::arguments(std::env::args_os())) {
        Ok(arguments) => arguments,
        Err(instead) => return output::help_or_usage(&instead),
    };
    let output = {
        let cli::Global { output, progress, quiet, .. } = &arguments.global;
        output::Output::new(*output, *progress, *quiet)
    };
    let cancel = signals::cancel_on_signals();
    let ended = commands::run(arguments, &output, &cancel);
    output.exit_code(ended.unwrap_or_else(|failure| output.failure(&failure)))
}
