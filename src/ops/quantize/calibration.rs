//! A recipe's samples to calibrate with: all rows that there are, a chunk of them at a time.

use std::path::{Path, PathBuf};

use super::rows::rows_at_once;
use super::{QuantizeError, Samples};
use crate::onnx::{Dimension, TensorInfo};
use crate::ops::samples::{self, SamplesError, SeededNumbers, Shapes, Subject};
use crate::samples::{Npz, Part, Sample};
use crate::worker::npy::{NpyFile, Tensor, archive};

/// Rows of seeded numbers, where no other input says how many there are.
const SEEDED_ROWS: usize = 32;

/// A graph's samples, opened.
pub(in crate::ops) struct Calibration<'a> {
    subject: &'a Subject<'a>,
    inputs: Vec<(TensorInfo, Source)>,
    /// Rows of every input.
    rows: usize,
    /// Rows of a chunk.
    chunk_rows: usize,
}

enum Source {
    /// An array of an archive, with all of its rows.
    Whole(Tensor),
    /// A file of rows.
    Rows(NpyFile),
    /// A file a row.
    Images(Vec<PathBuf>),
    /// A line a row.
    Texts { lines: Vec<String>, tokenizer: PathBuf, part: Part, pad: i64 },
    /// Numbers that depend on their place.
    Seeded(SeededNumbers),
}

impl<'a> Calibration<'a> {
    /// Opens the samples of a graph: every input has some.
    pub(in crate::ops) fn open(subject: &'a Subject<'a>) -> Result<Self, QuantizeError> {
        let mut inputs = Vec::new();
        let infos = subject.file.inputs();
        for info in &infos {
            let missing = || QuantizeError::NoSamples {
                input: info.name.clone(),
                inputs: infos.iter().map(|info| info.name.clone()).collect(),
            };
            let sample = subject.samples.get(&info.name).ok_or_else(missing)?;
            inputs.push((info.clone(), open(info, sample, subject.sample_folder)?));
        }
        // A graph of a fixed batch takes that many rows at once.
        let fixed = inputs.iter().find_map(|(info, _)| match info.shape.first() {
            Some(Dimension::Fixed(length)) if *length > 1 => usize::try_from(*length).ok(),
            _ => None,
        });
        let mut calibration = Self { subject, inputs, rows: SEEDED_ROWS, chunk_rows: fixed.unwrap_or(1) };
        if fixed.is_none() {
            calibration.chunk_rows = calibration.rows_at_once()?;
        }
        let mut counts = calibration.inputs.iter().filter_map(|(info, source)| Some((info, source.rows()?)));
        if let Some((_, rows)) = counts.next() {
            if let Some((info, found)) = counts.find(|(_, found)| *found != rows) {
                return Err(QuantizeError::OtherRows { input: info.name.clone(), found, others: rows });
            }
            calibration.rows = rows;
        }
        if fixed.is_some() {
            // What is left over fills no batch.
            calibration.rows -= calibration.rows % calibration.chunk_rows;
        }
        Ok(calibration)
    }

    /// Returns how many rows that are made of files are in memory at once.
    fn rows_at_once(&self) -> Result<usize, QuantizeError> {
        let row_bytes = |(info, source): &(TensorInfo, Source)| match source {
            Source::Rows(file) => Ok(file.row_bytes()),
            Source::Images(_) => {
                let shape = samples::shape(self.subject, Shapes::Batch(1), info)?;
                Ok(shape.iter().product::<usize>() * size_of::<f32>())
            }
            // Lines are short, and the others are in memory as a whole.
            Source::Texts { .. } | Source::Whole(_) | Source::Seeded(_) => Ok(0),
        };
        let row_bytes: Result<Vec<usize>, SamplesError> = self.inputs.iter().map(row_bytes).collect();
        Ok(rows_at_once(row_bytes?.into_iter()))
    }

    /// Returns the chunks, one after the other.
    pub(in crate::ops) fn chunks(&self) -> impl Iterator<Item = Result<Samples, QuantizeError>> {
        (0..self.rows).step_by(self.chunk_rows).map(|first| self.chunk(first))
    }

    fn chunk(&self, first: usize) -> Result<Samples, QuantizeError> {
        let count = self.chunk_rows.min(self.rows - first);
        let mut samples = Samples::new();
        for (info, source) in &self.inputs {
            let shape = |rows: usize| {
                let rows = i64::try_from(rows).unwrap_or(i64::MAX);
                samples::shape(self.subject, Shapes::Batch(rows), info)
            };
            let tensor = match source {
                Source::Whole(tensor) => Ok(tensor.rows(first, count)),
                Source::Rows(file) => {
                    let npy = |source| QuantizeError::Npy { input: info.name.clone(), source };
                    Ok(file.rows(first, count).map_err(npy)?)
                }
                Source::Images(paths) => shape(count)
                    .and_then(|shape| samples::images_of(&paths[first..first + count], info, &shape)),
                Source::Texts { lines, tokenizer, part, pad } => shape(count).and_then(|shape| {
                    samples::texts_of(&lines[first..first + count], tokenizer, (*part, *pad), info, &shape)
                }),
                Source::Seeded(numbers) => shape(self.rows)
                    .and_then(|shape| seeded(info, *numbers, &shape))
                    .map(|tensor| tensor.rows(first, count)),
            };
            samples.insert(info.name.clone(), tensor?);
        }
        Ok(samples)
    }
}

impl Source {
    /// Returns how many rows there are; `None` where there are as many as one likes.
    fn rows(&self) -> Option<usize> {
        match self {
            Self::Whole(tensor) => Some(tensor.shape().first().copied().unwrap_or(1)),
            Self::Rows(file) => Some(file.shape().first().copied().unwrap_or(1)),
            Self::Images(paths) => Some(paths.len()),
            Self::Texts { lines, .. } => Some(lines.len()),
            Self::Seeded(_) => None,
        }
    }
}

fn open(info: &TensorInfo, sample: &Sample, folder: &Path) -> Result<Source, QuantizeError> {
    let npy = |source| QuantizeError::Npy { input: info.name.clone(), source };
    match sample {
        Sample::Npy(path) => {
            let file = NpyFile::open(&folder.join(path)).map_err(npy)?;
            samples::check_type(info, file.element_type())?;
            Ok(Source::Rows(file))
        }
        Sample::Npz(Npz { file, array }) => {
            let name = array.as_ref().unwrap_or(&info.name);
            let tensor = archive::read_array(&folder.join(file), name).map_err(npy)?;
            samples::check_type(info, tensor.element_type())?;
            Ok(Source::Whole(tensor))
        }
        Sample::Images(images) => Ok(Source::Images(samples::image_files(&folder.join(&images.folder))?)),
        Sample::Texts(texts) => Ok(Source::Texts {
            lines: samples::lines(&folder.join(&texts.file))?,
            tokenizer: folder.join(&texts.tokenizer),
            part: texts.part,
            pad: texts.pad,
        }),
        Sample::Normal(normal) => Ok(Source::Seeded(SeededNumbers::Normal(*normal))),
        Sample::Integers(integers) => Ok(Source::Seeded(SeededNumbers::Integers(*integers))),
    }
}

/// Makes numbers that are others than those that judge, although their distribution is the same.
fn seeded(info: &TensorInfo, numbers: SeededNumbers, shape: &[usize]) -> Result<Tensor, SamplesError> {
    let info = TensorInfo { name: format!("calibration of {}", info.name), ..info.clone() };
    samples::seeded_tensor(&info, numbers, shape)
}
