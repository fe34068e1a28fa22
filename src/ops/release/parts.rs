//! The recipes of a release, which are all of one model and release, and what they give, put together.

use std::path::{Path, PathBuf};

use super::ReleaseError;
use crate::benchmark::{BENCH_SCHEMA, BenchDocument};
use crate::manifest::{MANIFEST_FILE, Manifest, ManifestProfile};
use crate::ops::bench::{BenchEvent, BenchOptions, BenchReport, bench};
use crate::ops::build::select::selected;
use crate::ops::build::{
    self, BuildError, BuildEvent, BuildOptions, BuildReport, Mode, Outcome, ProfileLine,
};
use crate::ops::validate::{ValidateOptions, validate};
use crate::profile::{ModelRelease, ProfileId};
use crate::recipe::Recipe;
use crate::worker::protocol::Execution;

/// One recipe of a release, and what is done with it.
#[derive(Debug)]
pub(super) struct Part {
    options: BenchOptions,
    /// Names of the profiles that were asked for.
    selected: Vec<String>,
}

impl Part {
    fn recipe(&self) -> &Path {
        &self.options.build.recipe
    }
}

/// Reads the recipes; one that is named twice counts once. Returns what they are of.
pub(super) fn parts(
    options: &BenchOptions,
    recipes: &[PathBuf],
) -> Result<(ModelRelease, Vec<Part>), ReleaseError> {
    let mut model: Option<(ModelRelease, &Path)> = None;
    let mut parts: Vec<Part> = Vec::new();
    let mut nothing = None;
    for path in recipes {
        if parts.iter().any(|part| part.recipe() == path) {
            continue;
        }
        let io =
            |source| ReleaseError::Io { doing: format!("reading the recipe {}", path.display()), source };
        let text = fs_err::read_to_string(path).map_err(io)?;
        let recipe = Recipe::parse(&text, &path.display().to_string())
            .map_err(|error| BuildError::from(Box::new(error)))?;
        match &model {
            None => model = Some((recipe.model.clone(), path)),
            Some((first, _)) if *first == recipe.model => {}
            Some((first, first_path)) => {
                return Err(ReleaseError::DifferentModels {
                    first: first.clone(),
                    first_path: (*first_path).into(),
                    second: recipe.model,
                    second_path: path.clone(),
                });
            }
        }
        let selected = match selected(&recipe, options.build.only.as_ref()) {
            Ok(specs) => specs.iter().map(|spec| spec.name()).collect(),
            // Of several recipes, one may have nothing of what was asked for.
            Err(error) => {
                nothing = Some(error);
                continue;
            }
        };
        let build = BuildOptions { recipe: path.clone(), ..options.build.clone() };
        parts.push(Part { options: BenchOptions { build, ..options.clone() }, selected });
    }
    match (model, nothing) {
        (Some((model, _)), _) if !parts.is_empty() => Ok((model, parts)),
        (_, Some(error)) => Err(error.into()),
        _ => Err(ReleaseError::NoRecipe),
    }
}

/// What was built of all recipes.
#[derive(Debug, Default)]
pub(super) struct Built {
    /// What came of each profile, by its name.
    pub lines: Vec<ProfileLine>,
    /// The entries of those that were built.
    pub entries: Vec<ManifestProfile>,
}

/// Builds what was selected of every recipe.
pub(super) fn build_all(parts: &[Part], on_step: &(dyn Fn(&str) + Sync)) -> Result<Built, ReleaseError> {
    let mut all = Built::default();
    // Of each line, the recipe that it is from, and its id.
    let mut origins: Vec<(&Path, Option<ProfileId>)> = Vec::new();
    for part in parts {
        let (lines, entries) = build_one(part, on_step)?;
        for line in lines {
            let id = match &line.outcome {
                Outcome::Built { id, .. } => Some(*id),
                _ => None,
            };
            let known = all.lines.iter().position(|known| known.name == line.name);
            match known.map(|place| (place, &origins[place])) {
                None => {
                    all.lines.push(line);
                    origins.push((part.recipe(), id));
                }
                Some((_, (_, known_id))) if *known_id == id => {}
                // One that was built stands for one that wasn't, or wasn't asked for.
                Some((_, (_, Some(_)))) if id.is_none() => {}
                Some((place, (_, None))) => {
                    all.lines[place] = line;
                    origins[place] = (part.recipe(), id);
                }
                Some((_, (first, _))) => {
                    return Err(ReleaseError::NameTwice {
                        name: line.name,
                        first: (*first).into(),
                        second: part.recipe().into(),
                    });
                }
            }
        }
        for entry in entries {
            if all.entries.iter().all(|known| known.id != entry.id) {
                all.entries.push(entry);
            }
        }
    }
    Ok(all)
}

fn build_one(
    part: &Part,
    on_step: &(dyn Fn(&str) + Sync),
) -> Result<(Vec<ProfileLine>, Vec<ManifestProfile>), ReleaseError> {
    let io = |source| ReleaseError::Io { doing: "making a folder for a manifest".into(), source };
    let folder = tempfile::tempdir().map_err(io)?;
    let manifest = folder.path().join(MANIFEST_FILE);
    let options =
        BuildOptions { mode: Mode::Build, manifest: manifest.clone(), ..part.options.build.clone() };
    let built = build::build(&options, &|event| {
        if let BuildEvent::JobStarted { title } = event {
            on_step(&format!("building: {title}"));
        }
    })?;
    if let Some(failure) = built.failure() {
        return Err(ReleaseError::BuildFailed { message: failure.message.clone(), kind: failure.kind });
    }
    let BuildReport { mut profiles, .. } = built;
    let mut ids = Vec::new();
    for line in &mut profiles {
        // The store may have more of a recipe than was asked for.
        if !part.selected.contains(&line.name) {
            line.outcome = Outcome::NotSelected;
        }
        if let Outcome::Built { id, .. } = &line.outcome {
            ids.push(id.to_string());
        }
    }
    let text = fs_err::read_to_string(&manifest)
        .map_err(|source| ReleaseError::Io { doing: "reading the manifest that was built".into(), source })?;
    let manifest =
        Manifest::parse(&text, MANIFEST_FILE).map_err(|error| ReleaseError::Manifest(error.to_string()))?;
    let entries = manifest.profiles.into_iter().filter(|entry| ids.contains(&entry.id)).collect();
    Ok((profiles, entries))
}

/// Validates what was built of every recipe.
pub(super) fn validate_all(parts: &[Part], on_step: &(dyn Fn(&str) + Sync)) -> Result<(), ReleaseError> {
    for Part { options, selected: _ } in parts {
        let execution = Execution { device: options.gpu, ..Execution::default() };
        let options = ValidateOptions {
            build: &options.build,
            execution: &execution,
            ids: None,
            take_over: options.take_over,
        };
        validate(&options, &|profile| {
            let word = profile.status.word();
            let before = if profile.taken_over { " before, and nothing has changed" } else { "" };
            on_step(&format!("validating: {} was {word}{before}", profile.name));
        })?;
    }
    Ok(())
}

/// Measures what was built of every recipe.
pub(super) fn measure_all(
    parts: &[Part],
    model: &ModelRelease,
    on_step: &(dyn Fn(&str) + Sync),
) -> Result<BenchDocument, ReleaseError> {
    let mut all = BenchDocument { schema: BENCH_SCHEMA.into(), model: model.clone(), profiles: Vec::new() };
    for Part { options, selected: _ } in parts {
        let BenchReport { document, comparisons: _, seeded: _ } = bench(options, &|event| match event {
            BenchEvent::Round { title, round: 1, rounds: _ } => on_step(&format!("measuring: {title}")),
            BenchEvent::Round { .. } => {}
            BenchEvent::TakenOver { name } => {
                on_step(&format!("measuring: {name} was measured before, and nothing has changed"));
            }
        })?;
        for profile in document.profiles {
            if all.profiles.iter().all(|known| known.name != profile.name) {
                all.profiles.push(profile);
            }
        }
    }
    Ok(all)
}
