//! The recipes of a release, which are all of one model and release, and what they give, put together.

use std::path::PathBuf;

use super::ReleaseError;
use crate::benchmark::{BENCH_SCHEMA, BenchDocument};
use crate::manifest::ManifestProfile;
use crate::ops::assemble::{self, Assembled, AssembledState};
use crate::ops::bench::{BenchEvent, BenchOptions, BenchReport, bench};
use crate::ops::build::{BuildReport, build_into_store};
use crate::ops::event::BuildEvent;
use crate::ops::resolve::{RecipeFile, Resolved, resolve, selected};
use crate::ops::validate::{ValidateOptions, validate};
use crate::ops::workspace::Workspace;
use crate::profile::{ModelRelease, ProfileSpec};
use crate::recipe::Only;
use crate::store::{InUse, Store};
use crate::worker::protocol::Execution;

/// Reads the recipes, and checks that they are of one model and release; one that is named twice counts once. The names are those
/// of all their profiles, selected or not.
pub(super) fn read(
    paths: &[PathBuf],
    only: Option<&Only>,
) -> Result<(ModelRelease, Vec<RecipeFile>, Vec<String>), ReleaseError> {
    let mut files: Vec<RecipeFile> = Vec::new();
    for path in paths {
        if files.iter().any(|file| file.path == *path) {
            continue;
        }
        let file = RecipeFile::read(path)?;
        if let Some(first) = files.first().filter(|first| first.recipe.model != file.recipe.model) {
            return Err(ReleaseError::DifferentModels {
                first: first.recipe.model.clone(),
                first_path: first.path.clone(),
                second: file.recipe.model,
                second_path: file.path,
            });
        }
        files.push(file);
    }
    let model = files.first().map(|file| file.recipe.model.clone()).ok_or(ReleaseError::NoRecipe)?;
    let names = files.iter().flat_map(|file| file.recipe.profiles.iter().map(ProfileSpec::name)).collect();
    // Of several recipes, one may have nothing of what was asked for.
    let mut nothing = None;
    files.retain(|file| match selected(&file.recipe, only) {
        Ok(_) => true,
        Err(error) => {
            nothing = Some(error);
            false
        }
    });
    match nothing {
        Some(error) if files.is_empty() => Err(error.into()),
        _ => Ok((model, files, names)),
    }
}

/// Resolves every recipe.
pub(super) fn resolve_all(
    workspace: &Workspace,
    files: Vec<RecipeFile>,
    only: Option<&Only>,
) -> Result<Vec<Resolved>, ReleaseError> {
    files.into_iter().map(|file| Ok(resolve(workspace, file, only, &|_| ())?)).collect()
}

/// What was built of all recipes.
#[derive(Debug, Default)]
pub(super) struct Built {
    /// What came of each profile, by its name.
    pub profiles: Vec<Assembled>,
    /// The manifest's entries of those that were built.
    pub entries: Vec<ManifestProfile>,
    /// Keeps the profiles in the store.
    pub in_use: Vec<InUse>,
}

/// Builds what was selected of every recipe.
pub(super) fn build_all(
    workspace: &Workspace,
    parts: &mut [Resolved],
    on_step: &(dyn Fn(&str) + Sync),
) -> Result<Built, ReleaseError> {
    let mut all = Built::default();
    // Of each profile, the recipe that it is from.
    let mut origins: Vec<PathBuf> = Vec::new();
    for part in parts {
        build_one(workspace, part, on_step)?;
        let (found, in_use) = assemble::from_store_in_use(part, &Store::look_at(&workspace.store))?;
        all.in_use.push(in_use);
        for new in found {
            let path = &part.file().path;
            let Some(place) = all.profiles.iter().position(|known| known.name == new.name) else {
                all.profiles.push(new);
                origins.push(path.clone());
                continue;
            };
            match (all.profiles[place].id(), new.id()) {
                (known, new) if known == new => {}
                // One that was built stands for one that wasn't, or wasn't asked for.
                (Some(_), None) => {}
                (None, _) => {
                    all.profiles[place] = new;
                    origins[place].clone_from(path);
                }
                (Some(_), Some(_)) => {
                    return Err(ReleaseError::NameTwice {
                        name: new.name,
                        first: origins[place].clone(),
                        second: path.clone(),
                    });
                }
            }
        }
    }
    for Assembled { name: _, state } in &all.profiles {
        if let AssembledState::Complete(profile) = state
            && all.entries.iter().all(|known| known.id != profile.entry.id)
        {
            all.entries.push(profile.entry.clone());
        }
    }
    Ok(all)
}

fn build_one(
    workspace: &Workspace,
    part: &mut Resolved,
    on_step: &(dyn Fn(&str) + Sync),
) -> Result<(), ReleaseError> {
    let (report, _): (BuildReport, _) = build_into_store(workspace, part, false, &|event| {
        if let BuildEvent::JobStarted { title } = event {
            on_step(&format!("building: {title}"));
        }
    })?;
    match report.failure() {
        Some(failure) => {
            Err(ReleaseError::BuildFailed { message: failure.message.clone(), kind: failure.kind })
        }
        None => Ok(()),
    }
}

/// Validates what was built of every recipe.
pub(super) fn validate_all(
    workspace: &Workspace,
    parts: &[Resolved],
    options: &BenchOptions,
    on_step: &(dyn Fn(&str) + Sync),
) -> Result<(), ReleaseError> {
    let execution = Execution { device: options.gpu, ..Execution::default() };
    for part in parts {
        let options = ValidateOptions { execution: &execution, ids: None, take_over: options.take_over };
        validate(workspace, part, &options, &|profile| {
            let word = profile.status.word();
            let before = if profile.taken_over { " in an earlier run; nothing has changed" } else { "" };
            on_step(&format!("validating: {} was {word}{before}", profile.name));
        })?;
    }
    Ok(())
}

/// Measures what was built of every recipe.
pub(super) fn measure_all(
    workspace: &Workspace,
    parts: &[Resolved],
    options: &BenchOptions,
    model: &ModelRelease,
    on_step: &(dyn Fn(&str) + Sync),
) -> Result<BenchDocument, ReleaseError> {
    let mut all = BenchDocument { schema: BENCH_SCHEMA.into(), model: model.clone(), profiles: Vec::new() };
    for part in parts {
        let measured = bench(workspace, part, options, &|event| match event {
            BenchEvent::Round { title, round: 1, rounds: _ } => on_step(&format!("measuring: {title}")),
            BenchEvent::Round { .. } => {}
            BenchEvent::TakenOver { name } => {
                on_step(&format!("measuring: {name} was measured in an earlier run; nothing has changed"));
            }
        })?;
        let BenchReport { document, compared: _, seeded: _ } = measured;
        for profile in document.profiles {
            if all.profiles.iter().all(|known| known.name != profile.name) {
                all.profiles.push(profile);
            }
        }
    }
    Ok(all)
}
