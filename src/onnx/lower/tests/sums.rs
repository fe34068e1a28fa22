//! Sums under all their names, and what is around them.

use super::*;

#[track_caller]
fn check(nodes: Vec<NodeProto>, weights: &[(&str, &[f32])], expected: &[&str]) {
    let weights = weights.iter().map(|(name, values)| weight(name, values)).collect();
    let kept = kept(nodes, weights, &[]);
    let names: Vec<&str> = kept.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(names, expected);
}

#[test]
fn a_mean_without_a_reduction_is_one() {
    let normalized = |mean: &dyn Fn(&str, &str) -> NodeProto| {
        vec![
            mean("x", "mean"),
            node("Sub", &["x", "mean"], "centred"),
            node("Mul", &["centred", "centred"], "square"),
            mean("square", "variance"),
            node("Add", &["variance", "epsilon"], "safe"),
            node("Sqrt", &["safe"], "deviation"),
            node("Div", &["centred", "deviation"], "normal"),
            node("Relu", &["normal"], "y"),
        ]
    };
    let around = |op: &str| {
        let mean =
            [format!("{op} mean"), "Sub centred".into(), "Mul square".into(), format!("{op} variance")];
        let rest = ["Add safe", "Sqrt deviation", "Div normal"].map(String::from);
        [&mean[..], &rest[..]].concat()
    };
    let column: &[f32] = &[1.0 / 64.0; 64];
    let weights: &[(&str, &[f32])] = &[("epsilon", &[1e-5]), ("column", column)];
    for (op, mean) in [
        (
            "GlobalAveragePool",
            &(|from: &str, to: &str| node("GlobalAveragePool", &[from], to))
                as &dyn Fn(&str, &str) -> NodeProto,
        ),
        ("MatMul", &|from, to| node("MatMul", &[from, "column"], to)),
        ("Conv", &|from, to| node("Conv", &[from, "column"], to)),
    ] {
        let expected = around(op);
        check(normalized(mean), weights, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn products_with_weights_of_both_signs_and_short_sums_are_lowered() {
    check(
        vec![node("MatMul", &["x", "w"], "y")],
        &[("w", &[0.5, -0.1, 0.2, 0.4, 0.1, 0.1, 0.1, 0.1, 0.2])],
        &[],
    );
    check(vec![node("MatMul", &["x", "w"], "y")], &[("w", &[0.5, 0.5])], &[]);
}

#[test]
fn the_power_of_a_spectrum_keeps_its_root_and_its_logarithm() {
    let nodes = vec![
        node("Mul", &["x", "x"], "real"),
        node("Pow", &["z", "two"], "imaginary"),
        node("Add", &["real", "imaginary"], "power"),
        node("MatMul", &["power", "filters"], "mel"),
        node("Add", &["mel", "epsilon"], "safe"),
        node("Log", &["safe"], "loudness"),
        node("Relu", &["loudness"], "y"),
    ];
    let weights: &[(&str, &[f32])] =
        &[("two", &[2.0]), ("filters", &[0.25; 64]), ("epsilon", &[1e-10]), ("z", &[0.1, 0.2])];
    check(
        nodes,
        weights,
        &["Mul real", "Pow imaginary", "Add power", "MatMul mel", "Add safe", "Log loudness"],
    );
}

#[test]
fn the_transform_before_a_logarithmic_spectrum_is_kept_and_learned_features_are_not() {
    let spectrum = |from: &str| {
        vec![
            node("Conv", &[from, "filters"], "band"),
            node("Mul", &["band", "band"], "square"),
            node("Add", &["square", "one"], "safe"),
            node("Log", &["safe"], "loudness"),
            node("Conv", &["loudness", "filters"], "y"),
        ]
    };
    let weights: &[(&str, &[f32])] = &[("filters", &[0.5, -0.5]), ("one", &[1.0])];
    check(spectrum("x"), weights, &["Conv band", "Mul square", "Add safe", "Log loudness"]);
    let learned = [vec![node("Relu", &["x"], "feature")], spectrum("feature")].concat();
    check(learned, weights, &["Mul square", "Add safe", "Log loudness"]);
    // How much is cut off is computed, and no part of the signal.
    let lengths = vec![
        node("Shape", &["x"], "shape"),
        node("Slice", &["x", "shape", "shape"], "cut"),
        node("Conv", &["cut", "filters"], "band"),
        node("Mul", &["band", "band"], "square"),
        node("Sqrt", &["square"], "magnitude"),
        node("Conv", &["magnitude", "filters"], "y"),
    ];
    check(lengths, weights, &["Slice cut", "Conv band", "Mul square", "Sqrt magnitude"]);
}

#[test]
fn scales_of_quantized_numbers_are_kept() {
    let quantize = NodeProto {
        output: ["q", "scale", "zero"].map(String::from).into(),
        ..node("DynamicQuantizeLinear", &["x"], "q")
    };
    let nodes = vec![
        quantize,
        node("Mul", &["scale", "w_scale"], "both"),
        node("Mul", &["x", "both"], "scaled"),
        node("Relu", &["scaled"], "y"),
    ];
    check(nodes, &[("w_scale", &[0.01])], &["DynamicQuantizeLinear q", "Mul both", "Mul scaled"]);
}

#[test]
fn an_exponential_is_kept_until_it_is_bounded() {
    let softplus = vec![
        node("Exp", &["x"], "e"),
        node("Add", &["e", "one"], "more"),
        node("Log", &["more"], "softplus"),
        node("Tanh", &["softplus"], "y"),
    ];
    check(softplus, &[("one", &[1.0])], &["Exp e", "Add more", "Log softplus"]);
    let sigmoid = vec![
        node("Exp", &["x"], "e"),
        node("Add", &["e", "one"], "more"),
        node("Div", &["one", "more"], "part"),
        node("Relu", &["part"], "y"),
    ];
    check(sigmoid, &[("one", &[1.0])], &["Exp e", "Add more", "Div part"]);
}

#[test]
fn an_epsilon_lasts_as_far_as_the_division() {
    let nodes = vec![
        node("Abs", &["x"], "size"),
        node("ReduceMax", &["size"], "largest"),
        node("Add", &["largest", "epsilon"], "safe"),
        node("Div", &["x", "safe"], "part"),
        node("Relu", &["part"], "y"),
    ];
    check(nodes, &[("epsilon", &[1e-9])], &["Add safe", "Div part"]);
}

#[test]
fn a_residual_is_not_a_part_of_a_sum() {
    let nodes = vec![
        node("ReduceMean", &["x"], "mean"),
        node("MatMul", &["x", "w"], "product"),
        node("Add", &["mean", "product"], "sum"),
        node("Relu", &["sum"], "y"),
    ];
    check(nodes, &[("w", &[0.1, -0.2])], &["ReduceMean mean"]);
}

fn scan(body: GraphProto) -> GraphProto {
    let count = integer("num_scan_inputs", 1);
    let scan = NodeProto {
        attribute: vec![count, subgraph("body", body)],
        output: vec!["last".into(), "all".into()],
        ..node("Scan", &["x", "rows"], "scan")
    };
    let mut graph = graph(vec![scan, node("Add", &["last", "all"], "y")], vec![weight("w", &[0.9, -0.1])]);
    graph.input.push(value("rows", FLOAT));
    graph
}

fn step(update: Vec<NodeProto>) -> GraphProto {
    GraphProto {
        node: [update, vec![node("Relu", &["next"], "seen")]].concat(),
        input: vec![value("state", FLOAT), value("row", FLOAT)],
        output: vec![value("next", FLOAT), value("seen", FLOAT)],
        ..GraphProto::default()
    }
}

#[test]
fn a_state_that_is_added_to_itself_stays_and_what_is_seen_of_it_does_not() {
    let body = step(vec![node("Mul", &["state", "w"], "decayed"), node("Add", &["decayed", "row"], "next")]);
    let (graph, report) = lowered(scan(body), &options());
    let kept: Vec<&str> = report.nodes_kept.iter().map(|kept| kept.op_type.as_str()).collect();
    assert_eq!(kept, ["Mul", "Add"]);
    let body =
        graph.node.iter().find(|node| node.op_type() == "Scan").unwrap().attribute[1].g.as_ref().unwrap();
    assert_eq!(body.input[..], [value("state", FLOAT), value("row", FLOAT16)]);
    assert_eq!(body.output[..], [value("next", FLOAT), value("seen", FLOAT16)]);
}

#[test]
fn a_state_behind_weights_or_bounds_is_lowered() {
    for update in [
        vec![node("MatMul", &["state", "w"], "product"), node("Add", &["product", "row"], "next")],
        vec![node("Add", &["state", "row"], "sum"), node("Tanh", &["sum"], "next")],
        vec![node("Max", &["state", "row"], "next")],
    ] {
        let (_, report) = lowered(scan(step(update)), &options());
        assert_eq!(report.nodes_kept, []);
    }
}
