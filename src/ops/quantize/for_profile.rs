//! Quantizes a graph of a recipe as a profile asks for it, into the store.

use std::collections::BTreeMap;

use super::{
    Calibration, Found, Place, QuantizeError, QuantizeProgress, Request, Row, check_apart, find, split_all,
};
use crate::onnx::quantize::{QuantizationOptions, Quantized, quantize};
use crate::onnx::{FileDigest, GraphDigest, NodeNames};
use crate::ops::error::PipelineError;
use crate::ops::resolve::{PendingSearch, Resolved};
use crate::ops::runners::Runners;
use crate::ops::samples::{self, Shapes};
use crate::ops::workspace::Workspace;
use crate::quantization::{QuantizationDemands, QuantizationRecord};
use crate::store::{QuantizedGraph, Store, StoreError};
use crate::worker::npy::Tensor;
use crate::worker::protocol::Execution;

/// Finds how a graph is quantized, and puts the quantized graph into the store.
pub(in crate::ops) fn for_profile(
    workspace: &Workspace,
    resolved: &Resolved,
    search: &PendingSearch,
    store: &Store,
    on_progress: &dyn Fn(QuantizeProgress),
) -> Result<QuantizedGraph, QuantizeError> {
    let PendingSearch { spec, graph, key } = search;
    let (Some(quantization), Some(QuantizationDemands { wanted, gate, require: _ })) =
        (&spec.lowering.quantization, spec.quantization)
    else {
        return Err(QuantizeError::NothingAsked);
    };
    let file = &resolved.graphs[graph].file;
    // A node of another graph is none of this one's.
    let names = NodeNames::of(file).nodes;
    let mut options: QuantizationOptions = quantization.options.clone();
    options.keep_nodes.retain(|name| names.contains(name));
    let work = store.work_folder().map_err(pipeline)?;
    let way = Runners::new(&resolved.backends, &Execution::default()).for_graphs().map_err(Box::new)?;
    let subject = resolved.calibration_subject(graph);
    let calibration = Calibration::open(&subject)?;
    let rows = split_all(&file.inputs(), calibration.chunks(), &work.path().join("calibration"))?;
    drop(calibration);
    check_apart(&rows, &judged(resolved, graph, &work.path().join("judged"))?)?;
    let request = Request {
        file,
        options: &options,
        lowering: &spec.lowering,
        wanted,
        gate,
        calibration: &rows,
        judged: None,
    };
    let journal = store.quantized_graph_journal(key);
    let place = Place { way: &way, workspace, folder: work.path(), journal };
    let Found { choice, statistics, .. } = find(&request, &place, on_progress)?;
    options.keep_nodes.extend(choice.kept.iter().cloned());
    let folder = work.path().join("quantized");
    let made = fs_err::create_dir_all(&folder);
    made.map_err(|source| QuantizeError::Folder { path: folder.clone(), source })?;
    let destination = folder.join(GraphDigest::MODEL_PATH);
    let Quantized { files, report, exact_nodes: _ } =
        quantize(file, &options, choice.method, &statistics, &destination)?;
    let adopt = |file: &crate::onnx::WrittenFile| {
        let adopted = store.adopt(&folder.join(&file.path), &file.path)?;
        Ok(FileDigest { path: file.path.clone(), sha256: adopted.sha256, size_bytes: adopted.size_bytes })
    };
    let files = files.iter().map(adopt).collect::<Result<_, StoreError>>().map_err(pipeline)?;
    Ok(QuantizedGraph::new(QuantizationRecord { choice, report }, GraphDigest { files }))
}

/// Returns the rows that validation judges by in the opt shapes. Samples that can't be made are validation's matter.
fn judged(resolved: &Resolved, graph: &str, folder: &std::path::Path) -> Result<Vec<Row>, QuantizeError> {
    let subject = resolved.subject(graph);
    let Ok(written) = samples::write(&subject, Shapes::Opt, &folder.join("inputs")) else {
        return Ok(Vec::new());
    };
    let mut tensors = BTreeMap::new();
    for (input, path) in written {
        let tensor = Tensor::read(&path);
        tensors.insert(input.clone(), tensor.map_err(|source| QuantizeError::Npy { input, source })?);
    }
    match split_all(&subject.file.inputs(), std::iter::once(Ok(tensors)), folder) {
        Ok(rows) => Ok(rows),
        // What can't calibrate can still be judged: padding alone, say.
        Err(QuantizeError::Folder { path, source }) => Err(QuantizeError::Folder { path, source }),
        Err(_) => Ok(Vec::new()),
    }
}

fn pipeline(error: StoreError) -> QuantizeError {
    Box::new(PipelineError::from(error)).into()
}
