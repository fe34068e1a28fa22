//! Do the types of values agree?

use std::collections::BTreeMap;

use super::{Check, Graph, What, named};
use crate::onnx::analysis::{Kind, Node, attribute, declared_type};
use crate::onnx::proto::{NodeProto, ValueInfoProto};
use crate::onnx::{ElementType, Precision};

impl Check<'_> {
    /// Checks that a declared type is the one that the value has.
    pub(super) fn declaration(&mut self, declared: &ValueInfoProto, scope: usize) {
        let name = declared.name();
        if let (Some(says), Some(is)) = (declared_type(declared), self.values.element_type(scope, name))
            && says != is
        {
            let text = format!("`{name}` is declared as {}, but it is {}", says.as_str(), is.as_str());
            self.add(What::Declaration, name, text);
        }
    }

    /// Checks a node's inputs and outputs by its operator's definition.
    pub(super) fn node_types(&mut self, node: &Node<'_, ()>, scope: usize) {
        let proto = node.proto;
        let is_function = |name: &str, domain: &str| name == proto.op_type() && domain == proto.domain();
        let mut functions = self.model.functions.iter();
        let Some(signature) = node
            .signature
            .filter(|_| !functions.any(|function| is_function(function.name(), function.domain())))
        else {
            return;
        };
        let inputs = proto.input.iter().enumerate().map(|(index, name)| (signature.input(index), name));
        let outputs = proto.output.iter().enumerate().map(|(index, name)| (signature.output(index), name));
        let mut bound: BTreeMap<&str, (ElementType, &str)> = BTreeMap::new();
        for (kind, name) in inputs.chain(outputs).filter(|(_, name)| !name.is_empty()) {
            let (Some(kind), Some(is)) = (kind, self.values.element_type(scope, name)) else { continue };
            match kind {
                Kind::NoTensor => {}
                Kind::Fixed(needed) => {
                    if is != needed {
                        self.wrong(proto, &format!("`{name}` as {}, not {}", is.as_str(), needed.as_str()));
                    }
                }
                Kind::Variable(variable) => {
                    if precision(is).is_some_and(|precision| !variable.takes(precision)) {
                        self.wrong(proto, &format!("`{name}` as {}, which it does not take", is.as_str()));
                    }
                    let (first, of) = *bound.entry(variable.name).or_insert((is, name));
                    if first != is && !variable.each_its_own {
                        let text = format!("`{name}` as {}, but `{of}` as {}", is.as_str(), first.as_str());
                        self.wrong(proto, &text);
                    }
                }
            }
        }
        if node.is_control_flow() {
            self.control_flow(node, scope);
        }
    }

    /// Checks that what goes in and out of branches and loops has the same types on both sides.
    fn control_flow(&mut self, node: &Node<'_, ()>, scope: usize) {
        let proto = node.proto;
        let Some(first) = node.bodies.first() else { return };
        match proto.op_type() {
            "If" => {
                for other in &node.bodies[1..] {
                    let pairs = first.graph.output.iter().zip(&other.graph.output);
                    for (one, two) in pairs {
                        self.equal(proto, (first.scope, one.name()), (other.scope, two.name()));
                    }
                }
            }
            "Loop" => {
                let states = proto.input.len().saturating_sub(2);
                self.loop_body(
                    node,
                    first,
                    scope,
                    Places { first_input: 2, first_output: 1, states, skip: 0 },
                );
            }
            _ => {
                let scanned = attribute(proto, "num_scan_inputs").map_or(0, |attribute| attribute.i());
                // Before operator set 9, lengths come first.
                let skip = proto.input.len().saturating_sub(first.graph.input.len()).min(1);
                let inputs = first.graph.input.len();
                let states = inputs.saturating_sub(usize::try_from(scanned).unwrap_or(usize::MAX));
                self.loop_body(node, first, scope, Places { first_input: 0, first_output: 0, states, skip });
            }
        }
    }

    fn loop_body(&mut self, node: &Node<'_, ()>, body: &Graph<'_>, scope: usize, places: Places) {
        let Places { first_input, first_output, states, skip } = places;
        let inside = body.graph.input.iter().skip(first_input);
        let outside = node.proto.input.iter().skip(first_input + skip);
        for (inside, outside) in inside.zip(outside).filter(|(_, outside)| !outside.is_empty()) {
            self.equal(node.proto, (body.scope, inside.name()), (scope, outside));
        }
        let before = body.graph.input.iter().skip(first_input).take(states);
        let after = body.graph.output.iter().skip(first_output);
        for (before, after) in before.zip(after) {
            self.equal(node.proto, (body.scope, before.name()), (body.scope, after.name()));
        }
    }

    fn equal(&mut self, node: &NodeProto, one: (usize, &str), two: (usize, &str)) {
        let of = |(scope, name)| self.values.element_type(scope, name);
        if let (Some(first), Some(second)) = (of(one), of(two))
            && first != second
        {
            let text = format!("`{}` as {}, but `{}` as {}", two.1, second.as_str(), one.1, first.as_str());
            self.wrong(node, &text);
        }
    }

    fn wrong(&mut self, node: &NodeProto, what: &str) {
        let subject = format!("{} {}", node.op_type(), node.name());
        self.add(What::NodeTypes, &subject, format!("{} has {what}", named(node)));
    }
}

/// Where a loop's body has its states.
struct Places {
    first_input: usize,
    first_output: usize,
    states: usize,
    /// How many inputs the node has before those of its body.
    skip: usize,
}

/// Returns the precision that a floating-point type is, if lowering knows it.
fn precision(element_type: ElementType) -> Option<Precision> {
    match element_type {
        ElementType::Float => Some(Precision::Fp32),
        ElementType::Float16 => Some(Precision::Fp16),
        ElementType::Bfloat16 => Some(Precision::Bf16),
        _ => None,
    }
}
