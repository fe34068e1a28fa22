//! `nimctl download-to-cache`: NIM's command.

use std::process::ExitCode;

use nimctl::worker::host::Cancel;

use super::admission::Admission;
use super::pull::{self, View};
use super::pull_manifest::{Destination, Profiles, Request};
use crate::cli::{self, Global};
use crate::environment;
use crate::exit::{Failure, done};
use crate::output::Output;

pub(crate) fn run(
    arguments: &cli::DownloadToCache,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::DownloadToCache { profiles, all, lora, nim, manifest_file } = arguments;
    let cli::NimArguments { cache, devices, parallel, trust, registries } = nim;
    let admission = Admission::in_place(trust, global)?;
    let from = environment::nim_manifest(manifest_file.as_deref())?.display().to_string();
    let cache = environment::nim_cache(cache.as_deref());
    let profiles = match (all, profiles.as_slice()) {
        (true, _) => Profiles::All,
        (false, []) => Profiles::Chosen { lora: *lora, single: false },
        (false, named) => Profiles::Named(named),
    };
    let destination = Destination::Cache(&cache);
    let request = Request {
        manifest: &from,
        profiles,
        devices,
        destination,
        parallel: *parallel,
        registries,
        admission: admission.as_ref(),
    };
    let pulled = super::pull_manifest::pull(&request, global, output, cancel)?;
    output
        .result(&pull::text(&pulled.profiles, pulled.folder.as_deref()), &View::of_manifest(&from, &pulled));
    Ok(done())
}
