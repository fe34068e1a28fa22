//! The weights of a graph that is written anew: those that stay as they are, and how all are declared.

use std::collections::BTreeSet;
use std::io;

use super::file::OnnxFile;
use super::proto::{
    Dimension, GraphProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, dimension, type_proto,
};
use super::write::Initializer;

/// Bytes of a weight after which the memory of what was read is given back.
pub(in crate::onnx) const RELEASE_BYTES: usize = 4 << 20;

/// The first version of the format whose weights need not be inputs as well; those that are can be replaced by a caller.
const WEIGHTS_APART: i64 = 4;

/// Returns whether the weights of a model must be listed among its inputs, where nobody can replace them.
pub(in crate::onnx) fn weights_are_inputs(file: &OnnxFile) -> bool {
    file.model().ir_version() < WEIGHTS_APART
}

/// Lists the weights of a graph among its inputs as well, those that are not yet.
pub(in crate::onnx) fn list_among_inputs(graph: &mut GraphProto, initializers: &[Initializer<'_>]) {
    let GraphProto { input, initializer, .. } = graph;
    let mut listed: BTreeSet<String> = input.iter().map(|value| value.name().to_owned()).collect();
    let weights = initializer.iter().chain(initializers.iter().map(|one| &one.header));
    // Of broken models, which give one name to several weights, the first counts.
    for tensor in weights {
        if listed.insert(tensor.name().to_owned()) {
            input.push(value_of(tensor.name(), tensor.data_type(), &tensor.dims));
        }
    }
}

/// Returns the declaration of a tensor.
pub(in crate::onnx) fn value_of(name: &str, data_type: i32, dims: &[i64]) -> ValueInfoProto {
    let fixed =
        |&count: &i64| Dimension { value: Some(dimension::Value::DimValue(count)), ..Dimension::default() };
    let tensor = type_proto::Tensor {
        elem_type: Some(data_type),
        shape: Some(TensorShapeProto { dim: dims.iter().map(fixed).collect() }),
    };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(kind), ..ValueInfoProto::default() }
}

/// Returns a weight as it was, under another name.
pub(in crate::onnx) fn unchanged<'a>(
    file: &'a OnnxFile,
    tensor: &'a TensorProto,
    name: &str,
    size_bytes: u64,
) -> Initializer<'a> {
    let produce = move |writer: &mut dyn io::Write| {
        payload(file, tensor)?.chunks(RELEASE_BYTES).try_for_each(|part| {
            writer.write_all(part)?;
            file.release(part);
            Ok(())
        })
    };
    Initializer { header: header(tensor, name, tensor.data_type()), size_bytes, produce: Box::new(produce) }
}

/// Returns the payload of a tensor, with its error as one of a writer.
pub(in crate::onnx) fn payload(file: &OnnxFile, tensor: &TensorProto) -> io::Result<bytes::Bytes> {
    file.tensor_bytes(tensor).map_err(io::Error::other)
}

pub(in crate::onnx) fn header(tensor: &TensorProto, name: &str, data_type: i32) -> TensorProto {
    TensorProto {
        dims: tensor.dims.clone(),
        data_type: Some(data_type),
        name: Some(name.into()),
        doc_string: tensor.doc_string.clone(),
        metadata_props: tensor.metadata_props.clone(),
        ..TensorProto::default()
    }
}
