//! Checks what lowering made before a file of it is written, so that no invalid one can leave nimctl.
//!
//! * Each name has one meaning: nodes of a graph have names of their own, and values are made once.
//! * Each value is made before it is read, in its graph or around it.
//! * Types agree: those of a node's inputs with its operator's definition and with each other, those of branches and loops
//!   with what goes in and out, and those that are declared with those that values have (`types`).
//! * In old versions of the format each weight is an input as well.
//!
//! Only what lowering could have broken counts: a problem that the original file has too is left to whoever reads that.
//! Nothing here looks at the payloads of weights.

mod types;

use std::collections::BTreeSet;
use std::fmt;

use super::analysis::{Body, Values, label};
use super::error::OnnxError;
use super::file::OnnxFile;
use super::opset::own_opset;
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use super::write::Initializer;

/// The first version of the format whose weights need not be inputs as well.
const WEIGHTS_APART: i64 = 4;

type Graph<'g> = Body<'g, ()>;

/// Checks a model that was made of `file`, with `initializers` besides those that it has.
///
/// # Errors
/// [`OnnxError::Inconsistent`] for the first problem that the original doesn't have.
pub(super) fn check(
    file: &OnnxFile,
    model: &ModelProto,
    initializers: &[Initializer<'_>],
) -> Result<(), OnnxError> {
    let found = problems(model, own_opset(&model.opset_import), initializers.iter().map(|one| &one.header));
    if found.is_empty() {
        return Ok(());
    }
    let known = problems(file.model(), file.opset(), std::iter::empty());
    let is_known = |problem: &Problem| known.iter().any(|known| known.is_like(problem));
    match found.into_iter().find(|problem| !is_known(problem)) {
        None => Ok(()),
        Some(problem) => {
            Err(OnnxError::Inconsistent { path: file.path().into(), problem: problem.to_string() })
        }
    }
}

/// Something that no runtime takes.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    what: What,
    /// The node or value: its name, which lowering keeps, or its operator if it has none.
    subject: String,
    /// In words.
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    NodeName,
    MadeTwice,
    NeverMade,
    Order,
    NodeTypes,
    Declaration,
    NotAnInput,
}

impl Problem {
    /// Returns whether a problem of the original is the same. Where its nodes are out of order, values that lowering adds
    /// are as well.
    fn is_like(&self, other: &Self) -> bool {
        self.what == other.what && (self.subject == other.subject || self.what == What::Order)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn problems<'m>(
    model: &'m ModelProto,
    opset: Option<i64>,
    weights: impl Iterator<Item = &'m TensorProto>,
) -> Vec<Problem> {
    let Some(graph) = &model.graph else { return Vec::new() };
    let weights: Vec<&TensorProto> = graph.initializer.iter().chain(weights).collect();
    let (values, body) = Values::<()>::read(graph, &weights, opset.unwrap_or_default());
    let mut check = Check { model, values, problems: Vec::new() };
    check.graph(&body, &weights, None);
    check.problems
}

/// A check under way.
struct Check<'m> {
    model: &'m ModelProto,
    values: Values<()>,
    problems: Vec<Problem>,
}

/// The names that are known at some point of a graph.
struct Names<'a> {
    around: Option<&'a Names<'a>>,
    own: BTreeSet<&'a str>,
}

impl Names<'_> {
    fn has(&self, name: &str) -> bool {
        self.own.contains(name) || self.around.is_some_and(|around| around.has(name))
    }
}

impl Check<'_> {
    fn add(&mut self, what: What, subject: &str, text: String) {
        self.problems.push(Problem { what, subject: subject.into(), text });
    }

    /// Checks a graph with these weights, and its subgraphs.
    fn graph(&mut self, body: &Graph<'_>, weights: &[&TensorProto], around: Option<&Names<'_>>) {
        let graph = body.graph;
        let inputs: BTreeSet<&str> = graph.input.iter().map(|input| input.name()).collect();
        let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
        let given = weights.iter().copied().chain(sparse).map(TensorProto::name);
        if self.model.ir_version() < WEIGHTS_APART {
            for tensor in weights.iter().filter(|tensor| !inputs.contains(tensor.name())) {
                let text = format!("weight `{}` is not among the inputs", tensor.name());
                self.add(What::NotAnInput, tensor.name(), text);
            }
        }
        let own = inputs.iter().copied().chain(given).collect();
        let mut names = Names { around, own };
        let later: BTreeSet<&str> =
            graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        let mut node_names: BTreeSet<&str> = BTreeSet::new();
        for node in &body.nodes {
            let proto = node.proto;
            if !proto.name().is_empty() && !node_names.insert(proto.name()) {
                self.add(What::NodeName, proto.name(), format!("two nodes are named `{}`", proto.name()));
            }
            for input in proto.input.iter().filter(|input| !input.is_empty() && !names.has(input)) {
                self.unknown(input, &later, &format!("{} reads", named(proto)));
            }
            self.node_types(node, body.scope);
            for inner in &node.bodies {
                let weights: Vec<&TensorProto> = inner.graph.initializer.iter().collect();
                self.graph(inner, &weights, Some(&names));
            }
            for output in proto.output.iter().filter(|output| !output.is_empty()) {
                if names.has(output) {
                    let text = format!("{} makes `{output}`, which is made before", named(proto));
                    self.add(What::MadeTwice, output, text);
                }
                names.own.insert(output);
            }
        }
        for output in graph.output.iter().map(|output| output.name()).filter(|output| !names.has(output)) {
            self.unknown(output, &later, "an output is");
        }
        self.declarations(graph, body.scope);
    }

    fn unknown(&mut self, value: &str, later: &BTreeSet<&str>, who: &str) {
        if later.contains(value) {
            self.add(What::Order, value, format!("{who} `{value}`, which is made later"));
        } else {
            self.add(What::NeverMade, value, format!("{who} `{value}`, which nothing makes"));
        }
    }

    fn declarations(&mut self, graph: &GraphProto, scope: usize) {
        for declared in graph.input.iter().chain(&graph.output).chain(&graph.value_info) {
            self.declaration(declared, scope);
        }
    }
}

/// Returns a node in words.
fn named(node: &NodeProto) -> String {
    format!("node `{}` ({})", label(node), node.op_type())
}

#[cfg(test)]
mod tests;
