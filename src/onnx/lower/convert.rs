//! Rounds FP32 weights to a lower precision, to the nearest value, ties to even.

use std::io::{self, Write};

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

use crate::onnx::Precision;

const CHUNK_VALUES: usize = 256 * 1024;

/// How many values of a tensor a lower precision can't hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Finite values that would become infinite.
    pub(super) overflowing: u64,
    /// Values that are not zero and would become zero.
    pub(super) vanishing: u64,
}

/// Counts what rounding would lose; `bytes` are little-endian `f32`.
pub(super) fn losses(bytes: &[u8], precision: Precision) -> Losses {
    // Magnitudes as bits, which order as the numbers do: the least that rounds to infinity, the largest that rounds
    // to zero (half of the smallest subnormal, a tie that goes to even).
    let (overflow, vanish) = match precision {
        Precision::Fp32 => return Losses::default(),
        Precision::Fp16 => (0x477f_f000, 0x3300_0000),
        Precision::Bf16 => (0x7f7f_8000, 0x0000_8000),
    };
    const INFINITY: u32 = 0x7f80_0000;
    let mut losses = Losses::default();
    for chunk in bytes.chunks(CHUNK_VALUES * 4) {
        // 32-bit counters let the compiler use vector instructions; a chunk can't overflow them.
        let (mut overflowing, mut vanishing) = (0u32, 0u32);
        for four in chunk.as_chunks::<4>().0 {
            let magnitude = u32::from_le_bytes(*four) & 0x7fff_ffff;
            overflowing += u32::from(magnitude >= overflow && magnitude < INFINITY);
            vanishing += u32::from(magnitude != 0 && magnitude <= vanish);
        }
        losses.overflowing += u64::from(overflowing);
        losses.vanishing += u64::from(vanishing);
    }
    losses
}

/// Writes little-endian `f32` in another precision.
pub(super) fn write_rounded(bytes: &[u8], precision: Precision, writer: &mut dyn Write) -> io::Result<()> {
    let mut floats = Vec::with_capacity(CHUNK_VALUES.min(bytes.len() / 4));
    let mut rounded = Vec::with_capacity(floats.capacity() * 2);
    let mut halves = vec![f16::ZERO; if precision == Precision::Fp16 { floats.capacity() } else { 0 }];
    let mut brains = vec![bf16::ZERO; if precision == Precision::Bf16 { floats.capacity() } else { 0 }];
    for chunk in bytes.chunks(CHUNK_VALUES * 4) {
        floats.clear();
        floats.extend(chunk.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)));
        rounded.clear();
        match precision {
            Precision::Fp32 => {
                writer.write_all(chunk)?;
                continue;
            }
            Precision::Fp16 => {
                let halves = &mut halves[..floats.len()];
                halves.convert_from_f32_slice(&floats);
                rounded.extend(halves.iter().flat_map(|value| value.to_le_bytes()));
            }
            Precision::Bf16 => {
                let brains = &mut brains[..floats.len()];
                brains.convert_from_f32_slice(&floats);
                rounded.extend(brains.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
        writer.write_all(&rounded)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(precision: Precision, value: f32, overflowing: u64, vanishing: u64) {
        let bytes = value.to_le_bytes();
        assert_eq!(losses(&bytes, precision), Losses { overflowing, vanishing }, "{value:e}");
        let mut written = Vec::new();
        write_rounded(&bytes, precision, &mut written).unwrap();
        let bits = u16::from_le_bytes(written.try_into().unwrap());
        let back = match precision {
            Precision::Fp16 => f16::from_bits(bits).to_f32(),
            _ => bf16::from_bits(bits).to_f32(),
        };
        assert_eq!(overflowing == 1, value.is_finite() && back.is_infinite(), "{value:e} -> {back:e}");
        assert_eq!(vanishing == 1, value != 0.0 && back == 0.0, "{value:e} -> {back:e}");
    }

    #[test]
    fn the_counts_agree_with_the_conversion() {
        let half_of_least = 2f32.powi(-25);
        check(Precision::Fp16, 65504.0, 0, 0);
        check(Precision::Fp16, 65519.99, 0, 0);
        check(Precision::Fp16, -65520.0, 1, 0);
        check(Precision::Fp16, f32::INFINITY, 0, 0);
        check(Precision::Fp16, half_of_least, 0, 1);
        check(Precision::Fp16, -half_of_least.next_up(), 0, 0);
        check(Precision::Fp16, -0.0, 0, 0);
        check(Precision::Bf16, f32::MAX, 1, 0);
        check(Precision::Bf16, 3.38e38, 0, 0);
        check(Precision::Bf16, f32::from_bits(0x8000), 0, 1);
        check(Precision::Bf16, f32::from_bits(0x8001), 0, 0);
    }
}
