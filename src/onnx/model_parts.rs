//! The parts of a model that stay as they are when its graph is written anew.

use super::error::OnnxError;
use super::external_data::is_external;
use super::file::OnnxFile;
use super::proto::{GraphProto, ModelProto, NodeProto};
use super::visit::change_tensors;

/// Returns a graph with other nodes, and without its weights, which are many and may be copies.
pub(in crate::onnx) fn without_initializers(graph: &GraphProto, nodes: Vec<NodeProto>) -> GraphProto {
    let GraphProto {
        node: _, // Given.
        name,
        initializer: _, // Streamed, or written anew.
        doc_string,
        input,
        output,
        value_info,
        quantization_annotation,
        sparse_initializer,
        metadata_props,
    } = graph;
    GraphProto {
        node: nodes,
        name: name.clone(),
        initializer: Vec::new(),
        doc_string: doc_string.clone(),
        input: input.clone(),
        output: output.clone(),
        value_info: value_info.clone(),
        quantization_annotation: quantization_annotation.clone(),
        sparse_initializer: sparse_initializer.clone(),
        metadata_props: metadata_props.clone(),
    }
}

/// Returns a model with another graph.
pub(in crate::onnx) fn with_graph(file: &OnnxFile, graph: GraphProto) -> ModelProto {
    let ModelProto {
        ir_version,
        producer_name,
        producer_version,
        domain,
        model_version,
        doc_string,
        graph: _, // Replaced.
        opset_import,
        metadata_props,
        training_info,
        functions,
        configuration,
    } = file.model();
    ModelProto {
        ir_version: *ir_version,
        producer_name: producer_name.clone(),
        producer_version: producer_version.clone(),
        domain: domain.clone(),
        model_version: *model_version,
        doc_string: doc_string.clone(),
        graph: Some(graph),
        opset_import: opset_import.clone(),
        metadata_props: metadata_props.clone(),
        training_info: training_info.clone(),
        functions: functions.clone(),
        configuration: configuration.clone(),
    }
}

/// Takes the external tensors of `file` that are still in a model made of it into the model: they are no initializers.
pub(in crate::onnx) fn take_in_external(file: &OnnxFile, model: &mut ModelProto) -> Result<(), OnnxError> {
    change_tensors(model, &mut |tensor| {
        if is_external(tensor) {
            tensor.raw_data = Some(file.tensor_bytes(tensor)?);
            tensor.data_location = None;
            tensor.external_data.clear();
        }
        Ok(())
    })
}
