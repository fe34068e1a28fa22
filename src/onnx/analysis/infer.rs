//! Finds the element type of a node's output.

use super::node::attribute;
use super::signature::{Kind, Signature};
use crate::onnx::ElementType;
use crate::onnx::proto::{NodeProto, ValueInfoProto, type_proto};

/// What is known of a node before its outputs are.
pub(in crate::onnx) struct Known<'a> {
    pub(in crate::onnx) node: &'a NodeProto,
    pub(in crate::onnx) signature: Option<&'static Signature>,
    /// The types of its inputs, where they are known.
    pub(in crate::onnx) inputs: &'a [Option<ElementType>],
}

/// Returns whether the type of an output is in an attribute, and not that of the inputs.
pub(in crate::onnx) fn stash_type(node: &NodeProto, index: usize) -> Option<ElementType> {
    let is_statistic = node.op_type() == "LayerNormalization" && index > 0;
    is_statistic.then(|| type_attribute(node, "stash_type").unwrap_or(ElementType::Float))
}

/// Returns the type of an output of one of ONNX's own operators; `None` if it can't be inferred.
pub(in crate::onnx) fn output_type(known: &Known<'_>, index: usize) -> Option<ElementType> {
    let Known { node, signature, inputs } = known;
    let signature = (*signature)?;
    let input = |index: usize| inputs.get(index).copied().flatten();
    match node.op_type() {
        "Cast" | "BitCast" => return type_attribute(node, "to"),
        "CastLike" => return input(1),
        "Constant" => return constant_type(node),
        "ConstantOfShape" => return Some(constant_type(node).unwrap_or(ElementType::Float)),
        "BlackmanWindow" | "HammingWindow" | "HannWindow" | "MelWeightMatrix" => {
            return Some(type_attribute(node, "output_datatype").unwrap_or(ElementType::Float));
        }
        "RandomNormal" | "RandomUniform" => {
            return Some(type_attribute(node, "dtype").unwrap_or(ElementType::Float));
        }
        "Bernoulli" | "EyeLike" | "RandomNormalLike" | "RandomUniformLike" => {
            return type_attribute(node, "dtype").or(input(0));
        }
        "Multinomial" => return Some(type_attribute(node, "dtype").unwrap_or(ElementType::Int32)),
        "QuantizeLinear" => {
            return type_attribute(node, "output_dtype").or(input(2)).or(Some(ElementType::Uint8));
        }
        "DequantizeLinear" => return type_attribute(node, "output_dtype").or(input(1)),
        "LayerNormalization" if index > 0 => return stash_type(node, index),
        _ => {}
    }
    match signature.output(index)? {
        Kind::Fixed(element_type) => Some(element_type),
        Kind::NoTensor => None,
        Kind::Variable(variable) => (0..inputs.len()).find_map(|index| match signature.input(index)? {
            Kind::Variable(other) if other.name == variable.name && !other.each_its_own => input(index),
            _ => None,
        }),
    }
}

/// Returns the declared type of a value; `None` if it is not a tensor or has no type.
pub(in crate::onnx) fn declared_type(value: &ValueInfoProto) -> Option<ElementType> {
    let code = match value.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => tensor.elem_type(),
        type_proto::Value::SparseTensorType(tensor) => tensor.elem_type(),
        _ => return None,
    };
    ElementType::from_onnx(code).filter(|element_type| *element_type != ElementType::Undefined)
}

fn type_attribute(node: &NodeProto, name: &str) -> Option<ElementType> {
    let code = attribute(node, name)?.i();
    let element_type = i32::try_from(code).ok().and_then(ElementType::from_onnx);
    element_type.filter(|element_type| *element_type != ElementType::Undefined)
}

fn constant_type(node: &NodeProto) -> Option<ElementType> {
    let [attribute] = node.attribute.as_slice() else { return None };
    match attribute.name() {
        "value" => ElementType::from_onnx(attribute.t.as_ref()?.data_type()),
        "sparse_value" => {
            ElementType::from_onnx(attribute.sparse_tensor.as_ref()?.values.as_ref()?.data_type())
        }
        "value_float" | "value_floats" => Some(ElementType::Float),
        "value_int" | "value_ints" => Some(ElementType::Int64),
        "value_string" | "value_strings" => Some(ElementType::String),
        _ => None,
    }
}
