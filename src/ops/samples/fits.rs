//! Whether the tensor of a file is one that its input takes.

use super::SamplesError;
use crate::onnx::{Dimension, ElementType, TensorInfo};
use crate::shape_range::ShapeRange;
use crate::worker::npy::{self, Tensor};

/// Checks type and shape: a graph that is run on something else fails, and that would be no fault of its.
pub(super) fn check(
    info: &TensorInfo,
    range: Option<&ShapeRange>,
    tensor: &Tensor,
) -> Result<(), SamplesError> {
    let input = || info.name.clone();
    check_type(info, tensor.element_type())?;
    let shape: Vec<i64> =
        tensor.shape().iter().map(|&length| i64::try_from(length).unwrap_or(i64::MAX)).collect();
    let is_of_graph = !info.rank_known
        || (shape.len() == info.shape.len()
            && shape.iter().zip(&info.shape).all(|(length, dimension)| match dimension {
                Dimension::Fixed(fixed) => length == fixed,
                Dimension::Symbolic(_) | Dimension::Unknown => true,
            }));
    if !is_of_graph {
        let needed = format!("the graph's {}", shape_text(&info.shape));
        return Err(SamplesError::OtherShape { input: input(), shape, needed });
    }
    let is_in = |range: &&ShapeRange| {
        let ends = range.min.iter().zip(&range.max);
        shape.len() == range.min.len()
            && shape.iter().zip(ends).all(|(length, (min, max))| (min..=max).contains(&length))
    };
    match range {
        Some(range) if !is_in(&range) => {
            let needed = format!("the range {:?} to {:?} of `shapes`", range.min, range.max);
            Err(SamplesError::OtherShape { input: input(), shape, needed })
        }
        _ => Ok(()),
    }
}

/// Checks the type alone.
pub(in crate::ops) fn check_type(info: &TensorInfo, found: npy::ElementType) -> Result<(), SamplesError> {
    let found = found.name();
    let needed = name_of(info.element_type);
    if found == needed {
        return Ok(());
    }
    Err(SamplesError::WrongType { input: info.name.clone(), found, needed })
}

/// Returns what NumPy calls a type.
fn name_of(element_type: ElementType) -> &'static str {
    match element_type {
        ElementType::Float => "float32",
        ElementType::Double => "float64",
        other => other.as_str(),
    }
}

fn shape_text(shape: &[Dimension]) -> String {
    let one = |dimension: &Dimension| match dimension {
        Dimension::Fixed(length) => length.to_string(),
        Dimension::Symbolic(name) => name.clone(),
        Dimension::Unknown => "?".into(),
    };
    format!("[{}]", shape.iter().map(one).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tensor: &Tensor, expected: Result<(), &str>) {
        let info = TensorInfo {
            name: "x".into(),
            element_type: ElementType::Float,
            shape: vec![Dimension::Symbolic("n".into()), Dimension::Fixed(2)],
            rank_known: true,
        };
        let range = ShapeRange { min: vec![1, 2], opt: vec![1, 2], max: vec![3, 2] };
        let found = super::check(&info, Some(&range), tensor).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned));
    }

    #[test]
    fn type_and_shape_are_those_of_graph_and_range() {
        check(&Tensor::new(&[3, 2], &[0f32; 6]).unwrap(), Ok(()));
        check(
            &Tensor::new(&[1, 2], &[0f64; 2]).unwrap(),
            Err(
                "the samples of input `x` are float64, and the graph takes float32: convert them, as in `samples.astype(\"float32\")`",
            ),
        );
        check(
            &Tensor::new(&[2, 3], &[0f32; 6]).unwrap(),
            Err("the samples of input `x` have shape [2, 3], which does not fit the graph's [n, 2]"),
        );
        check(
            &Tensor::new(&[4, 2], &[0f32; 8]).unwrap(),
            Err(
                "the samples of input `x` have shape [4, 2], which does not fit the range [1, 2] to [3, 2] of `shapes`",
            ),
        );
    }
}
