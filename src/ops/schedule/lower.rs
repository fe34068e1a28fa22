//! Lowers one graph into the store.

use std::io::{self, Read, Write as _};
use std::path::Path;
use std::time::Instant;

use super::Context;
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::onnx::lower::Lowered;
use crate::onnx::{FileDigest, GraphDigest, LoweringReport, OnnxFile, Precision, lower};
use crate::ops::error::{JobError, SourceChanged};
use crate::ops::event::BuildEvent;
use crate::ops::lowering_warnings::lowering_warnings;
use crate::ops::to_lower::ToLower;
use crate::store::StoreError;
use crate::worklist::{BUILD_RECORD_SCHEMA, BuildRecord, Job, Measurements, OutputFile, Timings};

/// Lowers a graph, or, for FP32, takes it as it is.
pub(super) fn run(job: &Job, context: &Context<'_>) -> Result<BuildRecord, JobError> {
    #[expect(clippy::disallowed_methods, reason = "a job is timed")]
    let start = Instant::now();
    let graph = &context.resolved.graphs[&job.graph];
    let lowering = &job.document.lowering;
    if let Some(error) = context.resolved.lowerings.failure(&job.graph, lowering) {
        return Err(error.clone());
    }
    let source = ToLower::of(&graph.file, lowering, context.store)?;
    let source = source.file();
    let digest = match &lowering.quantization {
        Some(quantization) => quantization.graph.as_ref().unwrap_or(&job.document.graph),
        None => &job.document.graph,
    };
    let work = context.store.work_folder()?;
    let is_fp32 = lowering.precision == Precision::Fp32;
    // A compiler would take the dimensions of one symbol for equal, whatever it is: written anew, there is none.
    let (names, report) = if is_fp32 && !source.has_placeholder_dimensions() {
        (copy(source, digest, work.path())?, None)
    } else {
        let destination = work.path().join(GraphDigest::MODEL_PATH);
        let Lowered { files, report } = lower::lower(source, lowering, &destination)?;
        (files.into_iter().map(|file| file.path).collect(), Some(report).filter(|_| !is_fp32))
    };
    // What is recorded under a digest is made of those bytes.
    graph.check_unchanged(&job.graph).map_err(|error| JobError::new(error.kind(), error))?;
    let warnings: Vec<String> =
        report.as_ref().map(|report| warnings(&job.graph, report)).unwrap_or_default();
    for message in &warnings {
        (context.on_event)(BuildEvent::Warning { message: message.clone() });
    }
    let outputs = names
        .into_iter()
        .map(|name| context.store.adopt(&work.path().join(&name), &name))
        .collect::<Result<Vec<OutputFile>, StoreError>>()?;
    Ok(BuildRecord {
        schema: BUILD_RECORD_SCHEMA.into(),
        key: job.key,
        document: job.document.clone(),
        outputs,
        measurements: Some(Measurements {
            timings: Timings { total_ms: start.elapsed().as_millis() as u64, parse_ms: None, build_ms: None },
            peak_memory_bytes: None,
            node: None,
        }),
        plan: None,
        plan_layers: None,
        lowering: report,
        mixed_precision: context.resolved.lowerings.mixed_precision(&job.graph, lowering).cloned(),
        quantization: context.resolved.lowerings.quantization(&job.graph, lowering).cloned(),
        warnings,
    })
}

fn warnings(graph: &str, report: &LoweringReport) -> Vec<String> {
    let unmatched = report.unmatched_keeps.iter().map(|keep| {
        format!(
            "graph `{graph}` has no node or operator `{keep}`, which the recipe's `lowering` keeps in FP32"
        )
    });
    let others = lowering_warnings(report).into_iter().map(|warning| format!("graph `{graph}`: {warning}"));
    unmatched.chain(others).collect()
}

/// Copies a model and its external data, as they were opened; the model gets the name that profiles use. The copies must have the
/// digests that the source had.
fn copy(source: &OnnxFile, digest: &GraphDigest, folder: &Path) -> Result<Vec<String>, JobError> {
    let io_error =
        |error| StoreError::Io { doing: format!("copying {}", source.path().display()), source: error };
    let mut names = Vec::new();
    for (open, FileDigest { path, sha256, size_bytes: _ }) in source.open_files().zip(&digest.files) {
        let destination = folder.join(path);
        if let Some(parent) = destination.parent() {
            fs_err::create_dir_all(parent).map_err(io_error)?;
        }
        let copy = fs_err::File::create_new(&destination).map_err(io_error)?;
        let mut copied = Copied { from: open.reader(), to: copy };
        if Sha256::of_reader(&mut copied).map_err(io_error)?.0 != *sha256 {
            let error = SourceChanged { path: open.path().into() };
            return Err(JobError::new(ErrorKind::Input, error));
        }
        names.push(path.clone());
    }
    Ok(names)
}

/// Writes what is read through it.
struct Copied<R> {
    from: R,
    to: fs_err::File,
}

impl<R: Read> Read for Copied<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.to.write_all(&buffer[..count])?;
        Ok(count)
    }
}
