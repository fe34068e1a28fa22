//! The profiles that an operation is about.

use crate::ops::error::PipelineError;
use crate::profile::ProfileSpec;
use crate::recipe::{Only, Recipe};

/// Returns the selected profiles in the recipe's order.
pub(in crate::ops) fn selected<'a>(
    recipe: &'a Recipe,
    only: Option<&Only>,
) -> Result<Vec<&'a ProfileSpec>, PipelineError> {
    let Some(only) = only else { return Ok(recipe.profiles.iter().collect()) };
    let chosen = only.of(recipe);
    if chosen.is_empty() {
        return Err(PipelineError::NothingSelected {
            selector: only.to_string(),
            profiles: recipe.profiles.iter().map(ProfileSpec::name).collect(),
        });
    }
    Ok(chosen)
}
