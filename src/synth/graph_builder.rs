//! Builds a graph node by node, with weights that are produced when the model is written.

use crate::onnx::proto::{
    AttributeProto, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, dimension, type_proto,
};
use crate::onnx::{ElementType, Initializer};

use super::weights;

const IR_VERSION: i64 = 9;
const OPSET: i64 = 19;

/// A graph under construction. Values are known by name; a node's output is named after the node.
pub(super) struct GraphBuilder {
    seed: u64,
    graph: GraphProto,
    initializers: Vec<Initializer<'static>>,
}

/// An attribute's value.
pub(super) enum Attribute<'a> {
    Int(i64),
    Float(f32),
    Ints(&'a [i64]),
}

/// A dimension: a number, or the batch size that the caller chooses.
pub(super) enum Size {
    Fixed(i64),
    Batch,
}

impl GraphBuilder {
    pub(super) fn new(name: &str, seed: u64) -> Self {
        let graph = GraphProto { name: Some(name.into()), ..GraphProto::default() };
        Self { seed, graph, initializers: Vec::new() }
    }

    pub(super) fn input(&mut self, name: &str, element_type: ElementType, shape: &[Size]) {
        self.graph.input.push(value_info(name, element_type, shape));
    }

    pub(super) fn output(&mut self, name: &str, element_type: ElementType, shape: &[Size]) {
        self.graph.output.push(value_info(name, element_type, shape));
    }

    /// Adds a node with one output, which has the node's name; returns that name.
    pub(super) fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute<'_>)],
    ) -> String {
        self.graph.node.push(NodeProto {
            name: Some(name.into()),
            op_type: Some(op.into()),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![name.into()],
            attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
            ..NodeProto::default()
        });
        name.into()
    }

    /// Adds weights drawn from a normal distribution; returns their name.
    pub(super) fn normal(&mut self, name: &str, dims: &[i64], standard_deviation: f64) -> String {
        let count: i64 = dims.iter().product();
        let (seed, stream) = (self.seed, name.to_string());
        self.initializers.push(Initializer {
            header: header(name, ElementType::Float, dims),
            size_bytes: count as u64 * 4,
            produce: Box::new(move |writer| {
                weights::write_normal(writer, seed, &stream, count as u64, standard_deviation)
            }),
        });
        name.into()
    }

    /// Adds constant floats; returns their name.
    pub(super) fn floats(&mut self, name: &str, dims: &[i64], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, ElementType::Float, dims, bytes)
    }

    /// Adds constant integers; returns their name.
    pub(super) fn integers(&mut self, name: &str, dims: &[i64], values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, ElementType::Int64, dims, bytes)
    }

    /// Returns the model, without its weights, and the weights.
    pub(super) fn finish(self) -> (ModelProto, Vec<Initializer<'static>>) {
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
            producer_name: Some("nimctl synth".into()),
            graph: Some(self.graph),
            ..ModelProto::default()
        };
        (model, self.initializers)
    }

    fn constant(&mut self, name: &str, element_type: ElementType, dims: &[i64], bytes: Vec<u8>) -> String {
        self.initializers.push(Initializer {
            header: header(name, element_type, dims),
            size_bytes: bytes.len() as u64,
            produce: Box::new(move |writer| writer.write_all(&bytes)),
        });
        name.into()
    }
}

fn header(name: &str, element_type: ElementType, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(element_type.to_onnx()),
        dims: dims.into(),
        ..TensorProto::default()
    }
}

fn attribute(name: &str, value: &Attribute<'_>) -> AttributeProto {
    // The numbers are those of `AttributeProto.AttributeType`.
    let named = AttributeProto { name: Some(name.into()), ..AttributeProto::default() };
    match value {
        Attribute::Float(number) => AttributeProto { r#type: Some(1), f: Some(*number), ..named },
        Attribute::Int(number) => AttributeProto { r#type: Some(2), i: Some(*number), ..named },
        Attribute::Ints(numbers) => AttributeProto { r#type: Some(7), ints: numbers.to_vec(), ..named },
    }
}

fn value_info(name: &str, element_type: ElementType, shape: &[Size]) -> ValueInfoProto {
    let dim = shape.iter().map(|size| Dimension {
        value: Some(match size {
            Size::Fixed(count) => dimension::Value::DimValue(*count),
            Size::Batch => dimension::Value::DimParam("batch".into()),
        }),
        ..Dimension::default()
    });
    let tensor = type_proto::Tensor {
        elem_type: Some(element_type.to_onnx()),
        shape: Some(TensorShapeProto { dim: dim.collect() }),
    };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(kind), ..ValueInfoProto::default() }
}
