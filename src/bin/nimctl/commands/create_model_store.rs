//! `nimctl create-model-store`: NIM's command.

use std::process::ExitCode;

use nimctl::ops::pull::{check_model_store, copy_to_model_store};
use nimctl::worker::host::Cancel;
use serde_json::json;

use super::admission::Admission;
use super::pull_manifest::{Destination, Profiles, Request};
use crate::cli::{self, Global};
use crate::environment;
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::table::{counted, size};

pub(crate) fn run(
    arguments: &cli::CreateModelStore,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::CreateModelStore { profile, model_store, nim, manifest_file } = arguments;
    let cli::NimArguments { cache, devices, parallel, trust, registries } = nim;
    let admission = Admission::in_place(trust, global)?;
    let from = environment::nim_manifest(manifest_file.as_deref())?.display().to_string();
    let cache = environment::nim_cache(cache.as_deref());
    let named: Vec<String> = profile.iter().cloned().collect();
    let profiles = if named.is_empty() {
        Profiles::Chosen { lora: false, single: true }
    } else {
        Profiles::Named(&named)
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
    check_model_store(model_store)?;
    let pulled = super::pull_manifest::pull(&request, global, output, cancel)?;
    let [one] = pulled.profiles.as_slice() else { unreachable!("one was asked for") };
    let folder = pulled.folder.as_deref().unwrap_or(&cache);
    let Some(entry) = pulled.manifest.profiles.iter().find(|profile| profile.id == one.id) else {
        unreachable!("it was pulled")
    };
    let size_bytes = copy_to_model_store(folder, entry, model_store)?;
    let count = entry.workspace.files.len();
    let text = format!(
        "{} {}\n  {}, {}, in {}",
        one.name,
        one.id,
        counted(count, "file"),
        size(size_bytes),
        model_store.display()
    );
    let view = json!({
        "schema": "nimctl.model-store/1", "profile_id": one.id, "name": one.name, "folder": model_store,
        "files": count, "size_bytes": size_bytes, "unverified": pulled.unverified,
    });
    output.result(&text, &view);
    Ok(done())
}
