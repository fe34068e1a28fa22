//! Writes the nodes of the lowered graph: renamed, retyped, with casts where the two precisions meet.

use bytes::Bytes;

use super::convert::write_rounded;
use super::infer::{Types, attribute};
use super::plan::Decision;
use super::report::KeepReason;
use super::subgraph::{free_names, rename_free};
use super::values::{Form, Produced, Values, clipped_name, is_cast_from_other_type, wanted_form};
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use crate::onnx::{ElementType, Precision};

// Numbers of the ONNX specification's `AttributeType`.
const ATTRIBUTE_INT: i32 = 2;
const ATTRIBUTE_TENSOR: i32 = 4;

/// The nodes of the lowered graph.
pub(super) struct Rewritten {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) casts_inserted: u64,
    pub(super) clips_inserted: u64,
    /// The least and the greatest number of the lower precision, if nodes use them.
    pub(super) limits: Vec<TensorProto>,
}

/// Returns the nodes of the lowered graph, in an order that is still topological.
pub(super) fn rewrite_nodes(
    graph: &GraphProto,
    decisions: &[Decision],
    values: &Values,
    types: &Types,
    precision: Precision,
    can_clip: bool,
    fill: &dyn Fn(&NodeProto) -> f32,
) -> Rewritten {
    let mut writer = Writer { values, precision, nodes: Vec::new(), casts_inserted: 0, clips_inserted: 0 };
    let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
    for name in graph.input.iter().map(|input| input.name()).chain(sparse.map(|tensor| tensor.name())) {
        writer.cast_where_wanted(name, false);
    }
    for (node, decision) in graph.node.iter().zip(decisions) {
        if *decision == Decision::Lower && is_cast_from_other_type(node, types) {
            writer.cast_to_wanted(node);
            continue;
        }
        let mut rewritten = writer.renamed(node, decision);
        if *decision == Decision::Lower {
            lower_attributes(&mut rewritten, precision, fill(node));
        }
        writer.nodes.push(rewritten);
        let overflows = matches!(decision, Decision::Keep(KeepReason::Overflow { .. }));
        for output in &node.output {
            writer.cast_where_wanted(output, overflows && can_clip);
        }
    }
    let Writer { nodes, casts_inserted, clips_inserted, .. } = writer;
    let limits = if clips_inserted > 0 { limits(values, precision) } else { Vec::new() };
    Rewritten { nodes, casts_inserted, clips_inserted, limits }
}

/// Gives declared values the type that now has their name.
pub(super) fn retype(declared: &mut [ValueInfoProto], values: &Values, precision: Precision) {
    for value in declared {
        if values.get(value.name()).is_none_or(|known| known.carried() == Form::Full) {
            continue;
        }
        let kind = value.r#type.as_mut().and_then(|kind| kind.value.as_mut());
        if let Some(type_proto::Value::TensorType(tensor)) = kind {
            tensor.elem_type = Some(precision.element_type().to_onnx());
        }
    }
}

struct Writer<'a> {
    values: &'a Values,
    precision: Precision,
    nodes: Vec<NodeProto>,
    casts_inserted: u64,
    clips_inserted: u64,
}

impl Writer<'_> {
    fn element_type(&self, form: Form) -> ElementType {
        match form {
            Form::Full => ElementType::Float,
            Form::Low => self.precision.element_type(),
        }
    }

    /// Adds the cast of a value that is produced in one form and wanted in the other.
    ///
    /// Clipped first, a value stays finite: a mask of the lowest FP32 number would become an infinity, and a row of
    /// those has no softmax.
    fn cast_where_wanted(&mut self, name: &str, clip: bool) {
        let Some(value) = self.values.get(name) else { return };
        let Produced::In(form) = value.produced else { return };
        if !value.wants(form.other()) {
            return;
        }
        let to = form.other();
        let output = self.values.name(name, to).to_string();
        let mut input = self.values.name(name, form).to_string();
        if clip && to == Form::Low {
            let [lowest, highest] = self.values.limits().clone();
            let clipped = clipped_name(&output);
            self.nodes.push(NodeProto {
                name: Some(clipped.clone()),
                op_type: Some("Clip".into()),
                input: vec![input, lowest, highest],
                output: vec![clipped.clone()],
                ..NodeProto::default()
            });
            self.clips_inserted += 1;
            input = clipped;
        }
        self.nodes.push(NodeProto {
            name: Some(format!("{output}_cast")),
            op_type: Some("Cast".into()),
            input: vec![input],
            output: vec![output],
            attribute: vec![cast_attribute(self.element_type(to))],
            ..NodeProto::default()
        });
        self.casts_inserted += 1;
    }

    /// Adds a cast from another type, once for each form that is wanted.
    fn cast_to_wanted(&mut self, node: &NodeProto) {
        let Some((output, value)) = node.output.first().and_then(|name| Some((name, self.values.get(name)?)))
        else {
            return;
        };
        let mut forms: Vec<Form> =
            [Form::Full, Form::Low].into_iter().filter(|form| value.wants(*form)).collect();
        if forms.is_empty() {
            forms.push(value.carried());
        }
        for form in forms {
            let name = self.values.name(output, form).to_string();
            let is_other = form != value.carried();
            let mut cast = node.clone();
            if is_other {
                cast.name = Some(format!("{name}_cast"));
                self.casts_inserted += 1;
            }
            cast.output = vec![name];
            set_attribute(&mut cast, cast_attribute(self.element_type(form)));
            self.nodes.push(cast);
        }
    }

    fn renamed(&self, node: &NodeProto, decision: &Decision) -> NodeProto {
        let mut renamed = node.clone();
        for (index, input) in renamed.input.iter_mut().enumerate() {
            *input = self.values.name(input, wanted_form(node, index, decision)).into();
        }
        for output in &mut renamed.output {
            if let Some(Produced::In(form)) = self.values.get(output).map(|value| value.produced) {
                *output = self.values.name(output, form).into();
            }
        }
        if !free_names(node).is_empty() {
            let full = |name: &str| Some(self.values.name(name, Form::Full).to_string());
            rename_free(&mut renamed, &full);
        }
        renamed
    }
}

fn limits(values: &Values, precision: Precision) -> Vec<TensorProto> {
    let highest = match precision {
        Precision::Fp32 => f32::MAX,
        Precision::Fp16 => half::f16::MAX.to_f32(),
        Precision::Bf16 => half::bf16::MAX.to_f32(),
    };
    let limit = |(name, value): (&String, f32)| TensorProto {
        name: Some(name.clone()),
        data_type: Some(ElementType::Float.to_onnx()),
        raw_data: Some(Bytes::copy_from_slice(&value.to_le_bytes())),
        ..TensorProto::default()
    };
    values.limits().iter().zip([-highest, highest]).map(limit).collect()
}

fn lower_attributes(node: &mut NodeProto, precision: Precision, fill: f32) {
    match node.op_type() {
        "Cast" => set_attribute(node, cast_attribute(precision.element_type())),
        "ConstantOfShape" => set_attribute(node, fill_attribute(precision, fill)),
        _ => {}
    }
}

fn cast_attribute(to: ElementType) -> AttributeProto {
    AttributeProto {
        name: Some("to".into()),
        r#type: Some(ATTRIBUTE_INT),
        i: Some(i64::from(to.to_onnx())),
        ..AttributeProto::default()
    }
}

fn fill_attribute(precision: Precision, fill: f32) -> AttributeProto {
    let mut bytes = Vec::new();
    write_rounded(&fill.to_le_bytes(), precision, &mut bytes).expect("a vector takes every write");
    let tensor = TensorProto {
        dims: vec![1],
        data_type: Some(precision.element_type().to_onnx()),
        raw_data: Some(Bytes::from(bytes)),
        ..TensorProto::default()
    };
    AttributeProto {
        name: Some("value".into()),
        r#type: Some(ATTRIBUTE_TENSOR),
        t: Some(tensor),
        ..AttributeProto::default()
    }
}

fn set_attribute(node: &mut NodeProto, value: AttributeProto) {
    let is_new = attribute(node, value.name()).is_none();
    if is_new {
        node.attribute.push(value);
    } else if let Some(old) = node.attribute.iter_mut().find(|old| old.name() == value.name()) {
        *old = value;
    }
}
