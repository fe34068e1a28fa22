//! The shapes of values, as far as they follow from operators without computing anything: mostly ranks.
//!
//! A shape that is not known costs nothing but a longer way to write a node; a wrong one would change what it computes. So a
//! rule says nothing where it isn't sure.

use std::collections::BTreeMap;

use crate::onnx::analysis::{Body, Node, Values, attribute, constant_tensor};
use crate::onnx::proto::{NodeProto, TensorProto, ValueInfoProto, dimension, type_proto};

/// The dimensions of a tensor, each if it is known.
pub(super) type Shape = Vec<Option<u64>>;

/// No runtime takes a tensor with more dimensions.
const MAX_RANK: usize = 64;

type Notes = Values<Option<Shape>>;

/// Notes the shapes of all values of a graph and its subgraphs.
pub(super) fn infer(values: &mut Notes, body: &Body<'_, ()>) {
    let graph = body.graph;
    for input in &graph.input {
        note(values, body.scope, input.name(), declared(input));
    }
    for tensor in &graph.initializer {
        note(values, body.scope, tensor.name(), Some(shape_of(tensor)));
    }
    let declared: BTreeMap<&str, Shape> = graph
        .output
        .iter()
        .chain(&graph.value_info)
        .filter_map(|value| Some((value.name(), declared(value)?)))
        .collect();
    for node in &body.nodes {
        node.bodies.iter().for_each(|body| infer(values, body));
        let inputs: Vec<Option<Shape>> =
            node.proto.input.iter().map(|name| known(values, body.scope, name)).collect();
        for (index, name) in node.proto.output.iter().enumerate() {
            let found = match node.proto.op_type() {
                "If" => same_of_branches(values, node, index),
                _ if node.signature.is_none() => None,
                _ => output_shape(node.proto, node.opset, &Inputs(&inputs), index),
            };
            let shape = both(found, declared.get(name.as_str()));
            note(values, body.scope, name, shape);
        }
    }
}

fn note(values: &mut Notes, scope: usize, name: &str, shape: Option<Shape>) {
    if let Some(value) = values.own_mut(scope, name) {
        value.note = shape.filter(|shape| shape.len() <= MAX_RANK);
    }
}

fn known(values: &Notes, scope: usize, name: &str) -> Option<Shape> {
    values.all()[values.find(scope, name)?].note.clone()
}

/// Puts together what follows from an operator and what the file declares; the operator wins, since exporters get
/// declarations wrong.
fn both(found: Option<Shape>, declared: Option<&Shape>) -> Option<Shape> {
    match (found, declared) {
        (Some(found), Some(declared)) if found.len() == declared.len() => {
            Some(found.iter().zip(declared).map(|(found, declared)| found.or(*declared)).collect())
        }
        (Some(found), _) => Some(found),
        (None, declared) => declared.cloned(),
    }
}

fn declared(value: &ValueInfoProto) -> Option<Shape> {
    let Some(type_proto::Value::TensorType(tensor)) = &value.r#type.as_ref()?.value else { return None };
    let size = |dimension: &crate::onnx::proto::Dimension| match dimension.value {
        Some(dimension::Value::DimValue(size)) => u64::try_from(size).ok(),
        _ => None,
    };
    Some(tensor.shape.as_ref()?.dim.iter().map(size).collect())
}

fn shape_of(tensor: &TensorProto) -> Shape {
    tensor.dims.iter().map(|dim| u64::try_from(*dim).ok()).collect()
}

fn same_of_branches(values: &Notes, node: &Node<'_, ()>, index: usize) -> Option<Shape> {
    let mut branches =
        node.bodies.iter().map(|body| known(values, body.scope, body.graph.output.get(index)?.name()));
    let first = branches.next()??;
    branches.try_fold(first, |shape, other| Some(other?).filter(|other| *other == shape))
}

/// The shapes of a node's inputs.
struct Inputs<'a>(&'a [Option<Shape>]);

impl Inputs<'_> {
    fn shape(&self, index: usize) -> Option<&Shape> {
        self.0.get(index)?.as_ref()
    }

    fn rank(&self, index: usize) -> Option<usize> {
        self.shape(index).map(Vec::len)
    }

    /// Returns the length of a list.
    fn length(&self, index: usize) -> Option<usize> {
        let [Some(length)] = self.shape(index)?.as_slice() else { return None };
        usize::try_from(*length).ok().filter(|length| *length <= MAX_RANK)
    }

    /// Returns the shape of what inputs give when each is stretched to all.
    fn broadcast(&self) -> Option<Shape> {
        let shapes: Vec<&Shape> = self.0.iter().map(Option::as_ref).collect::<Option<_>>()?;
        let rank = shapes.iter().map(|shape| shape.len()).max()?;
        let size = |behind: usize| {
            let sizes = shapes.iter().filter_map(|shape| shape.len().checked_sub(behind).map(|at| shape[at]));
            sizes.reduce(|one, other| match (one, other) {
                (Some(1), size) | (size, Some(1)) => size,
                (Some(one), _) | (_, Some(one)) => Some(one),
                (None, None) => None,
            })?
        };
        Some((1..=rank).rev().map(size).collect())
    }
}

/// Returns the shape of an output of one of ONNX's own operators.
fn output_shape(node: &NodeProto, opset: i64, inputs: &Inputs<'_>, index: usize) -> Option<Shape> {
    let first = || inputs.shape(0).cloned();
    let unknown = |rank: usize| Some(vec![None; rank]);
    let of_rank_of_first = || unknown(inputs.rank(0)?);
    match node.op_type() {
        "Abs"
        | "Acos"
        | "Acosh"
        | "Asin"
        | "Asinh"
        | "Atan"
        | "Atanh"
        | "BatchNormalization"
        | "BitShift"
        | "Cast"
        | "CastLike"
        | "Ceil"
        | "Celu"
        | "Clip"
        | "Cos"
        | "Cosh"
        | "CumSum"
        | "DequantizeLinear"
        | "Dropout"
        | "Elu"
        | "Erf"
        | "Exp"
        | "Floor"
        | "Gelu"
        | "GroupNormalization"
        | "HardSigmoid"
        | "HardSwish"
        | "Hardmax"
        | "Identity"
        | "InstanceNormalization"
        | "IsInf"
        | "IsNaN"
        | "LRN"
        | "LeakyRelu"
        | "Log"
        | "LogSoftmax"
        | "LpNormalization"
        | "MeanVarianceNormalization"
        | "Mish"
        | "Neg"
        | "Not"
        | "PRelu"
        | "QuantizeLinear"
        | "Reciprocal"
        | "Relu"
        | "Round"
        | "ScatterElements"
        | "ScatterND"
        | "Scatter"
        | "Selu"
        | "Shrink"
        | "Sigmoid"
        | "Sign"
        | "Sin"
        | "Sinh"
        | "Softmax"
        | "Softplus"
        | "Softsign"
        | "Sqrt"
        | "Tan"
        | "Tanh"
        | "ThresholdedRelu"
        | "Trilu"
            if index == 0 =>
        {
            first()
        }
        "LayerNormalization" if index == 0 => first(),
        "Add" | "And" | "Div" | "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Max"
        | "Mean" | "Min" | "Mod" | "Mul" | "Or" | "Pow" | "Sub" | "Sum" | "Where" | "Xor" => {
            inputs.broadcast()
        }
        "AveragePool" | "Conv" | "ConvTranspose" | "GlobalAveragePool" | "GlobalLpPool" | "GlobalMaxPool"
        | "LpPool" | "MaxPool" | "ConvInteger" => {
            let shape = inputs.shape(0)?;
            let (batch, channels) = (*shape.first()?, *shape.get(1)?);
            let is_global = node.op_type().starts_with("Global");
            let channels = if node.op_type().starts_with("Conv") { None } else { channels };
            let space = if is_global { Some(1) } else { None };
            Some([batch, channels].into_iter().chain(shape.iter().skip(2).map(|_| space)).collect())
        }
        "ConcatFromSequence" | "Loop" | "Scan" => None,
        "Concat" => concatenated(node, inputs),
        "Constant" => Some(shape_of(&constant_tensor(node)?)),
        "ConstantOfShape" => unknown(inputs.length(0)?),
        "DepthToSpace" | "MaxRoiPool" | "MaxUnpool" | "Pad" | "Resize" | "SpaceToDepth" | "Tile" | "TopK"
        | "Upsample" | "Compress" | "Slice" => {
            // Without an axis, Compress makes a list of its input; a list has one dimension.
            let is_flat = node.op_type() == "Compress" && attribute(node, "axis").is_none();
            if is_flat { unknown(1) } else { of_rank_of_first() }
        }
        "Split" => of_rank_of_first(),
        "Einsum" => {
            let equation = String::from_utf8_lossy(attribute(node, "equation")?.s.as_ref()?).into_owned();
            let (_, output) = equation.split_once("->")?;
            let is_plain = !output.contains('.');
            is_plain.then(|| vec![None; output.chars().filter(|letter| letter.is_alphabetic()).count()])
        }
        "Expand" => unknown(inputs.rank(0)?.max(inputs.length(1)?)),
        "Flatten" | "Gemm" => unknown(2),
        "Gather" => unknown((inputs.rank(0)? + inputs.rank(1)?).checked_sub(1)?),
        "GatherElements" => inputs.shape(1).cloned(),
        "MatMul" => multiplied(inputs),
        "NonZero" => unknown(2),
        "OneHot" => unknown(inputs.rank(0)? + 1),
        "Range" => unknown(1),
        "Reshape" => unknown(inputs.length(1)?),
        "Shape" if attribute(node, "start").is_none() && attribute(node, "end").is_none() => {
            Some(vec![inputs.rank(0).map(|rank| rank as u64)])
        }
        "Shape" => unknown(1),
        "Size" => unknown(0),
        "ArgMax" | "ArgMin" => reduced(node, inputs.rank(0)?, Some(1)),
        "Squeeze" => unknown(inputs.rank(0)?.checked_sub(axes_count(node, opset, 13, inputs)?)?),
        "Unsqueeze" => {
            let (rank, more) = (inputs.rank(0)?, axes_count(node, opset, 13, inputs)?);
            // A single number becomes a list of one, as exporters put shapes together.
            if rank == 0 { Some(vec![Some(1); more]) } else { unknown(rank + more) }
        }
        "ReduceSum" => reduced(node, inputs.rank(0)?, axes_count(node, opset, 13, inputs)),
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean"
        | "ReduceMin" | "ReduceProd" | "ReduceSumSquare" => {
            reduced(node, inputs.rank(0)?, axes_count(node, opset, 18, inputs))
        }
        "Transpose" => match attribute(node, "perm").map(|perm| perm.ints.as_slice()) {
            None | Some([]) => of_rank_of_first(),
            Some(perm) => {
                let shape = inputs.shape(0);
                let size = |axis: &i64| *shape?.get(usize::try_from(*axis).ok()?)?;
                Some(perm.iter().map(size).collect())
            }
        },
        _ => None,
    }
}

/// Returns how many axes a node names; `None` if it names none, or not in a way that says how many.
fn axes_count(node: &NodeProto, opset: i64, inputs_since: i64, inputs: &Inputs<'_>) -> Option<usize> {
    let count = if opset < inputs_since { attribute(node, "axes")?.ints.len() } else { inputs.length(1)? };
    (count > 0).then_some(count)
}

fn reduced(node: &NodeProto, rank: usize, axes: Option<usize>) -> Option<Shape> {
    if attribute(node, "keepdims").is_none_or(|keep| keep.i() != 0) {
        return Some(vec![None; rank]);
    }
    Some(vec![None; rank.checked_sub(axes?)?])
}

fn concatenated(node: &NodeProto, inputs: &Inputs<'_>) -> Option<Shape> {
    // One whose rank is known is enough, but what it is joined with has another length.
    let rank = (0..inputs.0.len()).find_map(|index| inputs.rank(index))?;
    let axis = attribute(node, "axis")?.i();
    let is_list = rank == 1 && matches!(axis, 0 | -1);
    let add = |sum: u64, shape: &Option<Shape>| sum.checked_add((*shape.as_ref()?.first()?)?);
    Some(if is_list { vec![inputs.0.iter().try_fold(0, add)] } else { vec![None; rank] })
}

fn multiplied(inputs: &Inputs<'_>) -> Option<Shape> {
    let (left, right) = (inputs.rank(0)?, inputs.rank(1)?);
    let rank = match (left, right) {
        (0, _) | (_, 0) => return None,
        (1, 1) => 0,
        (1, other) | (other, 1) => other - 1,
        (left, right) => left.max(right),
    };
    let mut shape = vec![None; rank];
    if left >= 2 && right >= 2 {
        let last =
            |index: usize, behind: usize| inputs.shape(index).and_then(|shape| shape[shape.len() - behind]);
        (shape[rank - 2], shape[rank - 1]) = (last(0, 2), last(1, 1));
    }
    Some(shape)
}
