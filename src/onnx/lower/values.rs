//! For every FP32 value of the graph: in which types it is produced and wanted, and under which name it has each.

use std::collections::{BTreeMap, BTreeSet};

use super::infer::{Types, output_rule};
use super::operators::{OutputType, operator};
use super::plan::Decision;
use super::subgraph::free_names;
use super::{Io, LoweringOptions};
use crate::onnx::ElementType;
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto};

/// The two forms that a value of the original graph can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// FP32, as it was.
    Full,
    /// The lower precision.
    Low,
}

/// In which forms a value can be had without a cast from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Produced {
    /// In this form only.
    In(Form),
    /// In either: a weight, or a cast from another type.
    Either,
}

/// One FP32 value of the original graph.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) produced: Produced,
    wants_full: bool,
    wants_low: bool,
    /// The form that the outside world sees under the value's own name.
    interface: Option<Form>,
    other_name: String,
}

/// All FP32 values, by their own names.
pub(super) struct Values {
    values: BTreeMap<String, Value>,
    limits: [String; 2],
}

impl Form {
    /// Returns the other one.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Full => Self::Low,
            Self::Low => Self::Full,
        }
    }
}

impl Value {
    /// Returns the form that has the value's own name.
    pub(super) fn carried(&self) -> Form {
        match (self.interface, self.produced) {
            (Some(form), _) | (None, Produced::In(form)) => form,
            (None, Produced::Either) if self.wants_low => Form::Low,
            (None, Produced::Either) => Form::Full,
        }
    }

    /// Returns whether somebody reads the value in this form.
    pub(super) fn wants(&self, form: Form) -> bool {
        match form {
            Form::Full => self.wants_full,
            Form::Low => self.wants_low,
        }
    }

    fn want(&mut self, form: Form) {
        match form {
            Form::Full => self.wants_full = true,
            Form::Low => self.wants_low = true,
        }
    }
}

impl Values {
    /// Finds out all of it.
    pub(super) fn new(
        graph: &GraphProto,
        tensors: &[TensorProto],
        types: &Types,
        decisions: &[Decision],
        options: &LoweringOptions,
    ) -> Self {
        let mut taken = all_names(graph, types);
        let mut values = BTreeMap::new();
        for (name, _) in types.iter().filter(|(_, element_type)| **element_type == ElementType::Float) {
            let value = Value {
                // Of what nothing in the graph says otherwise: sparse weights.
                produced: Produced::In(Form::Full),
                wants_full: false,
                wants_low: false,
                interface: None,
                other_name: String::new(),
            };
            values.insert(name.clone(), value);
        }
        let border = if options.io == Io::Lower { Form::Low } else { Form::Full };
        for (node, decision) in graph.node.iter().zip(decisions) {
            for (index, output) in node.output.iter().enumerate() {
                if let Some(value) = values.get_mut(output) {
                    value.produced = produced(node, index, decision, types);
                }
            }
        }
        for tensor in tensors {
            if let Some(value) = values.get_mut(tensor.name()) {
                value.produced = Produced::Either;
            }
        }
        for output in &graph.output {
            if let Some(value) = values.get_mut(output.name()) {
                value.interface = Some(border);
                value.want(border);
            }
        }
        for input in &graph.input {
            // One that has a default value is a weight that a caller may replace: FP32.
            let has_default = tensors.iter().any(|tensor| tensor.name() == input.name());
            let form = if has_default { Form::Full } else { border };
            if let Some(value) = values.get_mut(input.name()) {
                value.produced = Produced::In(form);
                value.interface = Some(form);
            }
        }
        let limits =
            ["lowest", "highest"].map(|end| unused_name(&format!("{}_{end}", options.precision), &mut taken));
        let mut values = Self { values, limits };
        for (node, decision) in graph.node.iter().zip(decisions) {
            for (index, input) in node.input.iter().enumerate() {
                if let Some(value) = values.values.get_mut(input) {
                    value.want(wanted_form(node, index, decision));
                }
            }
            for name in free_names(node) {
                if let Some(value) = values.values.get_mut(&name) {
                    value.want(Form::Full);
                }
            }
        }
        let low = options.precision.as_str();
        for (name, value) in &mut values.values {
            let suffix = if value.carried() == Form::Full { low } else { "fp32" };
            value.other_name = unused_name(&format!("{name}_{suffix}"), &mut taken);
        }
        values
    }

    /// Returns what is known of an FP32 value; none for values of other types.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Returns the names for the least and the greatest finite number of the lower precision.
    pub(super) fn limits(&self) -> &[String; 2] {
        &self.limits
    }

    /// Returns the name under which a value has this form; its own for values of other types.
    pub(super) fn name<'a>(&'a self, name: &'a str, form: Form) -> &'a str {
        match self.values.get(name) {
            Some(value) if value.carried() != form => &value.other_name,
            _ => name,
        }
    }
}

/// Returns the form in which a node reads an input, if that is an FP32 value.
pub(super) fn wanted_form(node: &NodeProto, index: usize, decision: &Decision) -> Form {
    let stays = |index| operator(node.op_type()).is_some_and(|known| known.fp32_inputs.contains(&index));
    if *decision == Decision::Lower && !stays(index) { Form::Low } else { Form::Full }
}

/// Returns whether a node turns another type into FP32, so that it can as well turn it into a lower precision.
pub(super) fn is_cast_from_other_type(node: &NodeProto, types: &Types) -> bool {
    let from = node.input.first().and_then(|input| types.get(input));
    node.op_type() == "Cast" && from.is_some_and(|from| *from != ElementType::Float)
}

fn produced(node: &NodeProto, index: usize, decision: &Decision, types: &Types) -> Produced {
    if *decision != Decision::Lower {
        return Produced::In(Form::Full);
    }
    if is_cast_from_other_type(node, types) {
        return Produced::Either;
    }
    Produced::In(match output_rule(node, index) {
        Some(OutputType::Same(_) | OutputType::ValueAttribute) => Form::Low,
        Some(OutputType::Attribute("to", _)) => Form::Low,
        _ => Form::Full,
    })
}

fn all_names(graph: &GraphProto, types: &Types) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = types.keys().cloned().collect();
    for node in &graph.node {
        names.extend(node.input.iter().chain(&node.output).cloned());
        super::subgraph::collect_names(node, &mut names);
    }
    names
}

fn unused_name(wish: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{wish}_{number}"));
    let mut wishes = std::iter::once(wish.to_string()).chain(numbered);
    let is_free = |name: &String| !taken.contains(name) && !taken.contains(&clipped_name(name));
    let name = wishes.find(is_free).expect("the numbers don't end");
    taken.extend([clipped_name(&name), name.clone()]);
    name
}

/// Returns the name of a value that is clipped before it is cast to `name`.
pub(super) fn clipped_name(name: &str) -> String {
    format!("{name}_clipped")
}
