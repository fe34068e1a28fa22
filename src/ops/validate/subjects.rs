//! What a user named: a recipe, a manifest, or profile ids; all come down to one recipe and some of its profiles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::ValidateError;
use crate::ops::read_manifest::read_manifest;
use crate::ops::resolve::RecipeFile;
use crate::profile::ProfileId;
use crate::store::Store;

/// How a recipe begins, wherever its first key is.
const RECIPE_SCHEMA: &str = "nimctl.recipe/";

/// What is to be validated.
#[derive(Clone, Debug)]
pub struct Subjects {
    /// The recipe.
    pub recipe: RecipeFile,
    /// Which of its profiles; all if absent.
    pub ids: Option<BTreeSet<ProfileId>>,
}

/// Finds the recipe of what was named: itself, or the one that the store remembers for ids of profiles, as they are or in
/// a manifest.
///
/// # Errors
/// A file that is neither, an id that this store knows no recipe for, things of several recipes.
pub fn find_subjects(named: &[String], store: &Store) -> Result<Subjects, ValidateError> {
    // With the text of those that were read already.
    let mut recipes: BTreeMap<PathBuf, Option<String>> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    let mut whole = false;
    for name in named {
        let path = Path::new(name);
        let found = match ProfileId::from_hex(name) {
            Ok(id) if !path.exists() => vec![id],
            _ => match recipe_text(path)? {
                Some(text) => {
                    recipes.insert(path.to_path_buf(), Some(text));
                    whole = true;
                    continue;
                }
                None => ids_of(path)?,
            },
        };
        let mut known = 0;
        for id in &found {
            if let Some(recipe) = store.origin(id)? {
                recipes.entry(recipe).or_default();
                known += 1;
            }
        }
        if known == 0 {
            return Err(ValidateError::NoOrigin { name: name.clone() });
        }
        ids.extend(found);
    }
    let mut recipes = recipes.into_iter();
    match (recipes.next(), recipes.next()) {
        (Some((path, text)), None) => {
            let recipe = match text {
                Some(text) => RecipeFile::of_text(&path, &text)?,
                None => RecipeFile::read(&path)?,
            };
            Ok(Subjects { recipe, ids: (!whole).then_some(ids) })
        }
        (first, second) => Err(ValidateError::SeveralRecipes {
            recipes: first.into_iter().chain(second).chain(recipes).map(|(path, _)| path).collect(),
        }),
    }
}

/// Returns the text of a recipe; `None` if the file is a manifest.
fn recipe_text(path: &Path) -> Result<Option<String>, ValidateError> {
    let text = crate::files::text::read(path).map_err(|source| ValidateError::Io {
        doing: "reading what to validate: a recipe, a manifest, or the id of a profile".into(),
        source,
    })?;
    let value = |line: &str| line.strip_prefix("schema:").map(|value| value.trim().to_owned());
    let schema = text.lines().find_map(value);
    // What is neither is best explained as a recipe, unless it looks like a manifest.
    let manifest = text.lines().any(|line| line.starts_with("profiles:"))
        && text.lines().any(|line| line.starts_with("schema_version:"));
    let names_itself = schema
        .is_some_and(|schema| schema.trim_matches(|c| matches!(c, '"' | '\'')).starts_with(RECIPE_SCHEMA));
    Ok((names_itself || !manifest).then_some(text))
}

fn ids_of(path: &Path) -> Result<Vec<ProfileId>, ValidateError> {
    let manifest = read_manifest(path)?.into_manifest();
    let bad = |id: &str| ValidateError::ForeignId { path: path.into(), id: id.into() };
    manifest
        .profiles
        .iter()
        .map(|profile| ProfileId::from_hex(&profile.id).map_err(|_| bad(&profile.id)))
        .collect()
}
