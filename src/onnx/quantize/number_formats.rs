//! Rounds to the number formats of quantized graphs, and scales to those of their base precision.

use half::{bf16, f16};

use crate::onnx::Precision;

/// 1.5 · 2^23: added to a number below 2^22, it leaves no bits for a fraction, and rounds half to even as it does so.
const NO_FRACTION: f32 = 12_582_912.0;

/// Returns a number of magnitude below 2^22 rounded to an integer, ties to even, in two's complement.
#[inline]
pub(super) fn integer_bits(value: f32) -> u32 {
    (value + NO_FRACTION).to_bits()
}

/// Returns a number of magnitude below 2^22 rounded to an integer, ties to even.
#[inline]
pub(super) fn rounded(value: f32) -> f32 {
    (value + NO_FRACTION) - NO_FRACTION
}

/// Returns the bits of the nearest E4M3 number (ties to even) of a finite value; what is beyond ±448 becomes ±448.
pub(super) fn e4m3_bits(value: f32) -> u8 {
    const LARGEST: f32 = 448.0;
    /// The smallest normal number, 2^-6.
    const NORMAL: f32 = 0.015_625;
    let sign = if value.is_sign_negative() { 0x80 } else { 0 };
    let magnitude = value.abs().min(LARGEST);
    if magnitude < NORMAL {
        // Multiples of 2^-9.
        return sign | rounded(magnitude * 512.0) as u8;
    }
    // Three bits of the significand stay: round the others off, ties to even; a carry moves into the exponent.
    let bits = magnitude.to_bits();
    let kept = (bits + 0x0007_FFFF + ((bits >> 20) & 1)) >> 20;
    // From a bias of 127 to one of 7.
    sign | (kept - (120 << 3)) as u8
}

/// Returns the nearest E4M3 number (ties to even) of a finite value; what is beyond ±448 becomes ±448.
#[inline]
pub(super) fn e4m3_nearest(value: f32) -> f32 {
    let magnitude = value.abs().min(448.0);
    // Three bits of the significand stay: steps are an eighth of the power of two below, or 2^-9 where that is smaller.
    let power = f32::from_bits(magnitude.to_bits() & 0x7F80_0000);
    let step = (power * 0.125).max(1.0 / 512.0);
    (rounded(magnitude / step) * step).copysign(value)
}

/// Returns the number that E4M3 bits stand for; not for NaN.
pub(super) fn e4m3_value(bits: u8) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 3 & 15), f32::from(bits & 7) / 8.0);
    let magnitude =
        if exponent == 0 { fraction * 2f32.powi(-6) } else { (1.0 + fraction) * 2f32.powi(exponent - 7) };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The magnitudes of E2M1, by their bits.
const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// Returns the bits of the nearest E2M1 number (ties to even) of a finite value; what is beyond ±6 becomes ±6.
#[inline]
pub(super) fn e2m1_bits(value: f32) -> u8 {
    let magnitude = value.abs().min(6.0);
    // Steps of 0.5 below 2, of 1 below 4, of 2 above, each an even number of bits from zero.
    let bits = match magnitude {
        magnitude if magnitude < 2.0 => rounded(magnitude * 2.0),
        magnitude if magnitude < 4.0 => rounded(magnitude) + 2.0,
        magnitude => rounded(magnitude * 0.5) + 4.0,
    };
    bits as u8 | if value.is_sign_negative() { 8 } else { 0 }
}

/// Returns the number that E2M1 bits stand for.
#[inline]
pub(super) fn e2m1_value(bits: u8) -> f32 {
    let magnitude = E2M1[usize::from(bits & 7)];
    if bits & 8 == 0 { magnitude } else { -magnitude }
}

/// Returns the smallest normal number of a precision that is not below `value`, for a positive scale: it loses nothing when the
/// graph is lowered.
pub(super) fn scale_of(base: Precision, value: f32) -> f32 {
    match base {
        Precision::Fp32 => value.max(f32::MIN_POSITIVE),
        Precision::Fp16 => {
            let near = f16::from_f32(value).max(f16::MIN_POSITIVE);
            let up = if near.to_f32() < value { f16::from_bits(near.to_bits() + 1) } else { near };
            up.min(f16::MAX).to_f32()
        }
        Precision::Bf16 => {
            let near = bf16::from_f32(value).max(bf16::MIN_POSITIVE);
            let up = if near.to_f32() < value { bf16::from_bits(near.to_bits() + 1) } else { near };
            up.min(bf16::MAX).to_f32()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4m3_is_the_nearest() {
        let all: Vec<u8> = (0..=0x7e).collect();
        for &bits in &all {
            assert_eq!(e4m3_bits(e4m3_value(bits)), bits, "{}", e4m3_value(bits));
            assert_eq!(e4m3_bits(-e4m3_value(bits)), bits | 0x80);
        }
        for pair in all.windows(2) {
            let (low, high) = (e4m3_value(pair[0]), e4m3_value(pair[1]));
            let middle = f32::midpoint(low, high);
            assert_eq!(e4m3_bits(middle), if pair[0] % 2 == 0 { pair[0] } else { pair[1] }, "{middle}");
            assert_eq!(e4m3_bits(middle * 0.9999), pair[0]);
            assert_eq!(e4m3_bits(middle * 1.0001), pair[1]);
            for value in [low, -high, middle, middle * 0.9999, -middle * 1.0001] {
                assert_eq!(e4m3_nearest(value), e4m3_value(e4m3_bits(value)), "{value}");
            }
        }
        assert_eq!(e4m3_bits(1e9), 0x7e);
        assert_eq!(e4m3_nearest(-1e9), -448.0);
    }

    #[test]
    fn e2m1_is_the_nearest() {
        for bits in 0..16 {
            assert_eq!(e2m1_bits(e2m1_value(bits)), bits);
        }
        for (low, pair) in E2M1.windows(2).enumerate() {
            let middle = f32::midpoint(pair[0], pair[1]);
            let even = if low % 2 == 0 { low } else { low + 1 } as u8;
            assert_eq!(e2m1_bits(middle), even, "{middle}");
            assert_eq!(e2m1_bits(-middle), even | 8, "-{middle}");
            assert_eq!(e2m1_bits(middle * 0.999), low as u8, "{middle}");
            assert_eq!(e2m1_bits(middle * 1.001), low as u8 + 1, "{middle}");
        }
        assert_eq!(e2m1_bits(1e9), 7);
    }

    #[test]
    fn integers_round_half_to_even() {
        for (value, expected) in [(0.5, 0), (1.5, 2), (-0.5, 0), (-2.5, -2), (126.6, 127), (-127.0, -127)] {
            assert_eq!(integer_bits(value) as u8 as i8, expected, "{value}");
            assert_eq!(rounded(value), f32::from(expected));
        }
    }

    #[test]
    fn scales_are_numbers_of_the_base() {
        for value in [1e-9f32, 3.3e-4, 0.1, 1.0, 79.3, 65519.0] {
            let half = scale_of(Precision::Fp16, value);
            assert_eq!(f16::from_f32(half).to_f32(), half);
            assert!(half >= value.min(65504.0) && half >= f16::MIN_POSITIVE.to_f32(), "{value} {half}");
            let brain = scale_of(Precision::Bf16, value);
            assert_eq!(bf16::from_f32(brain).to_f32(), brain);
            assert!(brain >= value && brain < value * 1.01, "{value} {brain}");
        }
    }
}
