//! `release`: build → validate → bench → check against the policy → a folder and a tar of it.
//!
//! Everything is put together in a folder beside the one that was asked for, and renamed at the end: a
//! release is complete or absent, and what a killed one left goes with the next. What was built, and what was found, stays in the store, so that a release that was refused or
//! interrupted goes on from there: what decides a result is in a key beside it, and one of the same key is taken over.

mod error;
mod parts;
mod stage;

use std::path::{Path, PathBuf};

pub use error::ReleaseError;

use parts::Built;

use super::attest::default_attestations;
use super::bench::BenchOptions;
use super::report::sort_out;
use super::sign::default_signature;
use super::verify;
use super::workspace::Workspace;
use crate::benchmark::{BENCH_SCHEMA, BenchDocument, BenchStatus, BenchedProfile, Compared};
use crate::files::atomic_file;
use crate::files::work_folder::{self, WorkFolder};
use crate::manifest::{MANIFEST_FILE, Manifest, ManifestError, file_uri};
use crate::passport::{Origins, Passport};
use crate::profile::ModelRelease;
use crate::recipe::Only;
use crate::release::{NOTES_FILE, Notes, PROFILES_FOLDER, Policy, Refusal, notes};
use crate::report::{REPORT_FILE, Report};
use crate::store::Store;

/// What is in a passport where nothing was measured on purpose.
const NO_BENCH: &str = "not benchmarked: the release was made with --no-bench";

/// How the name of a folder begins in which a release is put together.
const STAGING_PREFIX: &str = ".nimctl-release-";

/// What to release.
#[derive(Debug)]
pub struct ReleaseOptions {
    /// The recipes, all of one model and release.
    pub recipes: Vec<PathBuf>,
    /// Only these profiles of them.
    pub only: Option<Only>,
    /// How profiles are measured, and whether earlier results are taken over.
    pub bench: BenchOptions,
    /// Whether to measure at all.
    pub measure: bool,
    /// The folder to make; the tar is beside it.
    pub destination: PathBuf,
    /// The policy.
    pub policy: Policy,
    /// The policy's file, as the user named it, and its text; `None` for the default policy.
    pub policy_file: Option<(String, String)>,
    /// The folder of an earlier release to compare with.
    pub baseline: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct ReleaseReport {
    /// The model and its release.
    pub model: ModelRelease,
    /// What was built, with what was found of it.
    pub profiles: Vec<Passport>,
    /// Names of what was not, each with the reason.
    pub not_built: Vec<(String, String)>,
    /// How it compares with the baseline.
    pub compared: Compared,
    /// Everything that does not hold: if there is something, there is no release.
    pub refusals: Vec<Refusal>,
    /// The folder and its tar, if there is a release.
    pub made: Option<Made>,
}

/// A release on disk.
#[derive(Clone, Debug)]
pub struct Made {
    /// The folder.
    pub folder: PathBuf,
    /// The tar of it.
    pub tar: PathBuf,
    /// Files in the folder.
    pub files: usize,
}

/// Makes a release, unless the policy refuses it. `on_step` gets what is being done.
///
/// # Errors
/// What makes a release impossible: the recipe, a build that failed, a destination that is there already. What the policy
/// does not allow is in the report.
pub fn release(
    workspace: &Workspace,
    options: &ReleaseOptions,
    on_step: &(dyn Fn(&str) + Sync),
) -> Result<ReleaseReport, ReleaseError> {
    let ReleaseOptions { recipes, only, bench, measure, destination, policy, policy_file, baseline } =
        options;
    let tar = tar_beside(destination)?;
    // A signature of a release that was here before would be taken for one of this.
    let beside = [default_signature(destination).ok(), default_attestations(destination).ok()];
    for path in [destination, &tar].into_iter().chain(beside.iter().flatten()) {
        if path.symlink_metadata().is_ok() {
            return Err(ReleaseError::AlreadyThere { path: path.clone() });
        }
    }
    let before = baseline.as_deref().map(read_baseline).transpose()?;
    let (model, files, names) = parts::read(recipes, only.as_ref())?;
    if let Some((path, text)) = policy_file {
        policy.check_names(text, path, &names)?;
    }
    if !policy.fail_if.is_empty() {
        let missing = match (baseline, measure) {
            (None, _) => Some("there is no --baseline"),
            (Some(_), false) => Some("--no-bench measures nothing"),
            (Some(_), true) => None,
        };
        missing.map_or(Ok(()), |why| Err(ReleaseError::GateWithoutQuestion { why }))?;
    }
    if let (Some(path), Some((_, passports))) = (baseline, &before)
        && let Some(other) = passports.iter().find(|passport| passport.contents.model.name != model.name)
    {
        let found = other.contents.model.name.clone();
        return Err(ReleaseError::OtherBaseline { path: path.clone(), found, model: model.name });
    }
    let staging = Staging::beside(destination)?;
    let mut parts = parts::resolve_all(workspace, files, only.as_ref())?;

    on_step("building");
    let Built { profiles, entries, in_use: _in_use } = parts::build_all(workspace, &mut parts, on_step)?;
    let invalid = |error: ManifestError| ReleaseError::Manifest(error.to_string());
    let of_store = Manifest::new(&model, entries).map_err(invalid)?;
    let of_release = with_files_beside_it(&of_store).to_yaml().map_err(invalid)?;
    atomic_file::write(&staging.folder().join(MANIFEST_FILE), of_release.as_bytes())
        .map_err(|source| ReleaseError::Io { doing: "writing the manifest".into(), source })?;

    on_step("validating");
    parts::validate_all(workspace, &parts, bench, on_step)?;
    let mut compared = Compared::default();
    if *measure {
        on_step("measuring");
        let document = parts::measure_all(workspace, &parts, bench, &model, on_step)?;
        if let Some((name, before)) = &before {
            compared = Compared::with_baseline(&document, &document_of(name, before));
        }
    }

    let store = Store::look_at(&workspace.store);
    // Passports with the samples that they are about: another process may measure the same profiles.
    let (mut profiles, not_built) = store.with_passports(|| {
        let (profiles, not_built) = sort_out(profiles, &store)?;
        if *measure {
            stage::samples(&staging.folder(), &profiles, &store)?;
        }
        Ok::<_, ReleaseError>((profiles, not_built))
    })?;
    if !measure {
        for passport in &mut profiles {
            passport.bench = BenchStatus::Skipped(NO_BENCH.into());
        }
    }
    let refusals = policy.refusals(&profiles, &not_built, &compared);
    let mut report = ReleaseReport { model, profiles, not_built, compared, refusals, made: None };
    if report.refusals.is_empty() {
        on_step("writing the release");
        let notes = notes(&Notes {
            model: &report.model,
            profiles: &report.profiles,
            not_built: &report.not_built,
            baseline: before.as_ref().map(|(name, passports)| (name.as_str(), passports.as_slice())),
            comparisons: &report.compared.comparisons,
        });
        let io = |source| ReleaseError::Io { doing: "writing the release notes".into(), source };
        atomic_file::write(&staging.folder().join(NOTES_FILE), notes.as_bytes()).map_err(io)?;
        let page =
            Report::new(&report.model, &report.profiles, &report.not_built, &report.compared.comparisons)
                .to_html()?;
        let io = |source| ReleaseError::Io { doing: "writing the report".into(), source };
        atomic_file::write(&staging.folder().join(REPORT_FILE), page.as_bytes()).map_err(io)?;
        let places = (destination.as_path(), tar.as_path());
        report.made = Some(stage::finish(&staging, &report, &of_store, &store, places, &workspace.cancel)?);
    }
    forget(&report, policy, &store)?;
    Ok(report)
}

/// Returns the manifest of a release: its files are beside it.
fn with_files_beside_it(of_store: &Manifest) -> Manifest {
    let mut manifest = of_store.clone();
    for profile in &mut manifest.profiles {
        for (path, file) in &mut profile.workspace.files {
            file.uri = Some(file_uri(&format!("{PROFILES_FOLDER}/{}/{path}", profile.id)));
        }
    }
    manifest
}

/// Sees to it that the next release does not take over what belongs to this one: everything, if it was made; what was too slow,
/// if that is why it was refused, for what is measured once more may be better.
fn forget(report: &ReleaseReport, policy: &Policy, store: &Store) -> Result<(), ReleaseError> {
    for Passport { id, name, .. } in &report.profiles {
        let Some(passport) = store.passport(id)? else { continue };
        if report.made.is_some() {
            store.change_passport(&passport, None, |passport| passport.made_of = Origins::default())?;
        } else if policy.beyond(&report.compared.comparisons).any(|(_, found)| found.profile == *name) {
            store.change_passport(&passport, None, |passport| passport.made_of.bench_key = None)?;
        }
    }
    Ok(())
}

/// Reads an earlier release, and what people call it.
fn read_baseline(folder: &Path) -> Result<(String, Vec<Passport>), ReleaseError> {
    let passports =
        verify::passports(folder).map_err(|source| ReleaseError::Baseline { path: folder.into(), source })?;
    let name = passports.first().map(|passport| passport.contents.model.release.clone());
    Ok((name.unwrap_or_else(|| folder.display().to_string()), passports))
}

fn document_of(release: &str, passports: &[Passport]) -> BenchDocument {
    let name = passports.first().map(|passport| passport.contents.model.name.clone()).unwrap_or_default();
    let profile = |passport: &Passport| BenchedProfile {
        profile_id: Some(passport.id.to_string()),
        name: passport.name.clone(),
        bench: passport.bench.clone(),
    };
    BenchDocument {
        schema: BENCH_SCHEMA.into(),
        model: ModelRelease { name, release: release.into() },
        profiles: passports.iter().map(profile).collect(),
    }
}

fn tar_beside(destination: &Path) -> Result<PathBuf, ReleaseError> {
    let name = destination.file_name().ok_or_else(|| ReleaseError::NoName { path: destination.into() })?;
    let mut name = name.to_os_string();
    name.push(".tar");
    Ok(destination.with_file_name(name))
}

/// A release in the making, on the file system of its destination; gone when dropped.
#[derive(Debug)]
struct Staging {
    work: WorkFolder,
}

impl Staging {
    /// Makes one, and removes those of processes that have ended.
    fn beside(destination: &Path) -> Result<Self, ReleaseError> {
        let parent = destination.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let make = || {
            fs_err::create_dir_all(parent)?;
            work_folder::sweep(parent, STAGING_PREFIX);
            let staging = Self { work: WorkFolder::new_in(parent, STAGING_PREFIX)? };
            fs_err::create_dir(staging.folder())?;
            Ok(staging)
        };
        make().map_err(|source| ReleaseError::Io {
            doing: format!("making a folder in {}", parent.display()),
            source,
        })
    }

    /// Returns where the files of the release are.
    fn folder(&self) -> PathBuf {
        self.work.path().join("release")
    }

    /// Returns where the tar is.
    fn tar(&self) -> PathBuf {
        self.work.path().join("release.tar")
    }
}
