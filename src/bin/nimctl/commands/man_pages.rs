//! `nimctl man-pages`.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use nimctl::error_kind::ErrorKind;
use nimctl::files::atomic_file;

use crate::cli::Arguments;
use crate::exit::{Failure, done};
use crate::output::Output;

pub(crate) fn run(folder: &Path, output: &Output) -> Result<ExitCode, Failure> {
    let failed = |error: std::io::Error| Failure::new(ErrorKind::Input, error);
    fs_err::create_dir_all(folder).map_err(failed)?;
    let mut command = Arguments::command();
    command.build();
    let count = write(&command, folder).map_err(failed)?;
    output.talk(&format!("wrote {count} man pages to {}", folder.display()));
    Ok(done())
}

/// Writes the pages of a command and its subcommands; returns their number.
fn write(command: &clap::Command, folder: &Path) -> std::io::Result<usize> {
    let mut page = Vec::new();
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    atomic_file::write(&folder.join(format!("{name}.1")), &page)?;
    let inner = command.get_subcommands().filter(|inner| inner.get_name() != "help");
    inner.map(|inner| write(inner, folder)).sum::<std::io::Result<usize>>().map(|count| count + 1)
}
