//! NV-CLIP's preprocessing: resize the shorter side, crop the centre, normalize.
//!
//! Source: NVIDIA's documentation of NV-CLIP (resize to 224 with bicubic interpolation, centre crop, the mean and
//! deviation of OpenAI's CLIP). Sizes and the crop are rounded as torchvision does, and the resizing gives Pillow's bytes.
//! Colours are converted to RGB first, transparency is dropped, and the orientation that a camera notes isn't applied, as by
//! `Image.open(…).convert("RGB")`.

mod decode;
mod resize;

use decode::Pixels;

/// Mean of red, green and blue, of values from 0 to 1.
pub const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Their standard deviation.
pub const STANDARD_DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
/// Colours of a pixel.
pub const CHANNELS: usize = 3;

/// How many times its width an image may be long: at more, it is no photograph.
const MAX_ASPECT: usize = 1_000;

/// Returns an image file (JPEG or PNG) as `[3, side, side]` floats, in C order.
///
/// # Errors
/// In words: bytes that are no such image, not all of one, or too large a one.
pub fn preprocess(file: &[u8], side: usize) -> Result<Vec<f32>, String> {
    let pixels = decode::decode(file)?;
    let Pixels { width, height, rgb: _ } = pixels;
    let (longer, shorter) = (width.max(height), width.min(height));
    if longer > MAX_ASPECT * shorter {
        return Err(format!("it is {width} × {height} pixels: too long for its width"));
    }
    // The shorter side becomes `side`.
    let length = |own: usize| if own == shorter { side } else { side * own / shorter };
    let (new_width, new_height) = (length(width), length(height));
    let corner = (centre(new_width, side), centre(new_height, side));
    Ok(normalized(&resize::resized(&pixels, (new_width, new_height), corner, side), side))
}

/// Where a crop of the centre begins: the half of what is left, rounded to even as Python does.
fn centre(length: usize, side: usize) -> usize {
    let left = length.saturating_sub(side);
    let half = left / 2;
    if left % 2 == 1 && half % 2 == 1 { half + 1 } else { half }
}

/// Turns pixels into floats, colour by colour.
fn normalized(pixels: &[u8], side: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(CHANNELS * side * side);
    for (channel, (mean, deviation)) in MEAN.iter().zip(STANDARD_DEVIATION).enumerate() {
        let of_channel = pixels.chunks_exact(CHANNELS).map(|pixel| pixel[channel]);
        values.extend(of_channel.map(|value| (f32::from(value) / 255.0 - mean) / deviation));
    }
    values
}

#[cfg(test)]
mod tests;
