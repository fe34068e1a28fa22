//! `store fsck`: reads everything in a store, and repairs what can be repaired.

mod blobs;
mod structure;

use std::collections::BTreeSet;

use super::StoreCareError;
use crate::profile::ProfileId;
use crate::store::{Store, Survey};

/// How to check.
#[derive(Clone, Copy)]
pub struct FsckOptions<'a> {
    /// Change nothing.
    pub check_only: bool,
    /// Files that are read at the same time.
    pub parallel: usize,
    /// Asked between pieces of files.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
    /// Gets the bytes that were read so far, and all that there are.
    pub on_bytes: &'a (dyn Fn(u64, u64) + Sync),
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seriousness {
    /// A process that was killed left it, and the next one goes on from there.
    Unfinished,
    /// It is wrong.
    Wrong,
}

impl Seriousness {
    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unfinished => "unfinished",
            Self::Wrong => "wrong",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, as a path in the store.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
    /// How bad that is.
    pub seriousness: Seriousness,
    /// What was done about it, or would be; `None` if nothing can be.
    pub repair: Option<&'static str>,
    /// The command that brings back what is missing.
    pub command: Option<String>,
}

impl Finding {
    fn new(path: impl Into<String>, problem: impl Into<String>, seriousness: Seriousness) -> Self {
        Self { path: path.into(), problem: problem.into(), seriousness, repair: None, command: None }
    }

    fn wrong(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::new(path, problem, Seriousness::Wrong)
    }

    fn unfinished(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::new(path, problem, Seriousness::Unfinished)
    }

    fn repaired(self, repair: &'static str) -> Self {
        Self { repair: Some(repair), ..self }
    }

    fn with_command(self, command: Option<String>) -> Self {
        Self { command, ..self }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct FsckReport {
    /// Profiles in the store.
    pub profiles: usize,
    /// Blobs that were read.
    pub blobs: usize,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Everything that is not as it should be.
    pub findings: Vec<Finding>,
}

impl FsckReport {
    /// Returns how many findings are wrong, whether they were repaired or not.
    pub fn wrong(&self) -> usize {
        self.findings.iter().filter(|finding| finding.seriousness == Seriousness::Wrong).count()
    }
}

/// Checks a store. Blobs are read while other processes go on; what is said about them is compared, and repaired, when nobody
/// builds or changes it.
///
/// # Errors
/// A store that can't be read, or, to repair it, be written; cancelled.
pub fn fsck(
    store: &Store,
    options: &FsckOptions<'_>,
    waiting: impl FnOnce(),
) -> Result<FsckReport, StoreCareError> {
    let read = blobs::read_all(store, options)?;
    let compare = || {
        let mut report =
            FsckReport { blobs: read.count, read_bytes: read.read_bytes, ..FsckReport::default() };
        structure::check(store, &read, !options.check_only, &mut report)?;
        Ok(report)
    };
    if options.check_only {
        return compare();
    }
    store.repairing(waiting, &|| (options.cancelled)(), compare)
}

/// Returns the command that brings a profile's files back.
fn command_for(survey: &Survey, id: &ProfileId) -> Option<String> {
    if let Some(origin) = survey.origins.get(id) {
        return Some(format!("nimctl build {}", origin.recipe.display()));
    }
    survey.pulls.get(id).map(|pull| format!("nimctl pull {} --profile {id}", pull.place))
}

/// Returns the profiles whose passport names one of these files.
fn owners_of(survey: &Survey, sha256: &crate::digest::Sha256) -> BTreeSet<ProfileId> {
    let has_it = |id: &ProfileId| survey.blobs_of(id).contains(sha256);
    survey.ids().into_iter().filter(has_it).collect()
}
