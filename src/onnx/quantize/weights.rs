//! Weights as they are read for their scales, and written in 8 or 4 bits.
//!
//! A weight is read where it is mapped, row by row, and never held as a whole in FP32.

use std::io::{self, Write};

use bytes::Bytes;

use super::number_formats::{e4m3_bits, integer_bits};
use super::options::QuantizedPrecision;
use crate::onnx::proto::TensorProto;
use crate::onnx::weights::RELEASE_BYTES;
use crate::onnx::{OnnxError, OnnxFile};

/// The range of 4-bit integers.
pub(super) const INT4: (f32, f32) = (-8.0, 7.0);

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
pub(super) fn larger(most: f32, value: f32) -> f32 {
    let magnitude = value.abs();
    // Of two, a NaN is neither smaller nor larger: it must be kept where it is, and taken where it comes.
    if magnitude > most || magnitude.is_nan() { magnitude } else { most }
}

impl Matrix<'_> {
    pub(super) fn bytes(&self) -> Result<Bytes, OnnxError> {
        self.file.tensor_bytes(self.tensor)
    }

    /// Returns the length of a stored row.
    pub(super) fn stored_width(&self) -> usize {
        if self.is_transposed { self.summed } else { self.columns }
    }

    /// Calls `work` with each stored row.
    pub(super) fn rows(&self, mut work: impl FnMut(usize, &[[u8; 4]]) -> io::Result<()>) -> io::Result<()> {
        let bytes = self.bytes().map_err(io::Error::other)?;
        let row_bytes = (self.stored_width() * size_of::<f32>()).max(1);
        // Giving pages back costs as much as a row's work: many rows at once.
        let some = (RELEASE_BYTES / row_bytes).max(1);
        for (part, rows) in bytes.chunks(some * row_bytes).enumerate() {
            for (index, row) in rows.chunks_exact(row_bytes).enumerate() {
                work(part * some + index, row.as_chunks::<4>().0)?;
            }
            self.file.release(rows);
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

/// Packs 4-bit numbers.
pub(super) struct Nibbles<'w> {
    out: &'w mut dyn Write,
    half: Option<u8>,
    packed: Vec<u8>,
}

impl<'w> Nibbles<'w> {
    const BUFFER_BYTES: usize = 1 << 16;

    pub(super) fn new(out: &'w mut dyn Write) -> Self {
        Self { out, half: None, packed: Vec::with_capacity(Self::BUFFER_BYTES) }
    }

    #[inline]
    pub(super) fn put(&mut self, value: f32) -> io::Result<()> {
        self.put_bits(integer_bits(value.clamp(INT4.0, INT4.1)) as u8 & 15)
    }

    #[inline]
    pub(super) fn put_bits(&mut self, bits: u8) -> io::Result<()> {
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

    pub(super) fn end(self) -> io::Result<()> {
        self.out.write_all(&self.packed)?;
        self.half.map_or(Ok(()), |low| self.out.write_all(&[low]))
    }
}
