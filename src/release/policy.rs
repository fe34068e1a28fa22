//! The requirements of a release (`nimctl.release-policy/1`).

use std::str::FromStr as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::benchmark::{BenchStatus, Compared, Comparison, Gate};
use crate::glob;
use crate::nearest::what_there_is;
use crate::passport::Passport;
use crate::stored_format::{self, YamlFileError, position_in_yaml};

/// The schema name inside a policy.
pub const RELEASE_POLICY_SCHEMA: &str = "nimctl.release-policy/1";

/// The requirements of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// [`RELEASE_POLICY_SCHEMA`].
    pub schema: String,
    /// Names of profiles that must be in it. `*` matches anything; one profile that matches is enough.
    #[serde(default)]
    pub required: Vec<String>,
    /// What counts as validated: `executed`, `static`.
    #[serde(default = "both")]
    pub accept: Vec<Accepted>,
    /// Gates: it fails if it is this much slower than the baseline: `p50 > +3%`.
    #[serde(default)]
    pub fail_if: Vec<String>,
}

/// A status of validation that a policy can accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accepted {
    /// The profile itself was run.
    Executed,
    /// Its lowered graph was run instead.
    Static,
}

impl Accepted {
    fn word(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Static => "static",
        }
    }
}

fn both() -> Vec<Accepted> {
    vec![Accepted::Executed, Accepted::Static]
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            schema: RELEASE_POLICY_SCHEMA.into(),
            required: Vec::new(),
            accept: both(),
            fail_if: Vec::new(),
        }
    }
}

/// A policy that can't be read.
pub type PolicyError = YamlFileError;

/// Why there is no release, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The requirement that failed.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl Refusal {
    fn new(reason: String, remedy: impl Into<String>) -> Self {
        Self { reason, remedy: remedy.into() }
    }
}

impl Policy {
    /// Reads a policy; `path` is used only in errors.
    ///
    /// # Errors
    /// Text that is not a policy, or a policy of another version.
    pub fn parse(text: &str, path: &str) -> Result<Self, PolicyError> {
        let syntax = |position, problem: String| PolicyError::Syntax { path: path.into(), position, problem };
        let policy: Self =
            stored_format::from_yaml(text, RELEASE_POLICY_SCHEMA, path, |policy: &Self| &policy.schema)?;
        for gate in &policy.fail_if {
            Gate::from_str(gate)
                .map_err(|error| syntax(position_in_yaml(text, &["fail_if"], gate), error.to_string()))?;
        }
        Ok(policy)
    }

    /// Checks that every profile that is required is one of those known, of all recipes of the release; `text` and `path` are those
    /// that the policy was read from.
    ///
    /// # Errors
    /// The first that is none, with its line and the nearest name.
    pub fn check_names(&self, text: &str, path: &str, known: &[String]) -> Result<(), PolicyError> {
        let is_known = |pattern: &&String| !known.iter().any(|name| glob::matches(pattern, name));
        let Some(pattern) = self.required.iter().find(is_known) else { return Ok(()) };
        let there = what_there_is(pattern, "the profiles are", known.iter().map(String::as_str));
        let problem = format!("`required`: no profile of the recipe matches `{pattern}`{there}");
        Err(PolicyError::Syntax {
            path: path.into(),
            position: position_in_yaml(text, &["required"], pattern),
            problem,
        })
    }

    /// Returns every requirement that failed: of profiles that were built, of those that were not (each with the reason),
    /// and of comparisons with the baseline.
    pub fn refusals(
        &self,
        built: &[Passport],
        not_built: &[(String, String)],
        compared: &Compared,
    ) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for pattern in &self.required {
            if built.iter().any(|passport| glob::matches(pattern, &passport.name)) {
                continue;
            }
            let why: Vec<String> = not_built
                .iter()
                .filter(|(name, _)| glob::matches(pattern, name))
                .map(|(name, why)| format!("{name}: {why}"))
                .collect();
            let why = if why.is_empty() {
                "the recipe has no profile with that name".into()
            } else {
                why.join("; ")
            };
            refusals.push(Refusal::new(
                format!("the required profile `{pattern}` was not built ({why})"),
                "build it on a host that can, or remove it from the policy's `required`",
            ));
        }
        for passport in built {
            refusals.extend(self.of_validation(passport));
            if let BenchStatus::Failed(why) = &passport.bench {
                refusals.push(not_measured(&passport.name, why));
            }
            if let BenchStatus::Measured(benchmark) = &passport.bench {
                let failures = benchmark.cases.iter().filter_map(|case| case.failure.as_ref());
                refusals.extend(failures.map(|why| not_measured(&passport.name, why)).next());
            }
        }
        refusals.extend(self.unanswered(compared));
        refusals.extend(self.beyond(&compared.comparisons).map(|(gate, found)| {
            Refusal::new(
                format!(
                    "{gate}: {} of {} {} at batch {} changed by {:+.1} % from {}",
                    found.metric.name(),
                    found.profile,
                    found.graph,
                    found.batch,
                    (found.ratio - 1.0) * 100.0,
                    found.baseline
                ),
                "measure again on an idle machine; if the result is the same, find the cause or relax `fail_if`",
            )
        }));
        refusals
    }

    /// Returns a refusal for everything that a gate has no answer for. Profiles that the baseline doesn't have are new: no gate is
    /// asked of them, but of all others.
    fn unanswered(&self, compared: &Compared) -> Vec<Refusal> {
        let old = Compared {
            comparisons: compared.comparisons.clone(),
            uncompared: compared.uncompared.iter().filter(|found| !found.is_new).cloned().collect(),
        };
        let gates = self.fail_if.iter().filter_map(|text| Gate::from_str(text).ok());
        let unanswered = gates.flat_map(|gate| {
            let without = old.unanswered(&gate).into_iter();
            without.map(move |what| {
                Refusal::new(
                    format!("{gate} has no answer for {what}"),
                    "measure the baseline and this release in the same way on the same machine, or remove `fail_if`",
                )
            })
        });
        unanswered.collect()
    }

    /// Returns the comparisons that fail a gate, each with that gate.
    pub fn beyond<'a>(
        &'a self,
        comparisons: &'a [Comparison],
    ) -> impl Iterator<Item = (Gate, &'a Comparison)> {
        let gates = self.fail_if.iter().filter_map(|text| Gate::from_str(text).ok());
        let pairs =
            gates.flat_map(|gate| comparisons.iter().map(move |comparison| (gate.clone(), comparison)));
        pairs.filter(|(gate, comparison)| gate.fails(comparison))
    }

    fn of_validation(&self, passport: &Passport) -> Option<Refusal> {
        let (name, word) = (&passport.name, passport.validation.word());
        let Some(validation) = passport.validation.validation() else {
            let reason = format!("{name} was not validated");
            return Some(Refusal::new(reason, "run `nimctl validate` and check its result"));
        };
        if !validation.passed {
            let gates: Vec<String> =
                validation.failed().map(|gate| format!("{} of {}", gate.gate, gate.subject)).collect();
            let what = validation.failure.clone().unwrap_or_else(|| gates.join(", "));
            return Some(Refusal::new(
                format!("{name} failed validation: {what}"),
                "`nimctl validate --gates` shows every number; build with other lowering options, or fix the graph",
            ));
        }
        (!self.accept.iter().any(|accepted| accepted.word() == word)).then(|| {
            Refusal::new(
                format!("{name} was validated as `{word}`, but the policy accepts only {}", self.accepted()),
                "validate on a host that can run it, or add the status to the policy's `accept`",
            )
        })
    }

    fn accepted(&self) -> String {
        self.accept.iter().map(|accepted| format!("`{}`", accepted.word())).collect::<Vec<_>>().join(", ")
    }
}

fn not_measured(name: &str, why: &str) -> Refusal {
    Refusal::new(
        format!("{name} could not be measured: {why}"),
        "run `nimctl bench` to reproduce the failure, or release without measurements: --no-bench",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read() {
        let text = "schema: nimctl.release-policy/1\nrequired: ['onnx-*']\naccept: [executed]\nfail_if: ['p50 > +3%']\n";
        let policy = Policy::parse(text, "p.yaml").unwrap();
        assert_eq!(policy.accept, [Accepted::Executed]);
        assert_eq!(Policy::parse("schema: nimctl.release-policy/1\n", "p").unwrap(), Policy::default());
        for (text, problem) in [
            (
                "schema: nimctl.release-policy/2\nmust: []\n",
                "written by a newer nimctl (schema nimctl.release-policy/2",
            ),
            ("schema: nimctl.recipe/1\n", "its schema is `nimctl.recipe/1`"),
            ("schema: nimctl.release-policy/1\nrequire: []\n", "unknown field `require`"),
            ("schema: nimctl.release-policy/1\nfail_if: [slow]\n", "`slow` is not a gate"),
            ("schema: nimctl.release-policy/1\naccept: [skipped]\n", "unknown variant `skipped`"),
        ] {
            let error = Policy::parse(text, "p.yaml").unwrap_err().to_string();
            assert!(error.starts_with("p.yaml:") && error.contains(problem), "{error}");
        }
    }

    #[test]
    fn required_profiles_are_profiles_of_the_recipes() {
        let text = "schema: nimctl.release-policy/1\nrequired:\n- onnx-*\n- onnx-fp61\n";
        let policy = Policy::parse(text, "p.yaml").unwrap();
        let known = ["onnx-fp16".to_owned(), "onnx-fp32".to_owned()];
        assert_eq!(
            policy.check_names(text, "p.yaml", &known).unwrap_err().to_string(),
            "p.yaml:4:3: `required`: no profile of the recipe matches `onnx-fp61`; the profiles are `onnx-fp16`, `onnx-fp32`; did \
             you mean `onnx-fp16`?"
        );
        assert_eq!(Policy::default().check_names("", "p.yaml", &known), Ok(()));
    }

    #[test]
    fn a_required_profile_that_was_not_built_is_named_with_the_reason() {
        let policy = Policy { required: vec!["tensorrt-h100-*".into(), "x".into()], ..Policy::default() };
        let not_built = [("tensorrt-h100-sxm-fp16".to_owned(), "no GPU".to_owned())];
        let reasons: Vec<String> = policy
            .refusals(&[], &not_built, &Compared::default())
            .into_iter()
            .map(|refusal| refusal.reason)
            .collect();
        assert_eq!(
            reasons,
            [
                "the required profile `tensorrt-h100-*` was not built (tensorrt-h100-sxm-fp16: no GPU)",
                "the required profile `x` was not built (the recipe has no profile with that name)",
            ]
        );
    }
}
