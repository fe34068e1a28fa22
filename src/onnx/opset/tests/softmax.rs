//! Softmax and its like, and the ranks that decide how they are written.

use super::*;

/// Returns how a Softmax of `s` over an axis is written behind these nodes, with `x` of this shape.
#[track_caller]
fn check(opset: i64, sizes: Option<&[i64]>, mut nodes: Vec<NodeProto>, axis: i64, expected: &str) {
    nodes.push(with(vec![integer("axis", axis)], node("Softmax", &["s"], "y")));
    let mut model = model_of(opset, nodes);
    let graph = model.graph.as_mut().unwrap();
    if let Some(sizes) = sizes {
        graph.input = vec![shaped("x", FLOAT, sizes)];
    }
    let lines = raised(model, 19);
    assert_eq!(lines.last().unwrap(), expected, "{lines:#?}");
}

const LAST: &str = "Softmax{axis=-1}(s) -> y";
const FLAT: &str = "Reshape(y_node_of_flat, y_node_shape) -> y";

#[test]
fn the_last_axis_stays_the_last() {
    let same = || vec![node("Relu", &["x"], "s")];
    check(11, Some(&[0, 0, 0]), same(), 2, LAST);
    check(11, Some(&[0, 0, 0]), same(), -1, LAST);
    check(11, None, same(), -1, LAST);
    check(7, Some(&[0, 10]), same(), 1, LAST);
}

#[test]
fn other_axes_are_flattened() {
    let model = model_of(11, vec![node("Softmax", &["x"], "y")]);
    assert_eq!(
        raised(model, 23),
        [
            "Shape(x) -> y_node_shape",
            "Flatten{axis=1}(x) -> y_node_flat",
            "Softmax{axis=-1}(y_node_flat) -> y_node_of_flat",
            FLAT,
        ]
    );
    check(11, Some(&[0, 0, 0]), vec![node("Relu", &["x"], "s")], 1, FLAT);
    check(11, Some(&[0, 0, 0]), vec![node("Relu", &["x"], "s")], -2, FLAT);
    let hardmax = with(vec![integer("axis", 0)], node("Hardmax", &["x"], "y"));
    assert_eq!(raised(model_of(12, vec![hardmax]), 13)[2], "Hardmax{axis=-1}(y_node_flat) -> y_node_of_flat");
    assert_eq!(raised(model_of(13, vec![node("LogSoftmax", &["x"], "y")]), 23), ["LogSoftmax(x) -> y"]);
}

#[test]
fn an_axis_whose_followers_are_1_stays() {
    let pooled = || vec![node("GlobalAveragePool", &["x"], "s")];
    check(9, Some(&[0, 0, 0, 0]), pooled(), 1, "Softmax{axis=1}(s) -> y");
}

#[test]
fn ranks_follow_from_operators() {
    let permuted = with(vec![integers("perm", &[0, 2, 1, 3])], node("Transpose", &["x"], "s"));
    check(11, None, vec![permuted], 3, LAST);
    check(11, Some(&[0, 0, 0, 0]), vec![node("MatMul", &["x", "x"], "s")], 3, LAST);
    check(11, Some(&[0, 0, 0]), vec![node("Add", &["x", "x"], "s")], 2, LAST);
    check(
        11,
        Some(&[0, 0]),
        vec![with(vec![integers("axes", &[1])], node("Unsqueeze", &["x"], "s"))],
        2,
        LAST,
    );
    check(
        11,
        Some(&[0, 0, 0]),
        vec![with(vec![integers("axes", &[1])], node("Squeeze", &["x"], "s"))],
        1,
        LAST,
    );
    check(11, None, vec![node("Gemm", &["x", "x"], "s")], 1, LAST);
    let sum = vec![integers("axes", &[1]), integer("keepdims", 0)];
    check(11, Some(&[0, 0, 0]), vec![with(sum, node("ReduceSum", &["x"], "s"))], 1, LAST);
    check(11, Some(&[0, 0, 0]), vec![node("Conv", &["x", "w"], "s")], 2, LAST);
    // What isn't sure is not used.
    let custom = NodeProto { domain: Some("com.example".into()), ..node("Relu", &["x"], "s") };
    check(11, Some(&[0, 0, 0]), vec![node("Add", &["x", "unknown"], "s")], 2, FLAT);
    check(11, Some(&[0, 0]), vec![custom], 1, FLAT);
}

#[test]
fn a_reshape_has_as_many_dimensions_as_its_list_is_long() {
    let exported = vec![
        node("Shape", &["x"], "shape"),
        node("Gather", &["shape", "zero"], "batch"),
        with(vec![integers("axes", &[0])], node("Unsqueeze", &["batch"], "list")),
        with(vec![integer("axis", 0)], node("Concat", &["list", "list", "list"], "sizes")),
        node("Reshape", &["x", "sizes"], "s"),
    ];
    let zero = with(
        vec![AttributeProto {
            name: Some("value".into()),
            r#type: Some(4),
            t: Some(TensorProto { data_type: Some(INT64), int64_data: vec![0], ..TensorProto::default() }),
            ..AttributeProto::default()
        }],
        node("Constant", &[], "zero"),
    );
    let nodes = [vec![zero], exported].concat();
    check(11, None, nodes, 2, LAST);
}

#[test]
fn a_wrong_declaration_does_not_win() {
    let mut model = model_of(
        11,
        vec![node("Gemm", &["x", "x"], "s"), with(vec![integer("axis", 0)], node("Softmax", &["s"], "y"))],
    );
    model.graph.as_mut().unwrap().value_info = vec![shaped("s", FLOAT, &[7])];
    assert_eq!(raised(model, 13).last().unwrap(), FLAT);
}
