//! Scales of blocks of weights in 4 bits.

use std::io;

use super::number_formats::rounded;
use super::options::QuantizedPrecision;
use super::weights::{INT4, Matrix};

/// The parts of a block's largest magnitude that are tried for its scale.
const CLIPS: usize = 16;
/// The smallest of them is 1 - CLIPS * this.
const CLIP_STEP: f32 = 1.0 / 32.0;
/// Columns that are worked on together.
const COLUMNS: usize = 64;

type Row = [f32; COLUMNS];

impl Matrix<'_> {
    /// Returns the scales of blocks of `block` along the summed side, in the order in which they are stored: [summed / block,
    /// columns], or [columns, summed / block] of a transposed weight. `round` makes a scale a number of the base.
    ///
    /// With `squares`, of each place along the summed side, a scale is the one of several with the least squared error.
    pub(super) fn block_scales(
        &self,
        block: usize,
        factors: &[f32],
        squares: Option<&[f32]>,
        round: &dyn Fn(f32) -> f32,
    ) -> io::Result<Vec<f32>> {
        let bytes = self.bytes().map_err(io::Error::other)?;
        let stored = bytes.as_chunks::<4>().0;
        let blocks = self.summed / block;
        let mut scales = vec![0.0; blocks * self.columns];
        let mut values: Vec<Row> = vec![[0.0; COLUMNS]; block];
        // Both loops go through the weight as it is stored.
        let (outer, inner) = if self.is_transposed { (self.columns, blocks) } else { (blocks, self.columns) };
        let (outer_step, inner_step) = if self.is_transposed { (COLUMNS, 1) } else { (1, COLUMNS) };
        let mut released = 0;
        for outer in (0..outer).step_by(outer_step) {
            for inner in (0..inner).step_by(inner_step) {
                let (at, first) = if self.is_transposed { (inner, outer) } else { (outer, inner) };
                let width = COLUMNS.min(self.columns - first);
                let factors = &factors[at * block..][..block];
                for (row, (values, factor)) in values.iter_mut().zip(factors).enumerate() {
                    let place = at * block + row;
                    for (column, value) in values.iter_mut().enumerate().take(width) {
                        let index = if self.is_transposed {
                            (first + column) * self.summed + place
                        } else {
                            place * self.columns + first + column
                        };
                        *value = f32::from_le_bytes(stored[index]) * factor;
                    }
                }
                let best =
                    best_scales(&values, squares.map(|squares| &squares[at * block..][..block]), round);
                for (column, scale) in best.into_iter().enumerate().take(width) {
                    let column = first + column;
                    scales[if self.is_transposed {
                        column * blocks + at
                    } else {
                        at * self.columns + column
                    }] = scale;
                }
            }
            let done = bytes.len().min((outer + outer_step) * bytes.len() / self.rows_of_blocks(block));
            if done - released >= crate::onnx::weights::RELEASE_BYTES {
                self.file.release(&bytes[released..done]);
                released = done;
            }
        }
        self.file.release(&bytes[released..]);
        Ok(scales)
    }

    /// Returns how many rows the weight has as it is stored; rows of blocks, if blocks are several rows.
    fn rows_of_blocks(&self, block: usize) -> usize {
        if self.is_transposed { self.columns } else { self.summed / block }
    }
}

/// Returns the scale of each column of a block.
fn best_scales(values: &[Row], squares: Option<&[f32]>, round: &dyn Fn(f32) -> f32) -> Row {
    let largest = QuantizedPrecision::Int4.largest();
    let mut most = [0f32; COLUMNS];
    for row in values {
        most.iter_mut().zip(row).for_each(|(most, value)| *most = most.max(value.abs()));
    }
    let mut best = most.map(|most| round(most / largest));
    let Some(squares) = squares else { return best };
    let mut least = [f32::INFINITY; COLUMNS];
    for step in 0..CLIPS {
        let part = 1.0 - step as f32 * CLIP_STEP;
        let scales = most.map(|most| round(most * part / largest));
        let inverses = scales.map(|scale| 1.0 / scale);
        let mut errors = [0f32; COLUMNS];
        for (row, square) in values.iter().zip(squares) {
            for column in 0..COLUMNS {
                let value = row[column];
                let back = rounded((value * inverses[column]).clamp(INT4.0, INT4.1)) * scales[column];
                errors[column] += (value - back) * (value - back) * square;
            }
        }
        for column in 0..COLUMNS {
            if errors[column] < least[column] {
                (least[column], best[column]) = (errors[column], scales[column]);
            }
        }
    }
    best
}
