//! The inputs of a run, for every worker: read from their files, and held against what the graph or plan takes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::npy::{NpyError, Tensor};
use crate::protocol::{ErrorCode, Problem, TensorDescription};

/// Reads the tensor of every input, by name.
///
/// # Errors
/// An input without a file, a file without an input, a file that is not a tensor, a type or shape unlike the input's.
pub fn read_inputs(
    expected: &[TensorDescription],
    files: &BTreeMap<String, PathBuf>,
) -> Result<BTreeMap<String, Tensor>, Problem> {
    check_names(expected, files)?;
    let mut tensors = BTreeMap::new();
    for (name, path) in files {
        let tensor = Tensor::read(path).map_err(|error| npy_problem(&error))?;
        if let Some(expected) = expected.iter().find(|input| input.name == *name) {
            check_type(&tensor, expected)?;
        }
        tensors.insert(name.clone(), tensor);
    }
    Ok(tensors)
}

/// Says what is wrong with a tensor file.
pub fn npy_problem(error: &NpyError) -> Problem {
    match error {
        NpyError::Io(source) => Problem::new(ErrorCode::Io, source.to_string()),
        NpyError::Format { .. } | NpyError::Shape { .. } => {
            Problem::new(ErrorCode::InvalidRequest, error.to_string())
        }
    }
}

fn check_names(expected: &[TensorDescription], files: &BTreeMap<String, PathBuf>) -> Result<(), Problem> {
    let names: Vec<&str> = expected.iter().map(|input| input.name.as_str()).collect();
    let invalid = |what: String| {
        Err(Problem::new(
            ErrorCode::InvalidRequest,
            format!("{what}; the graph's inputs are {}", names.join(", ")),
        ))
    };
    if let Some(unknown) = files.keys().find(|name| !names.contains(&name.as_str())) {
        return invalid(format!("the graph has no input `{unknown}`"));
    }
    if let Some(missing) = names.iter().find(|name| !files.contains_key(**name)) {
        return invalid(format!("no tensor for input `{missing}`"));
    }
    Ok(())
}

fn check_type(tensor: &Tensor, expected: &TensorDescription) -> Result<(), Problem> {
    let TensorDescription { name, element_type, shape } = expected;
    let fits = tensor.element_type().name() == element_type
        && tensor.shape().len() == shape.len()
        && tensor.shape().iter().zip(shape).all(|(&given, &expected)| {
            expected < 0 || i64::try_from(given).is_ok_and(|given| given == expected)
        });
    if fits {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::InvalidRequest,
        format!(
            "input `{name}` takes {element_type} of shape {shape:?}, but the tensor is {} of shape {:?}",
            tensor.element_type().name(),
            tensor.shape()
        ),
    ))
}
