//! Finds the nodes at which a lowered graph and its FP32 graph part ways, and which nodes in FP32 bring them together again.
//!
//! From an output below the gate backwards: values before it are made outputs of both graphs, some at a time, evenly spread; a
//! value that passes clears everything before it, the first that doesn't is the next to look before. What is left is a node
//! that loses the numbers by itself. It is kept in FP32, and, as long as that doesn't help, what it reads as well: an angle of
//! 4096 is rounded before its cosine is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::cases::Case;
use super::pair::Pair;
use crate::onnx::analysis::{label, nodes};
use crate::onnx::lower::lowered_nodes;
use crate::onnx::proto::{GraphProto, NodeProto};
use crate::onnx::{LoweringOptions, OnnxError};
use crate::precision_check::{Parting, PartingNode};

/// The most values that are outputs at a time.
const MAX_PROBES: usize = 24;
/// The most nodes that are named.
const MAX_NODES: usize = 8;
/// How far before a node others are kept in FP32 with it.
const MAX_DEPTH: usize = 6;
/// The maximum time for it all.
const MAX_TIME: Duration = Duration::from_secs(60);

/// Why a search ended, in words.
type Ended = String;

/// Finds where two graphs part ways, as far as that can be found in time.
pub(super) fn find(pair: &mut Pair<'_>, case: Case, gate: f64, with_tolerance: &BTreeSet<&str>) -> Parting {
    let mut parting = Parting {
        shapes: case.name().into(),
        nodes: Vec::new(),
        keep_nodes: Vec::new(),
        keep_ops: Vec::new(),
        row_cosine_then: None,
        ended_because: None,
    };
    match search(pair, case, gate, with_tolerance, &mut parting.nodes) {
        Ok(Found { keep_ops, keep_nodes, row_cosine }) => {
            (parting.keep_ops, parting.keep_nodes) = (keep_ops, keep_nodes);
            parting.row_cosine_then = Some(row_cosine);
        }
        Err(why) => parting.ended_because = Some(why),
    }
    parting
}

/// What brings every output above the gate if it stays in FP32.
struct Found {
    keep_ops: Vec<String>,
    keep_nodes: Vec<String>,
    row_cosine: f64,
}

fn search(
    pair: &mut Pair<'_>,
    case: Case,
    gate: f64,
    with_tolerance: &BTreeSet<&str>,
    parted: &mut Vec<PartingNode>,
) -> Result<Found, Ended> {
    let lowered = lowered(pair).map_err(|error| error.to_string())?;
    let wiring = Wiring::new(pair.subject.file.graph(), &lowered);
    let mut hunt = Hunt { pair, case, gate, wiring, until: deadline() };
    let mut kept = BTreeSet::new();
    loop {
        let outputs = hunt.pair.cosines_of_outputs(case, hunt.keeping(&kept))?;
        let outputs = outputs.into_iter().filter(|(name, _)| !with_tolerance.contains(name.as_str()));
        let worst = outputs.min_by(|(_, a), (_, b)| a.total_cmp(b));
        let (output, row_cosine) = worst.ok_or("the graph has no output of floats")?;
        if row_cosine >= gate {
            let (keep_ops, keep_nodes) = hunt.wiring.to_write(&kept);
            return Ok(Found { keep_ops, keep_nodes, row_cosine });
        }
        if parted.len() == MAX_NODES {
            return Err(format!("more than {MAX_NODES} nodes lose the numbers"));
        }
        hunt.check_time()?;
        let at = hunt.wiring.producers.get(&output).copied();
        let at = at.ok_or_else(|| format!("no node produces output `{output}`"))?;
        let (node, row_cosine) = hunt.first_parted((at, row_cosine), &kept)?;
        let proto = hunt.wiring.nodes[node];
        parted.push(PartingNode { node: label(proto).into(), op_type: proto.op_type().into(), row_cosine });
        let before = kept.len();
        hunt.keep(node, &mut kept)?;
        if kept.len() == before {
            return Err(format!(
                "`{}` loses the numbers although nothing before it is lowered",
                label(proto)
            ));
        }
    }
}

fn lowered(pair: &Pair<'_>) -> Result<BTreeSet<String>, OnnxError> {
    Ok(lowered_nodes(pair.subject.file, &pair.lowering)?.into_iter().map(|node| node.node).collect())
}

#[expect(clippy::disallowed_methods, reason = "the search is bounded in time")]
fn deadline() -> Instant {
    Instant::now() + MAX_TIME
}

/// The nodes of a graph, subgraphs aside, and what each reads.
struct Wiring<'g> {
    nodes: Vec<&'g NodeProto>,
    /// The node that produces each value.
    producers: BTreeMap<String, usize>,
    /// The nodes that each node reads from.
    before: Vec<BTreeSet<usize>>,
    /// Whether each node, or one inside of it, is lowered.
    is_lowered: Vec<bool>,
    /// Whether each node, or one before it, is lowered: the values of all others are equal.
    is_affected: Vec<bool>,
}

impl<'g> Wiring<'g> {
    fn new(graph: &'g GraphProto, lowered: &BTreeSet<String>) -> Self {
        let all: Vec<&NodeProto> = graph.node.iter().collect();
        let outputs = |(index, node): (usize, &&'g NodeProto)| {
            node.output.iter().map(move |output| (output.clone(), index)).collect::<Vec<_>>()
        };
        let producers: BTreeMap<String, usize> = all.iter().enumerate().flat_map(outputs).collect();
        let inside = |node: &'g NodeProto| -> Vec<&'g NodeProto> {
            let graphs = node.attribute.iter().flat_map(|attribute| attribute.g.as_deref());
            std::iter::once(node).chain(graphs.flat_map(nodes)).collect()
        };
        let before: Vec<BTreeSet<usize>> = all
            .iter()
            .map(|node| {
                let inputs = inside(node).into_iter().flat_map(|node| &node.input);
                inputs.filter_map(|input| producers.get(input).copied()).collect()
            })
            .collect();
        let is_lowered: Vec<bool> =
            all.iter().map(|node| inside(node).iter().any(|node| lowered.contains(label(node)))).collect();
        let mut is_affected = is_lowered.clone();
        for index in 0..all.len() {
            is_affected[index] |= before[index].iter().any(|&before| before < index && is_affected[before]);
        }
        Self { nodes: all, producers, before, is_lowered, is_affected }
    }

    /// Returns a node and all nodes before it that are affected by lowering, in their order.
    fn up_to(&self, node: usize) -> BTreeSet<usize> {
        let (mut found, mut waiting) = (BTreeSet::new(), vec![node]);
        while let Some(next) = waiting.pop() {
            if self.is_affected[next] && found.insert(next) {
                waiting.extend(&self.before[next]);
            }
        }
        found
    }

    /// Returns the operators and the names to write into a recipe for these nodes.
    fn to_write(&self, kept: &BTreeSet<usize>) -> (Vec<String>, Vec<String>) {
        let of_operator = |op_type: &str| {
            let lowered = (0..self.nodes.len()).filter(|&index| self.is_lowered[index]);
            lowered.filter(|&index| self.nodes[index].op_type() == op_type).collect::<BTreeSet<usize>>()
        };
        let (mut ops, mut names) = (BTreeSet::new(), BTreeSet::new());
        for &index in kept {
            let op_type = self.nodes[index].op_type();
            let all = of_operator(op_type);
            if all.len() > 1 && all.is_subset(kept) {
                ops.insert(op_type.to_owned());
            } else {
                names.insert(label(self.nodes[index]).to_owned());
            }
        }
        (ops.into_iter().collect(), names.into_iter().collect())
    }
}

/// A search under way.
struct Hunt<'p, 'a, 'g> {
    pair: &'p mut Pair<'a>,
    case: Case,
    gate: f64,
    wiring: Wiring<'g>,
    until: Instant,
}

impl Hunt<'_, '_, '_> {
    #[expect(clippy::disallowed_methods, reason = "the search is bounded in time")]
    fn check_time(&self) -> Result<(), Ended> {
        if Instant::now() > self.until {
            return Err(format!("it took more than {} s", MAX_TIME.as_secs()));
        }
        Ok(())
    }

    fn keeping(&self, kept: &BTreeSet<usize>) -> LoweringOptions {
        let mut lowering = self.pair.lowering.clone();
        lowering.keep_nodes.extend(kept.iter().map(|&index| label(self.wiring.nodes[index]).to_owned()));
        lowering
    }

    /// Returns the min row cosine of the outputs of some nodes; a node that gives no floats has none.
    fn cosines(&mut self, probes: &[usize], kept: &BTreeSet<usize>) -> Result<BTreeMap<usize, f64>, Ended> {
        let outputs = |&index: &usize| self.wiring.nodes[index].output.iter().filter(|name| !name.is_empty());
        let values: Vec<String> = probes.iter().flat_map(outputs).cloned().collect();
        let lowering = self.keeping(kept);
        let found = self.pair.cosines(self.case, &lowering, &values)?;
        let of_node = |&index: &usize| {
            let cosines = self.wiring.nodes[index].output.iter().filter_map(|name| found.get(name).copied());
            Some((index, cosines.min_by(f64::total_cmp)?))
        };
        Ok(probes.iter().filter_map(of_node).collect())
    }

    /// Returns the first node whose values fall below the gate on the way to one that is below it, with its cosine.
    fn first_parted(&mut self, bad: (usize, f64), kept: &BTreeSet<usize>) -> Result<(usize, f64), Ended> {
        let (mut bad, mut cosine) = bad;
        let mut suspects = self.wiring.up_to(bad);
        suspects.remove(&bad);
        // What a cast rounds is what it hands on: whoever reads it shows the loss.
        suspects.retain(|&index| self.wiring.nodes[index].op_type() != "Cast");
        while !suspects.is_empty() {
            self.check_time()?;
            let all: Vec<usize> = suspects.iter().copied().collect();
            let count = all.len().min(MAX_PROBES);
            // The last ones are included: they are what the bad one reads.
            let probes: Vec<usize> = (1..=count).map(|part| all[part * all.len() / count - 1]).collect();
            let cosines = self.cosines(&probes, kept)?;
            for probe in &probes {
                suspects.remove(probe);
            }
            let fails = |(_, cosine): &(&usize, &f64)| **cosine < self.gate;
            if let Some((&first, &found)) = cosines.iter().find(fails) {
                (bad, cosine) = (first, found);
                let up_to = self.wiring.up_to(bad);
                suspects.retain(|index| up_to.contains(index));
                suspects.remove(&bad);
            }
            for (&passed, _) in cosines.iter().filter(|(_, cosine)| **cosine >= self.gate) {
                let cleared = self.wiring.up_to(passed);
                suspects.retain(|index| !cleared.contains(index));
            }
        }
        Ok((bad, cosine))
    }

    /// Keeps a node in FP32, and as much of what it reads as it takes.
    fn keep(&mut self, node: usize, kept: &mut BTreeSet<usize>) -> Result<(), Ended> {
        let mut layer = BTreeSet::from([node]);
        for _ in 0..MAX_DEPTH {
            let more: Vec<usize> =
                layer.iter().copied().filter(|&index| self.wiring.is_lowered[index]).collect();
            let grew = more.iter().filter(|&&index| kept.insert(index)).count() > 0;
            if grew {
                let cosine = self.cosines(&[node], kept)?.get(&node).copied();
                if cosine.is_none_or(|cosine| cosine >= self.gate) {
                    break;
                }
            }
            layer = layer.iter().flat_map(|&index| self.wiring.before[index].iter().copied()).collect();
            layer.retain(|&index| self.wiring.is_affected[index]);
            if layer.is_empty() {
                break;
            }
            self.check_time()?;
        }
        Ok(())
    }
}
