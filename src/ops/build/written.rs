//! What a build writes: passports, and the manifest.

use std::path::{Path, PathBuf};

use super::BuildReport;
use crate::files::atomic_file;
use crate::files::destination;
use crate::manifest::{Manifest, ManifestProfile};
use crate::ops::assemble::{Assembled, AssembledProfile, AssembledState};
use crate::ops::error::PipelineError;
use crate::ops::read_manifest::{model_of, refuse_newer_manifest};
use crate::ops::resolve::Resolved;
use crate::profile::{ProfileId, Tags};
use crate::store::Store;

/// Writes the passport of every profile that is complete, and which recipe it came from.
pub(super) fn profiles(
    assembled: &[Assembled],
    resolved: &Resolved,
    store: &Store,
) -> Result<(), PipelineError> {
    // A recipe that can't be resolved was read a moment ago, and JSON has no path that isn't UTF-8: then its id alone is no
    // way to it.
    let recipe = fs_err::canonicalize(&resolved.file().path).ok().filter(|path| path.to_str().is_some());
    let ids: Vec<ProfileId> = assembled.iter().filter_map(Assembled::id).collect();
    for Assembled { name: _, state } in assembled {
        let AssembledState::Complete(profile) = state else { continue };
        let AssembledProfile { passport, contents_json, files, entry: _ } = profile.as_ref();
        store.put_built_profile(passport, contents_json, files)?;
    }
    // After the passports, which no longer have results that were pulled: from now on they are those of this machine.
    if let Some(recipe) = &recipe {
        store.put_origins(&ids, recipe)?;
    }
    Ok(())
}

/// Checks that a manifest may be written to this path: a manifest of a newer nimctl or of another model, or a file that the
/// build reads, is not to be lost.
pub(super) fn check_manifest(resolved: &Resolved, path: &Path) -> Result<(), PipelineError> {
    let files = resolved.files();
    destination::check(path, files.iter().map(PathBuf::as_path))?;
    refuse_newer_manifest(path)?;
    let model = &resolved.recipe().model.name;
    match model_of(path).filter(|found| found != model) {
        Some(found) => Err(PipelineError::OtherModel { path: path.into(), found, model: model.clone() }),
        None => Ok(()),
    }
}

/// Writes the manifest if its bytes differ from the file's, and says so in the report. A part of the profiles, because others were not
/// selected or failed, is no reason to forget the others: then the file stays as it is.
pub(super) fn manifest(
    report: &mut BuildReport,
    resolved: &Resolved,
    entries: Vec<ManifestProfile>,
    path: &Path,
) -> Result<(), PipelineError> {
    let manifest = Manifest::new(&resolved.recipe().model, entries)?;
    report.dropped = dropped(&manifest, path);
    let is_all = resolved.selects_all() && report.failure().is_none();
    if is_all || report.dropped.is_empty() {
        // Once more: a build takes long, and another may have written meanwhile.
        check_manifest(resolved, path)?;
        report.manifest_changed = write(&manifest, path)?;
        report.manifest = Some(path.into());
    }
    Ok(())
}

/// Returns the profiles of the manifest on disk that the new one no longer has, by id: those whose tags, less what a
/// rebuild changes, are gone.
fn dropped(new: &Manifest, path: &Path) -> Vec<String> {
    let place = |profile: &ManifestProfile| {
        let mut tags = profile.tags.clone();
        tags.retain(|key, _| !matches!(key.as_str(), "content" | "trt_version" | "batch_size"));
        tags
    };
    let text = fs_err::read_to_string(path).unwrap_or_default();
    let Ok(old) = Manifest::parse(&text, "") else { return Vec::new() };
    let kept: Vec<Tags> = new.profiles.iter().map(place).collect();
    let is_gone = |profile: &ManifestProfile| !kept.contains(&place(profile));
    old.profiles.into_iter().filter(is_gone).map(|profile| profile.id).collect()
}

/// Returns whether the file's bytes changed.
fn write(manifest: &Manifest, path: &Path) -> Result<bool, PipelineError> {
    let text = manifest.to_yaml()?;
    if fs_err::read(path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(false);
    }
    atomic_file::write(path, text.as_bytes()).map_err(|source| PipelineError::Io {
        doing: format!("writing the manifest {}", path.display()),
        source,
    })?;
    Ok(true)
}
