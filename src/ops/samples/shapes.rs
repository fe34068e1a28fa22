//! Which of its shapes a graph is run in.

use super::{SamplesError, Subject};
use crate::onnx::{Dimension, TensorInfo};
use crate::shape_range::ShapeRange;

/// Which shapes inputs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) enum Shapes {
    /// The least that a profile takes.
    Min,
    /// The usual ones.
    Opt,
    /// The usual ones, but for the first dimension, which is the least.
    OptAlone,
    /// The usual ones, but for the first dimension, which is this.
    Batch(i64),
    /// The largest that a profile takes.
    Max,
}

impl Shapes {
    pub(in crate::ops) fn of(self, range: &ShapeRange) -> Vec<i64> {
        let ShapeRange { min, opt, max } = range;
        match self {
            Self::Min => min.clone(),
            Self::Opt => opt.clone(),
            Self::Max => max.clone(),
            Self::Batch(batch) => std::iter::once(batch).chain(opt.iter().skip(1).copied()).collect(),
            Self::OptAlone => min.iter().take(1).chain(opt.iter().skip(1)).copied().collect(),
        }
    }
}

/// Returns the shape of an input.
pub(super) fn shape(
    subject: &Subject<'_>,
    which: Shapes,
    info: &TensorInfo,
) -> Result<Vec<usize>, SamplesError> {
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
    let shape = subject.shapes.get(&info.name).map(|range| which.of(range)).or_else(from_graph);
    let shape = shape.ok_or_else(no_shape)?;
    shape.into_iter().map(|length| usize::try_from(length).map_err(|_| no_shape())).collect()
}
