//! A graph, its weights apart, as quantization sees it.

use std::collections::{BTreeMap, BTreeSet};

use crate::onnx::OnnxFile;
use crate::onnx::analysis::take_constants;
use crate::onnx::model_parts::without_initializers;
use crate::onnx::proto::{GraphProto, ModelProto, TensorProto};

/// A graph without weights, and its weights, constants included.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) graph: GraphProto,
    pub(super) tensors: Vec<TensorProto>,
}

impl Parts {
    /// Takes a model apart. Payloads are shared with it, not copied.
    pub(super) fn of(model: &ModelProto) -> Self {
        let whole = model.graph.as_ref();
        let mut graph =
            whole.map(|whole| without_initializers(whole, whole.node.clone())).unwrap_or_default();
        let mut tensors: Vec<TensorProto> = whole.map(|whole| whole.initializer.clone()).unwrap_or_default();
        tensors.extend(take_constants(&mut graph, false));
        Self { graph, tensors }
    }

    /// Returns the weights by name.
    pub(super) fn by_name(&self) -> BTreeMap<&str, &TensorProto> {
        self.tensors.iter().map(|tensor| (tensor.name(), tensor)).collect()
    }

    /// Returns the weights that a caller may replace, where weights need not be inputs.
    pub(super) fn replaceable(&self, file: &OnnxFile) -> BTreeSet<&str> {
        if crate::onnx::weights::weights_are_inputs(file) {
            return BTreeSet::new();
        }
        self.graph.input.iter().map(|input| input.name()).collect()
    }
}
