//! The values of a graph and of its subgraphs: where each name means which value, and of which type it is.
//!
//! A subgraph sees the names outside it. Types are found from the inputs on, by the operators' definitions; what
//! doesn't follow from those is taken from the file's own declarations, or is unknown.

use std::collections::BTreeMap;

use super::forms::Value;
use super::infer::{Known, declared_type, output_type};
use super::policy::is_own_domain;
use super::signature::{Signature, signature};
use crate::onnx::ElementType;
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto};

/// All values of a graph and its subgraphs.
#[derive(Debug, Default)]
pub(super) struct Values {
    values: Vec<Value>,
    scopes: Vec<Scope>,
}

#[derive(Debug)]
struct Scope {
    parent: Option<usize>,
    names: BTreeMap<String, usize>,
}

/// A graph or subgraph, with what is known of its nodes.
#[derive(Debug)]
pub(super) struct Body<'g> {
    pub(super) graph: &'g GraphProto,
    /// Where its names are looked up.
    pub(super) scope: usize,
    pub(super) nodes: Vec<Node<'g>>,
}

/// A node, with what is known of it.
#[derive(Debug)]
pub(super) struct Node<'g> {
    pub(super) proto: &'g NodeProto,
    /// None for operators that are not ONNX's own.
    pub(super) signature: Option<&'static Signature>,
    /// Its subgraphs, in the order of [`bodies`].
    pub(super) bodies: Vec<Body<'g>>,
    pub(super) decision: super::plan::Decision,
    /// Which inputs are read in the lower precision.
    pub(super) low_inputs: Vec<bool>,
    /// Which outputs are made in the lower precision.
    pub(super) low_outputs: Vec<bool>,
}

impl Node<'_> {
    /// Returns the node's name; the name of its first output where it has none.
    pub(super) fn label(&self) -> &str {
        label(self.proto)
    }

    /// Returns whether its subgraphs are the branches or loops that we can follow values into.
    pub(super) fn is_control_flow(&self) -> bool {
        self.signature.is_some() && matches!(self.proto.op_type(), "If" | "Loop" | "Scan")
    }
}

/// Returns a node's name; the name of its first output where it has none.
pub fn label(node: &NodeProto) -> &str {
    let unnamed = node.output.first().map(String::as_str).unwrap_or_default();
    if node.name().is_empty() { unnamed } else { node.name() }
}

/// Returns the subgraphs of a node.
pub(super) fn bodies(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs))
}

/// Returns the subgraphs of a node, to be changed, in the same order.
pub(super) fn bodies_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute
        .iter_mut()
        .flat_map(|attribute| attribute.g.as_deref_mut().into_iter().chain(&mut attribute.graphs))
}

impl Values {
    /// Reads a graph whose weights are `tensors`. Returns its values and its nodes.
    pub(super) fn read<'g>(graph: &'g GraphProto, tensors: &[&TensorProto], opset: i64) -> (Self, Body<'g>) {
        let mut values = Self::default();
        let body = values.read_body(graph, tensors, opset, None, &[]);
        (values, body)
    }

    /// Returns the FP32 value that a name means in a scope; none for other types and unknown names.
    pub(super) fn float(&self, scope: usize, name: &str) -> Option<&Value> {
        self.find(scope, name)
            .map(|id| &self.values[id])
            .filter(|value| value.element_type == Some(ElementType::Float))
    }

    /// Returns the same, to be changed.
    pub(super) fn float_mut(&mut self, scope: usize, name: &str) -> Option<&mut Value> {
        let id = self.find(scope, name)?;
        Some(&mut self.values[id]).filter(|value| value.element_type == Some(ElementType::Float))
    }

    /// Returns the FP32 value of a name that this scope itself has.
    pub(super) fn own_float_mut(&mut self, scope: usize, name: &str) -> Option<&mut Value> {
        let id = *self.scopes[scope].names.get(name)?;
        Some(&mut self.values[id]).filter(|value| value.element_type == Some(ElementType::Float))
    }

    /// Returns the type of what a name means in a scope, if it is known.
    pub(super) fn element_type(&self, scope: usize, name: &str) -> Option<ElementType> {
        self.find(scope, name).and_then(|id| self.values[id].element_type)
    }

    /// Returns all values, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.values.iter_mut()
    }

    /// Returns all names that values have anywhere.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|value| value.name.as_str())
    }

    fn find(&self, scope: usize, name: &str) -> Option<usize> {
        let mut scope = Some(&self.scopes[scope]);
        while let Some(here) = scope {
            if let Some(id) = here.names.get(name) {
                return Some(*id);
            }
            scope = here.parent.map(|parent| &self.scopes[parent]);
        }
        None
    }

    fn add(&mut self, scope: usize, name: &str, element_type: Option<ElementType>) {
        if name.is_empty() {
            return;
        }
        match self.scopes[scope].names.get(name) {
            Some(&id) => self.values[id].element_type = element_type.or(self.values[id].element_type),
            None => {
                self.scopes[scope].names.insert(name.into(), self.values.len());
                self.values.push(Value::new(name, element_type));
            }
        }
    }

    fn read_body<'g>(
        &mut self,
        graph: &'g GraphProto,
        tensors: &[&TensorProto],
        opset: i64,
        parent: Option<usize>,
        given: &[Option<ElementType>],
    ) -> Body<'g> {
        let scope = self.scopes.len();
        self.scopes.push(Scope { parent, names: BTreeMap::new() });
        for (index, input) in graph.input.iter().enumerate() {
            self.add(
                scope,
                input.name(),
                declared_type(input).or_else(|| given.get(index).copied().flatten()),
            );
        }
        let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
        for tensor in tensors.iter().copied().chain(sparse) {
            self.add(scope, tensor.name(), ElementType::from_onnx(tensor.data_type()));
        }
        let declared: BTreeMap<&str, ElementType> = graph
            .output
            .iter()
            .chain(&graph.value_info)
            .filter_map(|value| Some((value.name(), declared_type(value)?)))
            .collect();
        let mut nodes = Vec::with_capacity(graph.node.len());
        for proto in &graph.node {
            let signature = signature(proto.op_type(), opset).filter(|_| is_own_domain(proto.domain()));
            let inputs: Vec<Option<ElementType>> =
                proto.input.iter().map(|name| self.element_type(scope, name)).collect();
            let children: Vec<Body<'g>> = bodies(proto)
                .map(|body| {
                    let tensors: Vec<&TensorProto> = body.initializer.iter().collect();
                    self.read_body(body, &tensors, opset, Some(scope), &inputs)
                })
                .collect();
            // If: the branches' outputs. Loop: the body's outputs after the condition. Scan: the body's outputs.
            let from_body = children.first().map(|body| {
                let skip = usize::from(proto.op_type() == "Loop");
                let outputs = body.graph.output.iter().skip(skip);
                outputs.map(|output| self.element_type(body.scope, output.name())).collect::<Vec<_>>()
            });
            for (index, name) in proto.output.iter().enumerate() {
                let known = Known { node: proto, signature, inputs: &inputs };
                // What the operator says wins over what the file declares: exporters get declarations wrong.
                let element_type = match &from_body {
                    Some(outputs) if matches!(proto.op_type(), "If" | "Loop" | "Scan") => {
                        outputs.get(index).copied().flatten()
                    }
                    _ => output_type(&known, index),
                };
                self.add(scope, name, element_type.or_else(|| declared.get(name.as_str()).copied()));
            }
            nodes.push(Node {
                proto,
                signature,
                bodies: children,
                decision: super::plan::Decision::Untouched,
                low_inputs: Vec::new(),
                low_outputs: Vec::new(),
            });
        }
        Body { graph, scope, nodes }
    }
}
