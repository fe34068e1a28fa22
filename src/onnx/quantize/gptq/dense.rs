//! Dense matrices in FP32: sums of products of tokens, and their Cholesky factor.
//!
//! Every sum is taken in an order that the arguments alone decide, so results are the same bytes for any number of threads.

use std::sync::{Mutex, PoisonError};

use crate::onnx::parallel;

/// Columns that lie together in memory. Sides are multiples of it.
pub(super) const LANES: usize = 8;
/// Rows of a tile that are held in registers at once.
const HALF: usize = LANES / 2;
/// How many products are added up in FP32 before the sum goes to FP64; also the rows that are factored at once.
const RUN: usize = 64;

/// Numbers of neighbouring columns.
pub(super) type Lanes = [f32; LANES];

/// The lower triangle of a symmetric matrix, row after row in a square.
pub(super) struct Lower {
    pub(super) side: usize,
    pub(super) values: Vec<f32>,
}

/// Adds `a[t][r] * b[t][c]` up over all t, for the four rows from `FIRST` on.
#[inline(always)]
fn half_tile<const FIRST: usize>(a: &[Lanes], b: &[Lanes]) -> [Lanes; HALF] {
    let mut sums = [[0f32; LANES]; HALF];
    for (a, b) in a.iter().zip(b) {
        for row in 0..HALF {
            for column in 0..LANES {
                sums[row][column] += a[FIRST + row] * b[column];
            }
        }
    }
    sums
}

/// Adds `a[t][r] * b[t][c]` up over all t.
#[inline]
fn tile(a: &[Lanes], b: &[Lanes]) -> [Lanes; LANES] {
    let (upper, lower) = (half_tile::<0>(a, b), half_tile::<HALF>(a, b));
    let mut all = [[0f32; LANES]; LANES];
    all[..HALF].copy_from_slice(&upper);
    all[HALF..].copy_from_slice(&lower);
    all
}

/// Calls `work` for every eighth row of `values`, with that row's index and it and the seven after it.
fn for_each_panel(values: &mut [f32], side: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let panels = values.chunks_mut(LANES * side).enumerate().map(|(index, rows)| (index, Mutex::new(rows)));
    // The last panels have most to do.
    let mut panels: Vec<_> = panels.collect();
    panels.reverse();
    let all = parallel::for_each(&panels, |(index, rows)| {
        work(*index, &mut rows.lock().unwrap_or_else(PoisonError::into_inner));
        Ok::<(), std::convert::Infallible>(())
    });
    let Ok(()) = all;
}

impl Lower {
    /// Returns the sums of products of every two columns of `tokens`, which has `count` tokens for every eight columns, one
    /// after the other.
    pub(super) fn of_tokens(tokens: &[Lanes], count: usize) -> Self {
        let panels = tokens.len().checked_div(count).unwrap_or_default();
        let side = panels * LANES;
        let mut values = vec![0f32; side * side];
        for_each_panel(&mut values, side, |panel, rows| {
            let a = &tokens[panel * count..][..count];
            for other in 0..=panel {
                let b = &tokens[other * count..][..count];
                let mut sums = [[0f64; LANES]; LANES];
                for (a, b) in a.chunks(RUN).zip(b.chunks(RUN)) {
                    for (sums, part) in sums.iter_mut().zip(tile(a, b)) {
                        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(part));
                    }
                }
                for (row, sums) in sums.iter().enumerate() {
                    let place = &mut rows[row * side + other * LANES..][..LANES];
                    place.iter_mut().zip(sums).for_each(|(place, sum)| *place = *sum as f32);
                }
            }
        });
        Self { side, values }
    }

    /// Returns the mean of the diagonal.
    pub(super) fn mean_of_diagonal(&self) -> f64 {
        let diagonal = self.values.iter().step_by(self.side + 1);
        diagonal.map(|value| f64::from(*value)).sum::<f64>() / self.side.max(1) as f64
    }

    /// Adds a number to the diagonal.
    pub(super) fn damp(&mut self, by: f32) {
        self.values.iter_mut().step_by(self.side + 1).for_each(|value| *value += by);
    }

    /// Replaces the matrix by its Cholesky factor; what is above the diagonal is left as it was. The matrix must be positive
    /// definite: damped.
    pub(super) fn factor(&mut self) {
        let side = self.side;
        for first in (0..side).step_by(RUN) {
            let width = RUN.min(side - first);
            let turned = self.factor_block(first, width);
            let rest = first + width;
            // The columns below the block, as panels of eight rows: the update of what is right of them reads those.
            let below = &mut self.values[rest * side..];
            let panels: Vec<Mutex<Vec<Lanes>>> =
                (0..below.len() / side / LANES).map(|_| Mutex::default()).collect();
            for_each_panel(below, side, |panel, rows| {
                let mut packed = vec![[0f32; LANES]; width];
                for (lane, row) in rows.chunks_mut(side).enumerate() {
                    let row = &mut row[first..rest];
                    for column in 0..width {
                        let (done, left) = row.split_at_mut(column + 1);
                        done[column] /= turned[column][column];
                        let known = done[column];
                        let factors = &turned[column][column + 1..width];
                        left.iter_mut().zip(factors).for_each(|(left, factor)| *left -= known * factor);
                        packed[column][lane] = known;
                    }
                }
                *panels[panel].lock().unwrap_or_else(PoisonError::into_inner) = packed;
            });
            let panels: Vec<Vec<Lanes>> = panels
                .into_iter()
                .map(|panel| panel.into_inner().unwrap_or_else(PoisonError::into_inner))
                .collect();
            for_each_panel(&mut self.values[rest * side..], side, |panel, rows| {
                for (other, b) in panels[..=panel].iter().enumerate() {
                    for (row, sums) in tile(&panels[panel], b).iter().enumerate() {
                        let place = &mut rows[row * side + rest + other * LANES..][..LANES];
                        place.iter_mut().zip(sums).for_each(|(place, sum)| *place -= sum);
                    }
                }
            });
        }
    }

    /// Factors a block on the diagonal, and returns its factor turned around.
    fn factor_block(&mut self, first: usize, width: usize) -> Vec<[f32; RUN]> {
        let side = self.side;
        let mut block = vec![[0f64; RUN]; width];
        for (row, numbers) in block.iter_mut().enumerate() {
            let from = &self.values[(first + row) * side + first..][..=row];
            numbers.iter_mut().zip(from).for_each(|(number, from)| *number = f64::from(*from));
        }
        for column in 0..width {
            let pivot = block[column][column].max(f64::MIN_POSITIVE).sqrt();
            block[column][column] = pivot;
            block[column + 1..].iter_mut().for_each(|numbers| numbers[column] /= pivot);
            let known: Vec<f64> = block.iter().map(|numbers| numbers[column]).collect();
            for (row, numbers) in block.iter_mut().enumerate().skip(column + 1) {
                let part = column + 1..=row;
                let products = numbers[part.clone()].iter_mut().zip(&known[part]);
                products.for_each(|(number, other)| *number -= known[row] * other);
            }
        }
        let mut turned = vec![[0f32; RUN]; width];
        for (row, numbers) in block.iter().enumerate() {
            let to = &mut self.values[(first + row) * side + first..][..=row];
            for (column, (to, number)) in to.iter_mut().zip(numbers).enumerate() {
                *to = *number as f32;
                turned[column][row] = *to;
            }
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, of `count` tokens with `side` channels.
    fn tokens(count: usize, side: usize) -> Vec<Lanes> {
        let mut state = 9u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count * side / LANES).map(|_| std::array::from_fn(|_| next())).collect()
    }

    fn value(tokens: &[Lanes], count: usize, token: usize, column: usize) -> f64 {
        f64::from(tokens[column / LANES * count + token][column % LANES])
    }

    #[test]
    fn sums_of_products_are_those_of_fp64() {
        let (count, side) = (150, 24);
        let tokens = tokens(count, side);
        let sums = Lower::of_tokens(&tokens, count);
        for row in 0..side {
            for column in 0..=row {
                let product =
                    |token| value(&tokens, count, token, row) * value(&tokens, count, token, column);
                let expected: f64 = (0..count).map(product).sum();
                let found = f64::from(sums.values[row * side + column]);
                assert!((found - expected).abs() < 1e-5, "{row} {column}: {found} {expected}");
            }
        }
    }

    #[test]
    fn the_factor_times_itself_is_the_matrix() {
        for side in [8, 64, 72, 200] {
            let count = side / 2;
            let mut sums = Lower::of_tokens(&tokens(count, side), count);
            sums.damp((0.1 * sums.mean_of_diagonal()) as f32);
            let matrix = sums.values.clone();
            sums.factor();
            let at = |row: usize, column: usize| f64::from(sums.values[row * side + column]);
            for row in 0..side {
                for column in 0..=row {
                    let product: f64 = (0..=column).map(|inner| at(row, inner) * at(column, inner)).sum();
                    let expected = f64::from(matrix[row * side + column]);
                    assert!(
                        (product - expected).abs() < 2e-4,
                        "{side}, {row} {column}: {product} {expected}"
                    );
                }
            }
        }
    }
}
