//! The disk of the store: whether a job's output fits, and what is said if it is full.

use std::io;
use std::path::PathBuf;

use super::Context;
use crate::error_kind::ErrorKind;
use crate::onnx::Precision;
use crate::ops::error::JobError;
use crate::store::is_full;
use crate::worklist::{Action, BuildRecord, Job};

/// How libraries say that nothing more fits.
const FULL: &str = "No space left on device";

/// A job's output doesn't fit.
#[derive(Debug, thiserror::Error)]
#[error(
    "the disk of the store at {} is full: at least {needed_bytes} bytes are needed and {free_bytes} are free; make room (`nimctl store \
     gc --dry-run` shows what could go) or choose another with --store or NIMCTL_STORE",
    root.display()
)]
struct DiskFull {
    root: PathBuf,
    needed_bytes: u64,
    free_bytes: u64,
}

/// Checks that what a job writes at the least fits. How large a plan will be only its compiler knows.
pub(super) fn check(job: &Job, context: &Context<'_>) -> Result<(), JobError> {
    if job.document.action != Action::Lower {
        return Ok(());
    }
    let (needed_bytes, free_bytes) = (needed_bytes(job, None, context), context.store.free_bytes());
    match free_bytes.filter(|free_bytes| *free_bytes < needed_bytes) {
        Some(free_bytes) => Err(full(needed_bytes, free_bytes, context)),
        None => Ok(()),
    }
}

/// Says what is needed where a job failed since the disk is full.
pub(super) fn told_if_full(
    error: JobError,
    job: &Job,
    input: Option<&BuildRecord>,
    context: &Context<'_>,
) -> JobError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.source.as_ref());
    let mut is_disk_full = error.message.contains(FULL);
    while let Some(found) = cause {
        is_disk_full |= found.downcast_ref::<io::Error>().is_some_and(is_full);
        cause = found.source();
    }
    match context.store.free_bytes() {
        Some(free_bytes) if is_disk_full => {
            // What the job had written is removed by now, and was not enough.
            full(needed_bytes(job, input, context).max(free_bytes + 1), free_bytes, context)
        }
        _ => error,
    }
}

fn full(needed_bytes: u64, free_bytes: u64, context: &Context<'_>) -> JobError {
    let root = context.store.root().into();
    JobError::new(ErrorKind::Input, DiskFull { root, needed_bytes, free_bytes })
}

/// Returns how many bytes a job writes at the least; of a plan, about how many.
fn needed_bytes(job: &Job, input: Option<&BuildRecord>, context: &Context<'_>) -> u64 {
    match &job.document.action {
        Action::Lower => {
            let files = context.resolved.graphs[&job.graph].file.open_files();
            let size_bytes: u64 = files.map(crate::files::read_file::ReadFile::size_bytes).sum();
            // Weights of 32 bits become such of 16.
            if job.document.lowering.precision == Precision::Fp32 { size_bytes } else { size_bytes / 2 }
        }
        Action::Compile(_) => {
            let size_bytes: u64 =
                input.iter().flat_map(|record| &record.outputs).map(|output| output.size_bytes).sum();
            size_bytes / 2
        }
    }
}
