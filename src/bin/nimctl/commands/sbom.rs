//! `nimctl sbom`.

use std::path::Path;
use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::files::{atomic_file, destination};
use nimctl::ops::pull::RemoteRelease;
use nimctl::ops::sbom::{Bill, of_folder, of_place};
use nimctl::registry::Watch;
use nimctl::worker::host::Cancel;
use serde_json::json;

use super::places::{Reach, shown, tell, to_read};
use super::pull_manifest::is_manifest;
use crate::cli;
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::table::counted;

/// The file that makes a folder one in the OCI image layout.
const LAYOUT_FILE: &str = "oci-layout";

pub(crate) fn run(arguments: &cli::Sbom, output: &Output, cancel: &Cancel) -> Result<ExitCode, Failure> {
    let cli::Sbom { release, destination, registries } = arguments;
    if let Some(path) = destination {
        destination::check(path, [Path::new(release)])?;
        destination::check_keeps(path, Path::new(release), is_bill)?;
    }
    let Bill { bom, profiles, left_out } = bill(release, registries, output, cancel)?;
    if !left_out.is_empty() {
        output.warning(&format!(
            "{} of {} profiles were not pulled into {release}, and are not listed; name the place that it was pulled from to \
             list all",
            left_out.len(),
            left_out.len() + profiles.len()
        ));
    }
    let text = bom.to_json();
    match destination {
        None => output.data(&text),
        Some(path) => {
            atomic_file::write(path, text.as_bytes())
                .map_err(|error| {
                    anyhow::Error::from(error).context(format!("cannot write {}", path.display()))
                })
                .map_err(|error| Failure::new(ErrorKind::Input, error))?;
            let view = json!({
                "schema": "nimctl.sbom-written/1",
                "file": path,
                "size_bytes": text.len(),
                "profiles": profiles,
                "left_out": left_out,
            });
            output
                .result(&format!("wrote {}: {}", path.display(), counted(profiles.len(), "profile")), &view);
        }
    }
    Ok(done())
}

/// Returns whether a file is a bill, which may be written anew.
fn is_bill(text: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(text).is_ok_and(|value| value["bomFormat"] == "CycloneDX")
}

fn bill(
    release: &str,
    arguments: &cli::RegistryArguments,
    output: &Output,
    cancel: &Cancel,
) -> Result<Bill, Failure> {
    if is_manifest(release) {
        let message =
            format!("{} is a manifest, which does not have what a bill of materials lists", shown(release));
        let hint = "name the release folder that it is in, or where the release was published";
        return Err(Failure::new(ErrorKind::Input, anyhow::Error::msg(message)).hint(Some(hint.into())));
    }
    let folder = Path::new(release);
    if folder.is_dir() && !folder.join(LAYOUT_FILE).exists() {
        return Ok(of_folder(folder)?);
    }
    let (cancelled, notice) = (|| cancel.is_cancelled(), |notice| tell(output, notice));
    let watch = Watch { cancelled: &cancelled, notice: &notice };
    let opened = to_read(release, Reach { arguments, watch })?;
    let remote = RemoteRelease::open(opened.place.as_ref(), &opened.which)?;
    Ok(of_place(&shown(release), &remote, &cancelled)?)
}
