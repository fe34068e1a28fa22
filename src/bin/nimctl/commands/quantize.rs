//! `nimctl quantize`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nimctl::onnx::Precision;
use nimctl::onnx::quantize::{QuantizationOptions, QuantizationReport, UnquantizedNode, WhyKept};
use nimctl::ops::event::BuildEvent;
use nimctl::ops::quantize::{
    Gate, QuantizationChoice, QuantizeOptions, QuantizeOutcome, QuantizeProgress, quantize_to,
};
use nimctl::worker::host::Cancel;
use serde::Serialize;

use crate::cli::{self, BasePrecision, Global};
use crate::environment;
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::progress::BuildProgress;
use crate::table::{duration, size, table};

/// The maximum number of nodes listed for one reason; the JSON has all.
const MAX_NAMES: usize = 3;

/// `nimctl.quantize/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    choice: &'a QuantizationChoice,
    report: &'a QuantizationReport,
    files: Vec<FileView>,
    statistics_ms: u64,
    search_ms: u64,
    write_ms: u64,
    peak_memory_bytes: Option<u64>,
    worker_peak_bytes: Option<u64>,
}

#[derive(Serialize)]
struct FileView {
    path: PathBuf,
    size_bytes: u64,
}

pub(crate) fn run(
    arguments: &cli::Quantize,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Quantize {
        source,
        destination,
        precision,
        samples,
        judge,
        base,
        method,
        block,
        embeddings,
        attention,
        convolutions,
        keep_nodes,
        min_row_cosine,
        evaluations,
        target,
        emulate,
        job_timeout,
    } = arguments;
    let workspace = environment::workspace(global, *job_timeout, cancel)?;
    let base = match base {
        BasePrecision::Fp32 => Precision::Fp32,
        BasePrecision::Fp16 => Precision::Fp16,
        BasePrecision::Bf16 => Precision::Bf16,
    };
    let options = QuantizeOptions {
        quantization: QuantizationOptions {
            block: *block,
            embeddings: (*embeddings).into(),
            attention: (*attention).into(),
            convolutions: (*convolutions).into(),
            keep_nodes: keep_nodes.clone(),
            ..QuantizationOptions::new(*precision, base)
        },
        wanted: *method,
        gate: Gate {
            min_row_cosine: min_row_cosine.unwrap_or(precision.default_gate()),
            evaluations: *evaluations,
        },
        samples: samples.clone(),
        judged: judge.clone(),
        target: target.clone(),
        emulate: *emulate,
    };
    let progress = BuildProgress::new(output);
    let title = format!("{}: to {precision}", source.display());
    progress.show(BuildEvent::JobStarted { title: title.clone() });
    let outcome = quantize_to(&workspace, source, destination, &options, &|event| {
        progress.show(BuildEvent::JobStage { title: title.clone(), stage: stage(&event) });
    });
    progress.finish();
    let outcome = outcome?;
    let folder = destination.parent().unwrap_or(Path::new(""));
    let file = |file: &nimctl::onnx::WrittenFile| FileView {
        path: folder.join(&file.path),
        size_bytes: file.size_bytes,
    };
    let view = View {
        schema: "nimctl.quantize/1",
        choice: &outcome.choice,
        report: &outcome.report,
        files: outcome.files.iter().map(file).collect(),
        statistics_ms: outcome.statistics_time.as_millis() as u64,
        search_ms: outcome.search_time.as_millis() as u64,
        write_ms: outcome.write_time.as_millis() as u64,
        peak_memory_bytes: outcome.peak_memory_bytes,
        worker_peak_bytes: outcome.worker_peak_bytes,
    };
    output.result(&text(&outcome, &view), &view);
    Ok(done())
}

/// Says how far a search is.
pub(crate) fn stage(progress: &QuantizeProgress) -> String {
    match progress {
        QuantizeProgress::Measured { rows, of } => format!("row {rows} of {of} measured"),
        QuantizeProgress::Tried { evaluations, most, method, kept, result } => format!(
            "graph {evaluations} of at most {most}: {method}, {kept} kept, min cosine {:.5}",
            result.min_row_cosine
        ),
    }
}

fn text(outcome: &QuantizeOutcome, view: &View<'_>) -> String {
    let QuantizeOutcome { choice, report, .. } = outcome;
    let QuantizationChoice { method, kept, kept_share, result, calibration_rows, judged_rows, .. } = choice;
    let lines = [
        ("precision", format!("{}, {} elsewhere", report.precision, report.base)),
        ("method", method.to_string()),
        ("min row cosine", format!("{:.5}, on {judged_rows} rows that judged", result.min_row_cosine)),
        ("mean row cosine", format!("{:.5}", result.mean_row_cosine)),
        ("calibrated with", format!("{calibration_rows} rows")),
        ("quantized", format!("{} nodes", report.quantized.len())),
        ("kept", format!("{} nodes for the numbers, {:.1} % of the bytes", kept.len(), kept_share * 100.0)),
        ("weights", format!("{} → {}", size(report.weights_before_bytes), size(report.weights_after_bytes))),
        ("time", format!("{} to find, {} to write", duration(view.search_ms), duration(view.write_ms))),
    ];
    let mut rows: Vec<Vec<String>> = lines.into_iter().map(|(key, value)| vec![key.into(), value]).collect();
    rows.extend(choice.no_gptq.iter().map(|why| vec!["without gptq".into(), why.clone()]));
    for (key, peak) in [("peak memory", view.peak_memory_bytes), ("of the worker", view.worker_peak_bytes)] {
        rows.extend(peak.map(|peak| vec![key.into(), size(peak)]));
    }
    for FileView { path, size_bytes } in &view.files {
        rows.push(vec!["wrote".into(), format!("{}, {}", path.display(), size(*size_bytes))]);
    }
    let mut text = table(&["QUANTIZATION", ""], &rows);
    let tried: Vec<Vec<String>> = choice
        .tried
        .iter()
        .map(|tried| {
            let cosine = |cosine: f64| format!("{cosine:.5}");
            let result = tried.result;
            vec![tried.method.to_string(), cosine(result.min_row_cosine), cosine(result.mean_row_cosine)]
        })
        .collect();
    let _ = write!(text, "\n{}", table(&["TRIED", "MIN COSINE", "MEAN COSINE"], &tried));
    let left = left(report);
    if !left.is_empty() {
        let _ = write!(text, "\n{}", table(&["LEFT", "WHY", "NODES"], &left));
    }
    if !kept.is_empty() {
        let kept: Vec<Vec<String>> = kept.iter().map(|node| vec![node.clone()]).collect();
        let _ = write!(text, "\n{}", table(&["KEPT FOR THE NUMBERS"], &kept));
    }
    text
}

/// Returns a row for each reason for which products stay as they are: their number and the first names.
fn left(report: &QuantizationReport) -> Vec<Vec<String>> {
    let mut by_reason: BTreeMap<WhyKept, Vec<&str>> = BTreeMap::new();
    for UnquantizedNode { node, op_type: _, why } in &report.kept {
        by_reason.entry(*why).or_default().push(node);
    }
    by_reason
        .into_iter()
        .map(|(why, nodes)| {
            let more = if nodes.len() > MAX_NAMES { ", …" } else { "" };
            let first: Vec<&str> = nodes.iter().copied().take(MAX_NAMES).collect();
            vec![nodes.len().to_string(), reason(why).into(), format!("{}{more}", first.join(", "))]
        })
        .collect()
}

fn reason(why: WhyKept) -> &'static str {
    match why {
        WhyKept::KeptNode => "--keep-node, or kept for the numbers",
        WhyKept::NoConstantWeight => "both factors are computed (see --attention)",
        WhyKept::OtherWeight => "the weight is not FP32, or is an input too",
        WhyKept::Small => "a side of the weight is shorter than 64",
        WhyKept::Length => {
            "the summed side is no multiple of 16 or of the block (nvfp4: or the other is odd)"
        }
        WhyKept::Form => "the weight has other dimensions, or the node other attributes or inputs",
        WhyKept::Convolution => "convolutions are not quantized in this format, or kept by --convolutions",
        WhyKept::FewChannels => "a convolution over fewer than 16 channels, of all or of a group",
        WhyKept::NotFinite => "the weight has NaN or infinite values",
        WhyKept::NoActivation => "its activation is zero on all samples",
    }
}
