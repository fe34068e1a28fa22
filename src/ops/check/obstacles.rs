//! What stands in the way of a plan, in plain words: who is meant, why, and what to do.

use std::collections::BTreeMap;
use std::path::Path;

use super::Candidate;
use crate::backend::{Backend, Words};
use crate::compute_capability::ComputeCapability;
use crate::onnx::analysis::{label, nodes};
use crate::onnx::{OnnxError, Precision};
use crate::profile::capability_tag;
use crate::worker::error::WorkerError;
use crate::worker::protocol::{Refusal, RefusalReason};

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What it is, in plain words.
    pub reason: String,
    /// The nodes that it is about, in the graph's order; empty if it is about the whole graph, or if nobody says.
    pub nodes: Vec<ObstacleNode>,
    /// The compiler's own words, where there are any beyond the reason.
    pub words: Option<String>,
    /// What the user can do.
    pub next: String,
}

/// A node that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObstacleNode {
    /// Its name; that of its first output where it has none.
    pub name: String,
    /// Its operator, if it is known.
    pub op_type: Option<String>,
}

const GENERIC: &str = "serve this graph with a generic onnxruntime profile";

/// A backend that builds nothing for these.
pub(super) fn of_target(
    backend: &Backend,
    missing: &[ComputeCapability],
    known: &[ComputeCapability],
) -> Obstacle {
    let list = |capabilities: &[ComputeCapability]| capability_tag(capabilities).replace('+', ", ");
    Obstacle {
        reason: format!("{backend} builds for {}, not for {}", list(known), list(missing)),
        nodes: Vec::new(),
        words: None,
        next: format!(
            "build with the {} backend on a GPU of compute capability {}, or {GENERIC}",
            Backend::on_the_device(),
            list(missing)
        ),
    }
}

/// A graph that can't be lowered.
pub(super) fn of_lowering(precision: Precision, error: &OnnxError) -> Obstacle {
    Obstacle {
        reason: format!("the graph cannot be lowered to {precision}: {error}"),
        nodes: Vec::new(),
        words: None,
        next: "choose another precision".into(),
    }
}

/// What the compiler refuses of a graph: refusals for one reason together.
pub(super) fn of_refusals(candidate: &Candidate<'_>, refusals: &[Refusal]) -> Vec<Obstacle> {
    let mut obstacles: Vec<Obstacle> = Vec::new();
    for Refusal { node, op_type, reason, message } in refusals {
        let words = known(&candidate.backend, message);
        let operator = op_type.as_deref().unwrap_or("of this graph");
        let (plain, next) = match words {
            Some(words) => (words.means.replace("{op}", operator), words.next.to_owned()),
            None if op_type.is_none() => (
                format!("{} refuses the graph: {message}", candidate.backend),
                format!("change the model, or {GENERIC}"),
            ),
            None => in_general(*reason, operator, message, &candidate.backend),
        };
        let node = node.iter().map(|name| ObstacleNode { name: name.clone(), op_type: op_type.clone() });
        match obstacles.iter_mut().find(|known| known.reason == plain) {
            Some(known) => known.nodes.extend(node),
            None => obstacles.push(Obstacle {
                words: (!plain.contains(message.as_str())).then(|| message.clone()),
                reason: plain,
                nodes: node.collect(),
                next,
            }),
        }
    }
    obstacles
}

/// What the compiler reports, or that it broke. `model` is the file that it was given.
pub(super) fn of_error(candidate: &Candidate<'_>, model: &Path, error: &WorkerError) -> Obstacle {
    let message = error.problem().map_or_else(|| error.to_string(), |problem| problem.message);
    let log = error.stderr_tail().unwrap_or_default();
    let words = known(&candidate.backend, &message).or_else(|| known(&candidate.backend, log));
    let mut nodes = named(candidate, &message);
    for node in words.into_iter().flat_map(|words| of_operators(candidate, words.about)) {
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    let operator = nodes.first().and_then(|node| node.op_type.as_deref()).unwrap_or("of this graph");
    let (reason, next) = match (words, error) {
        (Some(words), _) => (words.means.replace("{op}", operator), words.next.to_owned()),
        (None, WorkerError::Hung { timeout, .. }) => (
            format!("the compiler did not finish within {} s", timeout.as_secs()),
            format!("allow more time with --job-timeout, or {GENERIC}"),
        ),
        (None, WorkerError::Crashed { how, .. } | WorkerError::DiedMidLine { how, .. }) => (
            format!("the compiler crashed ({how})"),
            format!("try another precision or another version of the library, or {GENERIC}"),
        ),
        (None, _) => (
            "the compiler failed".to_owned(),
            format!("try another precision or another version of the library, or {GENERIC}"),
        ),
    };
    // `TensorRT … could not compile /tmp/…/model.onnx: …`: which file it is is known.
    let of_model = format!("{}:", model.display());
    let words = message.split_once(&of_model).map_or(message.as_str(), |(_, words)| words);
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    Obstacle { reason, nodes, words: Some(words), next }
}

fn known(backend: &Backend, message: &str) -> Option<&'static Words> {
    backend.facts().words.iter().find(|words| words.fit(message))
}

/// Says a refusal that has no words of its own.
fn in_general(reason: RefusalReason, operator: &str, message: &str, backend: &Backend) -> (String, String) {
    let change = |what: &str| format!("export the model with {what} here, or {GENERIC}");
    match reason {
        RefusalReason::Operator => {
            (format!("{backend} has no operator {operator}"), change("another operator"))
        }
        RefusalReason::Attribute => (
            format!("{backend} does not take operator {operator} with these attributes"),
            change("other attributes"),
        ),
        RefusalReason::ElementType => {
            (format!("{backend} does not take operator {operator} on these types"), change("another type"))
        }
        RefusalReason::Shape => {
            (format!("{backend} does not take operator {operator} in these shapes"), change("other shapes"))
        }
        RefusalReason::DynamicShape => (
            format!("operator {operator} has a shape that is only known at run time"),
            change("fixed shapes"),
        ),
        RefusalReason::Other => (
            format!("{backend} refuses operator {operator}: {message}"),
            format!("change the model at this node, or {GENERIC}"),
        ),
    }
}

/// Returns the nodes of these operators.
fn of_operators(candidate: &Candidate<'_>, operators: &[&str]) -> Vec<ObstacleNode> {
    let all = nodes(candidate.file.file().graph());
    let meant = all.iter().filter(|node| operators.contains(&node.op_type()));
    meant
        .map(|node| ObstacleNode { name: label(node).into(), op_type: Some(node.op_type().into()) })
        .collect()
}

/// Returns the nodes that a message names in quotes. Compilers number what they derive from a node: `product_U3`.
fn named(candidate: &Candidate<'_>, message: &str) -> Vec<ObstacleNode> {
    let all = nodes(candidate.file.file().graph());
    let by_label: BTreeMap<&str, &str> = all.iter().map(|node| (label(node), node.op_type())).collect();
    let mut found = Vec::new();
    for quoted in message.split('\'').skip(1).step_by(2) {
        let plain = quoted.rsplit_once("_U").filter(|(_, number)| number.parse::<u32>().is_ok());
        let names = [Some(quoted), plain.map(|(name, _)| name)];
        let node = names.into_iter().flatten().find_map(|name| Some((name, *by_label.get(name)?)));
        if let Some((name, op_type)) = node {
            let node = ObstacleNode { name: name.into(), op_type: Some(op_type.into()) };
            if !found.contains(&node) {
                found.push(node);
            }
        }
    }
    found
}
