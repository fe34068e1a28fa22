//! Bicubic resizing with Pillow's bytes: its `Image.resize(…, BICUBIC)`, of which only a crop of the centre is computed.
//!
//! Rows first, then columns (the other way round for high images, as since Pillow 13), with 8 bits between the two. A pixel is a weighted sum over the pixels near its own place; the
//! weights are Keys' cubic with a = -0.5, widened when an image becomes smaller, and rounded to 22 bits after the point.

use super::CHANNELS;
use super::decode::Pixels;

/// How far the cubic reaches, in pixels.
const REACH: f64 = 2.0;
/// Bits after the point of a weight.
const WEIGHT_BITS: u32 = 22;

/// The weights of the source pixels from `first` on, for one pixel of the result.
#[derive(Clone, Debug)]
struct Weights {
    first: usize,
    weights: Vec<i64>,
}

/// An image more than this many times as high as wide is made lower before it is made narrower.
const HIGH: usize = 2;

/// Resizes to `width` × `height`, of which it returns the square of `side` pixels at `left`, `top`.
pub(super) fn resized(
    source: &Pixels,
    (width, height): (usize, usize),
    (left, top): (usize, usize),
    side: usize,
) -> Vec<u8> {
    let across = weights(source.width, width, left..left + side);
    let down = weights(source.height, height, top..top + side);
    if source.height > HIGH * source.width && height < source.height {
        let lowered = columns(&source.rgb, source.width, 0, &down);
        return rows(&lowered, source.width, 0..side, &across);
    }
    let needed = match (down.first(), down.last()) {
        (Some(first), Some(last)) => first.first..last.first + last.weights.len(),
        _ => 0..0,
    };
    let first = needed.start;
    columns(&rows(&source.rgb, source.width, needed, &across), side, first, &down)
}

/// Resizes some rows of an image of this width.
fn rows(rgb: &[u8], width: usize, rows: std::ops::Range<usize>, across: &[Weights]) -> Vec<u8> {
    let mut resized = Vec::with_capacity(rows.len() * across.len() * CHANNELS);
    for row in rows {
        let row = &rgb[row * width * CHANNELS..][..width * CHANNELS];
        for weights in across {
            let pixels = &row[weights.first * CHANNELS..];
            resized.extend(sum(weights, |index| pixels[index * CHANNELS..].first_chunk().copied()));
        }
    }
    resized
}

/// Resizes the columns of an image of this width, whose first row is the `first` of the source.
fn columns(rgb: &[u8], width: usize, first: usize, down: &[Weights]) -> Vec<u8> {
    let mut resized = Vec::with_capacity(down.len() * width * CHANNELS);
    for weights in down {
        for column in 0..width {
            let pixels = &rgb[((weights.first - first) * width + column) * CHANNELS..];
            resized.extend(sum(weights, |index| pixels[index * width * CHANNELS..].first_chunk().copied()));
        }
    }
    resized
}

/// Adds up the pixels that `pixel` returns by index.
fn sum(weights: &Weights, pixel: impl Fn(usize) -> Option<[u8; CHANNELS]>) -> [u8; CHANNELS] {
    let mut sums = [1_i64 << (WEIGHT_BITS - 1); CHANNELS];
    for (index, weight) in weights.weights.iter().enumerate() {
        for (sum, value) in sums.iter_mut().zip(pixel(index).unwrap_or_default()) {
            *sum += weight * i64::from(value);
        }
    }
    sums.map(|sum| (sum >> WEIGHT_BITS).clamp(0, i64::from(u8::MAX)) as u8)
}

/// Returns the weights of some pixels of the result, `length` pixels of `source`.
fn weights(source: usize, length: usize, wanted: std::ops::Range<usize>) -> Vec<Weights> {
    // Pillow leaves out the pass that changes nothing.
    if source == length {
        return wanted.map(|first| Weights { first, weights: vec![1 << WEIGHT_BITS] }).collect();
    }
    let scale = source as f64 / length as f64;
    let widened = scale.max(1.0);
    let reach = REACH * widened;
    let of = |index: usize| {
        let centre = (index as f64 + 0.5) * scale;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(source);
        let exact: Vec<f64> =
            (first..end).map(|pixel| cubic((pixel as f64 - centre + 0.5) * (1.0 / widened))).collect();
        let total: f64 = exact.iter().sum();
        let fixed = |weight: f64| {
            let scaled = if total == 0.0 { weight } else { weight / total } * f64::from(1 << WEIGHT_BITS);
            // Rounded away from zero.
            (scaled + if scaled < 0.0 { -0.5 } else { 0.5 }) as i64
        };
        Weights { first, weights: exact.into_iter().map(fixed).collect() }
    };
    wanted.map(of).collect()
}

/// Keys' cubic with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
