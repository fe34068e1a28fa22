//! Reproduction: what a release says its profiles were made from, and what came of building them again.
//!
//! [`MadeFrom`] is everything that a rebuild starts from. [`ProfileReproduction`] is the result for one profile: a verdict, the
//! files, and findings that name what differs. Nothing is built here: [`crate::ops::reproduce`] does that.

mod made_from;

use serde::Serialize;

pub use made_from::{GraphMadeFrom, MadeFrom};

use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::profile::{ModelRelease, ProfileId};
use crate::worklist::FieldChange;

/// What came of building something again. In order: the last one in a list of several is the verdict on all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The same bytes.
    Identical,
    /// Other bytes, which say the same as far as it was compared; each file says what was.
    Equivalent,
    /// It could not be built again.
    NotReproduced,
    /// Other bytes, or made from something else than recorded.
    Different,
}

impl Verdict {
    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Equivalent => "equivalent",
            Self::NotReproduced => "not_reproduced",
            Self::Different => "different",
        }
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A field of what the profile was made from.
    Field,
    /// The version of a tool, or one of its libraries.
    Tool,
    /// A source graph.
    Graph,
    /// A weight of a graph.
    Weight,
    /// The graph that lowering wrote.
    LoweredGraph,
    /// A file of the profile.
    File,
    /// The profile's id.
    Id,
    /// What is needed to build it, and is not here.
    Missing,
    /// The build failed.
    Build,
}

/// One difference, or one reason why there is nothing to compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub subject: Subject,
    /// Its name: a field, a library, a weight, a path.
    pub name: String,
    /// What the release has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<String>,
    /// What there is instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// All of it as a sentence.
    pub text: String,
}

impl Finding {
    /// Says something about a thing.
    pub fn new(subject: Subject, name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { subject, name: name.into(), recorded: None, found: None, text: text.into() }
    }

    /// Says that a field has another value; `where_found` is what has the other one.
    pub fn of_change(subject: Subject, graph: &str, change: &FieldChange, where_found: &str) -> Self {
        let FieldChange { field, old, new } = change;
        let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".into());
        Self {
            subject,
            name: format!("{graph}: {field}"),
            recorded: old.clone(),
            found: new.clone(),
            text: format!(
                "graph `{graph}`: {field} is {} in the release, and {} {where_found}",
                word(old),
                word(new)
            ),
        }
    }
}

/// One file of a profile, built again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileReproduction {
    /// Its path in the profile.
    pub path: String,
    /// What came of it.
    pub verdict: Verdict,
    /// The released file; absent if the release has none of this path.
    pub recorded: Option<FileFacts>,
    /// The rebuilt one; absent if there is none of this path.
    pub rebuilt: Option<FileFacts>,
    /// Where other bytes say the same: what was compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compared: Vec<String>,
}

/// A file by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FileFacts {
    /// Its digest.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// What came of one profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileReproduction {
    /// Its readable name.
    pub name: String,
    /// Its id in the release.
    pub id: String,
    /// The id of what was built; absent if nothing was.
    pub rebuilt_id: Option<ProfileId>,
    /// The verdict on it: of its files, its id and what it was made from.
    pub verdict: Verdict,
    /// Its files; empty if nothing was built.
    pub files: Vec<FileReproduction>,
    /// What differs or is missing, what explains the most first.
    pub findings: Vec<Finding>,
}

impl ProfileReproduction {
    /// Says that nothing was built, and why.
    pub fn not_built(name: &str, id: &str, verdict: Verdict, findings: Vec<Finding>) -> Self {
        Self { name: name.into(), id: id.into(), rebuilt_id: None, verdict, files: Vec::new(), findings }
    }

    /// Adds differences; they make the profile different.
    pub fn add_differences(&mut self, differences: Vec<Finding>) {
        if !differences.is_empty() {
            self.verdict = Verdict::Different;
        }
        self.findings.splice(0..0, differences);
    }
}

/// What came of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reproduction {
    /// The model and its release.
    pub model: ModelRelease,
    /// The profiles that were asked for, in the order of the manifest.
    pub profiles: Vec<ProfileReproduction>,
}

impl Reproduction {
    /// Returns how many profiles have a verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.profiles.iter().filter(|profile| profile.verdict == verdict).count()
    }

    /// Returns what the result means for the exit code; `None` if every profile was reproduced.
    pub fn failure(&self) -> Option<ErrorKind> {
        match self.profiles.iter().map(|profile| profile.verdict).max() {
            Some(Verdict::Different) => Some(ErrorKind::Refused),
            Some(Verdict::NotReproduced) => Some(ErrorKind::Unavailable),
            Some(Verdict::Identical | Verdict::Equivalent) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reproduction(verdicts: &[Verdict]) -> Reproduction {
        let profile = |verdict: &Verdict| ProfileReproduction::not_built("p", "0", *verdict, Vec::new());
        Reproduction {
            model: ModelRelease { name: "m".into(), release: "1".into() },
            profiles: verdicts.iter().map(profile).collect(),
        }
    }

    #[test]
    fn a_difference_counts_more_than_what_could_not_be_built() {
        let check = |verdicts: &[Verdict], expected: Option<ErrorKind>| {
            assert_eq!(reproduction(verdicts).failure(), expected, "{verdicts:?}");
        };
        use Verdict::{Different, Equivalent, Identical, NotReproduced};
        check(&[Identical, Equivalent], None);
        check(&[Identical, NotReproduced], Some(ErrorKind::Unavailable));
        check(&[Different, NotReproduced, Identical], Some(ErrorKind::Refused));
    }
}
