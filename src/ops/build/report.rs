//! What came of a build, or would come of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::manifest::ManifestProfile;
use crate::ops::assemble::{Assembled, AssembledProfile, AssembledState};
use crate::ops::error::JobError;
use crate::ops::event::{BuildEvent, OnEvent};
use crate::ops::precision_check::CheckedGraph;
use crate::ops::resolve::{PendingSearch, Resolved};
use crate::profile::{ProfileId, ProfileSpec, Tags};
use crate::report::{CompiledGraph, QuantizedGraphFacts, compiled_graphs, quantized_graphs};
use crate::store::Store;
use crate::worklist::BuildRecord;
use crate::worklist::{Job, JobReason, JobState};

/// One job of the worklist.
#[derive(Clone, Debug)]
pub struct JobLine {
    /// What people call it.
    pub title: String,
    /// The key, as `sha256:…`.
    pub key: String,
    /// The profiles that use its output.
    pub profiles: Vec<String>,
    /// Why it must run; absent if it need not.
    pub reason: Option<JobReason>,
    /// The executor that runs it; absent if that is this machine.
    pub executor: Option<String>,
}

impl JobLine {
    fn new((job, state): &(Job, JobState), resolved: &Resolved) -> Self {
        let reason = match state {
            JobState::UpToDate(_) => None,
            JobState::MustRun(reason) => Some(reason.clone()),
        };
        let profiles = job.users.iter().map(|user| user.profile.clone()).collect();
        let executor = resolved.executor_of(job).map(str::to_owned);
        Self { title: job.title(), key: job.key.to_string(), profiles, reason, executor }
    }

    /// Returns the reason in words, a line for each change; empty if the job need not run.
    pub fn reason_lines(&self) -> Vec<String> {
        self.reason.as_ref().map(JobReason::lines).unwrap_or_default()
    }
}

/// One profile of the recipe.
#[derive(Clone, Debug)]
pub struct ProfileLine {
    /// Its readable name.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a profile.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is in the store and in the manifest.
    Built {
        /// Its id.
        id: ProfileId,
        /// Its tags.
        tags: Tags,
        /// The size of its files, in bytes; files shared with other profiles count in full.
        size_bytes: u64,
        /// How long its jobs took when they ran; shared jobs count in full.
        total_ms: u64,
        /// Whether a job of it ran in this build.
        ran_now: bool,
        /// Its passport.
        passport: PathBuf,
        /// How its graphs were quantized, if they were.
        quantized: Vec<QuantizedGraphFacts>,
        /// What the compiler made of its graphs, for plans that say so.
        compiled: Vec<CompiledGraph>,
    },
    /// It would be built (dry run), or is not there as the recipe is now.
    Planned,
    /// All of it is there (dry run).
    UpToDate,
    /// It can't be built on this machine; what it needs.
    NotBuiltHere(String),
    /// It was not asked for, and is not in the store.
    NotSelected,
    /// A job of it failed.
    Failed(JobError),
}

/// What came of a build.
#[derive(Clone, Debug)]
pub struct BuildReport {
    /// The model's name and release.
    pub model: (String, String),
    /// Every job of the selected profiles.
    pub jobs: Vec<JobLine>,
    /// Every profile of the recipe, in its order.
    pub profiles: Vec<ProfileLine>,
    /// What the checks of the lowered graphs came to; empty if they were not wanted, or nothing is lowered.
    pub checks: Vec<CheckedGraph>,
    /// Where the manifest is; absent after a dry run, or if it was not written.
    pub manifest: Option<PathBuf>,
    /// Whether the manifest's bytes changed.
    pub manifest_changed: bool,
    /// Ids of the old manifest's profiles that are not among these any more. With `--only`, or if a profile failed,
    /// the old manifest then stays, and `manifest` is absent.
    pub dropped: Vec<String>,
}

/// Returns what a build of a resolved recipe would do, and warns of what only a build can find out.
pub fn plan(resolved: &Resolved, on_event: OnEvent<'_>) -> BuildReport {
    let mut unknown: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for PendingSearch { spec, graph, key: _ } in &resolved.searches {
        let what = match spec.quantization {
            Some(_) => {
                "how it is quantized is determined during the build; the keys of the jobs below do not include it"
            }
            None => {
                "the nodes that stay in FP32 are determined during the build; the jobs below do not include them"
            }
        };
        unknown.entry((graph, what)).or_default().push(spec.name());
    }
    for ((graph, what), profiles) in unknown {
        let message = format!("{}, graph `{graph}`: {what}", profiles.join(", "));
        on_event(BuildEvent::Warning { message });
    }
    let jobs: Vec<JobLine> = resolved.jobs.iter().map(|job| JobLine::new(job, resolved)).collect();
    let outcome = |name: &str| {
        if let Some(needs) = resolved.elsewhere.get(name) {
            return Outcome::NotBuiltHere(needs.clone());
        }
        if let Some(failure) = resolved.failure_of(name) {
            return Outcome::Failed(failure.clone().into());
        }
        let mine: Vec<&JobLine> =
            jobs.iter().filter(|job| job.profiles.iter().any(|user| user == name)).collect();
        match mine.as_slice() {
            [] => Outcome::NotSelected,
            some if some.iter().any(|job| job.reason.is_some()) => Outcome::Planned,
            _ => Outcome::UpToDate,
        }
    };
    let names = resolved.recipe().profiles.iter().map(ProfileSpec::name);
    let profiles = names.map(|name| ProfileLine { outcome: outcome(&name), name }).collect();
    BuildReport::of(resolved, jobs, profiles)
}

/// Returns the entries of a manifest, one for each profile that is complete.
pub(super) fn entries(assembled: Vec<Assembled>) -> Vec<ManifestProfile> {
    let entry = |profile: Assembled| match profile.state {
        AssembledState::Complete(profile) => Some(profile.entry),
        AssembledState::Failed(_)
        | AssembledState::NotBuiltHere(_)
        | AssembledState::NotSelected
        | AssembledState::NotInStore => None,
    };
    assembled.into_iter().filter_map(entry).collect()
}

impl BuildReport {
    /// Says what came of a build.
    pub(super) fn new(resolved: &Resolved, assembled: &[Assembled], store: &Store) -> Self {
        let jobs: Vec<JobLine> = resolved.jobs.iter().map(|job| JobLine::new(job, resolved)).collect();
        let line = |Assembled { name, state }: &Assembled| {
            let outcome = match state {
                AssembledState::Complete(profile) => built(profile, &jobs, store),
                AssembledState::Failed(error) => Outcome::Failed(error.clone()),
                AssembledState::NotBuiltHere(needs) => Outcome::NotBuiltHere(needs.clone()),
                AssembledState::NotSelected => Outcome::NotSelected,
                AssembledState::NotInStore => Outcome::Planned,
            };
            ProfileLine { name: name.clone(), outcome }
        };
        let profiles = assembled.iter().map(line).collect();
        Self::of(resolved, jobs, profiles)
    }

    fn of(resolved: &Resolved, jobs: Vec<JobLine>, profiles: Vec<ProfileLine>) -> Self {
        let model = &resolved.recipe().model;
        Self {
            model: (model.name.clone(), model.release.clone()),
            jobs,
            profiles,
            checks: Vec::new(),
            manifest: None,
            manifest_changed: false,
            dropped: Vec::new(),
        }
    }

    /// Returns the number of profiles that failed.
    pub fn failed(&self) -> usize {
        self.profiles.iter().filter(|profile| matches!(profile.outcome, Outcome::Failed(_))).count()
    }

    /// Returns the first failure, if there is one.
    pub fn failure(&self) -> Option<&JobError> {
        self.profiles.iter().find_map(|profile| match &profile.outcome {
            Outcome::Failed(error) => Some(error),
            _ => None,
        })
    }
}

fn built(profile: &AssembledProfile, jobs: &[JobLine], store: &Store) -> Outcome {
    let ran = |key: String| jobs.iter().any(|line| line.reason.is_some() && line.key == key);
    let id = profile.passport.id;
    Outcome::Built {
        id,
        tags: profile.passport.tags.clone(),
        size_bytes: profile.size_bytes(),
        total_ms: profile.records().map(BuildRecord::total_ms).sum(),
        ran_now: profile.records().any(|record| ran(record.key.to_string())),
        passport: store.passport_path(&id),
        quantized: quantized_graphs(&profile.passport),
        compiled: compiled_graphs(&profile.passport),
    }
}
