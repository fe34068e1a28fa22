//! Seeded weights, the same bits on every machine.
//!
//! Value `i` of a tensor is a function of the seed, the tensor's name and `i` alone: SplitMix64 over a counter gives
//! 64 bits, whose four 16-bit parts are added (Irwin-Hall: near enough to a normal distribution, at most 3.5
//! standard deviations out). The sum is a small integer, exact as an `f32`; one multiplication, correctly rounded by
//! IEEE 754, gives it its scale. No function of a math library is involved.

use std::io::{self, Write};

use sha2::Digest as _;

/// Twice the sum of four uniform 16-bit numbers has this standard deviation: `2 * sqrt(4 * (2^32 - 1) / 12)`.
const SUM_DEVIATION: f64 = 75_674.545_3;
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
const CHUNK_VALUES: usize = 64 * 1024;

/// Writes `count` values of the given standard deviation as little-endian `f32`.
///
/// # Errors
/// Those of the writer.
pub fn write_normal(
    writer: &mut dyn Write,
    seed: u64,
    name: &str,
    count: u64,
    standard_deviation: f64,
) -> io::Result<()> {
    let key = stream_key(seed, name);
    let scale = (standard_deviation / SUM_DEVIATION) as f32;
    let mut chunk = Vec::with_capacity(CHUNK_VALUES * 4);
    let mut start = 0;
    while start < count {
        let end = count.min(start + CHUNK_VALUES as u64);
        chunk.clear();
        chunk.extend((start..end).flat_map(|index| value(key, index, scale).to_le_bytes()));
        writer.write_all(&chunk)?;
        start = end;
    }
    Ok(())
}

fn stream_key(seed: u64, name: &str) -> u64 {
    let mut hasher = sha2::Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update(name.as_bytes());
    let digest: [u8; 32] = hasher.finalize().into();
    digest.iter().take(8).fold(0, |key, &byte| key << 8 | u64::from(byte))
}

/// Returns 32 evenly distributed bits.
pub fn uniform_bits(seed: u64, name: &str, index: u64) -> u32 {
    (split_mix(stream_key(seed, name), index) >> 32) as u32
}

#[inline]
fn split_mix(key: u64, index: u64) -> u64 {
    let mut bits = key.wrapping_add(index.wrapping_mul(GOLDEN_GAMMA));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[inline]
fn value(key: u64, index: u64, scale: f32) -> f32 {
    let bits = split_mix(key, index);
    let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    // At most 18 bits and a sign: exact.
    let centred = 2 * sum as i32 - 4 * 0xffff;
    centred as f32 * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_deviation_are_as_asked() {
        let mut bytes = Vec::new();
        write_normal(&mut bytes, 1, "tensor", 100_000, 0.02).unwrap();
        let values: Vec<f64> = bytes
            .chunks_exact(4)
            .map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap())))
            .collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let deviation = (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt();
        assert!(mean.abs() < 0.0002, "{mean}");
        assert!((deviation - 0.02).abs() < 0.0002, "{deviation}");
    }

    #[test]
    fn seed_and_name_choose_the_stream() {
        let first = |seed, name| value(stream_key(seed, name), 0, 1.0);
        assert_ne!(first(1, "a"), first(2, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
    }
}
