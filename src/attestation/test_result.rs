//! What was found by running a profile, as an in-toto test result.
//!
//! The predicate has lists of names of tests. What they measured, where and against which threshold, is an annotation of the first entry of
//! `configuration`, the only place of the predicate for it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::OUR_TYPES;
use crate::benchmark::Benchmark;
use crate::passport::{Passport, Status};
use crate::profile::ProfileId;
use crate::signing::InvalidStatement;
use crate::validation::GateResult;

/// The type of the predicate.
pub const TEST_RESULT_TYPE: &str = "https://in-toto.io/attestation/test-result/v0.1";

/// What was found by running a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestedProfile<T> {
    /// The profile's id.
    pub profile_id: ProfileId,
    /// Its readable name.
    pub name: String,
    /// What was found, as its passport says it.
    pub found: T,
}

/// A test result of ours.
pub(super) enum Found {
    Validation(TestedProfile<Status>),
    Benchmark(TestedProfile<Benchmark>),
}

#[derive(Deserialize)]
struct RawPredicate {
    result: String,
    configuration: Vec<RawConfiguration>,
}

#[derive(Deserialize)]
struct RawConfiguration {
    #[serde(default)]
    uri: String,
    #[serde(default)]
    annotations: Value,
}

/// The lists of the predicate.
struct Lists {
    result: &'static str,
    passed: Vec<String>,
    warned: Vec<String>,
    failed: Vec<String>,
}

/// What makes a test result of a kind.
trait Tested: Serialize + DeserializeOwned {
    /// The last part of the type of its annotation.
    const NAME: &str;

    fn lists(&self) -> Lists;
}

impl<T> TestedProfile<T> {
    pub(super) fn of(passport: &Passport, found: T) -> Self {
        Self { profile_id: passport.id, name: passport.name.clone(), found }
    }
}

#[expect(private_bounds, reason = "only the two of this file are meant")]
impl<T: Tested> TestedProfile<T> {
    pub(super) fn to_predicate(&self) -> Value {
        let Lists { result, passed, warned, failed } = self.found.lists();
        json!({
            "result": result,
            "configuration": [{ "uri": uri::<T>(), "annotations": self }],
            "passedTests": passed,
            "warnedTests": warned,
            "failedTests": failed,
        })
    }
}

fn uri<T: Tested>() -> String {
    format!("{OUR_TYPES}/{}/v1", T::NAME)
}

/// Reads a predicate; `None` for a test result of others.
pub(super) fn parse(predicate: &Value) -> Result<Option<Found>, InvalidStatement> {
    let wrong = |error: serde_json::Error| InvalidStatement::Predicate(format!("its test result: {error}"));
    let RawPredicate { result, configuration } = RawPredicate::deserialize(predicate).map_err(wrong)?;
    let Some(RawConfiguration { uri: found, annotations }) = configuration.first() else { return Ok(None) };
    if *found == uri::<Status>() {
        let tested = TestedProfile::<Status>::deserialize(annotations).map_err(wrong)?;
        agrees(&tested.found, &result)?;
        return Ok(Some(Found::Validation(tested)));
    }
    if *found == uri::<Benchmark>() {
        let tested = TestedProfile::<Benchmark>::deserialize(annotations).map_err(wrong)?;
        agrees(&tested.found, &result)?;
        return Ok(Some(Found::Benchmark(tested)));
    }
    Ok(None)
}

/// Refuses a result that is not what its own tests say: other readers see the result alone.
fn agrees<T: Tested>(tested: &T, result: &str) -> Result<(), InvalidStatement> {
    let expected = tested.lists().result;
    if result == expected {
        return Ok(());
    }
    let problem = format!("its test result is `{result}`, and its tests say `{expected}`");
    Err(InvalidStatement::Predicate(problem))
}

impl Tested for Status {
    const NAME: &str = "validation";

    /// A validation that ran another graph in the profile's place is no more than a warning: nothing says "passed" that was not run.
    fn lists(&self) -> Lists {
        let name = |gate: &GateResult| format!("{} {} {}", gate.gate, gate.subject, gate.shapes);
        let mut lists =
            Lists { result: "FAILED", passed: Vec::new(), warned: Vec::new(), failed: Vec::new() };
        let Some(validation) = self.validation() else { return lists };
        for gate in validation.all_gates() {
            match (gate.passed, self) {
                (false, _) => lists.failed.push(name(gate)),
                (true, Self::Executed(_)) => lists.passed.push(name(gate)),
                (true, Self::Static(_) | Self::Skipped(_)) => lists.warned.push(name(gate)),
            }
        }
        lists.failed.extend(validation.failure.clone());
        lists.result = match (validation.passed, self) {
            (false, _) => "FAILED",
            (true, Self::Executed(_)) => "PASSED",
            (true, Self::Static(_) | Self::Skipped(_)) => "WARNED",
        };
        lists
    }
}

impl Tested for Benchmark {
    const NAME: &str = "benchmark";

    fn lists(&self) -> Lists {
        let mut lists =
            Lists { result: "PASSED", passed: Vec::new(), warned: Vec::new(), failed: Vec::new() };
        for case in &self.cases {
            let name = format!("{} batch {} streams {}", case.graph, case.batch, case.streams);
            match (&case.failure, self.warnings.is_empty()) {
                (Some(_), _) => lists.failed.push(name),
                (None, false) => lists.warned.push(name),
                (None, true) => lists.passed.push(name),
            }
        }
        if !lists.failed.is_empty() {
            lists.result = "FAILED";
        } else if !lists.warned.is_empty() {
            lists.result = "WARNED";
        }
        lists
    }
}
