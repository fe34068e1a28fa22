//! How values become others: a graph and all its subgraphs as one list of nodes, with what passes between subgraphs and
//! the nodes that run them.

use std::collections::BTreeMap;

use super::operator_rules::{Rule, rule};
use super::scope::{Body, Node, Values};
use crate::onnx::proto::NodeProto;

/// The number of a value: its place in [`Values::all`].
pub(in crate::onnx) type ValueId = usize;

/// A graph and all its subgraphs as one.
#[derive(Debug)]
pub(in crate::onnx) struct Flow<'g> {
    /// By [`Node::index`].
    pub(in crate::onnx) nodes: Vec<Step<'g>>,
    /// By value: the node that makes it.
    pub(in crate::onnx) producers: Vec<Option<usize>>,
    /// By value: the nodes that read it, each with the place of the input.
    pub(in crate::onnx) consumers: Vec<Vec<(usize, usize)>>,
    /// By value: the values that it is, handed into or out of a subgraph.
    pub(in crate::onnx) handed_from: Vec<Vec<ValueId>>,
    /// What nodes hand into their subgraphs and get out of them.
    pub(in crate::onnx) wired: Vec<Wired>,
    /// What each iteration of a loop hands to the next.
    pub(in crate::onnx) states: Vec<State>,
    /// The conditions that loops end by.
    pub(in crate::onnx) conditions: Vec<ValueId>,
}

/// A node of a [`Flow`].
#[derive(Debug)]
pub(in crate::onnx) struct Step<'g> {
    pub(in crate::onnx) proto: &'g NodeProto,
    /// `None` for operators that are not ONNX's own.
    pub(in crate::onnx) rule: Option<Rule>,
    pub(in crate::onnx) inputs: Vec<Option<ValueId>>,
    pub(in crate::onnx) outputs: Vec<Option<ValueId>>,
}

/// A value inside a subgraph that is an input or an output of the node that runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::onnx) struct Wired {
    /// The node.
    pub(in crate::onnx) node: usize,
    /// The place among its inputs or outputs.
    pub(in crate::onnx) end: End,
    /// The subgraph's input or output.
    pub(in crate::onnx) inside: ValueId,
}

/// An input or output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::onnx) enum End {
    /// The input at this place.
    Input(usize),
    /// The output at this place.
    Output(usize),
}

/// What each iteration of a Loop or Scan hands to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::onnx) struct State {
    /// The node.
    pub(in crate::onnx) node: usize,
    /// The place of its first value among the node's inputs.
    pub(in crate::onnx) input: usize,
    /// The place of its last value among the node's outputs.
    pub(in crate::onnx) output: usize,
    /// The body's input.
    pub(in crate::onnx) before: ValueId,
    /// The body's output.
    pub(in crate::onnx) after: ValueId,
}

/// Which inputs and outputs of the body are which of the node's, for one kind of control flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::onnx) struct Wires {
    /// The node's input that the body's first input is; `None` where a body has no inputs.
    pub(in crate::onnx) first_input: Option<usize>,
    /// How many of the body's outputs come before the one that is the node's first.
    pub(in crate::onnx) skipped_outputs: usize,
    /// The body's inputs that are states.
    pub(in crate::onnx) states: (usize, usize),
}

impl Wires {
    /// Returns how the subgraphs of a node are wired to it; `None` if it is no control flow of ONNX's own.
    pub(in crate::onnx) fn of<N>(node: &Node<'_, N>) -> Option<Self> {
        if !node.is_control_flow() {
            return None;
        }
        let inputs = node.proto.input.len();
        Some(match node.proto.op_type() {
            "Loop" => Self { first_input: Some(0), skipped_outputs: 1, states: (2, inputs) },
            "Scan" => {
                // The first version has the lengths of sequences before all else.
                let in_body = node.bodies.first().map_or(inputs, |body| body.graph.input.len());
                let scanned =
                    super::node::attribute(node.proto, "num_scan_inputs").map_or(0, |count| count.i());
                let states = in_body.saturating_sub(usize::try_from(scanned).unwrap_or(in_body));
                Self {
                    first_input: Some(inputs.saturating_sub(in_body)),
                    skipped_outputs: 0,
                    states: (0, states),
                }
            }
            _ => Self { first_input: None, skipped_outputs: 0, states: (0, 0) },
        })
    }

    /// Returns the node's input that an input of the body is.
    pub(in crate::onnx) fn node_input(self, body_input: usize) -> Option<usize> {
        self.first_input.map(|first| first + body_input)
    }

    /// Returns the node's output that an output of the body is.
    pub(in crate::onnx) fn node_output(self, body_output: usize) -> Option<usize> {
        body_output.checked_sub(self.skipped_outputs)
    }

    /// Returns the body's input that an output of the body is in the next iteration.
    pub(in crate::onnx) fn next_input(self, body_output: usize) -> Option<usize> {
        let input = self.node_output(body_output)? + self.states.0;
        (input < self.states.1).then_some(input)
    }
}

impl<'g> Flow<'g> {
    /// Reads a graph and its subgraphs.
    pub(in crate::onnx) fn of<V: Default, N>(values: &Values<V>, body: &Body<'g, N>) -> Self {
        let count = values.all().len();
        let mut flow = Self {
            nodes: Vec::with_capacity(values.node_count()),
            producers: vec![None; count],
            consumers: vec![Vec::new(); count],
            handed_from: vec![Vec::new(); count],
            wired: Vec::new(),
            states: Vec::new(),
            conditions: Vec::new(),
        };
        flow.add(values, body);
        flow
    }

    /// Returns the node that makes a value.
    pub(in crate::onnx) fn producer(&self, value: ValueId) -> Option<&Step<'g>> {
        self.producers[value].map(|index| &self.nodes[index])
    }

    fn add<V: Default, N>(&mut self, values: &Values<V>, body: &Body<'g, N>) {
        for node in &body.nodes {
            debug_assert_eq!(node.index, self.nodes.len(), "nodes are numbered in this order");
            let ids = |names: &[String]| -> Vec<Option<ValueId>> {
                names.iter().map(|name| values.find(body.scope, name).filter(|_| !name.is_empty())).collect()
            };
            let step = Step {
                proto: node.proto,
                rule: node.signature.map(|_| rule(node.proto.op_type())),
                inputs: ids(&node.proto.input),
                outputs: ids(&node.proto.output),
            };
            for (place, input) in step.inputs.iter().enumerate() {
                if let Some(input) = input {
                    self.consumers[*input].push((node.index, place));
                }
            }
            for output in step.outputs.iter().flatten() {
                self.producers[*output] = Some(node.index);
            }
            self.nodes.push(step);
            node.bodies.iter().for_each(|body| self.add(values, body));
            if let Some(wires) = Wires::of(node) {
                self.wire(values, node, wires);
            }
        }
    }

    fn wire<V: Default, N>(&mut self, values: &Values<V>, node: &Node<'g, N>, wires: Wires) {
        for body in &node.bodies {
            let inside = |name: &str| values.find(body.scope, name);
            let body_inputs: Vec<Option<ValueId>> =
                body.graph.input.iter().map(|input| inside(input.name())).collect();
            let of_node = |side: &[Option<ValueId>], place: Option<usize>| {
                place.and_then(|place| side.get(place).copied().flatten())
            };
            let step = &self.nodes[node.index];
            let mut handed: Vec<(Option<ValueId>, Option<ValueId>)> = Vec::new();
            for (place, input) in body_inputs.iter().enumerate() {
                handed.push((of_node(&step.inputs, wires.node_input(place)), *input));
                if let (Some(place), Some(inside)) = (wires.node_input(place), *input) {
                    self.wired.push(Wired { node: node.index, end: End::Input(place), inside });
                }
            }
            for (place, output) in body.graph.output.iter().enumerate() {
                let output = inside(output.name());
                let outside = of_node(&step.outputs, wires.node_output(place));
                handed.push((output, outside));
                if let (Some(place), Some(inside)) = (wires.node_output(place), output) {
                    self.wired.push(Wired { node: node.index, end: End::Output(place), inside });
                }
                let Some(next) = wires.next_input(place) else { continue };
                let before = of_node(&body_inputs, Some(next));
                handed.push((output, before));
                // Without an iteration, what comes out is what went in.
                handed.push((of_node(&step.inputs, wires.node_input(next)), outside));
                if let (Some(before), Some(after), Some(input), Some(output)) =
                    (before, output, wires.node_input(next), wires.node_output(place))
                {
                    self.states.push(State { node: node.index, input, output, before, after });
                }
            }
            if node.proto.op_type() == "Loop" {
                self.conditions.extend(body.graph.output.first().and_then(|output| inside(output.name())));
            }
            for (from, to) in handed {
                if let (Some(from), Some(to)) = (from, to) {
                    self.handed_from[to].push(from);
                }
            }
        }
    }

    /// Returns the values that each value is handed on to.
    pub(in crate::onnx) fn handed_to(&self) -> BTreeMap<ValueId, Vec<ValueId>> {
        let mut to: BTreeMap<ValueId, Vec<ValueId>> = BTreeMap::new();
        for (value, sources) in self.handed_from.iter().enumerate() {
            for source in sources {
                to.entry(*source).or_default().push(value);
            }
        }
        to
    }
}
