//! Inputs to run a graph on, as tensor files: the user's own, images, texts, or seeded numbers.

mod batch;
mod error;
mod files;
mod fits;
mod identity;
mod lowered;
pub(super) mod named_files;
mod shapes;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub(in crate::ops) use batch::{BatchAxes, rows_along};
pub use error::SamplesError;
pub(in crate::ops) use files::{image_files, images_of, lines, sample_files, texts_of};
pub(in crate::ops) use fits::check_type;
pub use identity::{SampleIdentity, identify};
pub(in crate::ops) use lowered::lowered;
pub(in crate::ops) use shapes::{Shapes, shape};

use crate::onnx::{ElementType, OnnxFile, TensorInfo, index_bounds};
use crate::samples::{Integers, Normal, Sample, seeded};
use crate::shape_range::ShapeRange;
use crate::synth::weights;
use crate::worker::npy::{NpyError, Tensor, archive};

/// Fixed: equal recipes are measured on equal numbers.
const SEED: u64 = 20;
/// Bits of a uniform number that is scaled to a range: what `write_uniform` draws.
const UNIFORM_BITS: u32 = 32;

/// One graph and its samples.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The graph in FP32.
    pub file: &'a OnnxFile,
    /// Where its inputs come from.
    pub samples: &'a BTreeMap<String, Sample>,
    /// The folder that files of samples are relative to.
    pub sample_folder: &'a Path,
    /// Shape ranges.
    pub shapes: &'a BTreeMap<String, ShapeRange>,
}

impl Subject<'_> {
    /// Returns which dimension of each input is the batch.
    pub(in crate::ops) fn batch_axes(&self) -> BatchAxes {
        BatchAxes::of(&self.file.inputs(), self.shapes)
    }
}

/// An input that the recipe gives no samples for.
#[derive(Clone, Debug, PartialEq)]
pub struct SeededInput {
    /// The graph.
    pub graph: String,
    /// The input.
    pub input: String,
    /// What it is run on in place of samples.
    pub sample: Sample,
}

/// The samples of a graph, with seeded ones for the inputs that the recipe has no samples for.
#[derive(Clone, Debug)]
pub(in crate::ops) struct Completed {
    /// By input.
    pub samples: BTreeMap<String, Sample>,
    /// The inputs that the recipe has no samples for, in the graph's order.
    pub seeded: Vec<String>,
}

/// Adds seeded samples for the inputs that the recipe has no samples for. An input that can't be seeded gets none.
pub(in crate::ops) fn complete(file: &OnnxFile, given: &BTreeMap<String, Sample>) -> Completed {
    let mut completed = Completed { samples: given.clone(), seeded: Vec::new() };
    let inputs = file.inputs();
    if inputs.iter().all(|info| given.contains_key(&info.name)) {
        return completed;
    }
    let bounds = index_bounds(file);
    for info in inputs {
        if given.contains_key(&info.name) {
            continue;
        }
        if let Some(sample) = seeded(&info, bounds.get(&info.name).copied()) {
            completed.samples.insert(info.name.clone(), sample);
            completed.seeded.push(info.name);
        }
    }
    completed
}

/// Writes a tensor file for every input into `folder`.
pub(in crate::ops) fn write(
    subject: &Subject<'_>,
    which: Shapes,
    folder: &Path,
) -> Result<BTreeMap<String, PathBuf>, SamplesError> {
    fs_err::create_dir_all(folder).map_err(|source| SamplesError::Write { source })?;
    let mut written = BTreeMap::new();
    for (index, (info, sample)) in pairs(subject)?.into_iter().enumerate() {
        let path = folder.join(format!("{index}.npy"));
        let tensor = tensor(subject, which, &info, sample)?;
        if sample.has_its_own_shape() {
            fits::check(&info, subject.shapes.get(&info.name), &tensor)?;
        }
        if tensor.shape().first() == Some(&0) {
            return Err(SamplesError::NoRows { input: info.name, shape: tensor.shape().to_vec() });
        }
        tensor.write(&path).map_err(|source| npy(&info, source))?;
        written.insert(info.name, path);
    }
    Ok(written)
}

/// Makes the values of one input.
fn tensor(
    subject: &Subject<'_>,
    which: Shapes,
    info: &TensorInfo,
    sample: &Sample,
) -> Result<Tensor, SamplesError> {
    let folder = subject.sample_folder;
    let wanted = || shape(subject, which, info);
    match sample {
        Sample::Npy(path) => {
            let whole = Tensor::read(&folder.join(path)).map_err(|source| npy(info, source))?;
            first_rows(subject, which, info, whole)
        }
        Sample::Npz(npz) => {
            let name = npz.array.as_ref().unwrap_or(&info.name);
            let whole =
                archive::read_array(&folder.join(&npz.file), name).map_err(|source| npy(info, source))?;
            first_rows(subject, which, info, whole)
        }
        Sample::Images(images) => {
            let paths = files::image_files(&folder.join(&images.folder))?;
            images_of(&paths, info, &wanted()?)
        }
        Sample::Texts(texts) => {
            let lines = files::lines(&folder.join(&texts.file))?;
            texts_of(&lines, &folder.join(&texts.tokenizer), (texts.part, texts.pad), info, &wanted()?)
        }
        Sample::Normal(normal) => normal_tensor(info, *normal, &wanted()?),
        Sample::Integers(integers) => integer_tensor(info, *integers, &wanted()?),
    }
}

/// Seeded numbers.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) enum SeededNumbers {
    Normal(Normal),
    Integers(Integers),
}

/// Makes seeded numbers, which depend on the input's name and their place.
pub(in crate::ops) fn seeded_tensor(
    info: &TensorInfo,
    numbers: SeededNumbers,
    shape: &[usize],
) -> Result<Tensor, SamplesError> {
    match numbers {
        SeededNumbers::Normal(normal) => normal_tensor(info, normal, shape),
        SeededNumbers::Integers(integers) => integer_tensor(info, integers, shape),
    }
}

/// A file has the shape that it has; only its first rows are run alone.
fn first_rows(
    subject: &Subject<'_>,
    which: Shapes,
    info: &TensorInfo,
    whole: Tensor,
) -> Result<Tensor, SamplesError> {
    match (which, subject.batch_axes().axis(&info.name)) {
        (Shapes::OptAlone, Some(axis)) => {
            let count = shape(subject, which, info)?.get(axis).copied().unwrap_or(1);
            Ok(rows_along(&whole, axis, 0, count))
        }
        _ => Ok(whole),
    }
}

fn pairs<'a>(subject: &Subject<'a>) -> Result<Vec<(TensorInfo, &'a Sample)>, SamplesError> {
    let inputs = subject.file.inputs();
    if let Some(unknown) = subject.samples.keys().find(|name| inputs.iter().all(|info| info.name != **name)) {
        let inputs = inputs.into_iter().map(|info| info.name).collect();
        return Err(SamplesError::NoSuchInput { input: unknown.clone(), inputs });
    }
    inputs
        .into_iter()
        .map(|info| match subject.samples.get(&info.name) {
            Some(sample) => Ok((info, sample)),
            None => Err(match seeded(&info, index_bounds(subject.file).get(&info.name).copied()) {
                Some(proposal) => SamplesError::NoSamples { input: info.name, proposal },
                None => kind(&info),
            }),
        })
        .collect()
}

fn normal_tensor(info: &TensorInfo, normal: Normal, shape: &[usize]) -> Result<Tensor, SamplesError> {
    let Normal { mean, standard_deviation } = normal;
    let numbers =
        numbers(&info.name, shape, standard_deviation).map_err(|error| npy(info, NpyError::Io(error)))?;
    let shifted: Vec<f32> = numbers.into_iter().map(|value| value + mean as f32).collect();
    floats(info, shape, &shifted)
}

fn integer_tensor(info: &TensorInfo, integers: Integers, shape: &[usize]) -> Result<Tensor, SamplesError> {
    let Integers { low, high } = integers;
    let span = high.checked_sub(low).and_then(|span| u64::try_from(span).ok()).filter(|span| *span > 0);
    let span = span.ok_or_else(|| SamplesError::EmptyRange { input: info.name.clone() })?;
    let count = shape.iter().product::<usize>() as u64;
    let values = (0..count).map(|index| {
        let uniform = u64::from(weights::uniform_bits(SEED, &info.name, index));
        low + ((u128::from(uniform) * u128::from(span)) >> UNIFORM_BITS) as i64
    });
    whole_numbers(info, shape, values)
}

/// Makes a tensor of an input that takes floats.
pub(super) fn floats(info: &TensorInfo, shape: &[usize], values: &[f32]) -> Result<Tensor, SamplesError> {
    let tensor = match info.element_type {
        ElementType::Float => Tensor::new(shape, values),
        ElementType::Float16 => Tensor::new(shape, &converted(values, half::f16::from_f32)),
        ElementType::Bfloat16 => Tensor::new(shape, &converted(values, half::bf16::from_f32)),
        ElementType::Double => Tensor::new(shape, &converted(values, f64::from)),
        _ => return Err(kind(info)),
    };
    tensor.map_err(|source| npy(info, source))
}

/// Makes a tensor of an input that takes integers, or floats.
pub(super) fn whole_numbers(
    info: &TensorInfo,
    shape: &[usize],
    values: impl Iterator<Item = i64>,
) -> Result<Tensor, SamplesError> {
    let tensor = match info.element_type {
        ElementType::Int64 => Tensor::new(shape, &values.collect::<Vec<i64>>()),
        ElementType::Int32 => Tensor::new(shape, &values.map(|value| value as i32).collect::<Vec<i32>>()),
        ElementType::Float => Tensor::new(shape, &values.map(|value| value as f32).collect::<Vec<f32>>()),
        ElementType::Int8 => Tensor::new(shape, &values.map(|value| value as i8).collect::<Vec<i8>>()),
        ElementType::Int16 => Tensor::new(shape, &values.map(|value| value as i16).collect::<Vec<i16>>()),
        ElementType::Uint8 => Tensor::new(shape, &values.map(|value| value as u8).collect::<Vec<u8>>()),
        ElementType::Uint16 => Tensor::new(shape, &values.map(|value| value as u16).collect::<Vec<u16>>()),
        ElementType::Uint32 => Tensor::new(shape, &values.map(|value| value as u32).collect::<Vec<u32>>()),
        ElementType::Uint64 => Tensor::new(shape, &values.map(|value| value as u64).collect::<Vec<u64>>()),
        ElementType::Bool => Tensor::new(shape, &values.map(|value| value != 0).collect::<Vec<bool>>()),
        ElementType::Float16 | ElementType::Bfloat16 | ElementType::Double => {
            return floats(info, shape, &values.map(|value| value as f32).collect::<Vec<f32>>());
        }
        _ => return Err(kind(info)),
    };
    tensor.map_err(|source| npy(info, source))
}

fn converted<T>(values: &[f32], convert: impl Fn(f32) -> T) -> Vec<T> {
    values.iter().copied().map(convert).collect()
}

fn numbers(name: &str, shape: &[usize], standard_deviation: f64) -> io::Result<Vec<f32>> {
    let count = shape.iter().product::<usize>() as u64;
    let mut bytes = Vec::new();
    weights::write_normal(&mut bytes, SEED, name, count, standard_deviation)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect())
}

fn kind(info: &TensorInfo) -> SamplesError {
    SamplesError::Kind { input: info.name.clone(), element_type: info.element_type.to_string() }
}

fn npy(info: &TensorInfo, source: NpyError) -> SamplesError {
    SamplesError::Npy { input: info.name.clone(), source }
}
