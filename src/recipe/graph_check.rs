//! Checks a recipe against its graphs.

use super::{Recipe, RecipeGraph};
use crate::onnx::{Dimension, TensorInfo};

/// A recipe that doesn't fit its graph.
#[derive(Debug, thiserror::Error)]
pub enum GraphMismatch {
    /// The recipe has a shape range for an input that the graph doesn't have.
    #[error("{recipe}:{line}: graph `{graph}` has no input `{input}`; its inputs are {}", .inputs.join(", "))]
    NoSuchInput {
        /// The recipe.
        recipe: String,
        /// Line of the shape range.
        line: u64,
        /// The graph.
        graph: String,
        /// The input named by the recipe.
        input: String,
        /// What the graph has.
        inputs: Vec<String>,
    },
    /// An input with a dynamic dimension has no shape range.
    #[error(
        "{recipe}:{line}: graph `{graph}`, input `{input}` has the dynamic shape {shape}, but no range in `shapes`: add `{input}: {{ min: […], opt: […], max: […] }}`"
    )]
    NoRange {
        /// The recipe.
        recipe: String,
        /// Line of the graph's source.
        line: u64,
        /// The graph.
        graph: String,
        /// The input.
        input: String,
        /// Its shape, with names for dynamic dimensions.
        shape: String,
    },
    /// The range doesn't fit the graph's shape.
    #[error(
        "{recipe}:{line}: graph `{graph}`, input `{input}`: the shape range {range} does not fit the graph's shape {shape}"
    )]
    RangeMisfit {
        /// The recipe.
        recipe: String,
        /// Line of the shape range.
        line: u64,
        /// The graph.
        graph: String,
        /// The input.
        input: String,
        /// The range's minimum and maximum.
        range: String,
        /// The graph's shape.
        shape: String,
    },
}

impl Recipe {
    /// Checks that a graph of the model has the inputs that the recipe names, and that every dynamic one has a
    /// range.
    ///
    /// # Errors
    /// The first mismatch, with the recipe's line.
    pub fn check_graph(&self, name: &str, inputs: &[TensorInfo]) -> Result<(), GraphMismatch> {
        let RecipeGraph { source: _, source_line, shapes, shape_lines, samples: _ } = &self.graphs[name];
        let (recipe, graph) = (|| self.path.clone(), || name.to_owned());
        for (input, range) in shapes {
            let line = shape_lines.get(input).copied().unwrap_or(*source_line);
            let Some(found) = inputs.iter().find(|info| info.name == *input) else {
                let inputs = inputs.iter().map(|info| format!("`{}`", info.name)).collect();
                return Err(GraphMismatch::NoSuchInput {
                    recipe: recipe(),
                    line,
                    graph: graph(),
                    input: input.clone(),
                    inputs,
                });
            };
            let fits = found.shape.len() == range.min.len()
                && found.shape.iter().zip(range.min.iter().zip(&range.max)).all(|(dimension, (min, max))| {
                    match dimension {
                        Dimension::Fixed(size) => min == size && max == size,
                        Dimension::Symbolic(_) | Dimension::Unknown => true,
                    }
                });
            if !fits {
                let range = format!("{:?} to {:?}", range.min, range.max);
                let shape = shape_text(&found.shape);
                return Err(GraphMismatch::RangeMisfit {
                    recipe: recipe(),
                    line,
                    graph: graph(),
                    input: input.clone(),
                    range,
                    shape,
                });
            }
        }
        for info in inputs {
            let dynamic = info.shape.iter().any(|dimension| !matches!(dimension, Dimension::Fixed(_)));
            if dynamic && !shapes.contains_key(&info.name) {
                let shape = shape_text(&info.shape);
                return Err(GraphMismatch::NoRange {
                    recipe: recipe(),
                    line: *source_line,
                    graph: graph(),
                    input: info.name.clone(),
                    shape,
                });
            }
        }
        Ok(())
    }
}

fn shape_text(shape: &[Dimension]) -> String {
    let words: Vec<String> = shape
        .iter()
        .map(|dimension| match dimension {
            Dimension::Fixed(size) => size.to_string(),
            Dimension::Symbolic(name) => name.clone(),
            Dimension::Unknown => "?".to_owned(),
        })
        .collect();
    format!("[{}]", words.join(", "))
}
