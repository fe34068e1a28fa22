//! A recipe for a model that has none: what `nimctl init` proposes, and how it is written.
//!
//! [`DraftGraph::of`] proposes shape ranges and samples for the inputs of one graph, [`groups`] the backends that can build for
//! some GPUs, [`Draft::to_yaml`] writes it all with a comment wherever a person decides. Nothing here asks, reads or runs
//! anything.

mod alternatives;
mod dead_ends;
mod dimension;
pub mod names;
mod targets;
mod write;

use std::collections::BTreeMap;

pub use alternatives::alternatives;
pub use dimension::{DimensionKind, Range};
pub use targets::{Group, Groups, groups};

use crate::onnx::{Dimension, OnnxFile, Precision, TensorInfo, index_bounds};
use crate::samples::{Sample, seeded};
use crate::shape_range::ShapeRange;

/// A recipe that is about to be written.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The model's name.
    pub model: String,
    /// Its release.
    pub release: String,
    /// Its graphs.
    pub graphs: Vec<DraftGraph>,
    /// What is built by compilers.
    pub groups: Groups,
    /// The precision of the weights, as the files have them.
    pub weights: Precision,
}

/// One graph.
#[derive(Clone, Debug)]
pub struct DraftGraph {
    /// Its name.
    pub name: String,
    /// Its file, relative to the recipe's folder.
    pub source: String,
    /// What a caller feeds.
    pub inputs: Vec<DraftInput>,
    /// Why TensorRT can't build it; `None` if no reason is known.
    pub dead_end: Option<String>,
    /// The control flow that it has, which TensorRT may refuse; none if it has none.
    pub control_flow: Option<&'static str>,
    /// What came of running it once.
    pub trial: Trial,
}

/// What came of running a graph in the proposed shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It was not run, and why not.
    NotRun(String),
    /// It runs as proposed at first.
    Runs,
    /// It runs, but with other ranges, because of the runtime's error.
    Narrowed(String),
    /// It failed in every shape that was tried; this is the runtime's error for the first.
    Fails(String),
}

/// One input.
#[derive(Clone, Debug)]
pub struct DraftInput {
    /// Name, type and shape.
    pub info: TensorInfo,
    /// min, opt and max; none for an input of fixed shape.
    pub range: Option<ShapeRange>,
    /// What it is run on; none for what can't be fed.
    pub sample: Option<Sample>,
}

impl DraftInput {
    /// Returns the dynamic dimensions: index and what each counts.
    pub fn dynamic(&self) -> impl Iterator<Item = (usize, DimensionKind)> {
        let is_dynamic = |index: &usize| !matches!(self.info.shape[*index], Dimension::Fixed(_));
        (0..self.info.shape.len())
            .filter(is_dynamic)
            .map(|index| (index, DimensionKind::of(&self.info, index)))
    }
}

impl DraftGraph {
    /// Proposes ranges and samples for the inputs of a graph.
    pub fn of(name: &str, source: &str, file: &OnnxFile) -> Self {
        let infos = file.inputs();
        let bounds = index_bounds(file);
        let ranges = ranges(&infos);
        let inputs = infos
            .into_iter()
            .zip(ranges)
            .map(|(info, range)| {
                let sample = seeded(&info, bounds.get(&info.name).copied());
                DraftInput { info, range, sample }
            })
            .collect();
        let dead_end = dead_ends::dead_end(file);
        let control_flow = dead_ends::control_flow(file);
        let trial = Trial::NotRun("not tried".into());
        Self { name: name.into(), source: source.into(), inputs, dead_end, control_flow, trial }
    }
}

/// Returns a range for every input with a dynamic dimension; a name means the same number wherever it stands.
fn ranges(infos: &[TensorInfo]) -> Vec<Option<ShapeRange>> {
    let dynamic = |info: &TensorInfo| {
        let is_dynamic = |index: &usize| !matches!(info.shape[*index], Dimension::Fixed(_));
        (0..info.shape.len()).filter(is_dynamic).collect::<Vec<_>>()
    };
    let is_side = |info: &TensorInfo, index: usize| {
        matches!(DimensionKind::of(info, index), DimensionKind::Height | DimensionKind::Width)
    };
    let is_costly = infos.iter().any(|info| dynamic(info).iter().any(|&index| is_side(info, index)));
    // Rows are run alone by their first dimension: where another one counts them, as in a recurrent network's state, there is
    // one row at a time.
    let is_batch = |info: &TensorInfo, index: usize| DimensionKind::of(info, index) == DimensionKind::Batch;
    let one_row =
        infos.iter().any(|info| dynamic(info).iter().any(|&index| index > 0 && is_batch(info, index)));
    let of_dimension = |info: &TensorInfo, index: usize| {
        let range = of_dimension(info, index, is_costly);
        match is_batch(info, index) {
            true if one_row => [1; 3],
            // Steps that depend on each other: a few of them alone don't give what they give among all.
            false if index == 0 => [range[1]; 3],
            _ => range,
        }
    };
    let mut by_symbol: BTreeMap<&str, Range> = BTreeMap::new();
    for info in infos {
        for index in dynamic(info) {
            if let Dimension::Symbolic(symbol) = &info.shape[index] {
                by_symbol.entry(symbol).or_insert_with(|| of_dimension(info, index));
            }
        }
    }
    let range = |info: &TensorInfo| {
        let dimensions: Vec<Range> = (0..info.shape.len())
            .map(|index| match &info.shape[index] {
                Dimension::Fixed(length) => [*length; 3],
                Dimension::Symbolic(symbol) => {
                    of_sum(symbol, &by_symbol).unwrap_or_else(|| by_symbol[symbol.as_str()])
                }
                Dimension::Unknown => of_dimension(info, index),
            })
            .collect();
        let part = |place: usize| dimensions.iter().map(|range| range[place]).collect();
        ShapeRange { min: part(0), opt: part(1), max: part(2) }
    };
    infos.iter().map(|info| (!dynamic(info).is_empty()).then(|| range(info))).collect()
}

fn of_dimension(info: &TensorInfo, index: usize, is_costly: bool) -> Range {
    let kind = DimensionKind::of(info, index);
    let height = match info.shape.get(index.wrapping_sub(1)) {
        Some(Dimension::Fixed(height)) if kind == DimensionKind::Width => Some(*height),
        _ => None,
    };
    match height {
        // Lines of text: of one height, as wide as they are long.
        Some(height @ 8..=256) => [height, 4 * height, 8 * height],
        _ => kind.range(is_costly),
    }
}

/// Returns the range of a name that is a sum of others, `past_length + 1` say.
fn of_sum(symbol: &str, by_symbol: &BTreeMap<&str, Range>) -> Option<Range> {
    if !symbol.contains('+') {
        return None;
    }
    let mut sum = [0_i64; 3];
    for term in symbol.split('+').map(str::trim) {
        let range = match term.parse::<i64>() {
            Ok(number) => [number; 3],
            Err(_) => match by_symbol.get(term) {
                Some(range) => *range,
                None => DimensionKind::of_symbol(term)?.range(false),
            },
        };
        for (place, value) in sum.iter_mut().zip(range) {
            *place = place.saturating_add(value);
        }
    }
    Some(sum)
}

/// Returns the precision that most of a model's weights have, as their bytes count.
pub fn weights_precision(file: &OnnxFile) -> Precision {
    let size = |precision: Precision| {
        let of_type = file
            .graph()
            .initializer
            .iter()
            .filter(|tensor| tensor.data_type() == precision.element_type().to_onnx());
        of_type
            .map(|tensor| tensor.dims.iter().fold(1_i64, |a, b| a.saturating_mul(*b)))
            .fold(0, i64::saturating_add)
    };
    let half = [Precision::Fp16, Precision::Bf16].into_iter().max_by_key(|precision| size(*precision));
    half.filter(|half| size(*half) > size(Precision::Fp32)).unwrap_or(Precision::Fp32)
}
