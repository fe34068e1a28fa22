//! `validate`: a profile's digests, then whether it loads, then its numbers against those of the FP32 graph.
//!
//! What can be run here is run: its status is `executed`. In place of a plan that can't, because no GPU here fits, its lowered
//! graph is run on the CPU with the precision emulated, and the status says `static`. Inputs are the recipe's samples, in the
//! min, opt and max shapes; the opt shapes also with one row alone. A recipe with a labelled set has it run as well.

mod batches;
mod error;
mod inputs;
mod key;
mod numbers;
mod outputs;
mod profile;
mod pulled;
mod replay;
pub(in crate::ops) mod runtime;
mod subjects;
mod towers;
mod with_sources;

use std::collections::BTreeSet;

pub use error::ValidateError;
use numbers::Numbers;
pub(super) use profile::check_files;
pub use pulled::validate_pulled;
pub use replay::{Place, Replay, replay};
pub use subjects::{Subjects, find_subjects};
pub(super) use with_sources::run_beside_sources;

use super::assemble::{self, Assembled, AssembledState};
use super::not_run_here::NotRunHere;
use super::report::{NO_PASSPORT, NOT_IN_STORE};
use super::resolve::Resolved;
use super::runners::Runners;
use super::samples::SeededInput;
use super::workspace::Workspace;
use crate::error_kind::ErrorKind;
use crate::passport::{Passport, Status};
use crate::profile::ProfileId;
use crate::store::{Store, StoreError};
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
    /// Whether that was in an earlier run; nothing has changed.
    pub taken_over: bool,
    /// What its numbers were compared with.
    pub compared_with: ComparedWith,
    /// What its release found, for a profile that came without its recipe.
    pub of_release: Option<Status>,
}

/// What the numbers of a profile were compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComparedWith {
    /// The FP32 graphs of the recipe.
    Recipe,
    /// The FP32 profile of the same release, which ships the graphs that this one was made from.
    Profile {
        /// Its readable name.
        name: String,
        /// Its id.
        id: ProfileId,
    },
    /// Nothing: its FP32 graphs are not here.
    Nothing,
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
    /// Adds the inputs of these graphs that are run on seeded values, once.
    fn add_seeded(&mut self, resolved: &Resolved) {
        for input in resolved.seeded_inputs() {
            if !self.seeded.contains(&input) {
                self.seeded.push(input);
            }
        }
    }

    /// Returns what a failure means for the exit code; nothing if every profile passed.
    pub fn failure(&self) -> Option<ErrorKind> {
        let passed = |profile: &ValidatedProfile| profile.status.validation().is_some_and(|v| v.passed);
        (!self.profiles.iter().all(passed)).then_some(ErrorKind::Refused)
    }
}

/// What is validated, and how.
#[derive(Clone, Copy, Debug)]
pub struct ValidateOptions<'a> {
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
    workspace: &Workspace,
    resolved: &Resolved,
    options: &ValidateOptions<'_>,
    on_profile: &dyn Fn(&ValidatedProfile),
) -> Result<ValidateReport, ValidateError> {
    let ValidateOptions { execution, ids, take_over } = *options;
    let store = Store::look_at(&workspace.store);
    let (assembled, _in_use) = assemble::from_store_in_use(resolved, &store)?;
    let mut numbers = Numbers::start(workspace, resolved)?;
    let mut runners = Runners::new(&resolved.backends, execution).with_fleet(workspace);
    runners.check().map_err(|reason| ValidateError::Provider { reason })?;
    let model = &resolved.recipe().model;
    let mut report = ValidateReport {
        model: (model.name.clone(), model.release.clone()),
        profiles: Vec::new(),
        not_built: Vec::new(),
        seeded: resolved.seeded_inputs(),
    };
    for Assembled { name, state } in assembled {
        let id = match state {
            AssembledState::Complete(profile) => profile.passport.id,
            _ if ids.is_some() => continue,
            AssembledState::NotBuiltHere(needs) => {
                report.not_built.push((name, needs));
                continue;
            }
            AssembledState::NotSelected => continue,
            AssembledState::Failed(error) => {
                report.not_built.push((name, error.message));
                continue;
            }
            AssembledState::NotInStore => {
                report.not_built.push((name, NOT_IN_STORE.into()));
                continue;
            }
        };
        if ids.is_some_and(|ids| !ids.contains(&id)) {
            continue;
        }
        if workspace.cancel.is_cancelled() {
            return Err(ValidateError::Cancelled);
        }
        let Some(passport) = store.passport(&id)? else {
            report.not_built.push((name, NO_PASSPORT.into()));
            continue;
        };
        let way = runners.for_profile(&passport);
        let demands = resolved.recipe().demands_of(&name);
        let key = numbers.key(&id, way.as_ref(), &demands);
        let is_same = take_over && key.is_some() && passport.made_of.validation_key == key;
        let known = match is_same {
            true => known(&passport, &store, way.as_ref().err())?,
            false => None,
        };
        let taken_over = known.is_some();
        let status = match known {
            Some(status) => status,
            None => profile::one(&passport, &resolved.digests, &store, &mut numbers, way, &demands)?,
        };
        resolved.check_unchanged()?;
        store.change_passport(&passport, None, |passport| {
            passport.validation = status.clone();
            passport.made_of.validation_key = key;
        })?;
        let compared_with = ComparedWith::Recipe;
        let validated = ValidatedProfile { name, id, status, taken_over, compared_with, of_release: None };
        on_profile(&validated);
        report.profiles.push(validated);
    }
    for id in ids.into_iter().flatten() {
        if report.profiles.iter().all(|profile| profile.id != *id) {
            let why = "the recipe no longer produces it, or it was not selected: run `nimctl build`";
            report.not_built.push((id.to_string(), why.into()));
        }
    }
    Ok(report)
}

/// Returns what was found of a profile before, if it passed: what failed is tried again. Files are checked again in any case.
/// Why it is emulated is told in today's words.
///
/// # Errors
/// As [`check_files`].
fn known(
    passport: &Passport,
    store: &Store,
    reason: Option<&NotRunHere>,
) -> Result<Option<Status>, StoreError> {
    if !passport.validation.validation().is_some_and(|found| found.passed) {
        return Ok(None);
    }
    check_files(passport, store)?;
    let mut status = passport.validation.clone();
    if let Status::Executed(validation) | Status::Static(validation) = &mut status {
        validation.not_executed_because = reason.map(ToString::to_string);
    }
    Ok(Some(status))
}
