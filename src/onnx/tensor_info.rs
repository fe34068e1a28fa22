//! Name, element type and shape of a graph's inputs and outputs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::dimension_name::is_name;
use super::element_type::ElementType;
use super::proto::{Dimension as DimensionProto, ValueInfoProto, dimension, type_proto};

/// An input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorInfo {
    /// The name that a runtime asks for.
    pub name: String,
    /// The type of its elements; `undefined` if it is a sequence, a map or anything else that is not a tensor.
    pub element_type: ElementType,
    /// The dimensions, outermost first; empty for a scalar, and where the rank is unknown.
    pub shape: Vec<Dimension>,
    /// Whether the model says how many dimensions there are.
    pub rank_known: bool,
}

/// One dimension of a shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// Always this many elements.
    Fixed(i64),
    /// The same number wherever the symbol stands.
    Symbolic(String),
    /// Any number.
    Unknown,
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(count) => count.fmt(f),
            Self::Symbolic(symbol) => f.write_str(symbol),
            Self::Unknown => f.write_str("?"),
        }
    }
}

impl TensorInfo {
    pub(super) fn of(value: &ValueInfoProto) -> Self {
        let (code, shape) = match value.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
            Some(type_proto::Value::TensorType(tensor)) => (tensor.elem_type(), tensor.shape.as_ref()),
            Some(type_proto::Value::SparseTensorType(tensor)) => (tensor.elem_type(), tensor.shape.as_ref()),
            _ => (0, None),
        };
        Self {
            name: value.name().into(),
            element_type: ElementType::from_onnx(code).unwrap_or(ElementType::Undefined),
            shape: shape.map(|shape| shape.dim.iter().map(Dimension::of).collect()).unwrap_or_default(),
            rank_known: shape.is_some(),
        }
    }
}

impl Dimension {
    fn of(dimension: &DimensionProto) -> Self {
        match &dimension.value {
            Some(dimension::Value::DimValue(count)) if *count >= 0 => Self::Fixed(*count),
            Some(dimension::Value::DimParam(symbol)) if is_name(symbol) => Self::Symbolic(symbol.clone()),
            // Some exporters write -1, or a symbol that is no name, for a dimension they don't know.
            _ => Self::Unknown,
        }
    }
}
