//! Rounds the columns of a weight so that what one place loses, others make up for.

use super::dense::{LANES, Lower};

/// Columns that are rounded together: they and their errors stay in the cache.
pub(super) const COLUMNS: usize = 64;
/// Places whose errors are collected before they are spread.
const RUN: usize = 64;
/// Places that errors are spread to at once: the length of a cache line.
const SPREAD: usize = 16;
/// Numbers of the columns that are rounded together.
pub(super) type Row = [f32; COLUMNS];

/// Rounds `weights`, a row for each place along the summed side in the order of `factor`, to numbers of a format times the scales
/// that `scales` returns for a place; returns those numbers. `round` returns the nearest number of the format.
///
/// With H = LLᵀ the sum of products of the activations, the squared error of the product is |Lᵀ(w - q)|². Places are rounded from the
/// last to the first, each to what makes its own row of Lᵀ(w - q) smallest: what those before it lost is in its target.
pub(super) fn round_columns<'s>(
    factor: &Lower,
    weights: &[Row],
    scales: impl Fn(usize) -> &'s Row,
    round: impl Fn(f32) -> f32,
) -> Vec<Row> {
    let side = factor.side;
    let mut numbers = vec![[0f32; COLUMNS]; side];
    // What the errors so far ask of each place.
    let mut asked = vec![[0f32; COLUMNS]; side];
    let mut errors = [[0f32; COLUMNS]; RUN];
    for first in (0..side).step_by(RUN).rev() {
        let end = side.min(first + RUN);
        for place in (first..end).rev() {
            let row = &factor.values[place * side..][..=place];
            let inverse = 1.0 / row[place];
            let scale = scales(place);
            let error = &mut errors[place - first];
            for column in 0..COLUMNS {
                let weight = weights[place][column];
                let wanted = weight + asked[place][column] * inverse;
                let number = round(wanted / scale[column]);
                error[column] = weight - number * scale[column];
                numbers[place][column] = number;
            }
            for (asked, factor) in asked[first..place].iter_mut().zip(&row[first..place]) {
                asked.iter_mut().zip(error.iter()).for_each(|(asked, error)| *asked += factor * error);
            }
        }
        spread(factor, first, &errors[..end - first], &mut asked[..first]);
    }
    numbers
}

/// Adds what the errors of the places from `first` on ask of those before them.
fn spread(factor: &Lower, first: usize, errors: &[Row], asked: &mut [Row]) {
    let side = factor.side;
    let mut packed = [[0f32; SPREAD]; RUN];
    for (index, asked) in asked.chunks_mut(SPREAD).enumerate() {
        let at = index * SPREAD;
        for (row, packed) in packed.iter_mut().enumerate().take(errors.len()) {
            packed[..asked.len()].copy_from_slice(&factor.values[(first + row) * side + at..][..asked.len()]);
        }
        for (four, asked) in asked.chunks_mut(4).enumerate() {
            for lane in (0..COLUMNS).step_by(LANES) {
                let mut sums = [[0f32; LANES]; 4];
                for (packed, error) in packed.iter().zip(errors) {
                    let factors: &[f32; 4] = packed.as_chunks().0.get(four).unwrap_or(&[0.0; 4]);
                    let error: &[f32; LANES] = error[lane..].first_chunk().unwrap_or(&[0.0; LANES]);
                    for row in 0..4 {
                        for column in 0..LANES {
                            sums[row][column] += factors[row] * error[column];
                        }
                    }
                }
                for (asked, sums) in asked.iter_mut().zip(sums) {
                    asked[lane..].iter_mut().zip(sums).for_each(|(asked, sum)| *asked += sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dense::Lanes;
    use super::*;
    use crate::onnx::quantize::number_formats::rounded;

    const SIDE: usize = 200;
    const TOKENS: usize = 300;
    const SCALE: Row = [0.2; COLUMNS];

    fn noise(index: usize) -> f32 {
        let mixed = (index as u32).wrapping_mul(2_654_435_761) ^ 0x9e37_79b9;
        (mixed.wrapping_mul(2_246_822_519) >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    }

    /// Channels that have much in common, as those of real activations do.
    fn tokens() -> Vec<Lanes> {
        let common: Vec<f32> = (0..TOKENS).map(|token| 3.0 * noise(7_000_000 + token)).collect();
        let lanes =
            |index: usize| std::array::from_fn(|lane| noise(index * LANES + lane) + common[index % TOKENS]);
        (0..SIDE / LANES * TOKENS).map(lanes).collect()
    }

    fn loss(tokens: &[Lanes], weights: &[Row], numbers: &[Row]) -> f64 {
        let mut loss = 0.0;
        for token in 0..TOKENS {
            for column in 0..COLUMNS {
                let error = |place: usize| {
                    let x = tokens[place / LANES * TOKENS + token][place % LANES];
                    f64::from(x) * f64::from(weights[place][column] - numbers[place][column] * SCALE[column])
                };
                loss += (0..SIDE).map(error).sum::<f64>().powi(2);
            }
        }
        loss
    }

    #[test]
    fn errors_are_made_up_for() {
        let tokens = tokens();
        let weights: Vec<Row> = (0..SIDE)
            .map(|place| std::array::from_fn(|column| noise(9_000_000 + place * COLUMNS + column)))
            .collect();
        let nearest = |value: f32| rounded(value.clamp(-8.0, 7.0));
        let plain: Vec<Row> = weights.iter().map(|row| row.map(|weight| nearest(weight / 0.2))).collect();
        let mut factor = Lower::of_tokens(&tokens, TOKENS);
        factor.damp((0.01 * factor.mean_of_diagonal()) as f32);
        factor.factor();
        let numbers = round_columns(&factor, &weights, |_| &SCALE, nearest);
        assert!(
            numbers.iter().flatten().all(|number| number.fract() == 0.0 && (-8.0..=7.0).contains(number))
        );
        let (before, after) = (loss(&tokens, &weights, &plain), loss(&tokens, &weights, &numbers));
        assert!(after < before / 2.0, "{before} {after}");
    }

    /// Without anything in common, nothing can be made up for.
    #[test]
    fn places_apart_are_rounded_to_the_nearest() {
        let mut factor = Lower { side: SIDE, values: vec![0.0; SIDE * SIDE] };
        factor.damp(2.0);
        factor.factor();
        let weights: Vec<Row> = (0..SIDE).map(|place| [noise(place); COLUMNS]).collect();
        let numbers = round_columns(&factor, &weights, |_| &SCALE, rounded);
        let expected: Vec<Row> = weights.iter().map(|row| row.map(|weight| rounded(weight / 0.2))).collect();
        assert_eq!(numbers, expected);
    }
}
