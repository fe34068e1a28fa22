//! Rounds FP32 weights to a lower precision, to the nearest value, ties to even.

use std::io::{self, Write};

use half::slice::{HalfBitsSliceExt as _, HalfFloatSliceExt as _};
use half::{bf16, f16};
use zerocopy::IntoBytes as _;

use super::emulate::Rounding;
use crate::onnx::Precision;
use crate::onnx::weights::RELEASE_BYTES;

// Tensors are little-endian, and are handed to the processor as they are.
const _: () = assert!(cfg!(target_endian = "little"), "big-endian processors are not supported");

/// Values that are converted at once: what they take in all forms fits into a core's own cache.
const CHUNK_VALUES: usize = 32 * 1024;

/// What a lower precision can't hold of a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Finite values that would become infinite.
    pub(super) overflowing: u64,
    /// Values that are not zero and would become zero.
    pub(super) vanishing: u64,
    /// Values that are not zero.
    pub(super) nonzero: u64,
}

impl Losses {
    /// Returns whether a tensor loses what it stands for: this part of its nonzero values or more would become zero. A few
    /// values near zero in a large weight are noise.
    pub(super) fn are_vanishing(&self) -> bool {
        const VANISHING_PERCENT: u64 = 1;
        self.vanishing > 0 && self.vanishing * 100 >= self.nonzero * VANISHING_PERCENT
    }
}

/// Counts what rounding would lose; `bytes` are little-endian `f32`. `release` gets what is no longer needed.
pub(super) fn losses(bytes: &[u8], precision: Precision, release: &dyn Fn(&[u8])) -> Losses {
    // Magnitudes as bits, which order as the numbers do: the least that rounds to infinity, the largest that rounds
    // to zero (half of the smallest subnormal, a tie that goes to even).
    let (overflow, vanish) = match precision {
        Precision::Fp32 => return Losses::default(),
        Precision::Fp16 => (0x477f_f000, 0x3300_0000),
        Precision::Bf16 => (0x7f7f_8000, 0x0000_8000),
    };
    const INFINITY: u32 = 0x7f80_0000;
    let mut losses = Losses::default();
    for part in bytes.chunks(RELEASE_BYTES) {
        // 32-bit counters let the compiler use vector instructions; a part can't overflow them.
        let (mut overflowing, mut vanishing, mut zero) = (0u32, 0u32, 0u32);
        for four in part.as_chunks::<4>().0 {
            let magnitude = u32::from_le_bytes(*four) & 0x7fff_ffff;
            overflowing += u32::from((magnitude >= overflow) & (magnitude < INFINITY));
            vanishing += u32::from(magnitude <= vanish);
            zero += u32::from(magnitude == 0);
        }
        losses.overflowing += u64::from(overflowing);
        losses.vanishing += u64::from(vanishing - zero);
        losses.nonzero += (part.len() / 4) as u64 - u64::from(zero);
        release(part);
    }
    losses
}

/// How FP32 weights are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversion {
    pub(super) precision: Precision,
    pub(super) rounding: Rounding,
    /// Whether finite values that are too large become the largest number, and not infinity.
    pub(super) clips: bool,
}

/// Returns the largest finite number of a precision.
pub(super) fn highest(precision: Precision) -> f32 {
    match precision {
        Precision::Fp32 => f32::MAX,
        Precision::Fp16 => f16::MAX.to_f32(),
        Precision::Bf16 => bf16::MAX.to_f32(),
    }
}

/// Writes little-endian `f32` in another precision, and returns the largest difference between a finite value before
/// and after. `release` gets what is no longer needed.
pub(super) fn write_rounded(
    bytes: &[u8],
    conversion: Conversion,
    writer: &mut dyn Write,
    release: &dyn Fn(&[u8]),
) -> io::Result<f32> {
    let Conversion { precision, rounding, clips } = conversion;
    let highest = highest(precision);
    let count = CHUNK_VALUES.min(bytes.len() / 4);
    let (mut floats, mut back) = (vec![0f32; count], vec![0f32; count]);
    let mut halves = vec![0u16; count];
    let mut largest = 0u32;
    for part in bytes.chunks(RELEASE_BYTES) {
        for chunk in part.chunks(CHUNK_VALUES * 4) {
            let count = chunk.len() / 4;
            let (floats, back, halves) = (&mut floats[..count], &mut back[..count], &mut halves[..count]);
            floats.as_mut_bytes().copy_from_slice(&chunk[..count * 4]);
            if clips {
                floats.iter_mut().filter(|value| value.is_finite()).for_each(|value| {
                    *value = value.clamp(-highest, highest);
                });
            }
            match precision {
                Precision::Fp32 => back.copy_from_slice(floats),
                Precision::Fp16 => {
                    let halves: &mut [f16] = halves.reinterpret_cast_mut();
                    halves.convert_from_f32_slice(floats);
                    halves.convert_to_f32_slice(back);
                }
                Precision::Bf16 => {
                    let halves: &mut [bf16] = halves.reinterpret_cast_mut();
                    halves.convert_from_f32_slice(floats);
                    halves.convert_to_f32_slice(back);
                }
            }
            largest = largest.max(largest_difference(floats, back));
            match (precision, rounding) {
                (Precision::Fp32, _) | (_, Rounding::Emulated) => writer.write_all(back.as_bytes())?,
                (Precision::Fp16 | Precision::Bf16, Rounding::Real) => writer.write_all(halves.as_bytes())?,
            }
        }
        release(part);
    }
    Ok(f32::from_bits(largest))
}

/// Returns little-endian `f32` in another precision.
pub(super) fn rounded_bytes(bytes: &[u8], conversion: Conversion) -> Vec<u8> {
    let mut rounded = Vec::new();
    write_rounded(bytes, conversion, &mut rounded, &|_| {}).expect("a vector takes every write");
    rounded
}

/// Returns the bits of the largest difference, which order as the numbers do; differences of infinities don't count.
fn largest_difference(before: &[f32], after: &[f32]) -> u32 {
    let difference = |(before, after): (&f32, &f32)| {
        let bits = (before - after).to_bits() & 0x7fff_ffff;
        if bits < 0x7f80_0000 { bits } else { 0 }
    };
    before.iter().zip(after).map(difference).fold(0, u32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(precision: Precision, value: f32, overflowing: u64, vanishing: u64) {
        let bytes = value.to_le_bytes();
        let expected = Losses { overflowing, vanishing, nonzero: u64::from(value != 0.0) };
        assert_eq!(losses(&bytes, precision, &|_| {}), expected, "{value:e}");
        let as_is = |rounding| Conversion { precision, rounding, clips: false };
        let written = rounded_bytes(&bytes, as_is(Rounding::Real));
        let bits = u16::from_le_bytes(written.try_into().unwrap());
        let back = match precision {
            Precision::Fp16 => f16::from_bits(bits).to_f32(),
            _ => bf16::from_bits(bits).to_f32(),
        };
        let emulated = rounded_bytes(&bytes, as_is(Rounding::Emulated));
        assert_eq!(emulated, back.to_le_bytes(), "{value:e}");
        let clips = Conversion { clips: true, ..as_is(Rounding::Emulated) };
        let clipped = f32::from_le_bytes(rounded_bytes(&bytes, clips).try_into().unwrap());
        assert_eq!(clipped, if overflowing == 1 { highest(precision).copysign(value) } else { back });
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

    const FP16: Conversion =
        Conversion { precision: Precision::Fp16, rounding: Rounding::Real, clips: false };

    #[test]
    fn every_half_comes_back_and_the_error_is_the_largest() {
        let all: Vec<u8> =
            (0..=u16::MAX).flat_map(|bits| f16::from_bits(bits).to_f32().to_le_bytes()).collect();
        let mut written = Vec::new();
        let error = write_rounded(&all, FP16, &mut written, &|_| {}).unwrap();
        assert_eq!(error, 0.0);
        for (bits, two) in (0..=u16::MAX).zip(written.as_chunks::<2>().0) {
            let (wanted, found) = (f16::from_bits(bits), f16::from_le_bytes(*two));
            assert!(found == wanted || found.is_nan() && wanted.is_nan(), "{bits:04x}");
        }
        let values: Vec<u8> =
            [1.0 + 1.0 / 4096.0, 2049.0, f32::INFINITY].iter().flat_map(|v: &f32| v.to_le_bytes()).collect();
        let error = write_rounded(&values, FP16, &mut Vec::new(), &|_| {}).unwrap();
        assert_eq!(error, 1.0);
    }
}
