//! Which dimension of each input counts the rows of the batch.
//!
//! It need not be the first: a speech model takes `[time, batch, features]`, a recurrent one its state as `[2, batch, width]`,
//! and some inputs have no batch. Names and ranges tell, in this order:
//!
//! 1. a dimension whose name says batch (`batch`, `image_batch_size`, `N`);
//! 2. the first dimension, if it is dynamic and its name says nothing else (as `sequence` does);
//! 3. a dimension with the name, or as the only one with the range, of one that was found in another input.

use std::collections::BTreeMap;

use crate::onnx::{Dimension, TensorInfo};
use crate::samples::words;
use crate::shape_range::ShapeRange;
use crate::worker::npy::Tensor;

/// Words of names of a batch. A single letter counts where it is the whole name.
const BATCH: [&str; 5] = ["batch", "batches", "batchsize", "bs", "bsz"];
const BATCH_LETTERS: [&str; 2] = ["n", "b"];
/// Words of names of something else.
const OTHERS: [&str; 24] = [
    "sequence",
    "seq",
    "seqlen",
    "time",
    "times",
    "timesteps",
    "steps",
    "step",
    "length",
    "len",
    "tokens",
    "token",
    "frames",
    "frame",
    "samples",
    "height",
    "width",
    "h",
    "w",
    "t",
    "channels",
    "features",
    "past",
    "position",
];

/// By input, the dimension that counts rows, from 0. Inputs without a batch are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ops) struct BatchAxes(BTreeMap<String, usize>);

impl BatchAxes {
    /// Finds them from the inputs of a graph and the ranges of a recipe.
    pub(in crate::ops) fn of(inputs: &[TensorInfo], ranges: &BTreeMap<String, ShapeRange>) -> Self {
        let mut axes = BTreeMap::new();
        let mut names: Vec<&str> = Vec::new();
        let mut found_ranges = Vec::new();
        let ranged = || inputs.iter().filter_map(|info| Some((info, ranges.get(&info.name)?)));
        for (info, range) in ranged() {
            let named =
                |dimension: &Dimension| matches!(dimension, Dimension::Symbolic(name) if says_batch(name));
            if let Some(axis) = info.shape.iter().position(named) {
                names.extend(symbol(info, axis));
                found_ranges.push(range_at(range, axis));
                axes.insert(info.name.clone(), axis);
            }
        }
        let is_named = !axes.is_empty();
        for (info, range) in ranged() {
            if axes.contains_key(&info.name) {
                continue;
            }
            let is_batch = match info.shape.first() {
                None | Some(Dimension::Fixed(_)) => false,
                Some(Dimension::Symbolic(name)) => !says_other(name),
                // Beside a name, a dimension without one is the batch only if it is as long.
                Some(Dimension::Unknown) => !is_named || found_ranges.contains(&range_at(range, 0)),
            };
            if is_batch {
                names.extend(symbol(info, 0));
                found_ranges.push(range_at(range, 0));
                axes.insert(info.name.clone(), 0);
            }
        }
        for (info, range) in ranged() {
            if axes.contains_key(&info.name) {
                continue;
            }
            let by_name = (0..info.shape.len())
                .find(|axis| symbol(info, *axis).is_some_and(|name| names.contains(&name)));
            let unnamed = |axis: &usize| {
                matches!(info.shape[*axis], Dimension::Unknown)
                    && found_ranges.contains(&range_at(range, *axis))
            };
            let mut by_range = (0..info.shape.len()).filter(unnamed);
            let only = by_range.next().filter(|_| by_range.next().is_none());
            if let Some(axis) = by_name.or(only) {
                axes.insert(info.name.clone(), axis);
            }
        }
        Self(axes)
    }

    /// Returns the dimension of an input that counts rows.
    pub(in crate::ops) fn axis(&self, input: &str) -> Option<usize> {
        self.0.get(input).copied()
    }

    /// Returns whether no input has a batch.
    pub(in crate::ops) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn says_batch(name: &str) -> bool {
    let words = words(name);
    let is_letter = matches!(words.as_slice(), [word] if BATCH_LETTERS.contains(&word.as_str()));
    is_letter || words.iter().any(|word| BATCH.contains(&word.as_str()))
}

fn says_other(name: &str) -> bool {
    words(name).iter().any(|word| OTHERS.contains(&word.as_str()))
}

fn symbol(info: &TensorInfo, axis: usize) -> Option<&str> {
    match info.shape.get(axis)? {
        Dimension::Symbolic(name) => Some(name),
        _ => None,
    }
}

fn range_at(range: &ShapeRange, axis: usize) -> [Option<i64>; 3] {
    [&range.min, &range.opt, &range.max].map(|shape| shape.get(axis).copied())
}

/// Returns `count` rows of a tensor from `first` on, along one dimension.
pub(in crate::ops) fn rows_along(tensor: &Tensor, axis: usize, first: usize, count: usize) -> Tensor {
    let shape = tensor.shape();
    let (Some(&length), Some(before), Some(after)) =
        (shape.get(axis), shape.get(..axis), shape.get(axis + 1..))
    else {
        return tensor.clone();
    };
    let first = first.min(length);
    let count = count.min(length - first);
    let row_bytes = after.iter().product::<usize>() * tensor.element_type().size_bytes();
    let mut bytes = Vec::new();
    for block in 0..before.iter().product::<usize>() {
        let start = (block * length + first) * row_bytes;
        bytes.extend_from_slice(&tensor.bytes()[start..start + count * row_bytes]);
    }
    let shape: Vec<usize> = before.iter().copied().chain([count]).chain(after.iter().copied()).collect();
    // The bytes fit the shape that they were cut for.
    Tensor::from_bytes(tensor.element_type(), &shape, &bytes).unwrap_or_else(|_| tensor.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::ElementType;

    type Input<'a> = (&'a str, &'a [(&'a str, [i64; 3])]);

    /// Inputs by name, each with its dimensions: a symbol (none is `?`, fixed is a number), and min, opt and max.
    #[track_caller]
    fn check(inputs: &[Input<'_>], expected: &[(&str, usize)]) {
        let infos: Vec<TensorInfo> = inputs
            .iter()
            .map(|(name, dimensions)| {
                let dimension = |(symbol, _): &(&str, [i64; 3])| match (symbol.parse(), *symbol) {
                    (Ok(length), _) => Dimension::Fixed(length),
                    (_, "?") => Dimension::Unknown,
                    (_, symbol) => Dimension::Symbolic(symbol.into()),
                };
                TensorInfo {
                    name: (*name).into(),
                    element_type: ElementType::Float,
                    shape: dimensions.iter().map(dimension).collect(),
                    rank_known: true,
                }
            })
            .collect();
        let is_dynamic = |(_, dimensions): &&Input<'_>| {
            dimensions.iter().any(|(symbol, _)| symbol.parse::<i64>().is_err())
        };
        let ranges = inputs
            .iter()
            .filter(is_dynamic)
            .map(|(name, dimensions)| {
                let [min, opt, max] =
                    [0, 1, 2].map(|index| dimensions.iter().map(|(_, sizes)| sizes[index]).collect());
                ((*name).to_owned(), ShapeRange { min, opt, max })
            })
            .collect();
        let expected = expected.iter().map(|(name, axis)| ((*name).to_owned(), *axis)).collect();
        assert_eq!(BatchAxes::of(&infos, &ranges), BatchAxes(expected));
    }

    const B: [i64; 3] = [1, 4, 16];
    const T: [i64; 3] = [10, 50, 200];

    fn fixed(size: i64) -> [i64; 3] {
        [size; 3]
    }

    #[test]
    fn the_first_dimension_where_nothing_else_is_said() {
        check(&[("x", &[("?", B), ("16", fixed(16))])], &[("x", 0)]);
        check(&[("x", &[("anything", B), ("?", T)]), ("y", &[("16", fixed(16))])], &[("x", 0)]);
        check(&[("image", &[("images", B)]), ("text", &[("texts", T)])], &[("image", 0), ("text", 0)]);
    }

    #[test]
    fn names_say_which_it_is() {
        check(&[("x", &[("sequence", T), ("batch_size", B), ("80", fixed(80))])], &[("x", 1)]);
        check(&[("x", &[("T", T), ("N", B), ("80", fixed(80))])], &[("x", 1)]);
        check(&[("x", &[("seq_len", T), ("80", fixed(80))])], &[]);
        check(&[("x", &[("batch", B)]), ("y", &[("num_frames", T)])], &[("x", 0)]);
        check(&[("x", &[("image_batch", B)]), ("y", &[("text_batch", T)])], &[("x", 0), ("y", 0)]);
        // Beside the name of a batch, another length without a name is something else.
        check(&[("x", &[("batch", B)]), ("y", &[("?", T), ("8", fixed(8))])], &[("x", 0)]);
    }

    #[test]
    fn a_state_has_the_batch_of_another_input() {
        let state = |symbol| [("2", fixed(2)), (symbol, B), ("128", fixed(128))];
        check(&[("x", &[("batch", B), ("?", T)]), ("h", &state("batch"))], &[("x", 0), ("h", 1)]);
        check(&[("x", &[("?", B), ("?", T)]), ("h", &state("?"))], &[("x", 0), ("h", 1)]);
        check(&[("x", &[("odd", B), ("?", T)]), ("h", &state("odd"))], &[("x", 0), ("h", 1)]);
    }

    #[test]
    fn rows_are_cut_along_any_dimension() {
        let values: Vec<i64> = (0..24).collect();
        let tensor = Tensor::new(&[2, 3, 4], &values).unwrap();
        let cut = rows_along(&tensor, 1, 1, 1);
        assert_eq!(cut, Tensor::new(&[2, 1, 4], &[4_i64, 5, 6, 7, 16, 17, 18, 19]).unwrap());
        assert_eq!(
            rows_along(&tensor, 2, 3, 9),
            Tensor::new(&[2, 3, 1], &[3_i64, 7, 11, 15, 19, 23]).unwrap()
        );
        assert_eq!(rows_along(&tensor, 0, 0, 2), tensor);
    }
}
