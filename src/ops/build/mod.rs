//! `build`: from a recipe to plans, ids, a manifest and passports: resolve, schedule, assemble, and what came of it is written.
//!
//! A job whose build key the store knows is not run; a job that fails doesn't stop the others. The manifest then has the others,
//! unless it would lose a profile.

mod report;
mod written;

use std::path::PathBuf;

pub use report::{BuildReport, JobLine, Outcome, ProfileLine, plan};

use super::assemble::assemble;
use super::error::PipelineError;
use super::event::{BuildEvent, OnEvent};
use super::precision_check;
use super::resolve::Resolved;
use super::schedule::schedule;
use super::workspace::Workspace;
use crate::manifest::ManifestProfile;
use crate::store::Store;
use crate::worklist::BuildKey;

/// What a build writes beside the store.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Where the manifest is written.
    pub manifest: PathBuf,
    /// Fail if a profile can't be built on this machine.
    pub require_all: bool,
    /// Run each lowered graph beside its FP32 graph, and report what that comes to.
    pub check: bool,
}

/// Builds the profiles of a resolved recipe, and writes the manifest.
///
/// # Errors
/// What makes building impossible as a whole. The failure of one job is in the report.
pub fn build(
    workspace: &Workspace,
    resolved: &mut Resolved,
    options: &BuildOptions,
    on_event: OnEvent<'_>,
) -> Result<BuildReport, PipelineError> {
    written::check_manifest(resolved, &options.manifest)?;
    if options.require_all && !resolved.elsewhere.is_empty() {
        return Err(PipelineError::NotAllHere { profiles: resolved.not_here() });
    }
    let (mut report, entries) = build_into_store(workspace, resolved, options.check, on_event)?;
    if report.failure().is_none() || !entries.is_empty() {
        written::manifest(&mut report, resolved, entries, &options.manifest)?;
    }
    Ok(report)
}

/// Builds the profiles of a resolved recipe into the store; returns what came of them, and their entries of a manifest.
///
/// # Errors
/// As [`build`].
pub(super) fn build_into_store(
    workspace: &Workspace,
    resolved: &mut Resolved,
    check: bool,
    on_event: OnEvent<'_>,
) -> Result<(BuildReport, Vec<ManifestProfile>), PipelineError> {
    let store = Store::open(&workspace.store)?;
    let waiting = || on_event(BuildEvent::WaitingForStore);
    let lock = store.lock(waiting, &|| workspace.cancel.is_cancelled())?;
    let records = schedule(workspace, resolved, &store, &lock, on_event)?;
    let assembled = assemble(resolved, &records, &store)?;
    written::profiles(&assembled, resolved, &store)?;
    let mut report = BuildReport::new(resolved, &assembled, &store);
    if check {
        let lowered = |key: &BuildKey| records.get(key).is_some_and(Result::is_ok);
        report.checks = precision_check::run_all(workspace, resolved, &store, &lowered, on_event)?;
    }
    Ok((report, report::entries(assembled)))
}
