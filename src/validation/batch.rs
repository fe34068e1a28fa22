//! Whether rows depend on what else is in their batch: rows that were run alone, beside the same rows in a batch.
//!
//! Which dimension of an output counts rows is seen from its lengths: between the two runs, only the batch differs.

use super::gates::batch_likeness;
use super::{GateResult, Output, Thresholds};

/// What was run alone of a batch: how many rows, of how many, from which on. Several where inputs have batches of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchPart {
    /// The rows in the batch.
    pub whole: usize,
    /// The rows that were run alone.
    pub alone: usize,
    /// The first of them.
    pub first: usize,
}

/// One output in both runs of one graph.
#[derive(Clone, Copy, Debug)]
pub struct BatchRuns<'a> {
    /// In the batch.
    pub in_batch: &'a Output,
    /// Each part that was run alone.
    pub alone: &'a [(&'a [BatchPart], &'a Output)],
}

/// Compares rows that were run alone with the same rows in a batch.
///
/// # Errors
/// In words, why they can't be compared: the output has no rows, or the FP32 graph's own rows depend on their batch.
pub fn batch_gate(
    subject: &str,
    shapes: &str,
    reference: &BatchRuns<'_>,
    found: &BatchRuns<'_>,
    thresholds: &Thresholds,
) -> Result<GateResult, String> {
    let (of_reference, _) = worst(reference)?;
    if of_reference < thresholds.batch_invariance {
        return Err(format!(
            "rows of the FP32 graph itself depend on their batch (cosine {of_reference:.4}): the graph mixes rows, or its batch \
             is another dimension"
        ));
    }
    let (likeness, row) = worst(found)?;
    Ok(GateResult {
        gate: "batch_invariance".into(),
        subject: subject.into(),
        shapes: shapes.into(),
        value: Some(likeness).filter(|value| value.is_finite()),
        threshold: thresholds.batch_invariance,
        passed: likeness >= thresholds.batch_invariance,
        worst_row: row,
    })
}

/// Returns how alike the most different row is, and which it is in the batch, if the output's first dimension is the batch.
fn worst(runs: &BatchRuns<'_>) -> Result<(f64, Option<usize>), String> {
    let mut worst = (1.0, None);
    for (parts, alone) in runs.alone {
        let cut = Cut::of(runs.in_batch.shape(), alone.shape(), parts)?;
        let mut same = runs.in_batch.clone();
        for (axis, first, count) in &cut.axes {
            same = same.along(*axis, *first, *count);
        }
        let (likeness, row) = batch_likeness(&same, alone);
        let offset = cut.axes.iter().find(|(axis, ..)| *axis == 0).map(|(_, first, _)| *first);
        if worst.1.is_none() || likeness < worst.0 {
            worst = (likeness, row.map(|row| row + offset.unwrap_or(0)).or(Some(0)));
        }
    }
    Ok(worst)
}

/// Which part of an output in the batch was run alone: of each dimension that counts rows, the first and how many.
struct Cut {
    axes: Vec<(usize, usize, usize)>,
}

impl Cut {
    fn of(whole: &[usize], alone: &[usize], parts: &[BatchPart]) -> Result<Self, String> {
        if whole.len() != alone.len() {
            return Err(format!("its shape is {alone:?} for fewer rows, and {whole:?} in the batch"));
        }
        let mut axes = Vec::new();
        for (axis, (&whole_length, &alone_length)) in whole.iter().zip(alone).enumerate() {
            if whole_length == alone_length {
                continue;
            }
            // Rows, or as many values for each row: those of a batch that was flattened.
            let times = |part: &&BatchPart| {
                let times = whole_length / part.whole.max(1);
                times > 0 && times * part.whole == whole_length && times * part.alone == alone_length
            };
            let Some(part) = parts.iter().find(times) else {
                return Err(format!(
                    "dimension {axis} has {alone_length} elements for fewer rows and {whole_length} in the batch, which \
                     doesn't follow the batch: it depends on values"
                ));
            };
            axes.push((axis, part.first * (whole_length / part.whole), alone_length));
        }
        if axes.is_empty() {
            return Err("no dimension of it follows the batch".into());
        }
        Ok(Self { axes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::Array;

    fn output(shape: &[usize], value: impl Fn(usize) -> f32) -> Output {
        Output::Floats(Array {
            values: (0..shape.iter().product()).map(value).collect(),
            shape: shape.into(),
        })
    }

    fn part(whole: usize, alone: usize, first: usize) -> BatchPart {
        BatchPart { whole, alone, first }
    }

    fn gate(
        reference: (&Output, &[(&[BatchPart], &Output)]),
        found: (&Output, &[(&[BatchPart], &Output)]),
    ) -> Result<GateResult, String> {
        let runs = |(in_batch, alone)| BatchRuns { in_batch, alone };
        batch_gate("x", "opt", &runs(reference), &runs(found), &Thresholds::default())
    }

    #[track_caller]
    fn passes(in_batch: &Output, alone: &[(&[BatchPart], &Output)]) {
        let result = gate((in_batch, alone), (in_batch, alone)).unwrap();
        assert!(result.passed, "{result:?}");
    }

    #[test]
    fn rows_are_found_in_any_dimension() {
        let value = |index: usize| (index as f32).sin();
        // [batch, width], the last row.
        passes(&output(&[4, 3], value), &[(&[part(4, 1, 3)], &output(&[1, 3], |index| value(9 + index)))]);
        // [time, batch, width], the row 1 of 4.
        let alone = output(&[2, 1, 3], |index| value(index / 3 * 12 + 3 + index % 3));
        passes(&output(&[2, 4, 3], value), &[(&[part(4, 1, 1)], &alone)]);
        // [images, texts] with batches of their own.
        let parts = [part(4, 1, 3), part(5, 2, 3)];
        passes(&output(&[4, 5], value), &[(&parts, &output(&[1, 2], |index| value(18 + index)))]);
        // A batch that was flattened with 3 regions of each image.
        passes(&output(&[12, 2], value), &[(&[part(4, 1, 2)], &output(&[3, 2], |index| value(12 + index)))]);
    }

    #[test]
    fn what_cannot_be_compared_says_why() {
        let value = |index: usize| (index as f32).cos();
        let why = |whole: &[usize], alone: &[usize]| {
            let (whole, alone) = (output(whole, value), output(alone, value));
            let alone: &[(&[BatchPart], &Output)] = &[(&[part(4, 1, 0)], &alone)];
            gate((&whole, alone), (&whole, alone)).unwrap_err()
        };
        assert!(why(&[1, 8], &[1, 8]).contains("no dimension of it follows the batch"));
        assert!(why(&[7, 6], &[2, 6]).contains("depends on values"));
        assert!(why(&[4, 6], &[6]).contains("its shape is"));
    }

    /// A graph that mixes rows on purpose isn't held against the profile; a profile that mixes them is.
    #[test]
    fn the_fp32_graph_is_the_measure() {
        let mixed = output(&[4, 3], |index| (index as f32).sin());
        let other = output(&[1, 3], |index| (index as f32).cos() - 3.0);
        let right = output(&[1, 3], |index| (index as f32).sin());
        let parts = [part(4, 1, 0)];
        let (other, right): ([(&[BatchPart], &Output); 1], _) = ([(&parts, &other)], [(&parts[..], &right)]);
        assert!(gate((&mixed, &other), (&mixed, &other)).unwrap_err().contains("the FP32 graph itself"));
        let result = gate((&mixed, &right), (&mixed, &other)).unwrap();
        assert_eq!((result.passed, result.worst_row), (false, Some(0)));
    }
}
