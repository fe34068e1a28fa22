//! Profiles that are run beside the graphs that they were made from, which are here without a recipe.

use std::collections::BTreeMap;

use super::numbers::Numbers;
use super::{ValidateError, profile};
use crate::ops::resolve::{Resolved, SourceGraph};
use crate::ops::runners::Runners;
use crate::ops::workspace::Workspace;
use crate::passport::{Passport, Status};
use crate::recipe::Recipe;
use crate::store::Store;
use crate::validation::Demands;
use crate::worker::protocol::Execution;

/// Runs some forms of one profile, which have the same source graphs, on seeded inputs; their files are in the store. The gates are
/// the default ones. A profile that can't be run here is skipped. Passports stay as they are.
///
/// # Errors
/// As [`super::validate`].
pub(in crate::ops) fn run_beside_sources(
    workspace: &Workspace,
    forms: &[Passport],
    graphs: BTreeMap<String, SourceGraph>,
) -> Result<Vec<Status>, ValidateError> {
    let Some(first) = forms.first() else { return Ok(Vec::new()) };
    let store = Store::open(&workspace.store)?;
    let recipe = Recipe::of_contents(&first.contents, &first.name);
    let resolved = Resolved::of_graphs(workspace, recipe, graphs);
    let execution = Execution::default();
    let mut runners = Runners::new(&resolved.backends, &execution);
    // Before anything else: without a GPU, nobody needs the reference.
    if let Err(reason) = runners.for_profile(first) {
        return Ok(forms.iter().map(|_| Status::Skipped(reason.to_string())).collect());
    }
    let mut numbers = Numbers::start(workspace, &resolved)?;
    let demands = Demands::default().for_precision(first.contents.precision, None);
    forms
        .iter()
        .map(|form| {
            let way = runners.for_profile(form);
            profile::one(form, &resolved.digests, &store, &mut numbers, way, &demands)
        })
        .collect()
}
