//! `nimctl bundle`.

use std::process::ExitCode;

use nimctl::files::destination;
use nimctl::ops::publish::FileLayout;
use nimctl::registry::Watch;
use nimctl::worker::host::Cancel;

use super::places::{Reach, tell, to_write};
use super::publish::send;
use crate::cli::{self, Global, RegistryArguments};
use crate::exit::Failure;
use crate::output::Output;

pub(crate) fn run(
    arguments: &cli::Bundle,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Bundle { source, destination } = arguments;
    destination::check(destination, [source.as_path()])?;
    let to = format!("oci-archive:{}", destination.display());
    let (cancelled, notice) = (|| cancel.is_cancelled(), |notice| tell(output, notice));
    let watch = Watch { cancelled: &cancelled, notice: &notice };
    // No registry is asked for an archive.
    let registries = RegistryArguments { plain_http: false, mirrors: Vec::new(), time_limit: u64::MAX };
    let opened = to_write(&to, Reach { arguments: &registries, watch })?;
    send(source, &to, opened, FileLayout::Packs, None, global, output, cancel)
}
