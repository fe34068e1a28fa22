//! The shapes that a graph is checked in, and whether there is room for the larger ones.
//!
//! The max shapes are those of a profile with the rows of its opt shapes: a row loses the same among 8 others as among 64, and
//! it is lengths that positions and sums grow with.

use std::collections::BTreeMap;

use super::pair::Pair;
use crate::machine::memory;
use crate::onnx::TensorInfo;
use crate::ops::samples::{Shapes, Subject};
use crate::recipe::proposal::DimensionKind;
use crate::shape_range::ShapeRange;

/// Of the memory that is available, the part that a run may take.
const MEMORY_PERCENT: u64 = 70;
/// Both runs in the max shapes may take this long, as far as those in the opt shapes show it.
const MAX_RUN_SECONDS: f64 = 30.0;

/// Shapes that a graph is run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Case {
    /// The opt shapes.
    Opt,
    /// The max shapes.
    Max,
}

/// Returns the shape ranges of a graph with no more rows in the max shapes than in the opt shapes.
pub(super) fn without_more_rows(
    inputs: &[TensorInfo],
    shapes: &BTreeMap<String, ShapeRange>,
) -> BTreeMap<String, ShapeRange> {
    let mut shapes = shapes.clone();
    for info in inputs {
        let Some(range) = shapes.get_mut(&info.name) else { continue };
        for index in 0..range.max.len().min(info.shape.len()) {
            if DimensionKind::of(info, index) == DimensionKind::Batch {
                range.max[index] = range.opt[index];
            }
        }
    }
    shapes
}

/// Returns the shapes to run: the max shapes only where they are others.
pub(super) fn cases(subject: &Subject<'_>) -> Vec<Case> {
    let has_room =
        |input: &String| subject.samples.get(input).is_some_and(|sample| !sample.has_its_own_shape());
    let grows = subject.shapes.iter().any(|(input, range)| range.opt != range.max && has_room(input));
    if grows { vec![Case::Opt, Case::Max] } else { vec![Case::Opt] }
}

impl Case {
    /// Returns what reports call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Opt => "opt",
            Self::Max => "max",
        }
    }

    /// Returns the shapes as samples are made in them.
    pub(super) fn shapes(self) -> Shapes {
        match self {
            Self::Opt => Shapes::Opt,
            Self::Max => Shapes::Max,
        }
    }

    /// Returns in words why there is no room or time for it, by what the opt shapes took.
    pub(super) fn too_large(self, pair: &Pair<'_>) -> Option<String> {
        if self == Self::Opt {
            return None;
        }
        let growth = growth(pair.subject);
        let seconds = pair.seconds * growth;
        if seconds > MAX_RUN_SECONDS {
            return Some(format!("it would take about {seconds:.0} s"));
        }
        let (peak_bytes, available_bytes) = (pair.peak_bytes?, memory::available_bytes()?);
        let activations = peak_bytes.saturating_sub(pair.subject.file.size_bytes());
        let needed_bytes = peak_bytes as f64 + activations as f64 * (growth - 1.0);
        let may_take = available_bytes / 100 * MEMORY_PERCENT;
        (needed_bytes > may_take as f64).then(|| {
            format!(
                "it may need {:.1} GB of memory, and {:.1} GB are available",
                needed_bytes / 1e9,
                available_bytes as f64 / 1e9
            )
        })
    }
}

/// Returns by how much the max shapes cost more than the opt shapes at most: it may grow with the square of a length.
fn growth(subject: &Subject<'_>) -> f64 {
    let of_range = |ShapeRange { min: _, opt, max }: &ShapeRange| {
        let factors = opt.iter().zip(max).map(|(&opt, &max)| max as f64 / opt.max(1) as f64);
        factors.product::<f64>().powi(2)
    };
    subject.shapes.values().map(of_range).fold(1.0, f64::max)
}
