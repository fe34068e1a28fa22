//! What a user named: a recipe, a manifest, a release folder, or profile ids; all come down to one recipe and some of its profiles or,
//! for what was pulled, to profiles without a recipe.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::ValidateError;
use crate::manifest::MANIFEST_FILE;
use crate::ops::read_manifest::read_manifest;
use crate::ops::resolve::RecipeFile;
use crate::passport::Passport;
use crate::profile::ProfileId;
use crate::store::Store;

/// How a recipe begins, wherever its first key is.
const RECIPE_SCHEMA: &str = "nimctl.recipe/";

/// What is to be validated.
#[derive(Clone, Debug)]
pub enum Subjects {
    /// Profiles of a recipe.
    OfRecipe {
        /// The recipe.
        recipe: Box<RecipeFile>,
        /// Which of its profiles; all if absent.
        ids: Option<BTreeSet<ProfileId>>,
    },
    /// Profiles that are in the store, and that no recipe is known for.
    WithoutRecipe {
        /// The profiles, at least one.
        profiles: Vec<Passport>,
        /// Ids of others that were named, and are not in the store.
        not_here: Vec<ProfileId>,
    },
}

/// Finds the recipe of what was named: itself, or the one that the store remembers for ids of profiles, as they are or in
/// a manifest; where it remembers none, the profiles themselves.
///
/// # Errors
/// A file that is neither, an id that this store doesn't know, things of several recipes.
pub fn find_subjects(named: &[String], store: &Store) -> Result<Subjects, ValidateError> {
    // With the text of those that were read already.
    let mut recipes: BTreeMap<PathBuf, Option<String>> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    let mut whole = false;
    let (mut profiles, mut not_here) = (Vec::new(), Vec::new());
    for name in named {
        let path = Path::new(name);
        let found = match ProfileId::from_hex(name) {
            Ok(id) if !path.exists() => vec![id],
            _ if path.is_dir() => ids_of(&path.join(MANIFEST_FILE))?,
            _ => match recipe_text(path)? {
                Some(text) => {
                    recipes.insert(path.to_path_buf(), Some(text));
                    whole = true;
                    continue;
                }
                None => ids_of(path)?,
            },
        };
        let mut is_known = false;
        for id in &found {
            if let Some(recipe) = store.origin(id)? {
                recipes.entry(recipe).or_default();
                is_known = true;
            }
        }
        if is_known {
            ids.extend(found);
            continue;
        }
        let mut is_here = false;
        for id in found {
            match store.passport(&id)? {
                Some(passport) => {
                    is_here = true;
                    if profiles.iter().all(|known: &Passport| known.id != id) {
                        profiles.push(passport);
                    }
                }
                None if !not_here.contains(&id) => not_here.push(id),
                None => {}
            }
        }
        if !is_here {
            return Err(ValidateError::NotInStore { name: name.clone() });
        }
    }
    if recipes.is_empty() && !profiles.is_empty() {
        return Ok(Subjects::WithoutRecipe { profiles, not_here });
    }
    if let Some(passport) = profiles.first() {
        return Err(ValidateError::WithAndWithoutRecipe { profile: passport.name.clone() });
    }
    let mut recipes = recipes.into_iter();
    match (recipes.next(), recipes.next()) {
        (Some((path, text)), None) => {
            let recipe = match text {
                Some(text) => RecipeFile::of_text(&path, &text)?,
                None => RecipeFile::read(&path)?,
            };
            Ok(Subjects::OfRecipe { recipe: Box::new(recipe), ids: (!whole).then_some(ids) })
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
