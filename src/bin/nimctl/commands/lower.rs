//! `nimctl lower`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nimctl::onnx::lower::KeepReason;
use nimctl::onnx::{Io, LoweringReport, Precision, Raised};
use nimctl::ops::lower::{self, LowerOptions, LowerOutcome, Unmatched};
use serde::Serialize;

use crate::cli::{self, LowerIo, LowerPrecision};
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::table::{duration, size, table};

/// The maximum number of nodes listed for one reason; the JSON has all.
const MAX_NAMES: usize = 3;

/// `nimctl.lower/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    dry_run: bool,
    /// Absent without `--opset`.
    #[serde(skip_serializing_if = "Option::is_none")]
    opset: Option<Raised>,
    report: &'a LoweringReport,
    files: Vec<FileView>,
    elapsed_ms: u64,
    peak_memory_bytes: Option<u64>,
}

#[derive(Serialize)]
struct FileView {
    path: PathBuf,
    size_bytes: u64,
}

pub(crate) fn run(arguments: &cli::Lower, output: &Output) -> Result<ExitCode, Failure> {
    let cli::Lower {
        source,
        destination,
        precision,
        opset,
        target,
        keep_nodes,
        keep_ops,
        lower_ops,
        io,
        emulate,
        dry_run,
    } = arguments;
    let options = LowerOptions {
        precision: match precision {
            LowerPrecision::Fp32 => Precision::Fp32,
            LowerPrecision::Fp16 => Precision::Fp16,
            LowerPrecision::Bf16 => Precision::Bf16,
        },
        opset: *opset,
        keep_ops: keep_ops.clone(),
        keep_nodes: keep_nodes.clone(),
        lower_ops: lower_ops.clone(),
        target: target.clone(),
        emulate: *emulate,
        io: match io {
            LowerIo::Keep => Io::Keep,
            LowerIo::Lower => Io::Lower,
        },
    };
    let outcome = match destination {
        Some(destination) if !dry_run => lower::lower_to(source, destination, &options)?,
        _ => lower::report(source, destination.as_deref(), &options)?,
    };
    for unmatched in &outcome.unmatched {
        output.warning(&match unmatched {
            Unmatched::Pattern(pattern) => format!("no node matches --keep-node '{pattern}'"),
            Unmatched::Operator(operator) => format!("the graph has no operator {operator} (--keep-op)"),
        });
    }
    for warning in &outcome.warnings {
        output.warning(warning);
    }
    let folder = destination.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let files = outcome
        .files
        .iter()
        .map(|file| FileView { path: folder.join(&file.path), size_bytes: file.size_bytes })
        .collect();
    let view = View {
        schema: "nimctl.lower/1",
        dry_run: *dry_run,
        opset: outcome.raised,
        report: &outcome.report,
        files,
        elapsed_ms: outcome.elapsed.as_millis() as u64,
        peak_memory_bytes: outcome.peak_memory_bytes,
    };
    output.result(&text(&outcome, &view), &view);
    Ok(done())
}

fn text(outcome: &LowerOutcome, view: &View<'_>) -> String {
    let report = &outcome.report;
    let lines = [
        ("precision", report.precision.to_string()),
        ("tensors", format!("{} lowered", report.tensors_lowered)),
        ("weights", format!("{} → {}", size(report.weights_before_bytes), size(report.weights_after_bytes))),
        ("nodes", format!("{} lowered, {} kept in fp32", report.nodes_lowered, report.nodes_kept.len())),
        ("inserted", format!("{} casts, {} clips", report.casts_inserted, report.clips_inserted)),
        ("values", format!("{} out of range, {} became zero", report.values_clipped, report.values_vanished)),
        ("time", duration(view.elapsed_ms)),
    ];
    let mut rows: Vec<Vec<String>> = lines.into_iter().map(|(key, value)| vec![key.into(), value]).collect();
    if let Some(Raised { from, to, nodes_rewritten }) = view.opset {
        let from = from.map_or("none".into(), |from| from.to_string());
        let nodes = if nodes_rewritten == 1 { "node" } else { "nodes" };
        rows.insert(0, vec!["opset".into(), format!("{from} → {to}, {nodes_rewritten} {nodes} rewritten")]);
    }
    if let Some(peak) = view.peak_memory_bytes {
        rows.push(vec!["peak memory".into(), size(peak)]);
    }
    for file in &view.files {
        let FileView { path, size_bytes } = file;
        rows.push(vec!["wrote".into(), format!("{}, {}", path.display(), size(*size_bytes))]);
    }
    if view.dry_run {
        rows.push(vec!["wrote".into(), "nothing (dry run)".into()]);
    }
    let mut text = table(&["LOWERING", ""], &rows);
    let errors: Vec<Vec<String>> = report
        .largest_errors
        .iter()
        .map(|error| vec![format!("{:.3e}", error.largest_error), error.tensor.clone()])
        .collect();
    if !errors.is_empty() {
        text.push('\n');
        text.push_str(&table(&["LARGEST ERROR", "WEIGHT"], &errors));
    }
    let kept = kept(report);
    if !kept.is_empty() {
        text.push('\n');
        text.push_str(&table(&["KEPT", "WHY", "NODES"], &kept));
    }
    text
}

/// Returns a row for each reason: the number of nodes and the first names.
fn kept(report: &LoweringReport) -> Vec<Vec<String>> {
    let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in &report.nodes_kept {
        let name = format!("{} ({})", node.node, node.op_type);
        by_reason.entry(reason(&node.reason)).or_default().push(name);
    }
    by_reason
        .into_iter()
        .map(|(reason, names)| {
            let more = if names.len() > MAX_NAMES { ", …" } else { "" };
            let first = names.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
            vec![names.len().to_string(), reason, format!("{first}{more}")]
        })
        .collect()
}

fn reason(reason: &KeepReason) -> String {
    match reason {
        KeepReason::KeptOperator => "--keep-op".into(),
        KeepReason::KeptNode => "--keep-node".into(),
        KeepReason::NeedsFp32 => "the operator needs fp32".into(),
        KeepReason::NewerOperatorSet { opset } => {
            format!("the operator takes the precision from opset {opset} on")
        }
        KeepReason::Accumulation => "accumulates many values, or is part of a normalization".into(),
        KeepReason::ShapeArithmetic => "computes a shape, an index or a position".into(),
        KeepReason::WholeNumbers => "has whole numbers that may be too large".into(),
        KeepReason::Spectrum => "computes a spectrum".into(),
        KeepReason::Angle => "computes an angle".into(),
        KeepReason::Subgraph => "runs a subgraph".into(),
        KeepReason::LocalFunction => "calls a model-local function".into(),
        KeepReason::UnknownOperator => "unknown operator".into(),
        KeepReason::UnknownType { input: _ } => "an input has an unknown type".into(),
        KeepReason::Overflow { tensor: _, values: _ } => {
            "a weight has values beyond the precision's range".into()
        }
        KeepReason::Vanishing { tensor: _, values: _ } => "a weight has values that would become zero".into(),
    }
}
