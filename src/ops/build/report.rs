//! What a build tells while it runs, and what came of it.

use std::path::PathBuf;

use super::JobError;
use crate::mixed_precision::MixedPrecisionReport;
use crate::profile::{ProfileId, ProfileSpec, Tags};
use crate::recipe::Recipe;
use crate::store::reason_lines;
use crate::toolchain::Progress;
use crate::worklist::{Job, JobReason, JobState};

/// Something that happened during a build.
#[derive(Clone, Debug)]
pub enum BuildEvent {
    /// Another process builds into the same store; we wait for it.
    WaitingForStore,
    /// A graph's source is being fetched.
    Fetching {
        /// The graph.
        graph: String,
        /// How far it is.
        progress: Progress,
    },
    /// A graph is being made up.
    Synthesizing {
        /// The graph.
        graph: String,
    },
    /// So many jobs must run.
    Starting {
        /// How many.
        jobs: usize,
    },
    /// A job runs.
    JobStarted {
        /// What people call it.
        title: String,
    },
    /// A job is at another stage.
    JobStage {
        /// What people call it.
        title: String,
        /// The worker's word for the stage.
        stage: String,
    },
    /// A job is done.
    JobFinished {
        /// What people call it.
        title: String,
        /// How long it took.
        total_ms: u64,
        /// The size of what came out.
        size_bytes: u64,
    },
    /// It was found which nodes of a graph must stay in FP32.
    MixedPrecision {
        /// What people call the search.
        title: String,
        /// What was found.
        report: Box<MixedPrecisionReport>,
    },
    /// Something the user should know.
    Warning {
        /// What.
        message: String,
    },
    /// A job failed; the others go on.
    JobFailed {
        /// What people call it.
        title: String,
        /// Why.
        message: String,
    },
}

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
}

impl JobLine {
    pub(super) fn new(job: &Job, state: &JobState) -> Self {
        let reason = match state {
            JobState::UpToDate(_) => None,
            JobState::MustRun(reason) => Some(reason.clone()),
        };
        let profiles = job.users.iter().map(|user| user.profile.clone()).collect();
        Self { title: job.title(), key: job.key.to_string(), profiles, reason }
    }

    /// Returns the reason in words, a line for each change; empty if the job need not run.
    pub fn reason_lines(&self) -> Vec<String> {
        self.reason.as_ref().map(reason_lines).unwrap_or_default()
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
        /// The exact text of its `contents.json`.
        contents_json: String,
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
    /// Where the manifest is; absent after a dry run or a failure.
    pub manifest: Option<PathBuf>,
    /// Whether the manifest's bytes changed.
    pub manifest_changed: bool,
    /// Ids of the old manifest's profiles that are not among these any more. With `--only` the old manifest then
    /// stays, and `manifest` is absent.
    pub dropped: Vec<String>,
}

impl BuildReport {
    pub(super) fn dry_run(recipe: &Recipe, jobs: Vec<JobLine>, elsewhere: &[(&ProfileSpec, String)]) -> Self {
        let outcome = |name: &str| {
            if let Some((_, needs)) = elsewhere.iter().find(|(spec, _)| spec.name() == name) {
                return Outcome::NotBuiltHere(needs.clone());
            }
            let mine: Vec<&JobLine> =
                jobs.iter().filter(|job| job.profiles.iter().any(|user| user == name)).collect();
            match mine.as_slice() {
                [] => Outcome::NotSelected,
                some if some.iter().any(|job| job.reason.is_some()) => Outcome::Planned,
                _ => Outcome::UpToDate,
            }
        };
        let profiles = recipe
            .profiles
            .iter()
            .map(ProfileSpec::name)
            .map(|name| ProfileLine { outcome: outcome(&name), name })
            .collect();
        Self {
            model: (recipe.model.name.clone(), recipe.model.release.clone()),
            jobs: jobs.clone(),
            profiles,
            manifest: None,
            manifest_changed: false,
            dropped: Vec::new(),
        }
    }

    /// Returns the first failure, if there is one.
    pub fn failure(&self) -> Option<&JobError> {
        self.profiles.iter().find_map(|profile| match &profile.outcome {
            Outcome::Failed(error) => Some(error),
            _ => None,
        })
    }
}
