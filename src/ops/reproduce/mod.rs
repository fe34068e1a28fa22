//! `reproduce`: builds every profile of a release again, from what it was made from, and compares.
//!
//! * `released`: the release, verified, with what its profiles were made from.
//! * `sources`: the source graphs, found by their digests.
//! * `rebuild`: what stands in the way, and the build, by the machinery of every other build, in a store that has nothing in it.
//! * `compare`: bytes, and what they mean where they differ.
//! * `run`: runs plans that differ, of compilers that give another one each time, if asked to.
//! * `renumbered`: plans whose texts are the same, or are but for the compiler's numbering: what else differs.
//! * `recipes`: what recipes say otherwise than the release was built from.
//!
//! The documents of the release decide what is built, not a recipe.

mod compare;
mod error;
mod rebuild;
mod recipes;
mod released;
mod renumbered;
mod run;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use error::ReproduceError;
pub use released::Released;

use super::assemble::AssembledProfile;
use super::event::OnEvent;
use super::resolve::Backends;
use super::workspace::Workspace;
use crate::error_kind::ErrorKind;
use crate::files::work_folder::WorkFolder;
use crate::onnx::GraphDigest;
use crate::reproduction::{Finding, MadeFrom, ProfileReproduction, Reproduction, Subject, Verdict};
use crate::store::Store;
use rebuild::NotBuilt;
use recipes::Recipes;
use sources::Sources;

/// What a release is reproduced with.
#[derive(Clone, Debug)]
pub struct ReproduceOptions {
    /// Files and folders that have the source graphs.
    pub graphs: Vec<PathBuf>,
    /// Recipes that have the source graphs, and that the release is compared with.
    pub recipes: Vec<PathBuf>,
    /// Run plans that differ, of compilers that may give another plan each time. The released ones are native code of who made them.
    pub run: bool,
}

/// Reproduces a release. The store of `workspace` is one of this command alone, in `work`, with nothing in it.
///
/// # Errors
/// What makes it impossible as a whole; what concerns one profile is in its result.
pub fn reproduce(
    workspace: &Workspace,
    released: &Released,
    options: &ReproduceOptions,
    work: &WorkFolder,
    on_event: OnEvent<'_>,
) -> Result<Reproduction, ReproduceError> {
    let result = try_reproduce(workspace, released, options, work, on_event);
    let was_cancelled = |error: &ReproduceError| error.kind() == ErrorKind::Interrupted;
    match result {
        Err(error) if was_cancelled(&error) || workspace.cancel.is_cancelled() => {
            Err(ReproduceError::Cancelled)
        }
        result => result,
    }
}

fn try_reproduce(
    workspace: &Workspace,
    released: &Released,
    options: &ReproduceOptions,
    work: &WorkFolder,
    on_event: OnEvent<'_>,
) -> Result<Reproduction, ReproduceError> {
    let mut recipes = Recipes::read(workspace, &options.recipes, on_event)?;
    let mut sources = Sources::search(&wanted(released), &options.graphs, &workspace.cancel)?;
    recipes.add_to(&mut sources);
    let backends = Backends::new(workspace);
    let store = Store::open(&workspace.store)?;

    // By the place of the profile in the release.
    let mut done: BTreeMap<usize, ProfileReproduction> = BTreeMap::new();
    let mut to_build = Vec::new();
    let place = |id: &str| released.profiles.iter().position(|profile| profile.id == id).unwrap_or_default();
    for (index, profile) in released.profiles.iter().enumerate().filter(|(_, profile)| profile.is_asked_for) {
        let not_built = |(verdict, findings): NotBuilt| {
            ProfileReproduction::not_built(&profile.name, &profile.id, verdict, findings)
        };
        let Some((made_from, _)) = &profile.here else {
            let text = "its files are not in this folder: pull the whole release, or name the place it is at";
            let finding = Finding::new(Subject::Missing, "files", text);
            done.insert(index, not_built((Verdict::NotReproduced, vec![finding])));
            continue;
        };
        match rebuild::obstacle(made_from, &sources, &backends)? {
            Some(obstacle) => _ = done.insert(index, not_built(obstacle)),
            None => to_build.push((profile, made_from)),
        }
    }
    for group in rebuild::groups(to_build) {
        let built = rebuild::build(workspace, &group, &sources, &store, on_event)?;
        for ((profile, made_from), built) in group.profiles.iter().zip(built) {
            let result = match (built, &profile.here) {
                (Ok(built), Some((_, folder))) => {
                    let rebuilt = laid_out(&built, &store, work)?;
                    let mut result = compare::compare(made_from, folder, &built, rebuilt.path())?;
                    match (run::may_be_tuned(made_from, &result), options.run) {
                        (true, true) => {
                            let from = (&sources, &store);
                            run::compare_outputs(workspace, (made_from, folder), &built, from, &mut result)?;
                        }
                        (true, false) => run::could_be_run(made_from, &mut result),
                        (false, _) => {}
                    }
                    result
                }
                (Err((verdict, findings)), _) => {
                    ProfileReproduction::not_built(&profile.name, &profile.id, verdict, findings)
                }
                (Ok(_), None) => continue,
            };
            done.insert(place(&profile.id), result);
        }
    }
    for (index, profile) in released.profiles.iter().enumerate() {
        if let (Some((made_from, _)), Some(result)) = (&profile.here, done.get_mut(&index)) {
            result.add_differences(recipes.differences(made_from, released, work)?);
        }
    }
    Ok(Reproduction { model: released.model.clone(), profiles: done.into_values().collect() })
}

/// Returns the graphs that the builds began with.
fn wanted(released: &Released) -> BTreeSet<GraphDigest> {
    let asked_for = released.profiles.iter().filter(|profile| profile.is_asked_for);
    let here = asked_for.filter_map(|profile| Some(&profile.here.as_ref()?.0));
    let of_profile = |made_from: &MadeFrom| {
        let quantized = made_from.graphs.values().filter_map(|graph| graph.quantized().cloned());
        made_from.contents.graphs.values().cloned().chain(quantized).collect::<Vec<_>>()
    };
    here.flat_map(of_profile).collect()
}

/// Lays out the files of a rebuilt profile.
fn laid_out(
    profile: &AssembledProfile,
    store: &Store,
    work: &WorkFolder,
) -> Result<WorkFolder, ReproduceError> {
    let folder = WorkFolder::new_in(work.path(), "rebuilt-").map_err(error::io("cannot make a folder"))?;
    store.lay_out_contents(&profile.passport.contents.files, folder.path())?;
    Ok(folder)
}
