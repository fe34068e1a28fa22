//! Samples as single rows: what a graph is measured on.
//!
//! Every row runs alone, so that results depend neither on how a user batched the samples nor on padding: where a mask says which
//! tokens are padding, and the graph takes any number of tokens, the padding at the end is cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{QuantizeError, Samples};
use crate::digest::Sha256;
use crate::onnx::{Dimension, TensorInfo};
use crate::worker::npy::{ElementType, NpyFile, Tensor};

/// Rows that are in memory at once at most, and about how many bytes of them.
const CHUNK_ROWS: usize = 64;
const CHUNK_BYTES: usize = 4 << 20;
/// Inputs whose name ends so say which tokens are padding: with zeros.
const MASK: &str = "mask";

/// One row of every input.
#[derive(Clone, Debug)]
pub(in crate::ops) struct Row {
    /// The place in the samples, from 0.
    pub(super) number: usize,
    /// A file an input.
    pub(super) files: BTreeMap<String, PathBuf>,
    /// Of all inputs, as they are run.
    digest: Sha256,
}

/// Writes every row of chunks of samples into a new folder, whose name is told.
///
/// # Errors
/// As [`split`]; a chunk that can't be had, a folder that can't be made.
pub(in crate::ops) fn split_all(
    inputs: &[TensorInfo],
    chunks: impl Iterator<Item = Result<Samples, QuantizeError>>,
    folder: &Path,
) -> Result<Vec<Row>, QuantizeError> {
    let made = fs_err::create_dir_all(folder);
    made.map_err(|source| QuantizeError::Folder { path: folder.into(), source })?;
    let mut rows = Vec::new();
    for chunk in chunks {
        let more = split(inputs, &chunk?, folder, rows.len())?;
        rows.extend(more);
    }
    Ok(rows)
}

/// Writes every row of files of samples into a new folder, whose name is told; a few rows are in memory at once.
///
/// # Errors
/// As [`split`]; a file that can't be read, a folder that can't be made.
pub(in crate::ops) fn split_files(
    inputs: &[TensorInfo],
    files: &BTreeMap<String, NpyFile>,
    folder: &Path,
) -> Result<Vec<Row>, QuantizeError> {
    let named = of_inputs(inputs, files)?;
    let shapes: Vec<_> = named.iter().map(|(info, file)| (*info, file.shape())).collect();
    let count = count_rows(&shapes)?;
    let read = |rows: Option<(usize, usize)>| -> Result<Samples, QuantizeError> {
        let of_input = |(info, file): &(&TensorInfo, &NpyFile)| {
            let tensor = match rows {
                Some((first, count)) => file.rows(first, count),
                None => file.whole(),
            };
            let npy = |source| QuantizeError::Npy { input: info.name.clone(), source };
            Ok((info.name.clone(), tensor.map_err(npy)?))
        };
        named.iter().map(of_input).collect()
    };
    if count == 1 {
        return split_all(inputs, std::iter::once(read(None)), folder);
    }
    let at_once = rows_at_once(named.iter().map(|(_, file)| file.row_bytes()));
    let chunks = (0..count).step_by(at_once).map(|first| read(Some((first, at_once))));
    split_all(inputs, chunks, folder)
}

/// Returns how many rows of so many bytes are in memory at once.
pub(super) fn rows_at_once(row_bytes: impl Iterator<Item = usize>) -> usize {
    (CHUNK_BYTES / row_bytes.sum::<usize>().max(1)).clamp(1, CHUNK_ROWS)
}

/// Returns every input with what there is of it.
fn of_inputs<'s, T>(
    inputs: &'s [TensorInfo],
    samples: &'s BTreeMap<String, T>,
) -> Result<Vec<(&'s TensorInfo, &'s T)>, QuantizeError> {
    let names = || inputs.iter().map(|info| info.name.clone()).collect::<Vec<_>>();
    if let Some(unknown) = samples.keys().find(|name| inputs.iter().all(|info| info.name != **name)) {
        return Err(QuantizeError::NoSuchInput { input: unknown.clone(), inputs: names() });
    }
    let of_input = |info: &'s TensorInfo| {
        let missing = || QuantizeError::NoSamples { input: info.name.clone(), inputs: names() };
        Ok((info, samples.get(&info.name).ok_or_else(missing)?))
    };
    inputs.iter().map(of_input).collect()
}

/// Writes every row of samples into `folder`; the first has the number `first`.
///
/// # Errors
/// Inputs are missing or have different numbers of rows; a value is not finite; a row has nothing but padding.
fn split(
    inputs: &[TensorInfo],
    samples: &Samples,
    folder: &Path,
    first: usize,
) -> Result<Vec<Row>, QuantizeError> {
    let tensors = of_inputs(inputs, samples)?;
    let shapes: Vec<_> = tensors.iter().map(|(info, tensor)| (*info, tensor.shape())).collect();
    let count = count_rows(&shapes)?;
    for (info, tensor) in &tensors {
        check_finite(info, tensor, count, first)?;
    }
    let is_cut =
        |info: &TensorInfo| matches!(info.shape.get(1), Some(Dimension::Symbolic(_) | Dimension::Unknown));
    let mask = tensors
        .iter()
        .find(|(info, tensor)| info.name.ends_with(MASK) && tensor.shape().len() == 2 && is_cut(info));
    let mut rows = Vec::new();
    for index in 0..count {
        let number = first + index;
        let of_row = |tensor: &Tensor| if count == 1 { tensor.clone() } else { tensor.rows(index, 1) };
        let length = match mask {
            None => None,
            Some((info, mask)) => {
                let tokens = of_row(mask).to_f64();
                let last = tokens.iter().rposition(|token| *token != 0.0);
                let last =
                    last.ok_or_else(|| QuantizeError::OnlyPadding { row: number, mask: info.name.clone() })?;
                Some((mask.shape()[1], last + 1))
            }
        };
        let (mut files, mut bytes) = (BTreeMap::new(), Vec::new());
        for (index, (info, tensor)) in tensors.iter().enumerate() {
            let mut row = of_row(tensor);
            if let Some((padded, length)) = length
                && row.shape().get(1) == Some(&padded)
                && is_cut(info)
            {
                row = first_tokens(&row, length);
            }
            let path = folder.join(format!("{number}-{index}.npy"));
            let npy = row.to_npy();
            row.write(&path).map_err(|source| QuantizeError::Npy { input: info.name.clone(), source })?;
            bytes.extend(Sha256::of(&npy).to_string().into_bytes());
            files.insert(info.name.clone(), path);
        }
        rows.push(Row { number, files, digest: Sha256::of(&bytes) });
    }
    Ok(rows)
}

/// Returns the number of rows that all inputs have; 1 if the graph's first dimensions are fixed, or differ.
fn count_rows(shapes: &[(&TensorInfo, &[usize])]) -> Result<usize, QuantizeError> {
    let rows = |shape: &[usize]| shape.first().copied().unwrap_or(1);
    if let Some((info, _)) = shapes.iter().find(|(_, shape)| shape.contains(&0)) {
        return Err(QuantizeError::NoRows { input: info.name.clone() });
    }
    let is_any = |info: &TensorInfo| !matches!(info.shape.first(), None | Some(Dimension::Fixed(_)));
    let is_one = |info: &TensorInfo| matches!(info.shape.first(), Some(Dimension::Fixed(1)));
    let of_any = shapes.iter().find(|(info, _)| is_any(info));
    let (Some((_, first)), true) = (
        of_any.or(shapes.iter().find(|(info, _)| is_one(info))),
        shapes.iter().all(|(info, _)| is_any(info) || is_one(info)),
    ) else {
        return Ok(1);
    };
    let first = rows(first);
    match shapes.iter().find(|(_, shape)| rows(shape) != first) {
        None => Ok(first),
        Some((info, shape)) => {
            Err(QuantizeError::OtherRows { input: info.name.clone(), found: rows(shape), others: first })
        }
    }
}

fn check_finite(info: &TensorInfo, tensor: &Tensor, rows: usize, first: usize) -> Result<(), QuantizeError> {
    use ElementType as E;
    if !matches!(tensor.element_type(), E::Float16 | E::Bfloat16 | E::Float32 | E::Float64) {
        return Ok(());
    }
    let values = tensor.to_f64();
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(place) => {
            let row = first + place / (values.len() / rows.max(1)).max(1);
            Err(QuantizeError::NotFinite { input: info.name.clone(), row })
        }
    }
}

/// Returns the first tokens of one row.
fn first_tokens(row: &Tensor, length: usize) -> Tensor {
    let mut shape = row.shape().to_vec();
    let inner: usize = shape[2..].iter().product();
    let bytes = length * inner * row.element_type().size_bytes();
    shape[1] = length;
    Tensor::from_bytes(row.element_type(), &shape, &row.bytes()[..bytes]).unwrap_or_else(|_| row.clone())
}

/// Refuses rows that are judged and calibrated with: they would judge themselves.
pub(in crate::ops) fn check_apart(calibration: &[Row], judged: &[Row]) -> Result<(), QuantizeError> {
    let known: BTreeSet<Sha256> = calibration.iter().map(|row| row.digest).collect();
    match judged.iter().find(|row| known.contains(&row.digest)) {
        None => Ok(()),
        Some(row) => {
            let same = calibration.iter().find(|other| other.digest == row.digest);
            let calibration = same.map_or(0, |row| row.number);
            Err(QuantizeError::JudgedRowCalibrates { judged: row.number, calibration })
        }
    }
}
