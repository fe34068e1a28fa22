//! Samples that are files: images and texts become tensors, and every file has a digest.

use std::path::{Path, PathBuf};

use super::{SamplesError, floats, whole_numbers};
use crate::digest::Sha256;
use crate::files::text;
use crate::onnx::TensorInfo;
use crate::samples::text::TextEncoder;
use crate::samples::{Part, Sample, image};
use crate::text_encoding;
use crate::worker::npy::Tensor;

/// What image files are called.
const IMAGE_EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Returns the digests of all files of a sample, in order.
pub(super) fn digests(sample: &Sample, folder: &Path) -> Result<Vec<Sha256>, SamplesError> {
    if let Sample::Images(images) = sample {
        // Says why there are none.
        image_files(&folder.join(&images.folder))?;
    }
    sample_files(sample, folder)
        .iter()
        .map(|path| Sha256::of_file(path).map(|(digest, _)| digest))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| SamplesError::Read { source })
}

/// Returns the files of a sample, in order, whether they are there or not.
pub(in crate::ops) fn sample_files(sample: &Sample, folder: &Path) -> Vec<PathBuf> {
    match sample {
        Sample::Npy(path) => vec![folder.join(path)],
        Sample::Npz(npz) => vec![folder.join(&npz.file)],
        Sample::Images(images) => image_files(&folder.join(&images.folder)).unwrap_or_default(),
        Sample::Texts(texts) => vec![folder.join(&texts.file), folder.join(&texts.tokenizer)],
        Sample::Normal(_) | Sample::Integers(_) => Vec::new(),
    }
}

/// Returns the images of a folder, by name; a folder without any is an error.
pub(in crate::ops) fn image_files(folder: &Path) -> Result<Vec<PathBuf>, SamplesError> {
    let read = |source| SamplesError::Read { source };
    let mut paths = Vec::new();
    for entry in fs_err::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let extension =
            path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        if extension.is_some_and(|extension| IMAGE_EXTENSIONS.contains(&extension.as_str())) && path.is_file()
        {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        let reason = format!("it has no file that ends with .{}", IMAGE_EXTENSIONS.join(" or ."));
        return Err(SamplesError::File { path: folder.into(), reason });
    }
    Ok(paths)
}

/// Returns the lines of a text file that aren't empty; a file without any is an error.
pub(in crate::ops) fn lines(path: &Path) -> Result<Vec<String>, SamplesError> {
    let text = text::read(path).map_err(|source| SamplesError::Read { source })?;
    if let Some(line) = text.lines().position(|line| line.contains('\0')) {
        let reason = format!("line {} has a zero byte: it is not UTF-8 text", line + 1);
        return Err(SamplesError::File { path: path.into(), reason });
    }
    // Files that were joined have a byte order mark where the next one began.
    let lines = text.lines().map(|line| line.trim_start_matches('\u{feff}'));
    let lines: Vec<String> = lines.filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if lines.is_empty() {
        return Err(SamplesError::File { path: path.into(), reason: "it has no text".into() });
    }
    Ok(lines)
}

/// Makes an input of images; repeats them when there are fewer than rows.
pub(in crate::ops) fn images_of(
    paths: &[PathBuf],
    info: &TensorInfo,
    shape: &[usize],
) -> Result<Tensor, SamplesError> {
    let &[rows, image::CHANNELS, side, width] = shape else { return Err(not_images(info, shape)) };
    if side != width || paths.is_empty() {
        return Err(not_images(info, shape));
    }
    let distinct = paths
        .iter()
        .take(rows)
        .map(|path| {
            let bytes = fs_err::read(path).map_err(|source| SamplesError::Read { source })?;
            image::preprocess(&bytes, side)
                .map_err(|reason| SamplesError::File { path: path.clone(), reason })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let values: Vec<f32> = distinct.iter().cycle().take(rows).flatten().copied().collect();
    floats(info, shape, &values)
}

/// Makes an input of strings; repeats them when there are fewer than rows.
pub(in crate::ops) fn texts_of(
    texts: &[String],
    tokenizer: &Path,
    (part, pad): (Part, i64),
    info: &TensorInfo,
    shape: &[usize],
) -> Result<Tensor, SamplesError> {
    let &[rows, length] = shape else {
        let input = info.name.clone();
        return Err(SamplesError::WrongShape {
            input,
            shape: shape.into(),
            what: "texts",
            needed: "[rows, tokens]",
        });
    };
    let json = fs_err::read(tokenizer).map_err(|source| SamplesError::Read { source })?;
    let bad = |reason| SamplesError::File { path: tokenizer.into(), reason };
    let mut encoder = TextEncoder::new(text_encoding::without_mark(&json)).map_err(bad)?;
    let distinct = texts
        .iter()
        .take(rows)
        .map(|text| encoder.encode(text, length, part, pad).map_err(bad))
        .collect::<Result<Vec<_>, _>>()?;
    whole_numbers(info, shape, distinct.iter().cycle().take(rows).flatten().copied())
}

fn not_images(info: &TensorInfo, shape: &[usize]) -> SamplesError {
    let input = info.name.clone();
    SamplesError::WrongShape { input, shape: shape.into(), what: "images", needed: "[rows, 3, side, side]" }
}
