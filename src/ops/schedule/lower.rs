//! Lowers one graph into the store.

use std::path::Path;
use std::time::Instant;

use super::Context;
use crate::onnx::lower::Lowered;
use crate::onnx::{GraphDigest, LoweringReport, OnnxFile, Precision, lower};
use crate::ops::error::JobError;
use crate::ops::event::BuildEvent;
use crate::ops::lowering_warnings::lowering_warnings;
use crate::store::StoreError;
use crate::worklist::{BUILD_RECORD_SCHEMA, BuildRecord, Job, Measurements, OutputFile, Timings};

/// Lowers a graph, or, for FP32, takes it as it is.
pub(super) fn run(job: &Job, context: &Context<'_>) -> Result<BuildRecord, JobError> {
    #[expect(clippy::disallowed_methods, reason = "a job is timed")]
    let start = Instant::now();
    let source = &context.resolved.graphs[&job.graph].file;
    let work = context.store.work_folder()?;
    let is_fp32 = job.document.lowering.precision == Precision::Fp32;
    // A compiler would take the dimensions of one symbol for equal, whatever it is: written anew, there is none.
    let (names, report) = if is_fp32 && !source.has_placeholder_dimensions() {
        (copy(source, work.path())?, None)
    } else {
        let destination = work.path().join(GraphDigest::MODEL_PATH);
        let Lowered { files, report } = lower::lower(source, &job.document.lowering, &destination)?;
        (files.into_iter().map(|file| file.path).collect(), Some(report).filter(|_| !is_fp32))
    };
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
        }),
        plan: None,
        lowering: report,
        mixed_precision: context.resolved.lowerings.report(&job.graph, &job.document.lowering).cloned(),
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

/// Copies a model and its external data; the model gets the name that profiles use.
fn copy(source: &OnnxFile, folder: &Path) -> Result<Vec<String>, StoreError> {
    let io_error =
        |error| StoreError::Io { doing: format!("copying {}", source.path().display()), source: error };
    let from = source.path().parent().unwrap_or(Path::new(""));
    fs_err::copy(source.path(), folder.join(GraphDigest::MODEL_PATH)).map_err(io_error)?;
    let mut names = vec![GraphDigest::MODEL_PATH.to_owned()];
    for external in source.external_files() {
        let destination = folder.join(external);
        if let Some(parent) = destination.parent() {
            fs_err::create_dir_all(parent).map_err(io_error)?;
        }
        fs_err::copy(from.join(external), destination).map_err(io_error)?;
        names.push(external.display().to_string());
    }
    Ok(names)
}
