//! The gates: values in, results out.

use super::{GateResult, TIE, Thresholds, Tolerance};
use crate::mixed_precision::similarity::{NOT_FINITE, least_row_cosine};

/// Number of nearest rows that `top_10` compares.
const NEAREST: usize = 10;

/// An output: its values and its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Floats {
    /// The values, row after row.
    pub values: Vec<f32>,
    /// The shape.
    pub shape: Vec<usize>,
}

impl Floats {
    /// Returns the number of values of a row.
    pub fn row_length(&self) -> usize {
        self.shape.iter().skip(1).product::<usize>().max(1)
    }

    /// Returns the rows.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(self.row_length())
    }

    /// Returns whether it is a list of vectors.
    pub fn is_embedding(&self) -> bool {
        self.shape.len() == 2
    }

    /// Returns the first rows.
    pub fn first_rows(&self, count: usize) -> Self {
        let mut shape = self.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows = count.min(*rows);
        }
        let length = (count * self.row_length()).min(self.values.len());
        Self { values: self.values[..length].to_vec(), shape }
    }
}

fn at_least(
    gate: &str,
    subject: &str,
    shapes: &str,
    value: f64,
    threshold: f64,
    row: Option<usize>,
) -> GateResult {
    let passed = value >= threshold;
    result(gate, subject, shapes, value, threshold, passed, row)
}

fn at_most(
    gate: &str,
    subject: &str,
    shapes: &str,
    value: f64,
    threshold: f64,
    row: Option<usize>,
) -> GateResult {
    let passed = value <= threshold;
    result(gate, subject, shapes, value, threshold, passed, row)
}

fn result(
    gate: &str,
    subject: &str,
    shapes: &str,
    value: f64,
    threshold: f64,
    passed: bool,
    worst_row: Option<usize>,
) -> GateResult {
    let value = Some(value).filter(|value| value.is_finite());
    GateResult {
        gate: gate.into(),
        subject: subject.into(),
        shapes: shapes.into(),
        value,
        threshold,
        passed,
        worst_row,
    }
}

/// Compares one output with the reference's: finite, and close by cosine.
pub fn output_gates(
    subject: &str,
    shapes: &str,
    reference: &Floats,
    found: &Floats,
    thresholds: &Thresholds,
) -> Vec<GateResult> {
    let (cosine, worst) = least_row_cosine(&reference.values, &found.values, reference.row_length());
    vec![
        finite_gate(subject, shapes, found),
        at_least("row_cosine", subject, shapes, cosine, thresholds.row_cosine, Some(worst)),
    ]
}

fn finite_gate(subject: &str, shapes: &str, found: &Floats) -> GateResult {
    let first = found.values.iter().position(|value| !value.is_finite());
    let row = first.map(|position| position / found.row_length());
    let part = found.values.iter().filter(|value| value.is_finite()).count() as f64
        / found.values.len().max(1) as f64;
    let part = if found.values.is_empty() { 1.0 } else { part };
    at_least("finite", subject, shapes, part, 1.0, row)
}

/// Compares one output with the reference's value by value: reports the max difference as a fraction of the allowed one.
pub fn tolerance_gates(
    subject: &str,
    shapes: &str,
    reference: &Floats,
    found: &Floats,
    tolerance: Tolerance,
) -> Vec<GateResult> {
    let Tolerance { absolute, relative } = tolerance;
    let mut worst = (0.0, 0);
    for (position, (a, b)) in reference.values.iter().zip(&found.values).enumerate() {
        let (a, b) = (f64::from(*a), f64::from(*b));
        let part = match ((a - b).abs(), absolute + relative * a.abs()) {
            (0.0, _) => 0.0,
            (difference, allowed) => difference / allowed,
        };
        let part = if part.is_nan() { f64::INFINITY } else { part };
        if part > worst.0 {
            worst = (part, position / reference.row_length());
        }
    }
    vec![
        finite_gate(subject, shapes, found),
        at_most("tolerance", subject, shapes, worst.0, 1.0, Some(worst.1)),
    ]
}

/// Compares an embedding with the reference's: like any output, and also the lengths of its rows.
pub fn embedding_gates(
    subject: &str,
    shapes: &str,
    reference: &Floats,
    found: &Floats,
    thresholds: &Thresholds,
) -> Vec<GateResult> {
    let mut gates = output_gates(subject, shapes, reference, found, thresholds);
    let ratios = reference.rows().zip(found.rows()).map(|(a, b)| match (length(a), length(b)) {
        (0.0, 0.0) => 0.0,
        (a, b) => (b / a - 1.0).abs(),
    });
    let farthest = ratios.enumerate().fold((0.0, 0), |worst, (row, ratio)| {
        // A length that is not a number counts as infinitely far.
        let ratio = if ratio.is_nan() { f64::INFINITY } else { ratio };
        if ratio > worst.0 { (ratio, row) } else { worst }
    });
    gates.push(at_most("norm_ratio", subject, shapes, farthest.0, thresholds.norm_ratio, Some(farthest.1)));
    gates
}

/// Compares rows that were run alone with the same rows in a batch.
pub fn batch_gate(subject: &str, alone: &Floats, in_batch: &Floats, thresholds: &Thresholds) -> GateResult {
    let same = in_batch.first_rows(alone.shape.first().copied().unwrap_or(0));
    let (cosine, row) = if same.shape == alone.shape {
        least_row_cosine(&same.values, &alone.values, alone.row_length())
    } else {
        (NOT_FINITE, 0)
    };
    at_least("batch_invariance", subject, "opt", cosine, thresholds.batch_invariance, Some(row))
}

/// Compares the cosines between two towers with the reference's: `first` and `second` are the reference's and the
/// profile's embeddings of each tower, of the same width.
pub fn cross_modal_gates(
    subject: &str,
    shapes: &str,
    first: (&Floats, &Floats),
    second: (&Floats, &Floats),
    thresholds: &Thresholds,
) -> Vec<GateResult> {
    let reference = cosines(first.0, second.0);
    let found = cosines(first.1, second.1);
    let mut largest = (0.0, 0);
    for (row, (a, b)) in reference.iter().zip(&found).enumerate() {
        for (a, b) in a.iter().zip(b) {
            let difference = (a - b).abs();
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            if difference > largest.0 {
                largest = (difference, row);
            }
        }
    }
    // Every image ranks the texts, and every text the images.
    let both =
        |matrix: &[Vec<f64>]| -> Vec<Vec<f64>> { matrix.iter().cloned().chain(transposed(matrix)).collect() };
    let (reference, found) = (both(&reference), both(&found));
    let (top_1, row_1) = agreement(&reference, &found, 1);
    let (top_10, row_10) = agreement(&reference, &found, NEAREST);
    vec![
        at_most("cross_modal", subject, shapes, largest.0, thresholds.cross_modal, Some(largest.1)),
        at_least("top_1", subject, shapes, top_1, thresholds.top_1, row_1),
        at_least("top_10", subject, shapes, top_10, thresholds.top_10, row_10),
    ]
}

/// Returns the fraction of every row's nearest `count` rows that are among the reference's, ignoring ties, and the first
/// row with a miss.
fn agreement(reference: &[Vec<f64>], found: &[Vec<f64>], count: usize) -> (f64, Option<usize>) {
    let (mut agreed, mut all, mut first_wrong) = (0_usize, 0_usize, None);
    for (row, (reference, found)) in reference.iter().zip(found).enumerate() {
        let count = count.min(reference.len());
        let mut ranked = reference.clone();
        ranked.sort_by(|a, b| b.total_cmp(a));
        let Some(bar) = count.checked_sub(1).and_then(|last| ranked.get(last)) else { continue };
        let mut places: Vec<usize> = (0..found.len()).collect();
        let rank = |place: &usize| if found[*place].is_nan() { f64::NEG_INFINITY } else { found[*place] };
        places.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
        let right = places[..count]
            .iter()
            .filter(|place| reference[**place] >= bar - TIE && !found[**place].is_nan())
            .count();
        agreed += right;
        all += count;
        if right < count {
            first_wrong = first_wrong.or(Some(row));
        }
    }
    (if all == 0 { 1.0 } else { agreed as f64 / all as f64 }, first_wrong)
}

fn cosines(a: &Floats, b: &Floats) -> Vec<Vec<f64>> {
    let unit = |row: &[f32]| -> Vec<f64> {
        let length = length(row);
        row.iter().map(|value| if length == 0.0 { 0.0 } else { f64::from(*value) / length }).collect()
    };
    let b: Vec<Vec<f64>> = b.rows().map(unit).collect();
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    a.rows().map(unit).map(|a| b.iter().map(|b| product(&a, b)).collect()).collect()
}

fn transposed(matrix: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let width = matrix.first().map_or(0, Vec::len);
    (0..width).map(|column| matrix.iter().map(|row| row[column]).collect()).collect()
}

pub(super) fn length(row: &[f32]) -> f64 {
    row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 20;
    const WIDTH: usize = 32;

    /// Rows with different directions, equal for equal seeds.
    fn floats(seed: u32) -> Floats {
        let value = |index: usize| {
            let mixed =
                (index as u32 + 1).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503));
            let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d);
            ((mixed ^ (mixed >> 12)) % 2000) as f32 / 1000.0 - 1.0
        };
        Floats { values: (0..ROWS * WIDTH).map(value).collect(), shape: vec![ROWS, WIDTH] }
    }

    fn rounded(floats: &Floats) -> Floats {
        let values = floats.values.iter().map(|value| half::f16::from_f32(*value).to_f32()).collect();
        Floats { values, shape: floats.shape.clone() }
    }

    #[track_caller]
    fn failed(gates: &[GateResult], expected: &[&str]) {
        let failed: Vec<&str> =
            gates.iter().filter(|gate| !gate.passed).map(|gate| gate.gate.as_str()).collect();
        assert_eq!(failed, expected, "{gates:#?}");
    }

    fn embedding(reference: &Floats, found: &Floats) -> Vec<GateResult> {
        embedding_gates("x", "opt", reference, found, &Thresholds::default())
    }

    fn cross(first: (&Floats, &Floats), second: (&Floats, &Floats)) -> Vec<GateResult> {
        cross_modal_gates("x × y", "opt", first, second, &Thresholds::default())
    }

    #[test]
    fn rounding_passes() {
        let (image, text) = (floats(1), floats(2));
        failed(&embedding(&image, &rounded(&image)), &[]);
        failed(&cross((&image, &rounded(&image)), (&text, &rounded(&text))), &[]);
        assert_eq!(batch_gate("x", &image.first_rows(1), &image, &Thresholds::default()).value, Some(1.0));
    }

    #[test]
    fn one_value_that_is_no_number() {
        let reference = floats(1);
        let mut found = reference.clone();
        found.values[7 * WIDTH + 3] = f32::NAN;
        let gates = embedding(&reference, &found);
        failed(&gates, &["finite", "row_cosine", "norm_ratio"]);
        assert!(gates.iter().all(|gate| gate.worst_row == Some(7)), "{gates:?}");
        failed(&cross((&reference, &found), (&reference, &reference)), &["cross_modal", "top_1", "top_10"]);
    }

    #[test]
    fn two_rows_that_are_swapped() {
        let reference = floats(1);
        let mut found = reference.clone();
        for column in 0..WIDTH {
            found.values.swap(2 * WIDTH + column, 9 * WIDTH + column);
        }
        let gates = embedding(&reference, &found);
        assert!(gates.iter().any(|gate| gate.gate == "row_cosine" && !gate.passed));
        assert!(matches!(gates[1].worst_row, Some(2 | 9)));
    }

    #[test]
    fn rows_that_are_longer() {
        let reference = floats(1);
        let mut found = reference.clone();
        found.values[4 * WIDTH..5 * WIDTH].iter_mut().for_each(|value| *value *= 1.02);
        let gates = embedding(&reference, &found);
        failed(&gates, &["norm_ratio"]);
        assert_eq!(gates[2].worst_row, Some(4));
        assert!((gates[2].value.unwrap() - 0.02).abs() < 1e-6);
    }

    #[test]
    fn values_within_a_tolerance() {
        let reference = floats(1);
        let mut found = reference.clone();
        let value = found.values[5 * WIDTH];
        found.values[5 * WIDTH] = value + 0.02;
        let gates = |absolute, relative| {
            tolerance_gates("x", "opt", &reference, &found, Tolerance { absolute, relative })
        };
        failed(&gates(0.021, 0.0), &[]);
        failed(&gates(0.0, 0.03 / f64::from(value.abs())), &[]);
        let gates = gates(0.01, 0.0);
        failed(&gates, &["tolerance"]);
        assert_eq!(gates[1].worst_row, Some(5));
        assert!((gates[1].value.unwrap() - 2.0).abs() < 1e-3, "{gates:?}");
        // Where nothing is allowed, equal values still pass.
        let exact = Tolerance { absolute: 0.0, relative: 0.0 };
        failed(&tolerance_gates("x", "opt", &reference, &reference, exact), &[]);
        found.values[0] = f32::NAN;
        failed(&tolerance_gates("x", "opt", &reference, &found, exact), &["finite", "tolerance"]);
    }

    /// A text tower of another seed, whose own reference is of that seed too: only both towers together show it.
    #[test]
    fn a_tower_of_another_seed() {
        let (image, text, other) = (floats(1), floats(2), floats(3));
        failed(&embedding(&other, &other), &[]);
        failed(&cross((&image, &image), (&text, &other)), &["cross_modal", "top_1", "top_10"]);
    }

    #[test]
    fn a_row_that_depends_on_its_batch() {
        let batch = floats(1);
        let mut alone = batch.first_rows(2);
        alone.values[WIDTH..].reverse();
        let gate = batch_gate("x", &alone, &batch, &Thresholds::default());
        assert!(!gate.passed);
        assert_eq!(gate.worst_row, Some(1));
    }

    /// Rows that rounding can swap count as agreeing.
    #[test]
    fn ties_are_no_disagreement() {
        let reference = [vec![0.5, 0.5 + TIE / 2.0, 0.1]];
        assert_eq!(agreement(&reference, &[vec![0.6, 0.5, 0.1]], 1), (1.0, None));
        assert_eq!(agreement(&reference, &[vec![0.1, 0.2, 0.3]], 1), (0.0, Some(0)));
        assert_eq!(agreement(&reference, &[vec![0.1, 0.2, 0.3]], 10), (1.0, None));
    }
}
