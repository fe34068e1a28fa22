//! `nimctl report`.

use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::files::atomic_file;
use nimctl::files::destination;
use nimctl::ops::report::{Collected, of_recipe, of_release};
use nimctl::release::{Notes, notes};
use nimctl::report::{REPORT_SCHEMA, Report};
use nimctl::worker::host::Cancel;
use serde_json::json;

use crate::cli::{self, Global, ReportFormat};
use crate::environment;
use crate::exit::{Failure, done};
use crate::output::Output;

/// No job runs, so the time limit has no effect.
const NO_JOB_RUNS_S: u64 = 60;

/// Returns whether a file is a report, which may be written anew.
fn is_report(text: &[u8]) -> bool {
    let schema = |text| {
        serde_json::from_slice::<serde_json::Value>(text).map(|value| value["schema"] == REPORT_SCHEMA)
    };
    text.starts_with(b"<!doctype html>") || schema(text).is_ok_and(|is_it| is_it)
}

pub(crate) fn run(
    arguments: &cli::Report,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Report { source, destination, format } = arguments;
    if let Some(path) = destination {
        destination::check(path, [source.as_path()])?;
        destination::check_keeps(path, source, is_report)?;
    }
    let Collected { model, profiles, not_built } = if source.is_dir() {
        of_release(source)?
    } else {
        let workspace = environment::workspace(global, NO_JOB_RUNS_S, cancel)?;
        of_recipe(&workspace, &super::build::resolved(&workspace, source, None, &|_| ())?)?
    };
    let report = Report::new(&model, &profiles, &not_built, &[]);
    // What is printed with `--output json` is JSON; a file is a page all the same.
    let format = format.unwrap_or(match destination {
        None if output.is_json() => ReportFormat::Json,
        _ => ReportFormat::Html,
    });
    let text = match format {
        ReportFormat::Html => report.to_html().map_err(|error| Failure::new(ErrorKind::Bug, error))?,
        ReportFormat::Markdown => notes(&Notes {
            model: &model,
            profiles: &profiles,
            not_built: &not_built,
            baseline: None,
            comparisons: &[],
        }),
        ReportFormat::Json => {
            serde_json::to_string_pretty(&report).map_err(|error| Failure::new(ErrorKind::Bug, error))?
        }
    };
    match destination {
        None => output.data(&text),
        Some(path) => {
            atomic_file::write(path, text.as_bytes())
                .map_err(|error| Failure::new(ErrorKind::Input, anyhow::Error::from(error)))?;
            let view = json!({ "schema": "nimctl.report-written/1", "file": path, "size_bytes": text.len() });
            output.result(&format!("wrote {}", path.display()), &view);
        }
    }
    Ok(done())
}
