//! Writes the nodes of the lowered graph: renamed, retyped, with casts where the two precisions meet.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::choice::{Body, Decision, Node};
use super::convert::{Conversion, highest, rounded_bytes};
use super::emulate::Rounding;
use super::forms::{Borders, input_form, is_cast_from_other_type};
use super::report::KeepReason;
use super::type_attributes::output_type_attribute;
use super::value::{Form, Produced, Value, Values};
use crate::onnx::analysis::{attribute, subgraphs_mut};
use crate::onnx::free_names::FreeNames;
use crate::onnx::model_parts::without_initializers;
use crate::onnx::new_nodes::{
    cast_node, float_attribute, plain_node, set_attribute, tensor_attribute, type_attribute,
};
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use crate::onnx::{ElementType, OnnxError, OnnxFile, Precision};

/// What the nodes are written with.
pub(super) struct Rewrite<'a> {
    pub(super) file: &'a OnnxFile,
    pub(super) values: &'a Values,
    pub(super) free: FreeNames,
    pub(super) precision: Precision,
    pub(super) rounding: Rounding,
    /// Whether Clip takes its limits as inputs; in older operator sets they are attributes.
    pub(super) limits_are_inputs: bool,
    pub(super) casts_inserted: u64,
    pub(super) clips_inserted: u64,
    /// How many values of a constant are clipped because it is needed lowered, by its name.
    pub(super) clipped: BTreeMap<String, u64>,
    /// The names of the min and max finite numbers of the lower precision, if nodes use them.
    pub(super) limits: Option<[String; 2]>,
}

impl Rewrite<'_> {
    /// Returns the graph with its nodes lowered, in an order that is still topological, and its declarations retyped.
    /// Its initializers are left to the caller.
    ///
    /// # Errors
    /// A malformed tensor of a subgraph.
    pub(super) fn graph(&mut self, body: &Body<'_>) -> Result<GraphProto, OnnxError> {
        let nodes = self.nodes(body)?;
        let mut graph = without_initializers(body.graph, nodes);
        for declared in [&mut graph.input, &mut graph.output, &mut graph.value_info] {
            self.retype(declared, body.scope);
        }
        Ok(graph)
    }

    /// Returns a subgraph, whose outputs have these forms.
    fn subgraph(&mut self, body: &Body<'_>, borders: &Borders) -> Result<GraphProto, OnnxError> {
        let mut graph = self.graph(body)?;
        graph.initializer = self.weights(body)?;
        for (output, border) in graph.output.iter_mut().zip(&borders.outputs) {
            // One that is handed through from outside may have another name and type there.
            if let Some(value) = self.values.float(body.scope, output.name()) {
                output.name = Some(value.name_of(*border).into());
                set_element_type(output, self.element_type(*border));
            }
        }
        Ok(graph)
    }

    /// Returns the limits of values that nodes clip, if any do.
    pub(super) fn limit_tensors(&self) -> Vec<TensorProto> {
        let limit = |(name, value): (&String, f32)| TensorProto {
            name: Some(name.clone()),
            data_type: Some(ElementType::Float.to_onnx()),
            raw_data: Some(Bytes::copy_from_slice(&value.to_le_bytes())),
            ..TensorProto::default()
        };
        self.limits.iter().flatten().zip(self.limits_of_values()).map(limit).collect()
    }

    /// Returns how the lowered form of a constant is written.
    pub(super) fn conversion(&self, value: &Value) -> Conversion {
        let clips = value.note.losses.overflowing > 0;
        Conversion { precision: self.precision, rounding: self.rounding, clips }
    }

    /// Returns the limits of values that nodes clip: half of what the lower precision holds, so that a score can be added to
    /// a mask of the lowest number without becoming an infinity.
    fn limits_of_values(&self) -> [f32; 2] {
        let limit = highest(self.precision) / 2.0;
        [-limit, limit]
    }

    fn nodes(&mut self, body: &Body<'_>) -> Result<Vec<NodeProto>, OnnxError> {
        let Body { graph, scope, nodes } = body;
        let mut out = Vec::with_capacity(nodes.len());
        for input in &graph.input {
            self.cast_where_wanted(&mut out, *scope, input.name(), false);
        }
        for tensor in graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref()) {
            self.cast_where_wanted(&mut out, *scope, tensor.name(), true);
        }
        for node in nodes {
            if node.note.decision == Decision::Lower && is_cast_from_other_type(self.values, *scope, node) {
                self.cast_to_wanted(&mut out, *scope, node);
                continue;
            }
            self.node(&mut out, *scope, node)?;
            let overflows = matches!(node.note.decision, Decision::Keep(KeepReason::Overflow { .. }));
            for output in &node.proto.output {
                self.cast_where_wanted(&mut out, *scope, output, overflows);
            }
        }
        Ok(out)
    }

    /// Adds one node, with its subgraphs.
    fn node(&mut self, out: &mut Vec<NodeProto>, scope: usize, node: &Node<'_>) -> Result<(), OnnxError> {
        let mut renamed = node.proto.clone();
        for (index, input) in renamed.input.iter_mut().enumerate() {
            if let Some(value) = self.values.float(scope, input) {
                *input = value.name_of(input_form(node, index)).into();
            }
        }
        for output in &mut renamed.output {
            if let Some(value) = self.values.float(scope, output)
                && let Produced::In(form) = value.note.produced
            {
                *output = value.name_of(form).into();
            }
        }
        if node.note.decision == Decision::Lower {
            let output = node.proto.output.first().and_then(|output| self.values.float(scope, output));
            if output.is_some() {
                let is_low = node.note.low_outputs.first().copied().unwrap_or_default();
                self.change_attributes(&mut renamed, Form::low_if(is_low));
            }
            self.remove_idle_cast(&mut renamed, scope, node);
        }
        for (body, slot) in node.bodies.iter().zip(subgraphs_mut(&mut renamed)) {
            *slot = self.subgraph(body, &Borders::of(node, body))?;
        }
        if self.rounding == Rounding::Emulated && !node.is_control_flow() {
            let unrounded = self.round_outputs(&mut renamed, &node.note.low_outputs);
            out.push(renamed);
            out.extend(unrounded);
        } else {
            out.push(renamed);
        }
        Ok(())
    }

    /// Returns the initializers of a subgraph, in the forms that are wanted.
    fn weights(&mut self, body: &Body<'_>) -> Result<Vec<TensorProto>, OnnxError> {
        let mut weights = Vec::new();
        for tensor in &body.graph.initializer {
            let value = self.values.float(body.scope, tensor.name());
            // Of a name that a broken model gives to tensors of several types, only those of FP32 are meant.
            let is_float = tensor.data_type() == ElementType::Float.to_onnx();
            let Some(value) = value.filter(|value| is_float && value.note.produced == Produced::Either)
            else {
                weights.push(tensor.clone());
                continue;
            };
            let (full, low) = wanted_forms(value);
            if full {
                weights.push(TensorProto { name: Some(value.name_of(Form::Full).into()), ..tensor.clone() });
            }
            if low {
                self.clipped.extend(clipped(value));
                let bytes = self.file.tensor_bytes(tensor)?;
                weights.push(TensorProto {
                    name: Some(value.name_of(Form::Low).into()),
                    dims: tensor.dims.clone(),
                    data_type: Some(self.element_type(Form::Low).to_onnx()),
                    raw_data: Some(rounded_bytes(&bytes, self.conversion(value)).into()),
                    ..TensorProto::default()
                });
            }
        }
        Ok(weights)
    }

    fn element_type(&self, form: Form) -> ElementType {
        match (form, self.rounding) {
            (Form::Full, _) | (Form::Low, Rounding::Emulated) => ElementType::Float,
            (Form::Low, Rounding::Real) => self.precision.element_type(),
        }
    }

    /// Gives declared values the type that now has their name.
    fn retype(&self, declared: &mut [ValueInfoProto], scope: usize) {
        for value in declared {
            let known = self.values.float(scope, value.name());
            if known.is_none_or(|known| known.carried() == Form::Full) {
                continue;
            }
            set_element_type(value, self.element_type(Form::Low));
        }
    }

    /// Adds the cast of a value that is produced in one form and wanted in the other.
    ///
    /// Clipped first, a value stays finite: a mask of the lowest FP32 number would become an infinity, and a row of
    /// those has no softmax.
    fn cast_where_wanted(&mut self, out: &mut Vec<NodeProto>, scope: usize, name: &str, overflows: bool) {
        let Some(value) = self.values.float(scope, name) else { return };
        let Produced::In(form) = value.note.produced else { return };
        if !value.wants(form.other()) {
            return;
        }
        let to = form.other();
        let output = value.name_of(to).to_string();
        let mut input = value.name_of(form).to_string();
        let too_large = value.note.losses.overflowing;
        if (overflows || too_large > 0) && to == Form::Low {
            if !overflows {
                // A constant that is a node. One whose node is kept because of it is counted with that.
                self.clipped.insert(value.name.clone(), too_large);
            }
            input = self.clip(out, input, &output);
        }
        let element_type = self.element_type(to);
        match (self.rounding, to) {
            (Rounding::Real, _) => out.push(cast_node(&mut self.free, input, &output, element_type)),
            (Rounding::Emulated, Form::Full) => {
                out.push(plain_node(&mut self.free, "Identity", vec![input], &output));
            }
            (Rounding::Emulated, Form::Low) => out.extend(self.rounded(input, &output)),
        }
        self.casts_inserted += 1;
    }

    /// Adds a node that clips a value to the range of the lower precision, and returns the name of what it gives.
    fn clip(&mut self, out: &mut Vec<NodeProto>, input: String, wish: &str) -> String {
        let clipped = self.free.take(&format!("{wish}_clipped"));
        let mut inputs = vec![input];
        let mut attributes = Vec::new();
        if self.limits_are_inputs {
            inputs.extend(self.limit_names());
        } else {
            let limits = ["min", "max"].into_iter().zip(self.limits_of_values());
            attributes.extend(limits.map(|(name, limit)| float_attribute(name, limit)));
        }
        out.push(NodeProto { attribute: attributes, ..plain_node(&mut self.free, "Clip", inputs, &clipped) });
        self.clips_inserted += 1;
        clipped
    }

    /// Adds a cast from another type, once for each form that is wanted.
    fn cast_to_wanted(&mut self, out: &mut Vec<NodeProto>, scope: usize, node: &Node<'_>) {
        let Some(value) = node.proto.output.first().and_then(|name| self.values.float(scope, name)) else {
            return;
        };
        let mut forms: Vec<Form> =
            [Form::Full, Form::Low].into_iter().filter(|form| value.wants(*form)).collect();
        if forms.is_empty() {
            forms.push(value.carried());
        }
        for form in forms {
            let name = value.name_of(form).to_string();
            let mut cast = node.proto.clone();
            if form != value.carried() {
                // A copy, which needs a name of its own.
                cast.name = Some(self.free.take(&format!("{name}_cast")));
                self.casts_inserted += 1;
            }
            cast.output = vec![name];
            set_attribute(&mut cast, type_attribute("to", self.element_type(form)));
            self.remove_idle_cast(&mut cast, scope, node);
            if self.rounding == Rounding::Emulated && form == Form::Low {
                let rounding = self.round_outputs(&mut cast, &[true]);
                out.push(cast);
                out.extend(rounding);
            } else {
                out.push(cast);
            }
        }
    }

    /// Makes a cast to the type that its input now has a plain copy, which runtimes leave out.
    fn remove_idle_cast(&self, renamed: &mut NodeProto, scope: usize, node: &Node<'_>) {
        let Some(input) = node.proto.input.first().filter(|_| renamed.op_type() == "Cast") else { return };
        let from = match self.values.element_type(scope, input) {
            Some(ElementType::Float) => Some(self.element_type(input_form(node, 0))),
            other => other,
        };
        let to = attribute(renamed, "to").and_then(|to| ElementType::from_onnx(to.i() as i32));
        if from.is_some() && from == to {
            renamed.op_type = Some("Identity".into());
            renamed.attribute.clear();
        }
    }

    /// Gives the outputs of a node other names, and returns the nodes that round them to the names they had.
    fn round_outputs(&mut self, node: &mut NodeProto, low_outputs: &[bool]) -> Vec<NodeProto> {
        let mut nodes = Vec::new();
        for (output, low) in node.output.iter_mut().zip(low_outputs) {
            if *low && !output.is_empty() {
                let unrounded = self.free.take(&format!("{output}_unrounded"));
                nodes.extend(self.rounded(unrounded.clone(), output));
                *output = unrounded;
            }
        }
        nodes
    }

    /// Returns the nodes that round a value to the lower precision and give it back in FP32.
    fn rounded(&mut self, input: String, output: &str) -> [NodeProto; 2] {
        let half = self.free.take(&format!("{output}_{}", self.precision));
        [
            cast_node(&mut self.free, input, &half, self.precision.element_type()),
            cast_node(&mut self.free, half.clone(), output, ElementType::Float),
        ]
    }

    fn limit_names(&mut self) -> [String; 2] {
        let Self { limits, free, precision, .. } = self;
        limits
            .get_or_insert_with(|| ["lowest", "highest"].map(|end| free.take(&format!("{precision}_{end}"))))
            .clone()
    }

    /// Gives a lowered node the attributes that its first output's form asks for: its type, and what it is filled with.
    fn change_attributes(&self, node: &mut NodeProto, form: Form) {
        if let Some(name) = output_type_attribute(node.op_type()) {
            set_attribute(node, type_attribute(name, self.element_type(form)));
        }
        if node.op_type() == "ConstantOfShape" && form == Form::Low {
            let conversion = Conversion { precision: self.precision, rounding: self.rounding, clips: false };
            let fill = fill_of(self.file, node).unwrap_or(0.0).to_le_bytes();
            let tensor = TensorProto {
                dims: vec![1],
                data_type: Some(self.element_type(Form::Low).to_onnx()),
                raw_data: Some(rounded_bytes(&fill, conversion).into()),
                ..TensorProto::default()
            };
            set_attribute(node, tensor_attribute("value", tensor));
        }
    }
}

fn set_element_type(value: &mut ValueInfoProto, element_type: ElementType) {
    let kind = value.r#type.as_mut().and_then(|kind| kind.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = kind {
        tensor.elem_type = Some(element_type.to_onnx());
    }
}

/// Returns the name of a constant and how many of its values don't fit into the lower precision, if any don't.
pub(super) fn clipped(value: &Value) -> Option<(String, u64)> {
    let too_large = value.note.losses.overflowing;
    (too_large > 0).then(|| (value.name.clone(), too_large))
}

/// Returns whether a weight is needed as it was, and whether it is needed lowered.
pub(super) fn wanted_forms(value: &Value) -> (bool, bool) {
    let low = value.wants(Form::Low);
    (value.wants(Form::Full) || !low, low)
}

/// Returns the FP32 value that a ConstantOfShape node fills with; `None` if it is of another type, or the default 0.
pub(super) fn fill_of(file: &OnnxFile, node: &NodeProto) -> Option<f32> {
    let tensor = attribute(node, "value")?.t.as_ref()?;
    let bytes = file.tensor_bytes(tensor).ok()?;
    let is_float = tensor.data_type() == ElementType::Float.to_onnx();
    bytes.first_chunk::<4>().filter(|_| is_float).map(|bytes| f32::from_le_bytes(*bytes))
}
