//! Do the shape ranges of a request fit the inputs of its graph?

use std::collections::BTreeMap;

use nimctl_backend_kit::protocol::{ErrorCode, Problem, TensorDescription};
use nimctl_backend_kit::shape_range::ShapeRange;

/// Checks that every range is for an input and fits it, and that every open input has one.
pub(crate) fn check(
    ranges: &BTreeMap<String, ShapeRange>,
    inputs: &[TensorDescription],
) -> Result<(), Problem> {
    let invalid = |message: String| Err(Problem::new(ErrorCode::InvalidRequest, message));
    for (name, range) in ranges {
        let Some(input) = inputs.iter().find(|input| &input.name == name) else {
            let names: Vec<String> = inputs.iter().map(|input| format!("`{}`", input.name)).collect();
            return invalid(format!(
                "there is a shape range for `{name}`, but the graph's inputs are {}",
                names.join(", ")
            ));
        };
        if let Err(error) = range.check() {
            return invalid(format!("the shape range of input `{name}`: {error}"));
        }
        if range.min.len() != input.shape.len() {
            return invalid(format!(
                "the shape range of input `{name}` has {} dimensions, the input has {} ({:?})",
                range.min.len(),
                input.shape.len(),
                input.shape
            ));
        }
        for (index, &dimension) in input.shape.iter().enumerate() {
            if dimension >= 0 && (range.min[index] != dimension || range.max[index] != dimension) {
                return invalid(format!(
                    "the shape range of input `{name}` goes from {} to {} in dimension {index}, which is fixed at {dimension}",
                    range.min[index], range.max[index]
                ));
            }
        }
    }
    for input in inputs {
        if input.shape.contains(&-1) && !ranges.contains_key(&input.name) {
            return invalid(format!(
                "input `{}` has dynamic dimensions ({:?}) and no shape range: give its min, opt and max shapes",
                input.name, input.shape
            ));
        }
    }
    Ok(())
}
