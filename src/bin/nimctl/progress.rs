//! Progress on stderr, if it is a terminal.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use nimctl::mixed_precision::MixedPrecisionReport;
use nimctl::ops::event::BuildEvent;
use nimctl::quantization::QuantizationChoice;
use nimctl::toolchain::{Progress, Stage};
use serde_json::json;

use crate::output::{Output, ProgressFormat};
use crate::table::{duration, size, table};

/// The lines of a build: one for each running job.
pub(crate) struct BuildProgress {
    output: Output,
    lines: Option<MultiProgress>,
    running: Mutex<BTreeMap<String, ProgressBar>>,
    /// What was printed last of each job, where each change is a line.
    said: Mutex<BTreeMap<String, String>>,
}

impl BuildProgress {
    pub(crate) fn new(output: &Output) -> Self {
        let lines = output.shows_progress().then(MultiProgress::new);
        Self { output: output.clone(), lines, running: Mutex::default(), said: Mutex::default() }
    }

    /// Shows an event.
    pub(crate) fn show(&self, event: BuildEvent) {
        match self.output.progress_lines() {
            Some(ProgressFormat::Json) if self.print(&event) => return,
            Some(ProgressFormat::Plain) => self.print_plainly(&event),
            _ => {}
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            BuildEvent::WaitingForStore => {
                self.output.talk("waiting for another nimctl process that is writing to this store")
            }
            BuildEvent::Fetching { graph, progress } => {
                self.fetch(&mut running, &format!("{graph}: fetch"), progress)
            }
            BuildEvent::Synthesizing { graph } => self.line(&format!("{graph}: generating weights")),
            BuildEvent::Starting { jobs: _ } => running.values().for_each(ProgressBar::finish_and_clear),
            BuildEvent::JobStarted { title } => {
                if let Some(lines) = &self.lines {
                    let bar = lines.add(ProgressBar::new_spinner().with_message(title.clone()));
                    bar.enable_steady_tick(Duration::from_millis(100));
                    running.insert(title, bar);
                }
            }
            BuildEvent::JobWaits { title, executor, reason } => {
                if let Some(bar) = running.get(&title) {
                    bar.set_message(format!("{title} ({executor}: waiting for a node, {reason})"));
                }
            }
            BuildEvent::JobOnNode { title, executor, node } => {
                if let Some(bar) = running.get(&title) {
                    bar.set_message(format!("{title} ({executor}: on {node})"));
                }
            }
            BuildEvent::JobStage { title, stage } => {
                if let Some(bar) = running.get(&title) {
                    bar.set_message(format!("{title} ({stage})"));
                }
            }
            BuildEvent::JobFinished { title, total_ms, size_bytes } => {
                clear(&mut running, &title);
                self.line(&format!("{title}: {} in {}", size(size_bytes), duration(total_ms)));
            }
            BuildEvent::JobEnded { title } => clear(&mut running, &title),
            BuildEvent::MixedPrecision { title, report } => {
                clear(&mut running, &title);
                let text = mixed_precision_text(&title, &report);
                match &self.lines {
                    Some(lines) => lines.suspend(|| self.output.talk(&text)),
                    None => self.output.talk(&text),
                }
            }
            BuildEvent::Quantized { title, choice } => {
                clear(&mut running, &title);
                let text = quantized_text(&title, &choice);
                match &self.lines {
                    Some(lines) => lines.suspend(|| self.output.talk(&text)),
                    None => self.output.talk(&text),
                }
            }
            BuildEvent::Warning { message } => match &self.lines {
                Some(lines) => lines.suspend(|| self.output.warning(&message)),
                None => self.output.warning(&message),
            },
            BuildEvent::JobFailed { title, message } => {
                clear(&mut running, &title);
                match &self.lines {
                    Some(lines) => lines.suspend(|| self.output.problem(&format!("{title}: {message}"))),
                    None => self.output.problem(&format!("{title}: {message}")),
                }
            }
        }
    }

    /// Prints an event as JSON; whether it is one that is not shown otherwise, too.
    fn print(&self, event: &BuildEvent) -> bool {
        let event = match event {
            BuildEvent::Starting { jobs } => json!({ "kind": "jobs", "count": jobs }),
            BuildEvent::JobStarted { title } => json!({ "kind": "job-started", "job": title }),
            BuildEvent::JobWaits { title, executor, reason } => {
                json!({ "kind": "job-waits", "job": title, "executor": executor, "reason": reason })
            }
            BuildEvent::JobOnNode { title, executor, node } => {
                json!({ "kind": "job-on-node", "job": title, "executor": executor, "node": node })
            }
            BuildEvent::JobStage { title, stage } => {
                json!({ "kind": "job-stage", "job": title, "stage": stage })
            }
            BuildEvent::JobFinished { title, total_ms, size_bytes } => {
                json!({ "kind": "job-finished", "job": title, "total_ms": total_ms, "size_bytes": size_bytes })
            }
            BuildEvent::JobEnded { title } => json!({ "kind": "job-ended", "job": title }),
            BuildEvent::JobFailed { title, message } => {
                json!({ "kind": "job-failed", "job": title, "message": message })
            }
            BuildEvent::Synthesizing { graph } => json!({ "kind": "generating-weights", "graph": graph }),
            BuildEvent::WaitingForStore
            | BuildEvent::Fetching { .. }
            | BuildEvent::MixedPrecision { .. }
            | BuildEvent::Quantized { .. }
            | BuildEvent::Warning { .. } => return false,
        };
        let job = event["job"].as_str().unwrap_or_default();
        if job.is_empty() || self.is_new(job, &event.to_string()) {
            self.output.event(event);
        }
        true
    }

    /// Returns whether this is not what was said of a job before: what waits is told of again and again.
    fn is_new(&self, job: &str, text: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(job.to_owned(), text.to_owned()).as_deref() != Some(text)
    }

    /// Prints an event as a line, if it is not shown otherwise and not what was printed of the job before.
    fn print_plainly(&self, event: &BuildEvent) {
        let (title, text) = match event {
            BuildEvent::JobStarted { title } => (title, "begins".to_owned()),
            BuildEvent::JobWaits { title, executor, reason } => {
                (title, format!("{executor}: waiting for a node, {reason}"))
            }
            BuildEvent::JobOnNode { title, executor, node } => (title, format!("{executor}: on {node}")),
            BuildEvent::JobStage { title, stage } => (title, stage.clone()),
            BuildEvent::JobFinished { title, total_ms, size_bytes } => {
                (title, format!("{} in {}", size(*size_bytes), duration(*total_ms)))
            }
            _ => return,
        };
        if self.is_new(title, &text) {
            self.output.talk(&format!("{title}: {text}"));
        }
    }

    /// Removes the lines.
    pub(crate) fn finish(&self) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .for_each(ProgressBar::finish_and_clear);
    }

    fn line(&self, text: &str) {
        if let Some(lines) = &self.lines {
            lines.suspend(|| self.output.talk(text));
        }
    }

    fn fetch(&self, running: &mut BTreeMap<String, ProgressBar>, title: &str, progress: Progress) {
        let Some(lines) = &self.lines else { return };
        let bar = running.entry(title.to_owned()).or_insert_with(|| lines.add(byte_bar()));
        show_bytes(bar, title, progress);
    }
}

/// Describes the result of a search: the nodes, and the effect of each.
fn quantized_text(title: &str, choice: &QuantizationChoice) -> String {
    let QuantizationChoice {
        method,
        kept,
        kept_share,
        result,
        tried: _,
        no_gptq,
        calibration_rows: _,
        judged_rows,
        evaluations,
        complete,
    } = choice;
    let no_gptq = no_gptq.as_ref().map(|why| format!("; no GPTQ: {why}")).unwrap_or_default();
    let kept = match kept.len() {
        0 => "nothing kept".into(),
        count => format!("{count} nodes kept ({:.1} % of the weights)", kept_share * 100.0),
    };
    let ended = if *complete { "" } else { "; fewer may do, but the search used all its evaluations" };
    format!(
        "{title}: {method}, {kept}; min row cosine {:.5}, mean {:.5} over {judged_rows} calibration rows, after {evaluations} \
         evaluations{ended}{no_gptq}",
        result.min_row_cosine, result.mean_row_cosine
    )
}

fn mixed_precision_text(title: &str, report: &MixedPrecisionReport) -> String {
    let cosine = |cosine: Option<f64>| cosine.map_or("-".to_owned(), |cosine| format!("{cosine:.6}"));
    let mut text = format!("{title}: {}", report.kept.len());
    if report.min_row_cosine.is_some() {
        text.push_str(&format!(
            "; min row cosine {} without them, {} with them, after {} evaluations{}",
            cosine(report.row_cosine_before),
            cosine(report.row_cosine_after),
            report.evaluations,
            if report.complete {
                ""
            } else {
                "; a smaller set may exist, but the search used all its evaluations"
            }
        ));
    }
    if !report.kept.is_empty() {
        let rows: Vec<Vec<String>> = report
            .kept
            .iter()
            .map(|kept| {
                vec![
                    kept.node.clone(),
                    kept.op_type.clone(),
                    cosine(kept.row_cosine_if_lowered),
                    size(kept.weight_bytes),
                ]
            })
            .collect();
        let heading = ["KEPT IN FP32", "OPERATOR", "COSINE IF LOWERED", "WEIGHTS"];
        text.push_str(&format!("\n{}", table(&heading, &rows).trim_end()));
    }
    text
}

fn clear(running: &mut BTreeMap<String, ProgressBar>, title: &str) {
    if let Some(bar) = running.remove(title) {
        bar.finish_and_clear();
    }
}

/// Returns a progress bar that counts bytes.
pub(crate) fn byte_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::no_length().with_style(style)
}

/// Updates a bar that counts bytes.
pub(crate) fn show_bytes(bar: &ProgressBar, title: &str, progress: Progress) {
    let Progress { stage, done_bytes, total_bytes } = progress;
    let doing = match stage {
        Stage::Waiting => "waiting for another nimctl process",
        Stage::Downloading => "downloading",
        Stage::Verifying => "verifying",
        Stage::Unpacking => "unpacking",
        Stage::Packing => "packing",
    };
    bar.set_message(format!("{title}: {doing}"));
    if let Some(total_bytes) = total_bytes {
        bar.set_length(total_bytes);
    }
    bar.set_position(done_bytes);
}

/// One bar that counts bytes, on a terminal.
pub(crate) struct Bytes {
    bar: Option<ProgressBar>,
}

impl Bytes {
    pub(crate) fn new(output: &Output, title: &str) -> Self {
        let style =
            ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = || ProgressBar::no_length().with_style(style).with_message(title.to_owned());
        Self { bar: output.shows_progress().then(bar) }
    }

    pub(crate) fn show(&self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.finish();
    }
}
