//! `recipe check`: a recipe alone, and against those of its graphs that are files on this machine.

use std::collections::BTreeMap;
use std::path::Path;

use crate::onnx::OnnxFile;
use crate::recipe::{GraphMismatch, GraphNames, Recipe};
use crate::source::Source;

/// Checks a recipe against its graphs that are files. What isn't there yet, or can't be read, is for the build to say.
///
/// # Errors
/// The first mismatch, with the recipe's line.
pub fn check_graphs(recipe: &Recipe) -> Result<(), GraphMismatch> {
    let folder = Path::new(&recipe.path).parent().unwrap_or(Path::new(""));
    let mut names = BTreeMap::new();
    for (name, graph) in &recipe.graphs {
        if let Source::Path(path) = &graph.source
            && let Ok(file) = OnnxFile::open(&folder.join(path))
        {
            recipe.check_graph(name, &file.inputs())?;
            names.insert(name.clone(), GraphNames::of(&file));
        }
    }
    Ok(recipe.check_names(&names)?)
}
