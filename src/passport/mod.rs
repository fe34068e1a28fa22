//! Passports (`nimctl.passport/1`): the machine-readable record of one profile.
//!
//! A passport grows after the build (validation, benchmark), so it is no part of the id.

mod identity;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::benchmark::BenchStatus;
use crate::digest::Sha256;
use crate::profile::{Contents, ProfileId, Tags};
use crate::stored_format::{self, Unreadable};
use crate::validation::Validation;
use crate::worklist::BuildRecord;

pub use identity::NotOfItsId;

/// The schema name inside a passport. A new version of what is in it is a new version of it.
pub const PASSPORT_SCHEMA: &str = "nimctl.passport/1";

/// Why nothing was found of a profile that was just built.
pub(crate) const NOT_RUN: &str = "built, not run";

/// The record of one profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GraphPassport {
    /// The lowering.
    pub lowering: BuildRecord,
    /// The compilation, for a profile that has a plan.
    pub compilation: Option<BuildRecord>,
}

impl GraphPassport {
    /// Returns how the graph was built, less what that took.
    fn without_measurements(&self) -> Self {
        let Self { lowering, compilation } = self;
        Self {
            lowering: lowering.without_measurements(),
            compilation: compilation.as_ref().map(BuildRecord::without_measurements),
        }
    }

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
    /// Reads a passport; `path` is only named in errors.
    ///
    /// # Errors
    /// A passport of a newer nimctl, or a damaged one.
    pub fn parse(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        let passport: Self = stored_format::from_json(bytes, PASSPORT_SCHEMA, path)?;
        passport.contents.check_schema(path)?;
        for GraphPassport { lowering, compilation } in passport.graphs.values() {
            lowering.check_schemas(path)?;
            compilation.as_ref().map_or(Ok(()), |record| record.check_schemas(path))?;
        }
        Ok(passport)
    }

    /// Reads the passport of a release; `path` is only named in errors. What only a store can use is left out: it is of another store, or
    /// somebody made it up.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_released(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        let passport = Self::parse(bytes, path)?;
        Ok(Self { made_of: Origins::default(), ..passport })
    }

    /// Returns the passport less what its build took, which no two builds of the same bytes share.
    #[must_use]
    pub fn without_measurements(&self) -> Self {
        let graphs = self.graphs.iter().map(|(name, graph)| (name.clone(), graph.without_measurements()));
        Self { graphs: graphs.collect(), ..self.clone() }
    }

    /// Returns the passport with what another one of the same profile says of validation and benchmark.
    #[must_use]
    pub fn with_results_of(&self, other: &Self) -> Self {
        let (validation, bench) = (other.validation.clone(), other.bench.clone());
        Self { validation, bench, made_of: other.made_of, ..self.clone() }
    }

    /// Returns the text of the passport in a release: less what its build took, and less what only its store can use.
    pub fn for_release(&self) -> Vec<u8> {
        let released = Self { made_of: Origins::default(), ..self.without_measurements() };
        // By way of a value, which writes 32-bit floats as the doubles that they are: released passports have always had those.
        let value = serde_json::to_value(&released).unwrap_or_default();
        let mut text = serde_json::to_vec_pretty(&value).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

#[cfg(test)]
mod tests;
