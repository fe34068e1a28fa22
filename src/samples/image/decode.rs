//! JPEG and PNG files as pixels: whole files only, and none that take more memory than a photograph does.
//!
//! A file is refused if it ends early or fails a checksum. The decoders would fill in what is missing with grey, and skip
//! what lies behind the last pixel, where the last checksum is.

use std::io::Cursor;

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::CHANNELS;

/// The most pixels that are decoded: as many as Pillow does without a warning.
const MAX_PIXELS: u64 = 89_478_485;

const JPEG_START: &[u8] = &[0xff, 0xd8];
const PNG_START: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Other formats by how they begin: what comes at which byte.
const OTHERS: [(usize, &[u8], &str); 6] = [
    (8, b"WEBP", "WebP"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (4, b"ftyp", "HEIC or AVIF"),
];

/// Decoded pixels: red, green and blue of 8 bits each, row by row.
#[derive(Debug)]
pub(super) struct Pixels {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

/// Decodes a file of either format.
///
/// # Errors
/// In words: bytes that are no such image, not all of one, or too large a one.
pub(super) fn decode(file: &[u8]) -> Result<Pixels, String> {
    if file.starts_with(PNG_START) {
        png(file)
    } else if file.starts_with(JPEG_START) {
        jpeg(file)
    } else if file.is_empty() {
        Err("it is empty".into())
    } else {
        let other = OTHERS
            .iter()
            .find(|(at, start, _)| file.get(*at..).is_some_and(|rest| rest.starts_with(start)))
            .map_or_else(String::new, |(.., name)| format!(" but {name}: convert it"));
        Err(format!("it is neither JPEG nor PNG{other}"))
    }
}

/// Fails before memory is taken for too large an image.
fn check_size(width: usize, height: usize) -> Result<(), String> {
    if width == 0 || height == 0 {
        return Err(format!("it has no pixels: it is {width} × {height}"));
    }
    if width as u64 * height as u64 > MAX_PIXELS {
        return Err(format!("it is {width} × {height} pixels: at most {MAX_PIXELS} are decoded"));
    }
    Ok(())
}

fn png(file: &[u8]) -> Result<Pixels, String> {
    let mut options = ::png::DecodeOptions::default();
    options.set_ignore_checksums(false);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut decoder = ::png::Decoder::new_with_options(Cursor::new(file), options);
    // Of 16 bits, the upper 8; palettes and fewer bits become 8.
    decoder.set_transformations(::png::Transformations::EXPAND | ::png::Transformations::STRIP_16);
    let bad = |error: ::png::DecodingError| match error {
        ::png::DecodingError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "it ends early: it was cut".to_owned()
        }
        error => error.to_string(),
    };
    let mut reader = decoder.read_info().map_err(bad)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    check_size(width, height)?;
    let size_bytes = reader.output_buffer_size().ok_or("it is too large")?;
    let mut pixels = vec![0; size_bytes];
    let frame = reader.next_frame(&mut pixels).map_err(bad)?;
    // Up to the end: the checksums of what lies behind the last pixel.
    reader.finish().map_err(bad)?;
    let rgb = match frame.color_type {
        ::png::ColorType::Rgb => pixels,
        ::png::ColorType::Rgba => {
            pixels.as_chunks::<4>().0.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]).collect()
        }
        ::png::ColorType::Grayscale => pixels.iter().flat_map(|grey| [*grey; CHANNELS]).collect(),
        ::png::ColorType::GrayscaleAlpha => {
            pixels.as_chunks::<2>().0.iter().flat_map(|[grey, _]| [*grey; CHANNELS]).collect()
        }
        ::png::ColorType::Indexed => return Err("its palette cannot be read".into()),
    };
    Ok(Pixels { width, height, rgb })
}

fn jpeg(file: &[u8]) -> Result<Pixels, String> {
    if !has_end(file) {
        return Err("it ends early: it was cut".into());
    }
    // Sizes are checked below. What is strict refuses scans with too little data.
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode_headers().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("it has no size")?;
    check_size(width, height)?;
    let rgb = decoder.decode().map_err(|error| error.to_string())?;
    if rgb.len() != width * height * CHANNELS {
        return Err("its colours cannot be read".into());
    }
    Ok(Pixels { width, height, rgb })
}

/// Returns whether a JPEG has its end marker: after the segments, whose length is given, and the data between them, in which
/// a marker's first byte is followed by zero.
fn has_end(file: &[u8]) -> bool {
    let mut rest = file.get(JPEG_START.len()..).unwrap_or_default();
    while let Some(at) = rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xff)) {
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        match marker {
            0xd9 => return true,
            // Restarts, a start, and one for private use have no length.
            0x01 | 0xd0..=0xd8 => {}
            _ => {
                let Some(length) = rest.first_chunk::<2>().map(|two| usize::from(u16::from_be_bytes(*two)))
                else {
                    return false;
                };
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
    false
}
