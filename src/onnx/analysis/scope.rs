//! The values of a graph and of its subgraphs: where each name means which value, and of which type it is.
//!
//! A subgraph sees the names outside it. Types are found from the inputs on, by the operators' definitions; what
//! doesn't follow from those is taken from the file's own declarations, or is unknown.

use std::collections::BTreeMap;

use super::infer::{Known, declared_type, output_type};
use super::node::{is_own_domain, label, subgraphs};
use super::signature::{Signature, signature};
use crate::onnx::ElementType;
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto};

/// All values of a graph and its subgraphs, each with a note `V` of whoever asked for the analysis.
#[derive(Debug)]
pub(in crate::onnx) struct Values<V> {
    values: Vec<Value<V>>,
    scopes: Vec<Scope>,
    /// How many nodes were read, those of subgraphs included.
    nodes: usize,
}

#[derive(Debug)]
struct Scope {
    parent: Option<usize>,
    names: BTreeMap<String, usize>,
}

/// One value of a graph.
#[derive(Debug)]
pub(in crate::onnx) struct Value<V> {
    pub(in crate::onnx) name: String,
    pub(in crate::onnx) element_type: Option<ElementType>,
    pub(in crate::onnx) note: V,
}

/// A graph or subgraph, with what is known of its nodes.
#[derive(Debug)]
pub(in crate::onnx) struct Body<'g, N> {
    pub(in crate::onnx) graph: &'g GraphProto,
    /// Where its names are looked up.
    pub(in crate::onnx) scope: usize,
    pub(in crate::onnx) nodes: Vec<Node<'g, N>>,
}

/// A node, with what is known of it and a note `N` of whoever asked for the analysis.
#[derive(Debug)]
pub(in crate::onnx) struct Node<'g, N> {
    /// Its place among all nodes of the graph and its subgraphs.
    pub(in crate::onnx) index: usize,
    pub(in crate::onnx) proto: &'g NodeProto,
    /// The operator set that it is of.
    pub(in crate::onnx) opset: i64,
    /// None for operators that are not ONNX's own.
    pub(in crate::onnx) signature: Option<&'static Signature>,
    /// Its subgraphs, in the order of [`subgraphs`].
    pub(in crate::onnx) bodies: Vec<Body<'g, N>>,
    pub(in crate::onnx) note: N,
}

impl<N> Node<'_, N> {
    /// Returns the node's name; the name of its first output where it has none.
    pub(in crate::onnx) fn label(&self) -> &str {
        label(self.proto)
    }

    /// Returns whether its subgraphs are the branches or loops that we can follow values into.
    pub(in crate::onnx) fn is_control_flow(&self) -> bool {
        self.signature.is_some() && matches!(self.proto.op_type(), "If" | "Loop" | "Scan")
    }
}

impl<'g, N> Body<'g, N> {
    /// Calls `visit` for every node of a graph and its subgraphs, in order.
    pub(in crate::onnx) fn for_each_node<'b>(&'b self, visit: &mut dyn FnMut(&'b Node<'g, N>)) {
        for node in &self.nodes {
            visit(node);
            node.bodies.iter().for_each(|body| body.for_each_node(visit));
        }
    }
}

impl<V: Default> Values<V> {
    /// Reads a graph whose weights are `tensors`. Returns its values and its nodes, with notes that say nothing yet.
    pub(in crate::onnx) fn read<'g, N: Default>(
        graph: &'g GraphProto,
        tensors: &[&TensorProto],
        opset: i64,
    ) -> (Self, Body<'g, N>) {
        let mut values = Self { values: Vec::new(), scopes: Vec::new(), nodes: 0 };
        let body = values.read_body(graph, tensors, opset, None, &[]);
        (values, body)
    }

    /// Returns the FP32 value that a name means in a scope; `None` for other types and unknown names.
    pub(in crate::onnx) fn float(&self, scope: usize, name: &str) -> Option<&Value<V>> {
        self.find(scope, name)
            .map(|id| &self.values[id])
            .filter(|value| value.element_type == Some(ElementType::Float))
    }

    /// Returns the same, to be changed.
    pub(in crate::onnx) fn float_mut(&mut self, scope: usize, name: &str) -> Option<&mut Value<V>> {
        let id = self.find(scope, name)?;
        Some(&mut self.values[id]).filter(|value| value.element_type == Some(ElementType::Float))
    }

    /// Returns the FP32 value of a name that this scope itself has.
    pub(in crate::onnx) fn own_float_mut(&mut self, scope: usize, name: &str) -> Option<&mut Value<V>> {
        self.own_mut(scope, name).filter(|value| value.element_type == Some(ElementType::Float))
    }

    /// Returns the value of a name that this scope itself has, of whatever type.
    pub(in crate::onnx) fn own_mut(&mut self, scope: usize, name: &str) -> Option<&mut Value<V>> {
        let id = *self.scopes[scope].names.get(name)?;
        Some(&mut self.values[id])
    }

    /// Returns the type of what a name means in a scope, if it is known.
    pub(in crate::onnx) fn element_type(&self, scope: usize, name: &str) -> Option<ElementType> {
        self.find(scope, name).and_then(|id| self.values[id].element_type)
    }

    /// Returns all values, to be changed.
    pub(in crate::onnx) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Value<V>> {
        self.values.iter_mut()
    }

    /// Returns all values; the position of each is its number.
    pub(in crate::onnx) fn all(&self) -> &[Value<V>] {
        &self.values
    }

    /// Returns how many nodes the graph and its subgraphs have.
    pub(in crate::onnx) fn node_count(&self) -> usize {
        self.nodes
    }

    /// Returns the number of the value that a name means in a scope.
    pub(in crate::onnx) fn find(&self, scope: usize, name: &str) -> Option<usize> {
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
                self.values.push(Value { name: name.into(), element_type, note: V::default() });
            }
        }
    }

    fn read_body<'g, N: Default>(
        &mut self,
        graph: &'g GraphProto,
        tensors: &[&TensorProto],
        opset: i64,
        parent: Option<usize>,
        given: &[Option<ElementType>],
    ) -> Body<'g, N> {
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
            let index = self.nodes;
            self.nodes += 1;
            let signature = signature(proto.op_type(), opset).filter(|_| is_own_domain(proto.domain()));
            let inputs: Vec<Option<ElementType>> =
                proto.input.iter().map(|name| self.element_type(scope, name)).collect();
            let children: Vec<Body<'g, N>> = subgraphs(proto)
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
            for (place, name) in proto.output.iter().enumerate() {
                let known = Known { node: proto, signature, inputs: &inputs };
                // What the operator says wins over what the file declares: exporters get declarations wrong.
                let element_type = match &from_body {
                    Some(outputs) if matches!(proto.op_type(), "If" | "Loop" | "Scan") => {
                        outputs.get(place).copied().flatten()
                    }
                    _ => output_type(&known, place),
                };
                self.add(scope, name, element_type.or_else(|| declared.get(name.as_str()).copied()));
            }
            nodes.push(Node { index, proto, opset, signature, bodies: children, note: N::default() });
        }
        Body { graph, scope, nodes }
    }
}
