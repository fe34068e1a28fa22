//! What must stay exact: whole numbers, what they are made of, and angles.

use super::*;

#[track_caller]
fn check(nodes: Vec<NodeProto>, weights: &[(&str, &[f32])], inputs: &[(&str, i32)], expected: &[&str]) {
    let weights = weights.iter().map(|(name, values)| weight(name, values)).collect();
    assert_eq!(kept(nodes, weights, inputs), expected);
}

fn to_float(from: &str, to: &str) -> NodeProto {
    cast(from, to, FLOAT)
}

#[test]
fn a_length_that_ends_in_a_range_is_exact_through_whatever_lies_between() {
    for op in ["ReduceMax", "ReduceSum", "Relu", "Transpose", "Flatten", "Sum", "Mean", "LeakyRelu"] {
        let nodes = vec![
            node("Shape", &["x"], "shape"),
            to_float("shape", "length"),
            node(op, &["length"], "middle"),
            cast("middle", "count", INT64),
            node("Range", &["zero", "count", "one"], "steps"),
            node("Expand", &["x", "steps"], "y"),
        ];
        let kept = kept(nodes, vec![], &[("zero", INT64), ("one", INT64)]);
        let middle = format!("{op} middle: ");
        assert!(kept.iter().any(|line| line.starts_with(&middle)), "{op}: {kept:?}");
        assert!(kept.iter().any(|line| line.starts_with("Cast length: ")), "{op}: {kept:?}");
    }
}

#[test]
fn real_numbers_that_become_whole_ones_are_exact_back_to_the_weights() {
    let nodes = vec![
        node("MatMul", &["x", "w"], "logits"),
        node("Sigmoid", &["logits"], "part"),
        node("Mul", &["part", "size"], "pixel"),
        node("Round", &["pixel"], "rounded"),
        cast("rounded", "whole", INT64),
        node("Relu", &["logits"], "y"),
    ];
    check(
        nodes,
        &[("w", &[0.1, -0.2]), ("size", &[3840.0, 2160.0])],
        &[],
        &[
            "Sigmoid part: shape-arithmetic",
            "Mul pixel: shape-arithmetic",
            "Round rounded: shape-arithmetic",
            "Cast whole: shape-arithmetic",
        ],
    );
}

#[test]
fn ids_are_exact_until_they_are_an_index_or_compared() {
    let nodes = vec![
        to_float("ids", "number"),
        node("ArgMax", &["number"], "last"),
        node("Gather", &["x", "last"], "row"),
        node("Equal", &["number", "wanted"], "same"),
        to_float("same", "truth"),
        node("Mul", &["row", "truth"], "y"),
    ];
    check(
        nodes,
        &[("wanted", &[50257.0])],
        &[("ids", INT64)],
        &["Cast number: shape-arithmetic", "ArgMax last: shape-arithmetic", "Equal same: shape-arithmetic"],
    );
}

#[test]
fn numbers_with_a_bound_that_fits_are_lowered() {
    let scaled = |input: &str| {
        vec![to_float(input, "number"), node("Mul", &["number", "w"], "m"), node("Add", &["m", "x"], "y")]
    };
    let weights: &[(&str, &[f32])] = &[("w", &[0.1, 0.7])];
    check(scaled("pixels"), weights, &[("pixels", UINT8)], &[]);
    check(scaled("attention_mask"), weights, &[("attention_mask", INT64)], &[]);
    check(scaled("flags"), weights, &[("flags", BOOL)], &[]);
    check(
        scaled("counts"),
        weights,
        &[("counts", INT64)],
        &["Cast number: whole-numbers", "Mul m: whole-numbers"],
    );

    let clipped = vec![
        node("Clip", &["counts", "low", "high"], "few"),
        to_float("few", "number"),
        node("Mul", &["number", "w"], "m"),
        node("Add", &["m", "x"], "y"),
    ];
    let limit = |name: &str, limit: i64| TensorProto {
        name: Some(name.into()),
        data_type: Some(INT64),
        int64_data: vec![limit],
        ..TensorProto::default()
    };
    let weights = vec![weight("w", &[0.1, 0.7]), limit("low", -9), limit("high", 100)];
    assert_eq!(kept(clipped, weights, &[("counts", INT64)]), [""; 0]);
}

#[test]
fn a_table_bounds_the_ids_that_are_looked_up_in_it() {
    let lookup = |rows: i64| {
        let table =
            TensorProto { dims: vec![rows, 1], float_data: vec![0.1; rows as usize], ..weight("table", &[]) };
        let nodes = vec![
            node("Gather", &["table", "ids"], "looked_up"),
            to_float("ids", "number"),
            node("Mul", &["number", "w"], "m"),
            node("Add", &["m", "looked_up"], "y"),
        ];
        kept(nodes, vec![table, weight("w", &[0.1, 0.7])], &[("ids", INT64)])
    };
    assert_eq!(lookup(512), [""; 0]);
    assert_eq!(lookup(4096), ["Cast number: whole-numbers", "Mul m: whole-numbers"]);
}

#[test]
fn angles_are_exact_and_their_sines_are_not() {
    let nodes = vec![
        node("Mul", &["x", "frequency"], "angle"),
        node("Sin", &["angle"], "sine"),
        node("Add", &["sine", "x"], "y"),
    ];
    check(nodes, &[("frequency", &[0.1, 0.3])], &[], &["Mul angle: angle", "Sin sine: angle"]);
    // Positions that the graph holds are no different.
    let nodes = vec![
        node("Mul", &["positions", "frequency"], "angle"),
        node("Cos", &["angle"], "cosine"),
        node("Mul", &["x", "cosine"], "y"),
    ];
    let weights: &[(&str, &[f32])] = &[("positions", &[0.0, 4095.0]), ("frequency", &[0.1, 0.3])];
    check(nodes, weights, &[], &["Mul angle: angle", "Cos cosine: angle"]);
    // What several rounded values are added up to is as rounded as they are.
    let nodes = vec![
        node("MatMul", &["x", "w"], "a"),
        node("MatMul", &["x", "w"], "b"),
        node("Add", &["a", "b"], "sum"),
        node("Cos", &["sum"], "y"),
    ];
    check(nodes, &[("w", &[0.1, -0.2])], &[], &["Cos y: angle"]);
}

#[test]
fn sums_of_quantized_products_are_exact_until_they_are_scaled() {
    let nodes = vec![
        node("MatMulInteger", &["a", "b"], "sums"),
        to_float("sums", "number"),
        node("Mul", &["number", "x"], "scaled"),
        node("Relu", &["scaled"], "y"),
    ];
    let inputs = [("a", UINT8), ("b", UINT8)];
    check(nodes, &[], &inputs, &["Cast number: whole-numbers", "Mul scaled: whole-numbers"]);
}

#[test]
fn positions_are_exact_where_operators_read_them() {
    let grid = vec![node("Mul", &["places", "scale"], "grid"), node("GridSample", &["x", "grid"], "y")];
    check(grid, &[("scale", &[0.5, 0.3])], &[("places", FLOAT)], &["Mul grid: shape-arithmetic"]);
    let boxes = vec![
        node("Mul", &["cells", "stride"], "boxes"),
        node("NonMaxSuppression", &["boxes", "scores", "most"], "chosen"),
        node("Relu", &["x"], "y"),
    ];
    check(
        boxes,
        &[("stride", &[8.0])],
        &[("cells", FLOAT), ("scores", FLOAT), ("most", INT64)],
        &["Mul boxes: shape-arithmetic", "NonMaxSuppression chosen: needs-fp32"],
    );
}

#[test]
fn numbers_are_followed_into_branches_and_out_of_them() {
    let branch = |name: &str| GraphProto {
        node: vec![node("Add", &["number", "one"], name)],
        output: vec![value(name, FLOAT)],
        ..GraphProto::default()
    };
    let choose = NodeProto {
        attribute: [("then_branch", "t"), ("else_branch", "e")]
            .map(|(attribute, name)| subgraph(attribute, branch(name)))
            .into(),
        ..node("If", &["c"], "either")
    };
    let nodes =
        vec![to_float("ids", "number"), choose, cast("either", "whole", INT64), node("Relu", &["x"], "y")];
    let mut graph = graph(nodes, vec![weight("one", &[1.0])]);
    graph.input.extend([value("ids", INT64), value("c", BOOL)]);
    graph.output.push(value("either", FLOAT));
    let (lowered, report) = lowered(graph, &options());
    assert_eq!(report.nodes_kept.iter().filter(|kept| kept.op_type == "Add").count(), 2);
    assert!(!lines(&lowered).iter().any(|line| line.contains("either_fp")), "{:?}", lines(&lowered));
}

#[test]
fn what_a_loop_ends_by_is_exact() {
    let body = GraphProto {
        node: vec![
            node("Mul", &["state", "w"], "grown"),
            node("Less", &["grown", "limit"], "go_on"),
            node("MatMul", &["state", "w"], "next"),
        ],
        input: vec![value("step", INT64), value("go", BOOL), value("state", FLOAT)],
        output: vec![value("go_on", BOOL), value("next", FLOAT)],
        ..GraphProto::default()
    };
    let repeat = NodeProto { attribute: vec![subgraph("body", body)], ..node("Loop", &["n", "c", "x"], "y") };
    let weights = vec![weight("w", &[0.1, -0.2]), weight("limit", &[300.0])];
    let kept = kept(vec![repeat], weights, &[("n", INT64), ("c", BOOL)]);
    assert_eq!(
        kept,
        ["Loop y: shape-arithmetic", "Mul grown: shape-arithmetic", "Less go_on: shape-arithmetic"]
    );
}
