//! The gates: values in, results out.

use super::{Array, Floats, GateResult, Output, TIE, Thresholds, Tolerance};
use crate::mixed_precision::similarity::{NOT_FINITE, least_row_cosine, relative_errors};

/// Number of nearest rows that `top_10` compares.
const NEAREST: usize = 10;

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

/// Compares one output with the reference's, by the gates for its kind. Outputs of different kinds aren't equal anywhere.
pub fn output_gates(
    subject: &str,
    shapes: &str,
    reference: &Output,
    found: &Output,
    thresholds: &Thresholds,
    tolerance: Option<Tolerance>,
) -> Vec<GateResult> {
    let at = Place { subject, shapes };
    if let (Some(reference), Some(found)) = (reference.doubles(), found.doubles()) {
        let mut gates = vec![at.finite(&found)];
        match tolerance {
            Some(tolerance) => {
                let allowed = reference.values.iter().map(|value| tolerance.allowed(*value));
                let differences = reference.values.iter().zip(&found.values).map(|(a, b)| (a - b).abs());
                gates.push(at.tolerance(differences.zip(allowed), reference.row_length()));
            }
            None => {
                let (cosine, worst) =
                    least_row_cosine(&reference.values, &found.values, reference.row_length());
                gates.push(at_least(
                    "row_cosine",
                    subject,
                    shapes,
                    cosine,
                    thresholds.row_cosine,
                    Some(worst),
                ));
                gates.push(at.lengths(&reference, &found, thresholds));
            }
        }
        return gates;
    }
    match (reference.integers(), found.integers(), tolerance) {
        (Some(reference), Some(found), Some(tolerance)) => {
            let allowed = reference.values.iter().map(|value| tolerance.allowed(*value as f64));
            let differences = reference
                .values
                .iter()
                .zip(&found.values)
                .map(|(a, b)| (i128::from(*a) - i128::from(*b)).unsigned_abs() as f64);
            vec![at.tolerance(differences.zip(allowed), reference.row_length())]
        }
        (reference, found, _) => {
            let (part, row) = match (reference, found) {
                (Some(reference), Some(found)) => equal_part(&reference, &found),
                _ => (0.0, Some(0)),
            };
            vec![at_least("equal", subject, shapes, part, thresholds.equal, row)]
        }
    }
}

/// Returns the fraction of values that are equal, and the first row with one that isn't.
fn equal_part(reference: &Array<i64>, found: &Array<i64>) -> (f64, Option<usize>) {
    let pairs = || reference.values.iter().zip(&found.values);
    let equal = pairs().filter(|(a, b)| a == b).count();
    let first = pairs().position(|(a, b)| a != b);
    let count = reference.values.len().max(found.values.len());
    let part = if count == 0 { 1.0 } else { equal as f64 / count as f64 };
    (part, first.map(|position| position / reference.row_length()))
}

/// What gates are of.
#[derive(Clone, Copy)]
struct Place<'a> {
    subject: &'a str,
    shapes: &'a str,
}

impl Place<'_> {
    fn finite(self, found: &Array<f64>) -> GateResult {
        let first = found.values.iter().position(|value| !value.is_finite());
        let row = first.map(|position| position / found.row_length());
        let part = found.values.iter().filter(|value| value.is_finite()).count() as f64
            / found.values.len().max(1) as f64;
        let part = if found.values.is_empty() { 1.0 } else { part };
        at_least("finite", self.subject, self.shapes, part, 1.0, row)
    }

    /// Takes each value's difference from the reference's and what is allowed; reports the max, as a fraction.
    fn tolerance(self, values: impl Iterator<Item = (f64, f64)>, row_length: usize) -> GateResult {
        let mut worst = (0.0, 0);
        for (position, (difference, allowed)) in values.enumerate() {
            let part = if difference == 0.0 { 0.0 } else { difference / allowed };
            let part = if part.is_nan() { f64::INFINITY } else { part };
            if part > worst.0 {
                worst = (part, position / row_length);
            }
        }
        at_most("tolerance", self.subject, self.shapes, worst.0, 1.0, Some(worst.1))
    }

    /// Compares the lengths of rows; of a row of one number, that number.
    fn lengths(self, reference: &Array<f64>, found: &Array<f64>, thresholds: &Thresholds) -> GateResult {
        let errors: Vec<f64> = if reference.row_length() == 1 {
            relative_errors(&reference.values, &found.values).collect()
        } else {
            let ratio = |(a, b): (&[f64], &[f64])| match (length(a), length(b)) {
                (0.0, 0.0) => 0.0,
                (a, b) => (b / a - 1.0).abs(),
            };
            reference.rows().zip(found.rows()).map(ratio).collect()
        };
        let farthest = errors.into_iter().enumerate().fold((0.0, 0), |worst, (row, error)| {
            // A length that is not a number counts as infinitely far.
            let error = if error.is_nan() { f64::INFINITY } else { error };
            if error > worst.0 { (error, row) } else { worst }
        });
        let (error, row) = farthest;
        at_most("norm_ratio", self.subject, self.shapes, error, thresholds.norm_ratio, Some(row))
    }
}

/// Returns how alike rows are that were run alone and in a batch, and the most different: the cosine, or the fraction of equal
/// values.
pub(super) fn batch_likeness(same: &Output, alone: &Output) -> (f64, Option<usize>) {
    if same.shape() != alone.shape() {
        (NOT_FINITE, Some(0))
    } else if let (Some(same), Some(alone)) = (same.doubles(), alone.doubles()) {
        let (cosine, row) = least_row_cosine(&same.values, &alone.values, alone.row_length());
        (cosine, Some(row))
    } else if let (Some(same), Some(alone)) = (same.integers(), alone.integers()) {
        equal_part(&same, &alone)
    } else {
        (NOT_FINITE, Some(0))
    }
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

pub(super) fn length<T: Copy + Into<f64>>(row: &[T]) -> f64 {
    row.iter().map(|&value| value.into().powi(2)).sum::<f64>().sqrt()
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
        outputs(&Output::Floats(reference.clone()), &Output::Floats(found.clone()), None)
    }

    fn outputs(reference: &Output, found: &Output, tolerance: Option<Tolerance>) -> Vec<GateResult> {
        output_gates("x", "opt", reference, found, &Thresholds::default(), tolerance)
    }

    fn batch_gate(subject: &str, alone: &Output, in_batch: &Output, thresholds: &Thresholds) -> GateResult {
        let same = in_batch.first_rows(alone.shape()[0]);
        let (likeness, row) = batch_likeness(&same, alone);
        at_least("batch_invariance", subject, "opt", likeness, thresholds.batch_invariance, row)
    }

    fn batch(alone: &Floats, in_batch: &Floats) -> GateResult {
        let [alone, in_batch] = [alone, in_batch].map(|floats| Output::Floats(floats.clone()));
        batch_gate("x", &alone, &in_batch, &Thresholds::default())
    }

    fn cross(first: (&Floats, &Floats), second: (&Floats, &Floats)) -> Vec<GateResult> {
        cross_modal_gates("x × y", "opt", first, second, &Thresholds::default())
    }

    #[test]
    fn rounding_passes() {
        let (image, text) = (floats(1), floats(2));
        failed(&embedding(&image, &rounded(&image)), &[]);
        failed(&cross((&image, &rounded(&image)), (&text, &rounded(&text))), &[]);
        assert_eq!(batch(&image.first_rows(1), &image).value, Some(1.0));
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
        let within = |found: &Floats, absolute, relative| {
            let [reference, found] = [&reference, found].map(|floats| Output::Floats(floats.clone()));
            outputs(&reference, &found, Some(Tolerance { absolute, relative }))
        };
        let gates = |absolute, relative| within(&found, absolute, relative);
        failed(&gates(0.021, 0.0), &[]);
        failed(&gates(0.0, 0.03 / f64::from(value.abs())), &[]);
        let gates = gates(0.01, 0.0);
        failed(&gates, &["tolerance"]);
        assert_eq!(gates[1].worst_row, Some(5));
        assert!((gates[1].value.unwrap() - 2.0).abs() < 1e-3, "{gates:?}");
        // Where nothing is allowed, equal values still pass.
        failed(&within(&reference, 0.0, 0.0), &[]);
        let mut not_finite = found.clone();
        not_finite.values[0] = f32::NAN;
        failed(&within(&not_finite, 0.0, 0.0), &["finite", "tolerance"]);
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
        let in_batch = floats(1);
        let mut alone = in_batch.first_rows(2);
        alone.values[WIDTH..].reverse();
        let gate = batch(&alone, &in_batch);
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

    fn array<T>(values: Vec<T>, shape: &[usize]) -> Array<T> {
        Array { values, shape: shape.to_vec() }
    }

    #[test]
    fn integers_and_booleans_are_compared_exactly_or_within_a_tolerance() {
        let reference = Output::Integers(array(vec![5, 7, i64::MAX, -3], &[2, 2]));
        let found = Output::Integers(array(vec![5, 7, i64::MAX - 1, -3], &[2, 2]));
        failed(&outputs(&reference, &reference, None), &[]);
        let gates = outputs(&reference, &found, None);
        failed(&gates, &["equal"]);
        assert_eq!((gates[0].value, gates[0].worst_row), (Some(0.75), Some(1)));
        let within = |absolute| outputs(&reference, &found, Some(Tolerance { absolute, relative: 0.0 }));
        failed(&within(1.0), &[]);
        failed(&within(0.5), &["tolerance"]);

        let reference = Output::Booleans(array(vec![true, false, true], &[3]));
        let found = Output::Booleans(array(vec![true, false, false], &[3]));
        failed(&outputs(&reference, &reference, None), &[]);
        assert_eq!(outputs(&reference, &found, None)[0].worst_row, Some(2));
        // Other kinds of values are equal nowhere.
        failed(&outputs(&reference, &Output::Floats(array(vec![1.0, 0.0, 1.0], &[3])), None), &["equal"]);
        assert!(!batch_gate("x", &found, &reference, &Thresholds::default()).passed);
        assert!(batch_gate("x", &found.first_rows(2), &reference, &Thresholds::default()).passed);
    }

    /// Values beyond what 32 bits hold, which differ where 32 bits don't show it.
    #[test]
    fn doubles_are_compared_as_doubles() {
        let doubles = |values: [f64; 4]| Output::Doubles(array(values.to_vec(), &[2, 2]));
        let reference = doubles([1e100, 2e100, 3.0, 4.0]);
        failed(&outputs(&reference, &reference, None), &[]);
        failed(
            &outputs(&reference, &doubles([1e100, 2e100, 3.0, f64::NAN]), None),
            &["finite", "row_cosine", "norm_ratio"],
        );
        let close = doubles([1e100, 2e100, 3.0, 4.0 + 1e-9]);
        let within = |absolute| outputs(&reference, &close, Some(Tolerance { absolute, relative: 0.0 }));
        failed(&within(1e-8), &[]);
        failed(&within(1e-10), &["tolerance"]);
        // A graph of doubles whose profile gives floats.
        let small = doubles([1.0, 2.0, 3.0, 4.0]);
        failed(&outputs(&small, &Output::Floats(array(vec![1.0, 2.0, 3.0, 4.0], &[2, 2])), None), &[]);
    }

    /// A cosine only tells the sign of a single number, and says nothing of a length.
    #[test]
    fn rows_of_one_number_and_rows_of_any_rank_have_a_gate_that_can_fail() {
        let check = |reference: &[f32], found: &[f32], shape: &[usize], expected: &[&str]| {
            let [reference, found] =
                [reference, found].map(|values| Output::Floats(array(values.to_vec(), shape)));
            failed(&outputs(&reference, &found, None), expected);
        };
        let (scores, off) = ([1.5, 0.75, -1.25], [1.5, 0.75, -1.32]);
        for shape in [&[3][..], &[3, 1], &[3, 1, 1]] {
            check(&scores, &scores, shape, &[]);
            check(&scores, &off, shape, &["row_cosine", "norm_ratio"]);
            check(&scores, &[1.52, 0.75, -1.25], shape, &["norm_ratio"]);
            check(&scores, &[1.501, 0.7502, -1.2503], shape, &[]);
        }
        check(&[1.51], &[2.0], &[], &["row_cosine", "norm_ratio"]);
        let values = [0.5, -1.0, 2.0, 0.25, 3.0, 1.0, -2.0, 0.125];
        check(&values, &values.map(|value| value * 1.08), &[2, 2, 2], &["norm_ratio"]);
    }
}
