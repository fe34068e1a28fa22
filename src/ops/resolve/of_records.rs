//! Profiles to build as their records say, without the recipe that first asked for them.

use std::collections::BTreeMap;

use super::{Resolved, SourceGraph, backends};
use crate::onnx::LoweringOptions;
use crate::ops::error::PipelineError;
use crate::ops::workspace::Workspace;
use crate::profile::ProfileSpec;
use crate::recipe::Recipe;

impl Resolved {
    /// Takes profiles of `recipe`, which was written from their records, with the graphs that were found. `lowerings` says how each
    /// profile lowers each graph. Whoever calls this knows that their backends build here.
    pub(in crate::ops) fn of_records(
        workspace: &Workspace,
        recipe: Recipe,
        graphs: BTreeMap<String, SourceGraph>,
        lowerings: BTreeMap<(String, String), LoweringOptions>,
    ) -> Result<Self, PipelineError> {
        let mut resolved = Self::of_graphs(workspace, recipe, graphs);
        let specs = &resolved.file.recipe.profiles;
        resolved.selected = specs.iter().map(ProfileSpec::name).collect();
        for spec in specs {
            if !resolved.builders.contains_key(&spec.backend) {
                resolved.builders.insert(spec.backend.clone(), resolved.backends.here(&spec.backend)?);
            }
        }
        resolved.toolchains = backends::identities(specs, &resolved.builders, &resolved.places);
        resolved.lowerings.lowerings = lowerings;
        Ok(resolved)
    }
}
