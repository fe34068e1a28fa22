//! Attestations: what a passport says of its profile, as in-toto statements that others read too.
//!
//! | kind | predicate | what it says |
//! | --- | --- | --- |
//! | [`Kind::Provenance`] | SLSA provenance v1 | what the profile was made from: its graphs, the toolchain by digest, and the document of every job's key |
//! | [`Kind::Validation`] | in-toto test result v0.1 | how the profile was validated, and every gate |
//! | [`Kind::Benchmark`] | in-toto test result v0.1 | how fast it was, where and how that was measured |
//!
//! The subjects are the profile's `contents.json`, which its id binds, and every file that it names, each under its path in a release. A
//! statement has no time and no name of a build machine: the same passport gives the same bytes, so that a profile that stays the same keeps its
//! attestations. Who signs them, and where they are kept, is not decided here.

mod provenance;
mod test_result;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use provenance::{Documents, PROVENANCE_TYPE, Provenance};
pub use test_result::{TEST_RESULT_TYPE, TestedProfile};

use crate::benchmark::{BenchStatus, Benchmark};
use crate::digest::Sha256;
use crate::passport::{Passport, Status};
use crate::profile::{CONTENTS_FILE, ProfileId};
use crate::release::profile_folder;
use crate::signing::{InvalidStatement, Payload, STATEMENT_TYPE, strict_json};

/// The name of this project in the types of what we say. Nothing has to be there.
const OUR_TYPES: &str = "https://nimctl.org";

/// What kind of thing an attestation says.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What the profile was made from.
    Provenance,
    /// How it was validated.
    Validation,
    /// How fast it is.
    Benchmark,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Provenance, Self::Validation, Self::Benchmark];

    /// Returns its word: `provenance`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Provenance => "provenance",
            Self::Validation => "validation",
            Self::Benchmark => "benchmark",
        }
    }

    /// Returns the type of the predicate.
    pub fn predicate_type(self) -> &'static str {
        match self {
            Self::Provenance => PROVENANCE_TYPE,
            Self::Validation | Self::Benchmark => TEST_RESULT_TYPE,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// A file that an attestation is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// Its path in a release: `profiles/<id>/text/model.plan`.
    pub name: String,
    /// Its digest.
    pub digest: Sha256,
}

/// A statement about one profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Attestation {
    /// The files that it is about; of ours, the first is `contents.json`.
    pub subjects: Vec<Subject>,
    /// What it says.
    pub says: Says,
}

/// What an attestation says.
#[derive(Clone, Debug, PartialEq)]
pub enum Says {
    /// What the profile was made from.
    Provenance(Box<Provenance>),
    /// How it was validated.
    Validation(TestedProfile<Status>),
    /// How fast it is.
    Benchmark(TestedProfile<Benchmark>),
    /// Something that nimctl does not say: a bill of materials, a test result of others. Nothing is concluded from it.
    Other {
        /// The type of its predicate.
        predicate_type: String,
    },
}

#[derive(Deserialize)]
struct RawStatement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    subject: Vec<RawSubject>,
    predicate: Value,
}

#[derive(Deserialize)]
struct RawSubject {
    #[serde(default)]
    name: String,
    digest: std::collections::BTreeMap<String, String>,
}

impl Attestation {
    /// Returns what a passport says of its profile: always its provenance, and what was found by running it, if it was run. `builder` is the
    /// URI of who ran the build, as far as who signs knows it.
    ///
    /// # Errors
    /// Contents beyond what canonical JSON can say.
    pub fn all_of(passport: &Passport, builder: &str) -> Result<Vec<Self>, crate::canonical::NotCanonical> {
        let contents = Sha256::of(passport.contents.to_canonical_json()?.as_bytes());
        let folder = profile_folder(&passport.id);
        let of_files = passport.contents.files.iter().map(|file| (file.path.as_str(), file.sha256));
        let subjects: Vec<Subject> = std::iter::once((CONTENTS_FILE, contents))
            .chain(of_files)
            .map(|(path, digest)| Subject { name: format!("{folder}/{path}"), digest })
            .collect();
        let mut said = vec![Says::Provenance(Box::new(Provenance::of(passport, builder)))];
        match &passport.validation {
            Status::Executed(_) | Status::Static(_) => {
                said.push(Says::Validation(TestedProfile::of(passport, passport.validation.clone())));
            }
            Status::Skipped(_) => {}
        }
        match &passport.bench {
            BenchStatus::Measured(benchmark) => {
                said.push(Says::Benchmark(TestedProfile::of(passport, benchmark.clone())));
            }
            BenchStatus::Failed(_) | BenchStatus::Skipped(_) => {}
        }
        Ok(said.into_iter().map(|says| Self { subjects: subjects.clone(), says }).collect())
    }

    /// Returns which kind it is; `None` for what nimctl does not say.
    pub fn kind(&self) -> Option<Kind> {
        match &self.says {
            Says::Provenance(_) => Some(Kind::Provenance),
            Says::Validation(_) => Some(Kind::Validation),
            Says::Benchmark(_) => Some(Kind::Benchmark),
            Says::Other { .. } => None,
        }
    }

    /// Returns the type of its predicate.
    pub fn predicate_type(&self) -> &str {
        match &self.says {
            Says::Other { predicate_type } => predicate_type,
            says => match says {
                Says::Provenance(_) => PROVENANCE_TYPE,
                _ => TEST_RESULT_TYPE,
            },
        }
    }

    /// Returns the digest of a profile's `contents.json`, if that is what it is about.
    pub fn contents_of(&self, id: &ProfileId) -> Option<Sha256> {
        let name = format!("{}/{CONTENTS_FILE}", profile_folder(id));
        self.subjects.iter().find(|subject| subject.name == name).map(|subject| subject.digest)
    }

    /// Returns whether it is about the profile with this id and this `contents.json`: the digest alone counts, a name is only a name.
    pub fn is_about(&self, id: &ProfileId, contents: &Sha256) -> bool {
        self.contents_of(id).as_ref() == Some(contents)
            && match &self.says {
                Says::Provenance(provenance) => provenance.profile_id == *id,
                Says::Validation(tested) => tested.profile_id == *id,
                Says::Benchmark(tested) => tested.profile_id == *id,
                Says::Other { .. } => true,
            }
    }
}

impl Payload for Attestation {
    fn to_payload(&self) -> Vec<u8> {
        let Self { subjects, says } = self;
        let subjects: Vec<Value> = subjects
            .iter()
            .map(|Subject { name, digest }| json!({ "name": name, "digest": { "sha256": digest.to_hex() } }))
            .collect();
        let predicate = match says {
            Says::Provenance(provenance) => provenance.to_predicate(),
            Says::Validation(tested) => tested.to_predicate(),
            Says::Benchmark(tested) => tested.to_predicate(),
            Says::Other { predicate_type: _ } => json!({}),
        };
        let statement = json!({
            "_type": STATEMENT_TYPE,
            "subject": subjects,
            "predicateType": self.predicate_type(),
            "predicate": predicate,
        });
        statement.to_string().into_bytes()
    }

    fn parse(payload: &[u8]) -> Result<Self, InvalidStatement> {
        let RawStatement { kind, predicate_type, subject, predicate } =
            strict_json::parse(payload).map_err(|error| InvalidStatement::Json(error.to_string()))?;
        if kind != STATEMENT_TYPE {
            return Err(InvalidStatement::Type { found: kind, expected: STATEMENT_TYPE });
        }
        if subject.is_empty() {
            return Err(InvalidStatement::Subjects(0));
        }
        let subjects = subject.into_iter().map(RawSubject::check).collect::<Result<_, _>>()?;
        let says = match predicate_type.as_str() {
            PROVENANCE_TYPE => match Provenance::parse(&predicate)? {
                Some(provenance) => Says::Provenance(Box::new(provenance)),
                None => Says::Other { predicate_type },
            },
            TEST_RESULT_TYPE => match test_result::parse(&predicate)? {
                Some(test_result::Found::Validation(tested)) => Says::Validation(tested),
                Some(test_result::Found::Benchmark(tested)) => Says::Benchmark(tested),
                None => Says::Other { predicate_type },
            },
            _ => Says::Other { predicate_type },
        };
        Ok(Self { subjects, says })
    }
}

impl RawSubject {
    fn check(self) -> Result<Subject, InvalidStatement> {
        let Self { name, digest } = self;
        let Some(hex) = digest.get("sha256") else {
            let found = digest.keys().next().cloned().unwrap_or_else(|| "nothing".into());
            return Err(InvalidStatement::Digest { name, found });
        };
        match Sha256::from_hex(hex) {
            Ok(digest) => Ok(Subject { name, digest }),
            Err(_) => Err(InvalidStatement::Digest { name, found: hex.clone() }),
        }
    }
}
