//! Checks a recipe against its graphs.

use std::collections::BTreeMap;

use super::references::missing;
use super::{Recipe, RecipeGraph, UnknownName};
use crate::onnx::{Dimension, TensorInfo};
use crate::shape_range::ShapeRange;

/// A recipe that doesn't fit its graph.
#[derive(Debug, thiserror::Error)]
pub enum GraphMismatch {
    /// The recipe refers to something that the graph doesn't have.
    #[error(transparent)]
    UnknownName(#[from] UnknownName),
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
    /// Two dimensions of one name have different ranges.
    #[error(
        "{recipe}:{line}: graph `{graph}`, input `{input}`: {dimension} has the range {range}, but {other} has {other_range}: \
         dimensions of one name have the same size; give both the same range, or export the model with different names"
    )]
    OneNameTwoRanges {
        /// The recipe.
        recipe: String,
        /// Line of the second one's shape range.
        line: u64,
        /// The graph.
        graph: String,
        /// The input with the second one.
        input: String,
        /// The second one: its index and name.
        dimension: String,
        /// Its min, opt and max.
        range: String,
        /// The first one, with its input.
        other: String,
        /// Its min, opt and max.
        other_range: String,
    },
}

/// Two dimensions that have one name and different ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OneNameTwoRanges<'a> {
    name: &'a str,
    /// Input, index, and min, opt and max of each.
    dimensions: [(&'a str, usize, [i64; 3]); 2],
}

impl<'a> OneNameTwoRanges<'a> {
    /// Returns the first two among the inputs of a graph.
    pub(crate) fn first(
        inputs: impl Iterator<Item = (&'a TensorInfo, &'a ShapeRange)>,
    ) -> Option<OneNameTwoRanges<'a>> {
        let mut first: BTreeMap<&str, (&str, usize, [i64; 3])> = BTreeMap::new();
        for (info, ShapeRange { min, opt, max }) in inputs {
            let sizes = min.iter().zip(opt).zip(max).map(|((min, opt), max)| [*min, *opt, *max]);
            for (index, (dimension, range)) in info.shape.iter().zip(sizes).enumerate() {
                let Dimension::Symbolic(name) = dimension else { continue };
                let here = (info.name.as_str(), index, range);
                let known = *first.entry(name).or_insert(here);
                if known.2 != range {
                    return Some(OneNameTwoRanges { name, dimensions: [known, here] });
                }
            }
        }
        None
    }
}

impl Recipe {
    /// Checks that a graph of the model has the inputs that the recipe names, and that every dynamic one has a
    /// range.
    ///
    /// # Errors
    /// The first mismatch, with the recipe's line.
    pub fn check_graph(&self, name: &str, inputs: &[TensorInfo]) -> Result<(), GraphMismatch> {
        let RecipeGraph { source: _, source_line, shapes, shape_lines, samples: _, calibration: _ } =
            &self.graphs[name];
        let (recipe, graph) = (|| self.path.clone(), || name.to_owned());
        for (input, range) in shapes {
            let line = shape_lines.get(input).copied().unwrap_or(*source_line);
            let Some(found) = inputs.iter().find(|info| info.name == *input) else {
                let inputs: Vec<String> = inputs.iter().map(|info| info.name.clone()).collect();
                let problem = missing("input", name, input, &inputs);
                return Err(self.unknown(&["graphs", name, "shapes"], input, problem).into());
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
        let ranged = inputs.iter().filter_map(|info| Some((info, shapes.get(&info.name)?)));
        if let Some(OneNameTwoRanges { name, dimensions: [first, second] }) = OneNameTwoRanges::first(ranged)
        {
            let words = |[min, opt, max]: [i64; 3]| format!("min {min}, opt {opt}, max {max}");
            let other_input =
                if first.0 == second.0 { String::new() } else { format!(" of input `{}`", first.0) };
            return Err(GraphMismatch::OneNameTwoRanges {
                recipe: recipe(),
                line: shape_lines.get(second.0).copied().unwrap_or(*source_line),
                graph: graph(),
                input: second.0.to_owned(),
                dimension: format!("dimension {} (`{name}`)", second.1),
                range: words(second.2),
                other: format!("dimension {}{other_input}, which has the same name,", first.1),
                other_range: words(first.2),
            });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::ElementType;

    /// Checks what is said of ranges of `x` and `mask`, whose dimensions have these names.
    #[track_caller]
    fn check(x: [&str; 3], mask: [&str; 1], x_max: [i64; 3], mask_max: i64, expected: Option<&str>) {
        let text = format!(
            "schema: nimctl.recipe/1\nmodel: {{ name: m, release: \"1.0\" }}\ngraphs:\n  g:\n    source: {{ path: g.onnx }}\n    shapes:\n      \
             x: {{ min: [1, 1, 1], opt: [1, 1, 1], max: {x_max:?} }}\n      mask: {{ min: [1], opt: [1], max: [{mask_max}] }}\n\
             profiles:\n  - {{ backend: onnxruntime, precisions: [fp32], targets: generic }}\n"
        );
        let recipe = Recipe::parse(&text, "r.yaml").unwrap();
        let dimension = |name: &&str| match *name {
            "?" => Dimension::Unknown,
            name => Dimension::Symbolic(name.into()),
        };
        let info = |name: &str, shape: &[&str]| TensorInfo {
            name: name.into(),
            element_type: ElementType::Float,
            shape: shape.iter().map(dimension).collect(),
            rank_known: true,
        };
        let error = recipe.check_graph("g", &[info("x", &x), info("mask", &mask)]).err();
        assert_eq!(error.map(|error| error.to_string()).as_deref(), expected);
    }

    #[test]
    fn dimensions_of_one_name_have_one_range() {
        check(["n", "h", "w"], ["n"], [4, 48, 320], 4, None);
        check(["?", "?", "?"], ["?"], [4, 48, 320], 8, None);
        check(
            ["n", "h", "h"],
            ["n"],
            [4, 48, 320],
            4,
            Some(
                "r.yaml:7: graph `g`, input `x`: dimension 2 (`h`) has the range min 1, opt 1, max 320, but dimension 1, which has \
                 the same name, has min 1, opt 1, max 48: dimensions of one name have the same size; give both the same range, or \
                 export the model with different names",
            ),
        );
        check(
            ["n", "h", "w"],
            ["n"],
            [4, 48, 320],
            8,
            Some(
                "r.yaml:8: graph `g`, input `mask`: dimension 0 (`n`) has the range min 1, opt 1, max 8, but dimension 0 of input \
                 `x`, which has the same name, has min 1, opt 1, max 4: dimensions of one name have the same size; give both the \
                 same range, or export the model with different names",
            ),
        );
    }
}
