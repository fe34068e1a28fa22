//! Pixels against Pillow's, and files that are no images.

use std::io::Cursor;

use png::{BitDepth, ColorType};

use super::*;

/// A JPEG of 32 × 24 grey pixels in one scan.
const JPEG: &str = "\
    ffd8ffe000104a46494600010100000100010000ffdb0043002016181c1814201c1a1c24222026305034302c2c3062464a3a5074667a7872\
    66706e8090b89c8088ae8a6e70a0daa2aebec4ced0ce7c9ae2f2e0c8f0b8cacec6ffc0000b080018002001011100ffc40018000003010100\
    00000000000000000000000203040501ffc4002a1000010303020502070000000000000000010203110004311221051322415191b1617181\
    82a1b2c1ffda0008010100003f00cf66d7ab15aa822cad54f1035010907babb54ed245bf0d5e353839601199cfe269a4729e675a650cb45c\
    d86e7cfeb54336bd58a8aedf17774965a20b2d1d883b28f9fe7af9a6be355cb16e9c206a541ee7123e5ef4054549ba752a402b506d246142\
    40dbed149bae26fdda0b4db6196d42150649f84f8aa3875b84752a12902493802858789e7df2c00a894822403848dbe82bad3709b56069dd\
    5ac8ee2361ee7d2bffd9";
/// The same pixels in several scans.
const PROGRESSIVE_JPEG: &str = "\
    ffd8ffe000104a46494600010100000100010000ffdb0043002016181c1814201c1a1c24222026305034302c2c3062464a3a5074667a7872\
    66706e8090b89c8088ae8a6e70a0daa2aebec4ced0ce7c9ae2f2e0c8f0b8cacec6ffc2000b080018002001011100ffc40017000003010000\
    000000000000000000000001020304ffda0008010100000001cfaa6f483aa501ffc4001b1000030002030000000000000000000000000102\
    0332122231ffda000801010001050252692bae3f1a929f2a7b1591d18e44c48fffc4001d1000020201050000000000000000000000000102\
    11102131617181ffda0008010100063f022cef4170af14b6428927e14952c399147fffc40020100002020201050100000000000000000000\
    0111213141f0516171a1c1d1ffda0008010100013f21bc56efaf224bd436d5727a2f23ff0068ba5ab64ca5356e1df885f62c905ba467f3af\
    8515e64fffda000801010000001065efffc40021100100010401040300000000000000000001110021315141618191b171a1c1ffda000801\
    0100013f10d0a63010203cf0a2c182026673f53499936c2eee9a146c456c8d96ff003cee8f0c361e5c49f1ee9409490c090b7652f20220ca\
    f49d5162012ae02998a1090920e05bb15107294e48b1edf15fffd9";

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().as_chunks::<2>().0.iter();
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn png((width, height): (u32, u32), colour: ColorType, depth: BitDepth, data: &[u8]) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    encoder.write_header().unwrap().write_image_data(data).unwrap();
    file.into_inner()
}

fn picture(width: u32, height: u32) -> Vec<u8> {
    let pixel = |(x, y): (u32, u32)| [x * 7 + y * 3, x * x + y, x * y].map(|value| (value % 256) as u8);
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    png((width, height), ColorType::Rgb, BitDepth::Eight, &places.flat_map(pixel).collect::<Vec<u8>>())
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
    let cases: [(u32, u32, usize, &[u8], u64); 4] = [
        (
            50,
            40,
            16,
            &[
                80, 46, 76, 98, 81, 109, 115, 128, 142, 133, 200, 175, 150, 107, 221, 168, 80, 191, 185, 191,
                64, 203, 96, 43, 220, 160, 78, 250, 104, 117, 123, 129, 157, 4, 102, 196, 34, 116, 185, 52,
                162, 141, 69, 157, 90, 87, 155, 69,
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
                12, 3, 1, 16, 4, 3, 19, 5, 4, 23, 7, 6, 26, 10, 7, 30, 13, 8, 33, 16, 9, 37, 20, 10, 40, 25,
                11, 44, 30, 12, 47, 35, 13, 51, 41, 15, 54, 48, 16, 58, 55, 17,
            ],
            14_200,
        ),
        // More than twice as high as wide.
        (
            20,
            45,
            8,
            &[
                83, 27, 21, 99, 37, 82, 117, 59, 149, 135, 94, 209, 152, 141, 69, 170, 213, 78, 188, 121,
                153, 204, 90, 198,
            ],
            21_687,
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

/// Bytes that were cut off, wherever, and a tail that was never written.
#[test]
fn images_are_whole_or_refused() {
    for whole in [picture(20, 10), bytes(JPEG), bytes(PROGRESSIVE_JPEG)] {
        preprocess(&whole, 8).unwrap();
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            assert!(preprocess(&cut, 8).is_err(), "{length} of {}", whole.len());
            cut.resize(whole.len(), 0);
            assert!(cut == whole || preprocess(&cut, 8).is_err(), "zeros from {length} of {}", whole.len());
        }
        // What a camera appends is not part of the image.
        preprocess(&[&whole[..], b"more"].concat(), 8).unwrap();
    }
    let cut = bytes(JPEG);
    assert_eq!(preprocess(&cut[..cut.len() / 2], 8).unwrap_err(), "it ends early: it was cut");
    let cut = picture(20, 10);
    assert_eq!(preprocess(&cut[..cut.len() / 2], 8).unwrap_err(), "it ends early: it was cut");
}

/// A PNG has a checksum for each of its parts.
#[test]
fn a_changed_bit_of_a_png_is_noticed() {
    let whole = picture(9, 5);
    for index in 0..whole.len() {
        let mut changed = whole.clone();
        changed[index] ^= 16;
        assert!(preprocess(&changed, 4).is_err(), "byte {index}");
    }
}

/// JPEGs as well, up to the rounding of another decoder: row 5, and the sum, of Pillow 13.0.0.
#[test]
fn jpegs_are_nearly_pillows() {
    const ROW_5: [u8; 24] = [
        81, 93, 105, 112, 126, 129, 163, 196, 214, 213, 131, 5, 68, 100, 128, 192, 233, 186, 42, 79, 142,
        189, 205, 36,
    ];
    let near = |found: u8, wanted: u8| found.abs_diff(wanted) <= 1;
    for (file, row_5, sum) in [(JPEG, ROW_5, 72792), (PROGRESSIVE_JPEG, ROW_5, 72792)] {
        let found = pixels(&preprocess(&bytes(file), 24).unwrap());
        let row: Vec<u8> =
            found[5 * 24 * CHANNELS..6 * 24 * CHANNELS].iter().copied().step_by(CHANNELS).collect();
        assert!(row.iter().zip(row_5).all(|(a, b)| near(*a, b)), "{row:?}");
        let found: i64 = found.into_iter().step_by(CHANNELS).map(i64::from).sum();
        assert!((found - sum).abs() < 200, "{found}");
    }
}

/// Alpha is dropped, grey becomes three equal colours, and of 16 bits the upper 8 count.
#[test]
fn every_kind_of_png_becomes_rgb() {
    let of = |colour, depth, data: &[u8]| {
        let values = preprocess(&png((2, 2), colour, depth, data), 2).unwrap();
        pixels(&values)
    };
    let grey = [1, 1, 1, 2, 2, 2, 3, 3, 3, 255, 255, 255];
    assert_eq!(of(ColorType::Grayscale, BitDepth::Eight, &[1, 2, 3, 255]), grey);
    assert_eq!(of(ColorType::GrayscaleAlpha, BitDepth::Eight, &[1, 9, 2, 0, 3, 9, 255, 9]), grey);
    assert_eq!(of(ColorType::Grayscale, BitDepth::Sixteen, &[1, 255, 2, 0, 3, 128, 255, 9]), grey);
    assert_eq!(of(ColorType::Grayscale, BitDepth::One, &[0x40, 0x80])[..6], [0, 0, 0, 255, 255, 255]);
    let rgba = [1, 2, 3, 0, 4, 5, 6, 9, 7, 8, 9, 255, 10, 11, 12, 0];
    assert_eq!(of(ColorType::Rgba, BitDepth::Eight, &rgba), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
}

/// The header is enough to refuse it.
#[test]
fn an_image_of_too_many_pixels_is_not_decoded() {
    let mut large = picture(2, 2);
    large[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]);
    let checksum = crc32(&large[12..29]);
    large[29..33].copy_from_slice(&checksum.to_be_bytes());
    let error = preprocess(&large, 224).unwrap_err();
    assert_eq!(error, "it is 16384 × 16384 pixels: at most 89478485 are decoded");
    let mut large = bytes(JPEG);
    let size_at = large.windows(2).position(|two| two == [0xff, 0xc0]).unwrap() + 5;
    large[size_at..size_at + 4].copy_from_slice(&[0x7f; 4]);
    let error = preprocess(&large, 224).unwrap_err();
    assert_eq!(error, "it is 32639 × 32639 pixels: at most 89478485 are decoded");
}

/// The checksum of PNG.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn other_formats_are_named() {
    let error = preprocess(b"RIFF\x10\0\0\0WEBPVP8 ", 8).unwrap_err();
    assert_eq!(error, "it is neither JPEG nor PNG but WebP: convert it");
    assert_eq!(preprocess(b"hello", 8).unwrap_err(), "it is neither JPEG nor PNG");
}
