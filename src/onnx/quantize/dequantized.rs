//! What quantized weights stand for, as FP32 weights of a graph that is only run to be compared: a runtime that can't compute with
//! codes would hold them and their numbers both.

use std::io::{self, Write};

use super::number_formats::e4m3_value;
use super::options::QuantizedPrecision;

/// The scales of a weight's codes.
pub(super) enum Scales {
    /// One for all.
    Shared(f32),
    /// One for each column of the product.
    Columns(Vec<f32>),
    /// One for each block of so many places along the summed side, in the order in which they are stored.
    Blocks(usize, Vec<f32>),
}

/// Takes a weight's codes as they would be stored, and writes what they stand for.
pub(super) struct Dequantized<'w> {
    out: &'w mut dyn Write,
    /// What each code of a byte, or of half a byte, stands for.
    values: Vec<f32>,
    is_half: bool,
    is_transposed: bool,
    scales: &'w Scales,
    /// Length of a stored row.
    width: usize,
    /// The place of the next code.
    row: usize,
    place: usize,
    decoded: Vec<f32>,
    written: Vec<u8>,
}

impl<'w> Dequantized<'w> {
    pub(super) fn new(
        out: &'w mut dyn Write,
        precision: QuantizedPrecision,
        scales: &'w Scales,
        is_transposed: bool,
        width: usize,
    ) -> Self {
        let is_half = precision == QuantizedPrecision::Int4;
        let value = |code: u8| match precision {
            QuantizedPrecision::Fp8 => e4m3_value(code),
            // Of four bits, the uppermost is the sign.
            QuantizedPrecision::Int4 => f32::from((code << 4) as i8 >> 4),
            _ => f32::from(code as i8),
        };
        let values = (0..if is_half { 16 } else { 255 + 1 }).map(|code| value(code as u8)).collect();
        let (decoded, written) = (Vec::new(), Vec::new());
        Self { out, values, is_half, is_transposed, scales, width, row: 0, place: 0, decoded, written }
    }

    /// Multiplies codes of one row, from the present place on, with their scales.
    fn put(&mut self, codes: std::ops::Range<usize>) {
        let (row, place, width) = (self.row, self.place, self.width);
        let values = &self.decoded[codes];
        let mut put = |value: f32| self.written.extend(value.to_le_bytes());
        match (self.scales, self.is_transposed) {
            (Scales::Shared(scale), _) => values.iter().for_each(|value| put(value * scale)),
            (Scales::Columns(scales), true) => values.iter().for_each(|value| put(value * scales[row])),
            (Scales::Columns(scales), false) => {
                values.iter().zip(&scales[place..]).for_each(|(value, scale)| put(value * scale));
            }
            (Scales::Blocks(block, scales), true) => {
                let scales = &scales[row * (width / block)..];
                values.iter().enumerate().for_each(|(at, value)| put(value * scales[(place + at) / block]));
            }
            (Scales::Blocks(block, scales), false) => {
                let scales = &scales[row / block * width + place..];
                values.iter().zip(scales).for_each(|(value, scale)| put(value * scale));
            }
        }
    }
}

impl Write for Dequantized<'_> {
    fn write(&mut self, codes: &[u8]) -> io::Result<usize> {
        self.decoded.clear();
        self.written.clear();
        if self.is_half {
            let halves = codes.iter().flat_map(|byte| [byte & 15, byte >> 4]);
            self.decoded.extend(halves.map(|code| self.values[usize::from(code)]));
        } else {
            self.decoded.extend(codes.iter().map(|&code| self.values[usize::from(code)]));
        }
        let mut first = 0;
        while first < self.decoded.len() {
            let end = self.decoded.len().min(first + self.width - self.place);
            self.put(first..end);
            self.place += end - first;
            if self.place == self.width {
                (self.row, self.place) = (self.row + 1, 0);
            }
            first = end;
        }
        self.out.write_all(&self.written)?;
        Ok(codes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dequantized(
        precision: QuantizedPrecision,
        scales: &Scales,
        is_transposed: bool,
        width: usize,
        codes: &[u8],
    ) -> Vec<f32> {
        let mut out = Vec::new();
        let mut writer = Dequantized::new(&mut out, precision, scales, is_transposed, width);
        // In pieces, as they come from files.
        codes.chunks(3).for_each(|piece| writer.write_all(piece).unwrap());
        out.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
    }

    #[test]
    fn each_code_is_multiplied_with_the_scale_of_its_column_or_block() {
        use QuantizedPrecision::{Fp8, Int4, Int8, Int8Weights};
        let codes = [1, 2, 3, 0xff, 0x80, 0];
        assert_eq!(
            dequantized(Int8, &Scales::Shared(0.5), false, 3, &codes),
            [0.5, 1.0, 1.5, -0.5, -64.0, 0.0]
        );
        let columns = |of: &[f32]| Scales::Columns(of.to_vec());
        let scales = columns(&[1.0, 10.0, 100.0]);
        assert_eq!(
            dequantized(Int8Weights, &scales, false, 3, &codes),
            [1.0, 20.0, 300.0, -1.0, -1280.0, 0.0]
        );
        let scales = columns(&[1.0, 10.0]);
        assert_eq!(dequantized(Int8Weights, &scales, true, 3, &codes), [1.0, 2.0, 3.0, -10.0, -1280.0, 0.0]);
        // 1.0, -1.75 and the smallest number.
        assert_eq!(
            dequantized(Fp8, &Scales::Shared(2.0), false, 3, &[0x38, 0xbe, 1]),
            [2.0, -3.5, 2.0 / 512.0]
        );
        // Two rows of four: 1 -1 | 7 -8, 2 3 | 4 5.
        let codes = [0xf1, 0x87, 0x32, 0x54];
        let scales = Scales::Blocks(2, vec![1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(
            dequantized(Int4, &scales, true, 4, &codes),
            [1.0, -1.0, 70.0, -80.0, 200.0, 300.0, 4000.0, 5000.0]
        );
        assert_eq!(
            dequantized(Int4, &scales, false, 4, &codes),
            [1.0, -10.0, 700.0, -8000.0, 2.0, 30.0, 400.0, 5000.0]
        );
    }
}
