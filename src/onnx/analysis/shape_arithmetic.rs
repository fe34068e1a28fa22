//! Which nodes compute shapes and indices: their numbers must stay exact.

use std::collections::BTreeSet;

use super::node::{is_own_domain, producers};
use crate::onnx::proto::GraphProto;

/// Returns the nodes whose results end in shapes or indices.
pub(in crate::onnx) fn shape_arithmetic(graph: &GraphProto) -> BTreeSet<usize> {
    let producers = producers(graph);
    let mut pending: Vec<&str> = Vec::new();
    for node in graph.node.iter().filter(|node| is_own_domain(node.domain())) {
        let shapes = shape_inputs(node.op_type());
        pending.extend(shapes.iter().filter_map(|&index| node.input.get(index)).map(String::as_str));
    }
    let mut reached = BTreeSet::new();
    while let Some(name) = pending.pop() {
        let Some(&index) = producers.get(name) else { continue };
        let node = &graph.node[index];
        if carries_shapes(node.op_type()) && reached.insert(index) {
            pending.extend(node.input.iter().map(String::as_str));
        }
    }
    reached
}

/// Returns the inputs of an operator that are shapes, sizes, counts or indices: what they are computed from must stay
/// exact.
fn shape_inputs(op_type: &str) -> &'static [usize] {
    match op_type {
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean"
        | "ReduceMin" | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" | "CumSum" | "TopK" | "Gather"
        | "GatherElements" | "GatherND" | "ScatterElements" | "Scatter" | "ScatterND" | "Expand"
        | "Reshape" | "Split" | "Squeeze" | "Tile" | "Unsqueeze" | "CenterCropPad" | "Upsample" => &[1],
        "Slice" => &[1, 2, 3, 4],
        "Pad" => &[1, 3],
        "OneHot" => &[0, 1],
        "Resize" => &[1, 2, 3],
        "ConstantOfShape" => &[0],
        "Range" => &[0, 1, 2],
        _ => &[],
    }
}

/// Returns whether arithmetic on shapes goes through this operator.
fn carries_shapes(op_type: &str) -> bool {
    matches!(
        op_type,
        "Abs"
            | "Add"
            | "Cast"
            | "Ceil"
            | "Clip"
            | "Concat"
            | "Div"
            | "Expand"
            | "Floor"
            | "Gather"
            | "Identity"
            | "Log"
            | "Max"
            | "Min"
            | "Mod"
            | "Mul"
            | "Neg"
            | "Pow"
            | "Range"
            | "ReduceProd"
            | "Reshape"
            | "Round"
            | "Slice"
            | "Sqrt"
            | "Squeeze"
            | "Sub"
            | "Unsqueeze"
            | "Where"
    )
}
