//! A compiler's refusal, with what it is about: the recipe's line, the graph, and the input where that can be known.

use std::path::Path;

use super::Context;
use crate::error_kind::ErrorKind;
use crate::onnx::{Dimension, Precision, TensorInfo};
use crate::ops::error::JobError;
use crate::recipe::RecipeGraph;
use crate::worker::error::WorkerError;
use crate::worker::protocol::{ErrorCode, Problem};
use crate::worklist::Job;

/// What a compiler says when the shapes of a range are its problem.
const OF_RANGES: &[&str] = &["kMIN", "kOPT", "kMAX", "IOptimizationProfile"];

/// Why a graph can't be compiled.
#[derive(Debug, thiserror::Error)]
#[error("{recipe}:{line}: graph `{graph}`{}: {message}", .input.as_ref().map(|input| format!(", input `{input}`")).unwrap_or_default())]
struct CompileFailed {
    recipe: String,
    line: u64,
    graph: String,
    input: Option<String>,
    message: String,
}

/// Says which graph of a recipe a worker's failure is about, if it is about a graph; `path` is the copy that the worker got,
/// which is gone.
pub(super) fn compile_failed(job: &Job, context: &Context<'_>, path: &Path, error: WorkerError) -> JobError {
    let about_graph = [ErrorCode::BuildFailed, ErrorCode::InvalidGraph, ErrorCode::InvalidRequest];
    let Some(Problem { message, .. }) = error.problem().filter(|problem| about_graph.contains(&problem.code))
    else {
        return error.into();
    };
    let recipe = context.resolved.recipe();
    let RecipeGraph { source: _, source_line, shapes, shape_lines, samples: _, calibration: _ } =
        &recipe.graphs[&job.graph];
    let inputs = context.resolved.graphs[&job.graph].file.inputs();
    let ranged: Vec<&TensorInfo> = inputs.iter().filter(|info| shapes.contains_key(&info.name)).collect();
    let input = input_of(&message, &inputs, &ranged, job.document.lowering.precision).map(str::to_owned);
    let line = input.as_ref().and_then(|input| shape_lines.get(input)).unwrap_or(source_line);
    let kind: ErrorKind = error.kind();
    let failed = CompileFailed {
        recipe: recipe.path.clone(),
        line: *line,
        graph: job.graph.clone(),
        input,
        message: without_path(&message, path),
    };
    JobError::new(kind, failed)
}

/// Returns a message that doesn't name the copy of the graph.
fn without_path(message: &str, path: &Path) -> String {
    let path = path.display().to_string();
    message.replace(&format!("the graph {path}"), "the graph").replace(&path, "the graph")
}

/// Returns the input that a message is about: named, named by its lowered form, named by a dimension, or the only one that has
/// a range where ranges are the problem.
fn input_of<'a>(
    message: &str,
    inputs: &'a [TensorInfo],
    ranged: &[&'a TensorInfo],
    precision: Precision,
) -> Option<&'a str> {
    let named = |name: &str| mentions(message, name) || mentions(message, &format!("{name}_{precision}"));
    let has_dimension = |info: &&TensorInfo| {
        let is_named = |dimension: &Dimension| match dimension {
            Dimension::Symbolic(name) => mentions(message, name),
            Dimension::Fixed(_) | Dimension::Unknown => false,
        };
        info.shape.iter().any(is_named)
    };
    let only = || match ranged {
        [one] if OF_RANGES.iter().any(|word| message.contains(word)) => Some(*one),
        _ => None,
    };
    let found = inputs
        .iter()
        .find(|info| named(&info.name))
        .or_else(|| ranged.iter().copied().find(has_dimension))
        .or_else(only)?;
    Some(&found.name)
}

/// Returns whether a message names something: the name stands alone, in quotes, in brackets, or before a colon or after one.
fn mentions(message: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let marks = |c: char| matches!(c, '`' | '\'' | '"' | '(' | ')' | '[' | ']' | ':');
    message.match_indices(name).filter(|_| !name.is_empty()).any(|(at, _)| {
        let before = message[..at].chars().next_back();
        let after = message[at + name.len()..].chars().next();
        let alone = !before.is_some_and(is_part) && !after.is_some_and(is_part);
        let before_space = message[..at].trim_end().chars().next_back();
        alone && (before_space.is_some_and(marks) || after.is_some_and(marks))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::ElementType;

    #[track_caller]
    fn check(message: &str, ranged: &[&str], expected: Option<&str>) {
        let info = |name: &str, shape: &[&str]| TensorInfo {
            name: name.into(),
            element_type: ElementType::Float,
            shape: shape.iter().map(|&name| Dimension::Symbolic(name.into())).collect(),
            rank_known: true,
        };
        let inputs = [info("x", &["batch"]), info("mask", &["batch", "tokens"])];
        let ranged: Vec<&TensorInfo> =
            inputs.iter().filter(|info| ranged.contains(&info.name.as_str())).collect();
        assert_eq!(input_of(message, &inputs, &ranged, Precision::Fp16), expected, "{message}");
    }

    #[test]
    fn the_input_is_the_one_that_is_named() {
        let both = ["x", "mask"];
        check("shapes depend on the values of input `mask`, which", &both, Some("mask"));
        check("reshaping failed for tensor: x_fp16 reshape would change volume 4 to 15", &both, Some("x"));
        check("API Usage Error (tokens: Input dimensions with this name have different", &both, Some("mask"));
        check("API Usage Error (batch: Input dimensions with this name have different", &both, Some("x"));
        check("kOPT values for profile 0 violate shape constraints: 4 to 15", &both, None);
        check("kOPT values for profile 0 violate shape constraints: 4 to 15", &["mask"], Some("mask"));
        check("broadcast dimensions 4 x 5 must be conformable", &both, None);
        check("node number 3 [Det -> \"y\"]", &["x"], None);
    }

    #[test]
    fn the_copy_is_not_named() {
        let path = Path::new("/store/tmp/work-1/model.onnx");
        let check = |message: &str, expected: &str| assert_eq!(without_path(message, path), expected);
        check("could not compile /store/tmp/work-1/model.onnx: why", "could not compile the graph: why");
        check("could not read the graph /store/tmp/work-1/model.onnx: why", "could not read the graph: why");
    }
}
