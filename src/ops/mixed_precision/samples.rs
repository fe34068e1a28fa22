//! Inputs to run a graph on: files of the user's, or seeded numbers.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{MixedPrecisionError, Subject};
use crate::digest::Sha256;
use crate::mixed_precision::{Integers, Normal, Sample};
use crate::onnx::{Dimension, ElementType, TensorInfo};
use crate::shape_range::ShapeRange;
use crate::synth::weights;
use crate::worker::npy::{NpyError, Tensor};

/// Fixed: equal recipes are measured on equal numbers.
const SEED: u64 = 20;
/// Bits of a uniform number that is scaled to a range: what `write_uniform` draws.
const UNIFORM_BITS: u32 = 32;

/// Describes each sample so that equal texts mean equal values: for keys.
///
/// # Errors
/// A file that can't be read; a sample that doesn't fit its input.
pub fn describe(subject: &Subject<'_>) -> Result<BTreeMap<String, String>, MixedPrecisionError> {
    let mut described = BTreeMap::new();
    for (info, sample) in pairs(subject)? {
        let text = match sample {
            Sample::Npy(path) => {
                let path = subject.sample_folder.join(path);
                let (sha256, _) =
                    Sha256::of_file(&path).map_err(|source| npy(&info, NpyError::Io(source)))?;
                sha256.to_string()
            }
            Sample::Normal(normal) => {
                format!("{normal:?} {:?} seed {SEED}", shape(subject, Shapes::Usual, &info)?)
            }
            Sample::Integers(integers) => {
                format!("{integers:?} {:?} seed {SEED}", shape(subject, Shapes::Usual, &info)?)
            }
        };
        described.insert(info.name, text);
    }
    Ok(described)
}

/// Writes a tensor file for every input into `folder`.
pub(in crate::ops) fn write(
    subject: &Subject<'_>,
    which: Shapes,
    folder: &Path,
) -> Result<BTreeMap<String, PathBuf>, MixedPrecisionError> {
    let failed = |source| MixedPrecisionError::Journal { path: folder.into(), source };
    fs_err::create_dir_all(folder).map_err(failed)?;
    let mut written = BTreeMap::new();
    for (index, (info, sample)) in pairs(subject)?.into_iter().enumerate() {
        let path = folder.join(format!("{index}.npy"));
        let tensor = match sample {
            Sample::Npy(path) => Tensor::read(&subject.sample_folder.join(path)),
            Sample::Normal(normal) => normal_tensor(&info, *normal, &shape(subject, which, &info)?)?,
            Sample::Integers(integers) => integer_tensor(&info, *integers, &shape(subject, which, &info)?)?,
        };
        let tensor = tensor.and_then(|tensor| tensor.write(&path).map(|()| path));
        written.insert(info.name.clone(), tensor.map_err(|source| npy(&info, source))?);
    }
    Ok(written)
}

fn pairs<'a>(subject: &Subject<'a>) -> Result<Vec<(TensorInfo, &'a Sample)>, MixedPrecisionError> {
    let inputs = subject.file.inputs();
    if let Some(unknown) = subject.samples.keys().find(|name| inputs.iter().all(|info| info.name != **name)) {
        let inputs = inputs.into_iter().map(|info| info.name).collect();
        return Err(MixedPrecisionError::NoSuchInput { input: unknown.clone(), inputs });
    }
    inputs
        .into_iter()
        .map(|info| match subject.samples.get(&info.name) {
            Some(sample) => Ok((info, sample)),
            None => Err(MixedPrecisionError::NoSamples { input: info.name }),
        })
        .collect()
}

/// Which shapes inputs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) enum Shapes {
    /// The least that a profile takes.
    Least,
    /// The usual ones.
    Usual,
    /// The usual ones, but for the first dimension, which is the least.
    UsualAlone,
    /// The usual ones, but for the first dimension, which is this.
    Batch(i64),
    /// The largest that a profile takes.
    Largest,
}

impl Shapes {
    pub(in crate::ops) fn of(self, range: &ShapeRange) -> Vec<i64> {
        let ShapeRange { min, opt, max } = range;
        match self {
            Self::Least => min.clone(),
            Self::Usual => opt.clone(),
            Self::Largest => max.clone(),
            Self::Batch(batch) => std::iter::once(batch).chain(opt.iter().skip(1).copied()).collect(),
            Self::UsualAlone => min.iter().take(1).chain(opt.iter().skip(1)).copied().collect(),
        }
    }
}

/// Returns the shape of an input.
fn shape(subject: &Subject<'_>, which: Shapes, info: &TensorInfo) -> Result<Vec<usize>, MixedPrecisionError> {
    let no_shape = || MixedPrecisionError::NoShape { input: info.name.clone() };
    let from_graph = || {
        info.shape
            .iter()
            .map(|dimension| match dimension {
                Dimension::Fixed(length) => Some(*length),
                _ => None,
            })
            .collect::<Option<Vec<i64>>>()
    };
    let shape = subject.shapes.get(&info.name).map(|range| which.of(range)).or_else(from_graph);
    let shape = shape.ok_or_else(no_shape)?;
    shape.into_iter().map(|length| usize::try_from(length).map_err(|_| no_shape())).collect()
}

fn normal_tensor(
    info: &TensorInfo,
    normal: Normal,
    shape: &[usize],
) -> Result<Result<Tensor, NpyError>, MixedPrecisionError> {
    let Normal { mean, standard_deviation } = normal;
    if info.element_type != ElementType::Float {
        return Err(kind(info));
    }
    let numbers =
        numbers(&info.name, shape, standard_deviation).map_err(|error| npy(info, NpyError::Io(error)))?;
    let shifted: Vec<f32> = numbers.into_iter().map(|value| value + mean as f32).collect();
    Ok(Tensor::new(shape, &shifted))
}

fn integer_tensor(
    info: &TensorInfo,
    integers: Integers,
    shape: &[usize],
) -> Result<Result<Tensor, NpyError>, MixedPrecisionError> {
    let Integers { low, high } = integers;
    let span = high.checked_sub(low).and_then(|span| u64::try_from(span).ok()).filter(|span| *span > 0);
    let span = span.ok_or_else(|| MixedPrecisionError::EmptyRange { input: info.name.clone() })?;
    let count = shape.iter().product::<usize>() as u64;
    let values = (0..count).map(|index| {
        let uniform = u64::from(weights::uniform_bits(SEED, &info.name, index));
        low + ((u128::from(uniform) * u128::from(span)) >> UNIFORM_BITS) as i64
    });
    match info.element_type {
        ElementType::Int64 => Ok(Tensor::new(shape, &values.collect::<Vec<i64>>())),
        ElementType::Int32 => Ok(Tensor::new(shape, &values.map(|value| value as i32).collect::<Vec<i32>>())),
        ElementType::Float => Ok(Tensor::new(shape, &values.map(|value| value as f32).collect::<Vec<f32>>())),
        ElementType::Bool => Ok(Tensor::new(shape, &values.map(|value| value != 0).collect::<Vec<bool>>())),
        _ => Err(kind(info)),
    }
}

fn numbers(name: &str, shape: &[usize], standard_deviation: f64) -> io::Result<Vec<f32>> {
    let count = shape.iter().product::<usize>() as u64;
    let mut bytes = Vec::new();
    weights::write_normal(&mut bytes, SEED, name, count, standard_deviation)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect())
}

fn kind(info: &TensorInfo) -> MixedPrecisionError {
    MixedPrecisionError::Kind { input: info.name.clone(), element_type: info.element_type.to_string() }
}

fn npy(info: &TensorInfo, source: NpyError) -> MixedPrecisionError {
    MixedPrecisionError::Npy { input: info.name.clone(), source }
}
