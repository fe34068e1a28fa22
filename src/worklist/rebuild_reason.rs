//! Why a job must run, as data and in words.

use serde::Serialize;

use super::build_key::FieldChange;
use crate::digest::Sha256;

/// Why a job must run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobReason {
    /// Nothing was built here before.
    New,
    /// Something that goes in has changed.
    Changed(Vec<FieldChange>),
    /// It was built, but the store no longer has the output.
    OutputMissing(Sha256),
}

impl JobReason {
    /// Returns the reason in words, a line for each change.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::New => vec!["new".into()],
            Self::Changed(changes) => changes.iter().map(ToString::to_string).collect(),
            Self::OutputMissing(sha256) => vec![format!("its output {sha256} is no longer in the store")],
        }
    }
}
