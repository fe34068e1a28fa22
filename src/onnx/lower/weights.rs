//! The weights of a lowered graph, written as they were or rounded.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::convert::{Conversion, RELEASE_BYTES, write_rounded};
use super::emulate::Rounding;
use crate::onnx::proto::{
    Dimension, GraphProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, dimension, type_proto,
};
use crate::onnx::write::Initializer;
use crate::onnx::{ElementType, OnnxFile};

/// The first version of the format whose weights need not be inputs as well; those that are can be replaced by a caller.
const WEIGHTS_APART: i64 = 4;

/// The bits of the largest rounding error of a weight, once it was produced.
pub(super) type LargestError = Arc<AtomicU32>;

/// Returns whether the weights of a model must be listed among its inputs, where nobody can replace them.
pub(super) fn weights_are_inputs(file: &OnnxFile) -> bool {
    file.model().ir_version() < WEIGHTS_APART
}

/// Lists the weights of a graph among its inputs as well, those that are not yet.
pub(super) fn list_among_inputs(graph: &mut GraphProto, initializers: &[Initializer<'_>]) {
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
pub(super) fn value_of(name: &str, data_type: i32, dims: &[i64]) -> ValueInfoProto {
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
pub(super) fn unchanged<'a>(
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

/// Returns a weight of `full_bytes`, rounded, and where its largest error will be.
pub(super) fn rounded<'a>(
    file: &'a OnnxFile,
    tensor: &'a TensorProto,
    name: &str,
    conversion: Conversion,
    full_bytes: u64,
) -> (Initializer<'a>, LargestError) {
    let largest_error = LargestError::default();
    let error = Arc::clone(&largest_error);
    let produce = move |writer: &mut dyn io::Write| {
        let release = |part: &[u8]| file.release(part);
        let largest = write_rounded(&payload(file, tensor)?, conversion, writer, &release)?;
        error.store(largest.to_bits(), Ordering::Relaxed);
        Ok(())
    };
    let (element_type, size_bytes) = match conversion.rounding {
        Rounding::Real => (conversion.precision.element_type(), full_bytes / 2),
        Rounding::Emulated => (ElementType::Float, full_bytes),
    };
    let header = header(tensor, name, element_type.to_onnx());
    (Initializer { header, size_bytes, produce: Box::new(produce) }, largest_error)
}

/// Returns the payload of a tensor, with its error as one of a writer.
fn payload(file: &OnnxFile, tensor: &TensorProto) -> io::Result<bytes::Bytes> {
    file.tensor_bytes(tensor).map_err(io::Error::other)
}

fn header(tensor: &TensorProto, name: &str, data_type: i32) -> TensorProto {
    TensorProto {
        dims: tensor.dims.clone(),
        data_type: Some(data_type),
        name: Some(name.into()),
        doc_string: tensor.doc_string.clone(),
        metadata_props: tensor.metadata_props.clone(),
        ..TensorProto::default()
    }
}
