//! Weights as they are read for their scales, and written in 8 or 4 bits.
//!
//! A weight is read where it is mapped, row by row, and never held as a whole in FP32.

use std::io::{self, Write};

use bytes::Bytes;

use super::number_formats::{e4m3_bits, integer_bits, rounded};
use super::options::QuantizedPrecision;
use crate::onnx::proto::TensorProto;
use crate::onnx::{OnnxError, OnnxFile};

/// The parts of a block's largest magnitude that are tried for its scale.
const CLIPS: usize = 16;
/// The smallest of them is 1 - CLIPS * this.
const CLIP_STEP: f32 = 1.0 / 32.0;
/// The range of 4-bit integers.
const INT4: (f32, f32) = (-8.0, 7.0);

/// A weight of two dimensions, as it is stored.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) file: &'a OnnxFile,
    pub(super) tensor: &'a TensorProto,
    /// Whether it is stored as [columns, summed].
    pub(super) is_transposed: bool,
    pub(super) summed: usize,
    pub(super) columns: usize,
}

/// The largest magnitudes along both sides of a weight; NaN where it has one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Maxima {
    /// By place along the summed side.
    pub(super) summed: Vec<f32>,
    /// By column.
    pub(super) columns: Vec<f32>,
}

/// Returns the larger magnitude, or NaN if either is.
#[inline]
fn larger(most: f32, value: f32) -> f32 {
    let magnitude = value.abs();
    // Of two, a NaN is neither smaller nor larger: it must be kept where it is, and taken where it comes.
    if magnitude > most || magnitude.is_nan() { magnitude } else { most }
}

impl Matrix<'_> {
    fn bytes(&self) -> Result<Bytes, OnnxError> {
        self.file.tensor_bytes(self.tensor)
    }

    fn stored_width(&self) -> usize {
        if self.is_transposed { self.summed } else { self.columns }
    }

    /// Calls `work` with each stored row.
    fn rows(&self, mut work: impl FnMut(usize, &[[u8; 4]]) -> io::Result<()>) -> io::Result<()> {
        let bytes = self.bytes().map_err(io::Error::other)?;
        for (index, row) in bytes.chunks_exact(self.stored_width() * 4).enumerate() {
            work(index, row.as_chunks::<4>().0)?;
            self.file.release(row);
        }
        Ok(())
    }

    /// Returns the largest magnitudes of the weight, its summed side multiplied by `factors` first.
    pub(super) fn maxima(&self, factors: &[f32]) -> io::Result<Maxima> {
        let mut maxima = Maxima { summed: vec![0.0; self.summed], columns: vec![0.0; self.columns] };
        let Maxima { summed, columns } = &mut maxima;
        self.rows(|index, row| {
            if self.is_transposed {
                let places = row.iter().zip(factors).zip(summed.iter_mut());
                let mut most = 0.0f32;
                for ((four, factor), place) in places {
                    let value = f32::from_le_bytes(*four) * factor;
                    *place = larger(*place, value);
                    most = larger(most, value);
                }
                columns[index] = most;
            } else {
                let factor = factors[index];
                let mut most = 0.0f32;
                for (four, column) in row.iter().zip(columns.iter_mut()) {
                    let value = f32::from_le_bytes(*four) * factor;
                    *column = larger(*column, value);
                    most = larger(most, value);
                }
                summed[index] = most;
            }
            Ok(())
        })?;
        Ok(maxima)
    }

    /// Writes the weight in 8 bits: its summed side multiplied by `factors`, each column divided by its scale.
    pub(super) fn write_8_bits(
        &self,
        precision: QuantizedPrecision,
        factors: &[f32],
        scales: &[f32],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let largest = precision.largest();
        let inverse: Vec<f32> = scales.iter().map(|scale| 1.0 / scale).collect();
        let mut written = vec![0u8; self.stored_width()];
        let round: fn(f32) -> u8 = match precision {
            QuantizedPrecision::Fp8 => e4m3_bits,
            _ => |value| integer_bits(value) as u8,
        };
        self.rows(|index, row| {
            let put = |value: f32| round(value.clamp(-largest, largest));
            if self.is_transposed {
                let scale = inverse[index];
                for ((four, factor), byte) in row.iter().zip(factors).zip(&mut written) {
                    *byte = put(f32::from_le_bytes(*four) * factor * scale);
                }
            } else {
                let factor = factors[index];
                for ((four, scale), byte) in row.iter().zip(&inverse).zip(&mut written) {
                    *byte = put(f32::from_le_bytes(*four) * factor * scale);
                }
            }
            out.write_all(&written)
        })
    }

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
        let largest = QuantizedPrecision::Int4.largest();
        let mut scales = Vec::with_capacity(self.summed / block * self.columns);
        let best = |most: f32, values: &mut dyn Iterator<Item = (f32, f32)>| {
            let whole = round(most / largest);
            if squares.is_none() || most == 0.0 {
                return whole;
            }
            let values: Vec<(f32, f32)> = values.collect();
            let mut best = (f32::INFINITY, whole);
            for step in 0..CLIPS {
                let scale = round(most * (1.0 - step as f32 * CLIP_STEP) / largest);
                let inverse = 1.0 / scale;
                let error: f32 = values
                    .iter()
                    .map(|(value, square)| {
                        let back = rounded((value * inverse).clamp(INT4.0, INT4.1)) * scale;
                        (value - back) * (value - back) * square
                    })
                    .sum();
                if error < best.0 {
                    best = (error, scale);
                }
            }
            best.1
        };
        if self.is_transposed {
            self.rows(|_, row| {
                for (index, part) in row.chunks(block).enumerate() {
                    let at = index * block;
                    let value = |place: usize| f32::from_le_bytes(part[place]) * factors[at + place];
                    let most = (0..part.len()).fold(0.0f32, |most, place| larger(most, value(place)));
                    let square = |place: usize| squares.map_or(1.0, |squares| squares[at + place]);
                    scales.push(best(most, &mut (0..part.len()).map(|place| (value(place), square(place)))));
                }
                Ok(())
            })?;
        } else {
            let bytes = self.bytes().map_err(io::Error::other)?;
            for (index, rows) in bytes.chunks_exact(self.columns * 4 * block).enumerate() {
                let rows_of = |place: usize| rows[place * self.columns * 4..].as_chunks::<4>().0;
                let at = index * block;
                for column in 0..self.columns {
                    let value =
                        |place: usize| f32::from_le_bytes(rows_of(place)[column]) * factors[at + place];
                    let most = (0..block).fold(0.0f32, |most, place| larger(most, value(place)));
                    let square = |place: usize| squares.map_or(1.0, |squares| squares[at + place]);
                    scales.push(best(most, &mut (0..block).map(|place| (value(place), square(place)))));
                }
                self.file.release(rows);
            }
        }
        Ok(scales)
    }

    /// Writes the weight in 4-bit integers, two a byte, the first in the lower half.
    pub(super) fn write_4_bits(
        &self,
        block: usize,
        factors: &[f32],
        scales: &[f32],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut nibbles = Nibbles::new(out);
        self.rows(|index, row| {
            if self.is_transposed {
                let scales = &scales[index * (self.summed / block)..];
                for (place, four) in row.iter().enumerate() {
                    nibbles.put(f32::from_le_bytes(*four) * factors[place] / scales[place / block])?;
                }
            } else {
                let (factor, scales) = (factors[index], &scales[index / block * self.columns..]);
                for (four, scale) in row.iter().zip(scales) {
                    nibbles.put(f32::from_le_bytes(*four) * factor / scale)?;
                }
            }
            Ok(())
        })?;
        nibbles.end()
    }
}

/// Packs 4-bit integers.
struct Nibbles<'w> {
    out: &'w mut dyn Write,
    half: Option<u8>,
    packed: Vec<u8>,
}

impl<'w> Nibbles<'w> {
    const BUFFER_BYTES: usize = 1 << 16;

    fn new(out: &'w mut dyn Write) -> Self {
        Self { out, half: None, packed: Vec::with_capacity(Self::BUFFER_BYTES) }
    }

    #[inline]
    fn put(&mut self, value: f32) -> io::Result<()> {
        let bits = integer_bits(value.clamp(INT4.0, INT4.1)) as u8 & 15;
        match self.half.take() {
            None => self.half = Some(bits),
            Some(low) => {
                self.packed.push(low | bits << 4);
                if self.packed.len() == Self::BUFFER_BYTES {
                    self.out.write_all(&self.packed)?;
                    self.packed.clear();
                }
            }
        }
        Ok(())
    }

    fn end(self) -> io::Result<()> {
        self.out.write_all(&self.packed)?;
        self.half.map_or(Ok(()), |low| self.out.write_all(&[low]))
    }
}
