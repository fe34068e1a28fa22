//! `nimctl bundle`.

use std::process::ExitCode;

use nimctl::files::destination;
use nimctl::ops::publish::FileLayout;
use nimctl::registry::Watch;
use nimctl::worker::host::Cancel;

use super::places::{Reach, check_form, tell, to_write};
use super::publish::{NO_JOB_RUNS_S, send, shipment};
use crate::cli::{self, Global, RegistryArguments};
use crate::environment;
use crate::exit::{Failure, done};
use crate::output::Output;

pub(crate) fn run(
    arguments: &cli::Bundle,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Bundle { source, only, destination } = arguments;
    destination::check(destination, [source.as_path()])?;
    let to = format!("oci-archive:{}", destination.display());
    check_form(&to)?;
    let (cancelled, notice) = (|| cancel.is_cancelled(), |notice| tell(output, notice));
    let watch = Watch { cancelled: &cancelled, notice: &notice };
    // No registry is asked for an archive.
    let registries = RegistryArguments { plain_http: false, mirrors: Vec::new(), time_limit: 1 };
    let workspace = environment::workspace(global, NO_JOB_RUNS_S, cancel)?;
    let shipment = shipment(source, only.as_ref(), &workspace)?;
    let opened = to_write(&to, Reach { arguments: &registries, watch })?;
    let sent = send(&shipment, &workspace, &to, opened, (FileLayout::Packs, None), output)?;
    output.result(&sent.text(), &sent.view());
    Ok(done())
}
