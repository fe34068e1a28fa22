//! A recipe's file, read and checked once for a whole command.

use std::path::{Path, PathBuf};

use crate::files::text;
use crate::ops::error::PipelineError;
use crate::recipe::Recipe;

/// A recipe and where it was read from.
#[derive(Clone, Debug)]
pub struct RecipeFile {
    /// The file, as the user named it.
    pub path: PathBuf,
    /// What it says.
    pub recipe: Recipe,
}

impl RecipeFile {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// A file that can't be read, or isn't a recipe.
    pub fn read(path: &Path) -> Result<Self, PipelineError> {
        let text = text::read(path).map_err(|source| PipelineError::ReadRecipe { source })?;
        Self::of_text(path, &text)
    }

    /// Checks the text of a recipe that was read from `path`.
    ///
    /// # Errors
    /// A text that isn't a recipe.
    pub fn of_text(path: &Path, text: &str) -> Result<Self, PipelineError> {
        let recipe = Recipe::parse(text, &path.display().to_string()).map_err(Box::new)?;
        Ok(Self { path: path.into(), recipe })
    }

    /// Returns the folder that paths in the recipe are relative to.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}
