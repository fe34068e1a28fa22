//! NV-CLIP's preprocessing: resize the shorter side, crop the centre, normalize.
//!
//! Source: NVIDIA's documentation of NV-CLIP (resize to 224 with bicubic interpolation, centre crop, the mean and
//! deviation of OpenAI's CLIP). Sizes and the crop are rounded as torchvision does; the resizing is Pillow's: Keys'
//! cubic with a = -0.5, widened when an image becomes smaller, 8 bits between the two passes.

use std::io::Cursor;

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{ImageReader, Limits};

/// Mean of red, green and blue, of values from 0 to 1.
pub const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Their standard deviation.
pub const STANDARD_DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
/// Colours of a pixel.
pub const CHANNELS: usize = 3;

/// Most pixels a side: more is a bomb, or no photograph.
const MAX_PIXELS_A_SIDE: u32 = 20_000;
/// Most memory that decoding one image may take.
const MAX_BYTES: u64 = 1 << 30;

/// Returns an image file (JPEG or PNG) as `[3, side, side]` floats, in C order.
///
/// # Errors
/// In words: bytes that are no such image, or too large a one.
pub fn preprocess(file: &[u8], side: usize) -> Result<Vec<f32>, String> {
    let mut reader =
        ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|error| error.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_PIXELS_A_SIDE);
    limits.max_image_height = Some(MAX_PIXELS_A_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let decoded = reader.decode().map_err(|error| error.to_string())?.to_rgb8();
    let (width, height) = decoded.dimensions();
    Ok(normalized(&resized(decoded.into_raw(), (width, height), side)?, side))
}

/// Resizes so that the shorter side is `side`, then crops the centre.
fn resized(pixels: Vec<u8>, (width, height): (u32, u32), side: usize) -> Result<Vec<u8>, String> {
    let side_pixels = u32::try_from(side).map_err(|_| format!("an image of {side} pixels a side"))?;
    let longer = |long: u32, short: u32| {
        u32::try_from(u64::from(side_pixels) * u64::from(long) / u64::from(short.max(1))).unwrap_or(u32::MAX)
    };
    let (new_width, new_height) = if width <= height {
        (side_pixels, longer(height, width))
    } else {
        (longer(width, height), side_pixels)
    };
    let largest_bytes = u64::from(new_width) * u64::from(new_height.max(height)) * CHANNELS as u64;
    if largest_bytes > MAX_BYTES {
        return Err(format!("it is {width} × {height} pixels: too long for its width"));
    }
    let source =
        Image::from_vec_u8(width, height, pixels, PixelType::U8x3).map_err(|error| error.to_string())?;
    // Pillow's order: rows first, then columns.
    let mut narrowed = Image::new(new_width, height, PixelType::U8x3);
    let mut resized = Image::new(new_width, new_height, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    let mut resizer = Resizer::new();
    resizer.resize(&source, &mut narrowed, &options).map_err(|error| error.to_string())?;
    resizer.resize(&narrowed, &mut resized, &options).map_err(|error| error.to_string())?;
    let (left, top) = (centre(new_width, side_pixels), centre(new_height, side_pixels));
    let row_bytes = new_width as usize * CHANNELS;
    let rows = resized.buffer().chunks_exact(row_bytes.max(1)).skip(top).take(side);
    Ok(rows.flat_map(|row| &row[left * CHANNELS..(left + side) * CHANNELS]).copied().collect())
}

/// Where a crop of the centre begins: the half of what is left, rounded to even as Python does.
fn centre(length: u32, side: u32) -> usize {
    let left = length.saturating_sub(side);
    let half = left / 2;
    (if left % 2 == 1 && half % 2 == 1 { half + 1 } else { half }) as usize
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
mod tests {
    use image::{ImageFormat, RgbImage};

    use super::*;

    fn picture(width: u32, height: u32) -> Vec<u8> {
        let pixel =
            |x: u32, y: u32| image::Rgb([x * 7 + y * 3, x * x + y, x * y].map(|value| (value % 256) as u8));
        let mut file = Cursor::new(Vec::new());
        RgbImage::from_fn(width, height, pixel).write_to(&mut file, ImageFormat::Png).unwrap();
        file.into_inner()
    }

    /// Returns the pixels that values came from, colours together.
    fn pixels(values: &[f32]) -> Vec<u8> {
        let side_squared = values.len() / CHANNELS;
        let value = |pixel: usize, channel: usize| {
            let value = values[channel * side_squared + pixel];
            ((value * STANDARD_DEVIATION[channel] + MEAN[channel]) * 255.0).round() as u8
        };
        (0..side_squared).flat_map(|pixel| (0..CHANNELS).map(move |channel| value(pixel, channel))).collect()
    }

    /// Row 5 and the sum of all pixels, as Pillow 13.0.0 makes them: `resize(…, BICUBIC)`, then the crop that torchvision
    /// makes.
    #[test]
    fn pixels_are_pillows() {
        let cases: [(u32, u32, usize, &[u8], u64); 3] = [
            (
                50,
                40,
                16,
                &[
                    80, 46, 76, 98, 81, 109, 115, 128, 142, 133, 200, 175, 150, 107, 221, 168, 80, 191, 185,
                    191, 64, 203, 96, 43, 220, 160, 78, 250, 104, 117, 123, 129, 157, 4, 102, 196, 34, 116,
                    185, 52, 162, 141, 69, 157, 90, 87, 155, 69,
                ],
                93_794,
            ),
            (
                21,
                37,
                12,
                &[
                    52, 16, 6, 64, 20, 33, 76, 31, 63, 88, 48, 91, 101, 70, 119, 113, 99, 148, 125, 135, 176,
                    137, 176, 206, 150, 225, 242, 162, 61, 74, 174, 75, 30, 186, 144, 60,
                ],
                46_342,
            ),
            (
                9,
                7,
                14,
                &[
                    12, 3, 1, 16, 4, 3, 19, 5, 4, 23, 7, 6, 26, 10, 7, 30, 13, 8, 33, 16, 9, 37, 20, 10, 40,
                    25, 11, 44, 30, 12, 47, 35, 13, 51, 41, 15, 54, 48, 16, 58, 55, 17,
                ],
                14_200,
            ),
        ];
        for (width, height, side, row_5, sum) in cases {
            let found = pixels(&preprocess(&picture(width, height), side).unwrap());
            let row_length = side * CHANNELS;
            assert_eq!(&found[5 * row_length..6 * row_length], row_5, "{width} × {height}");
            assert_eq!(found.iter().map(|value| u64::from(*value)).sum::<u64>(), sum, "{width} × {height}");
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(preprocess(b"", 224).is_err());
        assert!(preprocess(b"\x89PNG\r\n\x1a\n", 224).is_err());
        let mut cut = picture(50, 40);
        cut.truncate(cut.len() / 2);
        assert!(preprocess(&cut, 224).is_err());
        // One pixel wide and very high: resized it would be higher still.
        assert!(preprocess(&picture(1, 15_000), 224).unwrap_err().contains("too long"));
    }
}
