//! `validate`: a profile's digests, then whether it loads, then its numbers against those of the FP32 graph.
//!
//! What can be run here is run: its status is `executed`. In place of a plan that can't, because no GPU here fits, its lowered
//! graph is run on the CPU with the precision emulated, and the status says `static`. Inputs are the recipe's samples, in the
//! least, the usual and the largest shapes; the usual ones also one row alone. A recipe with a labelled set has it run as well.

mod error;
mod inputs;
mod key;
mod numbers;
mod profile;
mod replay;
mod runtime;
mod subjects;

use std::collections::BTreeSet;
use std::path::Path;

pub use error::ValidateError;
use numbers::Numbers;
pub(super) use profile::wrong_files;
pub use replay::{Place, Replay, replay};
pub use subjects::{Subjects, find_subjects};

use super::build::{self, BuildOptions, BuildReport, Outcome};
use super::runners::Runners;
use super::samples::{SeededInput, seeded_inputs};
use crate::error_kind::ErrorKind;
use crate::passport::{Passport, Status};
use crate::profile::ProfileId;
use crate::recipe::Recipe;
use crate::store::Store;
use crate::worker::protocol::Execution;

/// What came of one profile.
#[derive(Clone, Debug)]
pub struct ValidatedProfile {
    /// Its readable name.
    pub name: String,
    /// Its id.
    pub id: ProfileId,
    /// What was done, and what it gave.
    pub status: Status,
    /// Whether that was before, and nothing has changed.
    pub taken_over: bool,
}

/// What came of all profiles of a recipe.
#[derive(Clone, Debug)]
pub struct ValidateReport {
    /// The model's name and release.
    pub model: (String, String),
    /// The profiles that the store has.
    pub profiles: Vec<ValidatedProfile>,
    /// Names of the profiles that were not built, each with the reason.
    pub not_built: Vec<(String, String)>,
    /// The inputs without samples in the recipe, and what they were run on.
    pub seeded: Vec<SeededInput>,
}

impl ValidateReport {
    /// Returns what a failure means for the exit code; nothing if every profile passed.
    pub fn failure(&self) -> Option<ErrorKind> {
        let passed = |profile: &ValidatedProfile| profile.status.validation().is_some_and(|v| v.passed);
        (!self.profiles.iter().all(passed)).then_some(ErrorKind::Refused)
    }
}

/// What is validated, and how.
#[derive(Clone, Copy, Debug)]
pub struct ValidateOptions<'a> {
    /// As for a build, with the mode `FromStore`.
    pub build: &'a BuildOptions,
    /// On which GPU profiles run, and so on.
    pub execution: &'a Execution,
    /// Only these profiles. One that the recipe no longer gives is among those that were not built.
    pub ids: Option<&'a BTreeSet<ProfileId>>,
    /// Whether a result that the store has of the same profile, made of the same, is taken over, if its files are still right.
    pub take_over: bool,
}

/// Validates what the store has of a recipe's profiles, and writes the results into their passports. `on_profile` gets each
/// profile as it is done.
///
/// # Errors
/// What makes validating impossible as a whole: the recipe, its graphs or samples, the reference. What is wrong with
/// one profile is in its status.
pub fn validate(
    options: &ValidateOptions<'_>,
    on_profile: &dyn Fn(&ValidatedProfile),
) -> Result<ValidateReport, ValidateError> {
    let ValidateOptions { build: options, execution, ids, take_over } = *options;
    let recipe = read_recipe(&options.recipe)?;
    let BuildReport { model, profiles, .. } = build::build(options, &|_| ())?;
    let graphs = build::sources::resolve(&recipe, options, &|_| ())?;
    let store = Store::look_at(&options.store);
    let mut numbers = Numbers::start(&recipe, &graphs, options)?;
    let mut runners = Runners::new(options, execution);
    runners.check().map_err(|reason| ValidateError::Provider { reason })?;
    let mut report = ValidateReport {
        model,
        profiles: Vec::new(),
        not_built: Vec::new(),
        seeded: seeded_inputs(&recipe, &graphs),
    };
    for line in profiles {
        let id = match line.outcome {
            Outcome::Built { id, .. } => id,
            _ if ids.is_some() => continue,
            Outcome::NotBuiltHere(needs) => {
                report.not_built.push((line.name, needs));
                continue;
            }
            Outcome::NotSelected => continue,
            _ => {
                let why = "the store does not have it as the recipe is now: run `nimctl build`".to_owned();
                report.not_built.push((line.name, why));
                continue;
            }
        };
        if ids.is_some_and(|ids| !ids.contains(&id)) {
            continue;
        }
        if options.cancel.is_cancelled() {
            return Err(ValidateError::Cancelled);
        }
        let Some(mut passport) = store.passport(&id)? else {
            report.not_built.push((line.name, "its passport is not in the store: run `nimctl build`".into()));
            continue;
        };
        let digests = profile::digests(&graphs);
        let way = runners.for_profile(&passport);
        let key = numbers.key(&id, way.as_ref().map_err(String::as_str), &digests, &recipe.validation);
        let known = (take_over && key.is_some() && passport.made_of.validation_key == key)
            .then(|| known(&passport, &store))
            .flatten();
        let taken_over = known.is_some();
        let status = match known {
            Some(status) => status,
            None => profile::one(&passport, &digests, &store, &mut numbers, way, &recipe.validation)?,
        };
        if passport.validation != status || passport.made_of.validation_key != key {
            passport.validation = status.clone();
            passport.made_of.validation_key = key;
            store.put_passport(&passport)?;
        }
        let validated = ValidatedProfile { name: line.name, id, status, taken_over };
        on_profile(&validated);
        report.profiles.push(validated);
    }
    for id in ids.into_iter().flatten() {
        if report.profiles.iter().all(|profile| profile.id != *id) {
            let why = "the recipe gives it no longer, or it was not selected: run `nimctl build`";
            report.not_built.push((id.to_string(), why.into()));
        }
    }
    Ok(report)
}

/// Returns what was found of a profile before, if it passed: what failed is tried again. Files are checked again in any case.
fn known(passport: &Passport, store: &Store) -> Option<Status> {
    let passed = passport.validation.validation().is_some_and(|found| found.passed);
    (passed && wrong_files(passport, store).is_none()).then(|| passport.validation.clone())
}

fn read_recipe(path: &Path) -> Result<Recipe, ValidateError> {
    let text = fs_err::read_to_string(path)
        .map_err(|source| ValidateError::Io { doing: "reading the recipe".into(), source })?;
    Ok(Recipe::parse(&text, &path.display().to_string())
        .map_err(|error| build::BuildError::from(Box::new(error)))?)
}

/// Returns the folder that samples of a recipe are relative to.
pub(super) fn sample_folder(recipe: &Path) -> &Path {
    recipe.parent().unwrap_or(Path::new(""))
}
