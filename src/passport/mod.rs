//! Passports (`nimctl.passport/1`): the machine-readable record of one profile.
//!
//! A passport grows after the build (validation, benchmark), so it is no part of the id.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::benchmark::BenchStatus;
use crate::digest::Sha256;
use crate::profile::{Contents, ProfileId, Tags};
use crate::validation::Validation;
use crate::worklist::BuildRecord;

/// The schema name inside a passport.
pub const PASSPORT_SCHEMA: &str = "nimctl.passport/1";

/// The record of one profile.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Passport {
    /// [`PASSPORT_SCHEMA`].
    pub schema: String,
    /// The profile's id.
    pub id: ProfileId,
    /// Its readable name.
    pub name: String,
    /// Its tags.
    pub tags: Tags,
    /// What it is made of.
    pub contents: Contents,
    /// How each graph was built.
    pub graphs: BTreeMap<String, GraphPassport>,
    /// Whether it was loaded and its numbers checked.
    pub validation: Status,
    /// Whether it was benchmarked.
    pub bench: BenchStatus,
    /// What the results above were made of, so that a release can take them over. In a store alone.
    #[serde(default, skip_serializing_if = "Origins::is_empty")]
    pub made_of: Origins,
}

/// Digests of everything that decided a result; absent for one that is not to be taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Origins {
    /// The key of the validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_key: Option<Sha256>,
    /// The key of the benchmark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bench_key: Option<Sha256>,
    /// The file of the benchmark's samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Sha256>,
}

impl Origins {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How one graph of a profile was built.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GraphPassport {
    /// The lowering.
    pub lowering: BuildRecord,
    /// The compilation, for a profile that has a plan.
    pub compilation: Option<BuildRecord>,
}

impl GraphPassport {
    /// Returns what made the files that the profile ships of this graph: its plan, or the lowered graph.
    pub fn shipped(&self) -> &BuildRecord {
        self.compilation.as_ref().unwrap_or(&self.lowering)
    }
}

/// What was done to validate a profile. There is no "passed" without execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The profile itself was loaded and run.
    Executed(Validation),
    /// Its files were checked, and its lowered graph was run in its place, with the precision emulated.
    Static(Validation),
    /// Nothing, for this reason.
    Skipped(String),
}

impl Status {
    /// Returns its word: `executed`, `static` or `skipped`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Executed(_) => "executed",
            Self::Static(_) => "static",
            Self::Skipped(_) => "skipped",
        }
    }

    /// Returns what was found, if something was done.
    pub fn validation(&self) -> Option<&Validation> {
        match self {
            Self::Executed(validation) | Self::Static(validation) => Some(validation),
            Self::Skipped(_) => None,
        }
    }
}

impl Passport {
    /// Returns the passport less what may differ between two builds of the same bytes: times and peak memory.
    pub fn without_measurements(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        remove_measurements(&mut value);
        value
    }
}

impl Passport {
    /// Returns the text of the passport in a release: less the times and memory of its build, which no two builds share, and
    /// less what only its store can use.
    pub fn for_release(&self) -> Vec<u8> {
        let released = Self { made_of: Origins::default(), ..self.clone() };
        let mut value = serde_json::to_value(&released).unwrap_or_default();
        if let Some(graphs) = value.get_mut("graphs") {
            remove_measurements(graphs);
        }
        let mut text = serde_json::to_vec_pretty(&value).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

fn remove_measurements(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(members) => {
            members.remove("timings");
            members.remove("peak_memory_bytes");
            members.values_mut().for_each(remove_measurements);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(remove_measurements),
        _ => {}
    }
}
