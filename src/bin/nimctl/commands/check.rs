//! `nimctl check`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::ops::check::{
    Answer, CheckOptions, CheckReport, Obstacle, ObstacleNode, Verdict, check_model, check_recipe,
};
use nimctl::profile::capability_tag;
use nimctl::shape_range::ShapeRange;
use nimctl::worker::host::Cancel;
use serde::Serialize;

use super::build::resolved;
use crate::cli::{self, Global};
use crate::environment;
use crate::exit::{Failure, code, done};
use crate::output::Output;
use crate::progress::BuildProgress;
use crate::table::table;

/// The most nodes that the text names for one obstacle; JSON has them all.
const MAX_NODES: usize = 5;

pub(crate) fn run(
    arguments: &cli::Check,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Check { subject, capabilities, precisions, job_timeout } = arguments;
    let workspace = environment::workspace(global, *job_timeout, cancel)?;
    let options = CheckOptions { capabilities: capabilities.clone(), precisions: precisions.clone() };
    let progress = BuildProgress::new(output);
    let show = |event| progress.show(event);
    let report = if is_recipe(subject) {
        let resolved = resolved(&workspace, subject, None, &show)?;
        check_recipe(&workspace, &resolved, &options, &show)
    } else {
        check_model(&workspace, subject, &options, &show)
    };
    progress.finish();
    let report = report?;
    output.result(&text(&report, subject), &View::new(&report, subject));
    Ok(if report.says_no() { ExitCode::from(code(ErrorKind::Refused)) } else { done() })
}

/// Recipes are YAML, by name; what has another name is taken for a model, whose reader explains best what it is not.
fn is_recipe(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn word(answer: &Answer) -> &'static str {
    match answer {
        Answer::Yes { .. } => "yes",
        Answer::No(_) => "no",
        Answer::Unknown(_) => "unknown",
    }
}

fn text(report: &CheckReport, subject: &Path) -> String {
    let CheckReport { shapes, notes, verdicts } = report;
    let mut text = format!("{}: {}\n", subject.display(), report.word());
    if !verdicts.is_empty() {
        let _ = write!(text, "\n{}", matrix(verdicts));
    }
    for ((graph, backend), of_graph) in
        grouped(verdicts, |verdict| (verdict.graph.clone(), verdict.backend.to_string()))
    {
        let mut told: Vec<(&Obstacle, Vec<&Verdict>)> = Vec::new();
        for verdict in of_graph {
            match &verdict.answer {
                Answer::No(obstacles) => {
                    for obstacle in obstacles {
                        // The compiler names another node first in another precision.
                        let is_same = |known: &&Obstacle| {
                            known.reason == obstacle.reason && known.next == obstacle.next
                        };
                        match told.iter_mut().find(|(known, _)| is_same(known)) {
                            Some((_, verdicts)) => verdicts.push(verdict),
                            None => told.push((obstacle, vec![verdict])),
                        }
                    }
                }
                Answer::Unknown(why) => {
                    let target = capability_tag(&verdict.compute_capabilities);
                    let _ = writeln!(text, "\n{graph}, {backend}, {} for {target}: {why}", verdict.precision);
                }
                Answer::Yes { .. } => {}
            }
        }
        for (obstacle, verdicts) in told {
            let _ = writeln!(text, "\n{graph}, {backend}, {}: {}", targets(&verdicts), obstacle.reason);
            add_obstacle(&mut text, obstacle);
        }
    }
    let mut rows = Vec::new();
    for (graph, inputs) in shapes {
        for (input, ShapeRange { min, opt, max }) in inputs {
            let shape = |shape: &Vec<i64>| format!("{shape:?}");
            rows.push(vec![graph.clone(), input.clone(), shape(min), shape(opt), shape(max)]);
        }
    }
    if !rows.is_empty() {
        let _ = write!(text, "\n{}", table(&["GRAPH", "INPUT", "MIN", "OPT", "MAX"], &rows));
    }
    for note in notes {
        let _ = writeln!(text, "\n{note}");
    }
    text
}

/// Lays verdicts out: a row for each graph and precision, a column for each target.
fn matrix(verdicts: &[Verdict]) -> String {
    let targets: BTreeSet<&Vec<_>> = verdicts.iter().map(|verdict| &verdict.compute_capabilities).collect();
    let names: Vec<String> = targets.iter().map(|target| capability_tag(target)).collect();
    let heading: Vec<&str> =
        ["GRAPH", "BACKEND", "PRECISION"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let rows = grouped(verdicts, |verdict| {
        (verdict.graph.clone(), verdict.backend.to_string(), verdict.precision.to_string())
    });
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|((graph, backend, precision), verdicts)| {
            let cell = |target: &&Vec<_>| {
                let found = verdicts.iter().find(|verdict| verdict.compute_capabilities == **target);
                found.map_or("", |verdict| word(&verdict.answer)).to_owned()
            };
            [graph, backend, precision].into_iter().chain(targets.iter().map(cell)).collect()
        })
        .collect();
    table(&heading, &rows)
}

/// Groups verdicts by a key, in the order in which keys come first.
fn grouped<'a, K: PartialEq>(
    verdicts: impl IntoIterator<Item = &'a Verdict>,
    key: impl Fn(&Verdict) -> K,
) -> Vec<(K, Vec<&'a Verdict>)> {
    let mut groups: Vec<(K, Vec<&Verdict>)> = Vec::new();
    for verdict in verdicts {
        let key = key(verdict);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.push(verdict),
            None => groups.push((key, vec![verdict])),
        }
    }
    groups
}

/// Says which verdicts are meant: `fp32 and fp16 for 7.5, 8.0`.
fn targets(verdicts: &[&Verdict]) -> String {
    let mut groups: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for (precision, verdicts) in grouped(verdicts.iter().copied(), |verdict| verdict.precision.to_string()) {
        let targets: Vec<String> =
            verdicts.iter().map(|verdict| capability_tag(&verdict.compute_capabilities)).collect();
        match groups.iter_mut().find(|(_, known)| *known == targets) {
            Some((precisions, _)) => precisions.push(precision),
            None => groups.push((vec![precision], targets)),
        }
    }
    let group = |(precisions, targets): &(Vec<String>, Vec<String>)| {
        format!("{} for {}", precisions.join(" and "), targets.join(", "))
    };
    groups.iter().map(group).collect::<Vec<_>>().join("; ")
}

fn add_obstacle(text: &mut String, obstacle: &Obstacle) {
    let Obstacle { reason: _, nodes, words, next } = obstacle;
    if !nodes.is_empty() {
        let mut names: Vec<String> = nodes.iter().take(MAX_NODES).map(node_name).collect();
        if nodes.len() > MAX_NODES {
            names.push(format!("… ({} in all)", nodes.len()));
        }
        let _ = writeln!(text, "  nodes  {}", names.join(", "));
    }
    if let Some(words) = words {
        let _ = writeln!(text, "  words  {words}");
    }
    let _ = writeln!(text, "  next   {next}");
}

fn node_name(node: &ObstacleNode) -> String {
    let ObstacleNode { name, op_type } = node;
    match op_type {
        Some(op_type) => format!("{name} ({op_type})"),
        None => name.clone(),
    }
}

/// `nimctl.check/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    subject: &'a Path,
    /// `yes`, `no` with exit code 3, or `unknown`.
    verdict: &'static str,
    shapes: &'a BTreeMap<String, BTreeMap<String, ShapeRange>>,
    notes: &'a [String],
    verdicts: Vec<VerdictView<'a>>,
}

#[derive(Serialize)]
struct VerdictView<'a> {
    graph: &'a str,
    backend: &'a str,
    precision: String,
    compute_capabilities: Vec<String>,
    /// `yes`, `no`, `unknown`.
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown_because: Option<&'a str>,
    obstacles: Vec<ObstacleView<'a>>,
}

#[derive(Serialize)]
struct ObstacleView<'a> {
    reason: &'a str,
    nodes: Vec<NodeView<'a>>,
    words: Option<&'a str>,
    next: &'a str,
}

#[derive(Serialize)]
struct NodeView<'a> {
    name: &'a str,
    op_type: Option<&'a str>,
}

impl<'a> View<'a> {
    fn new(report: &'a CheckReport, subject: &'a Path) -> Self {
        let CheckReport { shapes, notes, verdicts } = report;
        Self {
            schema: "nimctl.check/1",
            subject,
            verdict: report.word(),
            shapes,
            notes,
            verdicts: verdicts.iter().map(VerdictView::new).collect(),
        }
    }
}

impl<'a> VerdictView<'a> {
    fn new(verdict: &'a Verdict) -> Self {
        let Verdict { graph, backend, precision, compute_capabilities, answer } = verdict;
        let (build_ms, unknown_because, obstacles) = match answer {
            Answer::Yes { build_ms } => (*build_ms, None, &[][..]),
            Answer::No(obstacles) => (None, None, obstacles.as_slice()),
            Answer::Unknown(why) => (None, Some(why.as_str()), &[][..]),
        };
        let node = |node: &'a ObstacleNode| NodeView { name: &node.name, op_type: node.op_type.as_deref() };
        let view = |Obstacle { reason, nodes, words, next }: &'a Obstacle| ObstacleView {
            reason,
            nodes: nodes.iter().map(node).collect(),
            words: words.as_deref(),
            next,
        };
        Self {
            graph,
            backend: backend.name(),
            precision: precision.to_string(),
            compute_capabilities: compute_capabilities.iter().map(ToString::to_string).collect(),
            verdict: word(answer),
            build_ms,
            unknown_because,
            obstacles: obstacles.iter().map(view).collect(),
        }
    }
}
