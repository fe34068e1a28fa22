//! The shapes that a graph runs in.

use super::{SamplesError, Subject};
use crate::onnx::{Dimension, TensorInfo};
use crate::shape_range::ShapeRange;

/// The most elements of a sample: 8 GiB in FP32.
pub(super) const MAX_ELEMENTS: usize = 1 << 31;

/// Which shapes inputs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) enum Shapes {
    /// The min shapes of a profile.
    Min,
    /// The opt shapes.
    Opt,
    /// The opt shapes, with the min batch.
    OptAlone,
    /// The opt shapes, with this batch.
    Batch(i64),
    /// The max shapes of a profile.
    Max,
}

impl Shapes {
    /// Returns the shape of an input whose batch is this dimension; `None` if it has no batch.
    pub(in crate::ops) fn of(self, range: &ShapeRange, axis: Option<usize>) -> Vec<i64> {
        let ShapeRange { min, opt, max } = range;
        match self {
            Self::Min => min.clone(),
            Self::Opt => opt.clone(),
            Self::Max => max.clone(),
            Self::Batch(batch) => with(opt, axis, |_| batch),
            Self::OptAlone => with(opt, axis, |axis| min[axis]),
        }
    }
}

/// Returns a shape with another size of one dimension, if there is one.
fn with(shape: &[i64], axis: Option<usize>, size: impl Fn(usize) -> i64) -> Vec<i64> {
    let mut shape = shape.to_vec();
    if let Some(axis) = axis.filter(|axis| *axis < shape.len()) {
        shape[axis] = size(axis);
    }
    shape
}

/// Returns the shape of an input.
pub(in crate::ops) fn shape(
    subject: &Subject<'_>,
    which: Shapes,
    info: &TensorInfo,
) -> Result<Vec<usize>, SamplesError> {
    let axis = subject.batch_axes().axis(&info.name);
    let no_shape = || SamplesError::NoShape { input: info.name.clone() };
    let from_graph = || {
        info.shape
            .iter()
            .map(|dimension| match dimension {
                Dimension::Fixed(length) => Some(*length),
                _ => None,
            })
            .collect::<Option<Vec<i64>>>()
    };
    let shape = subject.shapes.get(&info.name).map(|range| which.of(range, axis)).or_else(from_graph);
    let shape = shape.ok_or_else(no_shape)?;
    let shape: Vec<usize> = shape
        .into_iter()
        .map(|length| usize::try_from(length).map_err(|_| no_shape()))
        .collect::<Result<_, _>>()?;
    let count = shape.iter().try_fold(1_usize, |count, length| count.checked_mul(*length));
    if count.is_none_or(|count| count > MAX_ELEMENTS) {
        return Err(SamplesError::TooLarge { input: info.name.clone(), shape });
    }
    Ok(shape)
}
