//! Lowers one graph into the store.

use std::path::Path;
use std::time::Instant;

use super::Context;
use crate::onnx::{GraphDigest, LoweringReport, OnnxFile, Precision, lower};
use crate::ops::error::JobError;
use crate::ops::event::BuildEvent;
use crate::store::StoreError;
use crate::worklist::{BUILD_RECORD_SCHEMA, BuildRecord, Job, Measurements, OutputFile, Timings};

/// Lowers a graph, or, for FP32, takes it as it is.
pub(super) fn run(job: &Job, context: &Context<'_>) -> Result<BuildRecord, JobError> {
    #[expect(clippy::disallowed_methods, reason = "a job is timed")]
    let start = Instant::now();
    let source = &context.resolved.graphs[&job.graph].file;
    let work = context.store.work_folder()?;
    let (names, report) = if job.document.lowering.precision == Precision::Fp32 {
        (copy(source, work.path())?, None)
    } else {
        let lowered =
            lower::lower(source, &job.document.lowering, &work.path().join(GraphDigest::MODEL_PATH))?;
        (lowered.files.into_iter().map(|file| file.path).collect(), Some(lowered.report))
    };
    let warnings: Vec<String> = report
        .iter()
        .flat_map(|report: &LoweringReport| &report.unmatched_keeps)
        .map(|keep| {
            format!(
                "graph `{}` has no node or operator `{keep}`, which the recipe's `lowering` keeps in FP32",
                job.graph
            )
        })
        .collect();
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
