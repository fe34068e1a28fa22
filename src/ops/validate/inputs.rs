//! What graphs are run on: the samples in every shape, and the labelled set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ValidateError;
use crate::digest::Sha256;
use crate::onnx::{LoweringOptions, TensorInfo};
use crate::ops::resolve::Resolved;
use crate::ops::samples::{self, SamplesError, Shapes};
use crate::samples::Part;
use crate::validation::{BatchPart, ZeroShot};
use crate::worker::npy::Tensor;

/// The shapes that inputs are run in, and what results call them.
pub(super) const CASES: [(&str, Shapes); 3] =
    [("min", Shapes::Min), ("opt", Shapes::Opt), ("max", Shapes::Max)];
/// Rows of a batch that are run alone: the first and the last ones.
pub(super) const ALONE: [&str; 2] = ["alone", "alone-last"];
/// The runs of which rows are run alone: the first that has more rows than the min shapes.
const BATCHES: [&str; 2] = ["opt", "max"];

/// The files of one run, by input.
pub(super) type Files = BTreeMap<String, PathBuf>;

/// Everything that one graph is run on.
#[derive(Debug, Default)]
pub(super) struct GraphInputs {
    /// By the names of [`CASES`].
    pub cases: BTreeMap<&'static str, Files>,
    /// By the names of [`ALONE`]; empty if no batch has more rows than the min shapes.
    pub alone: BTreeMap<&'static str, Alone>,
    /// The labelled set in pieces, and the number of its rows; the last piece may have more.
    pub labelled: Option<(Vec<Files>, usize)>,
}

impl GraphInputs {
    /// Returns what a graph takes that was lowered in this way.
    pub(super) fn lowered(&self, lowering: &LoweringOptions) -> Result<Self, SamplesError> {
        let of = |files: &Files| samples::lowered(files, lowering);
        let cases = self.cases.iter().map(|(case, files)| Ok((*case, of(files)?)));
        let alone = self.alone.iter().map(|(run, alone)| {
            let Alone { whole, parts, files } = alone;
            Ok((*run, Alone { whole, parts: parts.clone(), files: of(files)? }))
        });
        let labelled = match &self.labelled {
            Some((pieces, rows)) => Some((pieces.iter().map(of).collect::<Result<_, _>>()?, *rows)),
            None => None,
        };
        Ok(Self {
            cases: cases.collect::<Result<_, _>>()?,
            alone: alone.collect::<Result<_, _>>()?,
            labelled,
        })
    }

    /// Returns the digest of every file, by what it is.
    pub(super) fn digests(&self) -> std::io::Result<BTreeMap<String, Sha256>> {
        let mut digests = BTreeMap::new();
        let pieces = self.labelled.iter().flat_map(|(pieces, _)| pieces.iter().enumerate());
        let pieces = pieces.map(|(index, files)| (format!("labelled-{index}"), files));
        let cases = self.cases.iter().map(|(case, files)| ((*case).to_owned(), files));
        let alone = self.alone.iter().map(|(run, alone)| ((*run).to_owned(), &alone.files));
        for (case, files) in cases.chain(alone).chain(pieces) {
            for (input, path) in files {
                let (digest, _) = Sha256::of_file(path)?;
                digests.insert(format!("{case}/{input}"), digest);
            }
        }
        Ok(digests)
    }
}

/// Rows of a batch that are run alone.
#[derive(Clone, Debug)]
pub(super) struct Alone {
    /// The run that has the batch.
    pub whole: &'static str,
    /// Which rows they are, for each input with a batch.
    pub parts: Vec<BatchPart>,
    pub files: Files,
}

/// What the rows of a labelled set mean.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Labelled {
    pub image_graph: String,
    pub text_graph: String,
    /// The outputs that the recipe names.
    pub image_output: Option<String>,
    pub text_output: Option<String>,
    /// Prompts of a class.
    pub prompts: usize,
    /// The class of each image.
    pub labels: Vec<usize>,
    pub most_loss: f64,
}

/// Writes the inputs of every graph into `folder`.
pub(super) fn write(
    resolved: &Resolved,
    folder: &Path,
) -> Result<(BTreeMap<String, GraphInputs>, Option<Labelled>), ValidateError> {
    let mut inputs = BTreeMap::new();
    for name in resolved.graphs.keys() {
        let subject = resolved.subject(name);
        let mut of_graph = GraphInputs::default();
        let failed = |source| ValidateError::Samples { graph: name.clone(), source };
        for (case, shapes) in CASES {
            let written =
                samples::write(&subject, shapes, &folder.join(format!("{name}-{case}"))).map_err(failed)?;
            of_graph.cases.insert(case, written);
        }
        of_graph.alone =
            alone(&subject, &of_graph.cases, &|run| folder.join(format!("{name}-{run}"))).map_err(failed)?;
        inputs.insert(name.clone(), of_graph);
    }
    let labelled = resolved
        .recipe()
        .validation
        .zero_shot
        .as_ref()
        .map(|zero_shot| labelled(resolved, zero_shot, folder, &mut inputs))
        .transpose()?;
    Ok((inputs, labelled))
}

/// Cuts the rows that are run alone out of a batch.
fn alone(
    subject: &samples::Subject<'_>,
    cases: &BTreeMap<&'static str, Files>,
    folder: &dyn Fn(&str) -> PathBuf,
) -> Result<BTreeMap<&'static str, Alone>, SamplesError> {
    let axes = subject.batch_axes();
    for whole in BATCHES {
        let mut batches = Vec::new();
        for (input, path) in &cases[whole] {
            let (Some(axis), Some(range)) = (axes.axis(input), subject.shapes.get(input)) else { continue };
            let tensor = read(input, path)?;
            let rows = tensor.shape().get(axis).copied().unwrap_or(1);
            let min = usize::try_from(range.min[axis]).unwrap_or(usize::MAX);
            batches.push((input, axis, tensor, BatchPart { whole: rows, alone: min.min(rows), first: 0 }));
        }
        if batches.iter().all(|(.., part)| part.whole == part.alone) {
            continue;
        }
        let mut runs = BTreeMap::new();
        for run in ALONE {
            let folder = folder(run);
            fs_err::create_dir_all(&folder).map_err(|source| SamplesError::Write { source })?;
            let (mut files, mut parts) = (cases[whole].clone(), Vec::new());
            for (index, (input, axis, tensor, part)) in batches.iter().enumerate() {
                let first = if run == ALONE[0] { 0 } else { part.whole - part.alone };
                let path = folder.join(format!("{index}.npy"));
                let rows = samples::rows_along(tensor, *axis, first, part.alone);
                rows.write(&path).map_err(|source| SamplesError::Npy { input: (*input).clone(), source })?;
                files.insert((*input).clone(), path);
                parts.push(BatchPart { first, ..*part });
            }
            runs.insert(run, Alone { whole, parts, files });
        }
        return Ok(runs);
    }
    Ok(BTreeMap::new())
}

fn read(input: &str, path: &Path) -> Result<Tensor, SamplesError> {
    Tensor::read(path).map_err(|source| SamplesError::Npy { input: input.to_owned(), source })
}

/// Writes the labelled set into the inputs of both graphs.
fn labelled(
    resolved: &Resolved,
    zero_shot: &ZeroShot,
    folder: &Path,
    inputs: &mut BTreeMap<String, GraphInputs>,
) -> Result<Labelled, ValidateError> {
    let ZeroShot {
        image_input,
        text_input,
        image_output,
        text_output,
        images,
        classes,
        prompts,
        tokenizer,
        pad,
        most_loss,
    } = zero_shot;
    let samples_folder = resolved.file().folder();
    let at = |source| ValidateError::LabelledSet { source };
    let (mut paths, mut labels) = (Vec::new(), Vec::new());
    for (class, name) in classes.keys().enumerate() {
        let found = samples::image_files(&samples_folder.join(images).join(name)).map_err(at)?;
        labels.extend(std::iter::repeat_n(class, found.len()));
        paths.extend(found);
    }
    let (image_graph, image_info, image_shape) = input(resolved, image_input)?;
    let (text_graph, text_info, text_shape) = input(resolved, text_input)?;
    let pieces = |graph: &str,
                  rows: &[usize],
                  count: usize,
                  make: &dyn Fn(usize) -> Result<Tensor, SamplesError>| {
        let batch = rows.first().copied().unwrap_or(1).max(1);
        let mut pieces = Vec::new();
        for first in (0..count).step_by(batch) {
            let path = folder.join(format!("{graph}-labelled-{first}.npy"));
            make(first)?.write(&path).map_err(|source| SamplesError::Npy { input: graph.into(), source })?;
            pieces.push(path);
        }
        Ok(pieces)
    };
    let image_pieces = pieces(&image_graph, &image_shape, paths.len(), &|first| {
        samples::images_of(&paths[first..], &image_info, &image_shape)
    })
    .map_err(at)?;
    let texts = zero_shot.texts();
    let tokenizer = samples_folder.join(tokenizer);
    let text_pieces = pieces(&text_graph, &text_shape, texts.len(), &|first| {
        samples::texts_of(&texts[first..], &tokenizer, (Part::Ids, *pad), &text_info, &text_shape)
    })
    .map_err(at)?;
    for (graph, info, pieces, rows) in [
        (&image_graph, image_info, image_pieces, paths.len()),
        (&text_graph, text_info, text_pieces, texts.len()),
    ] {
        if let Some(inputs) = inputs.get_mut(graph) {
            let files = pieces.into_iter().map(|path| Files::from([(info.name.clone(), path)])).collect();
            inputs.labelled = Some((files, rows));
        }
    }
    let prompts = prompts.len();
    let output =
        |place: &Option<String>| place.as_ref().and_then(|place| Some(place.split_once('/')?.1.to_owned()));
    Ok(Labelled {
        image_graph,
        text_graph,
        image_output: output(image_output),
        text_output: output(text_output),
        prompts,
        labels,
        most_loss: *most_loss,
    })
}

/// Finds an input by `graph/input`: it has to be the graph's only one.
fn input(resolved: &Resolved, place: &str) -> Result<(String, TensorInfo, Vec<usize>), ValidateError> {
    let wrong = |reason: &str| ValidateError::ZeroShot { place: place.into(), reason: reason.into() };
    let (graph, name) = place.split_once('/').ok_or_else(|| wrong("expected `graph/input`"))?;
    let file =
        &resolved.graphs.get(graph).ok_or_else(|| wrong("the recipe does not define this graph"))?.file;
    let mut inputs = file.inputs();
    if inputs.len() != 1 || inputs[0].name != name {
        return Err(wrong("it must be the only input of its graph"));
    }
    let range = resolved.recipe().graphs[graph]
        .shapes
        .get(name)
        .ok_or_else(|| wrong("the input has no shape range"))?;
    let shape = range.opt.iter().map(|&length| usize::try_from(length).unwrap_or_default()).collect();
    Ok((graph.to_owned(), inputs.remove(0), shape))
}
