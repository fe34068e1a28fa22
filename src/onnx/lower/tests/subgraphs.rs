//! If, Loop and Scan.

use super::*;

/// `If(c)` with the same branch twice, between a product and a Relu.
fn branching(branch: &GraphProto, op: &str) -> GraphProto {
    let choose = NodeProto {
        attribute: ["then_branch", "else_branch"].map(|name| subgraph(name, branch.clone())).into(),
        ..node(op, &["c"], "i")
    };
    let nodes = vec![node("Mul", &["x", "w"], "m"), choose, node("Relu", &["i"], "y")];
    let mut graph = graph(nodes, vec![weight("w", &[1.0])]);
    graph.input.push(value("c", 9));
    graph
}

fn inside(graph: &GraphProto, index: usize) -> &GraphProto {
    graph.node[index].attribute[0].g.as_ref().unwrap()
}

#[test]
fn subgraphs_are_lowered_with_what_they_take_from_outside() {
    let branch = GraphProto {
        node: vec![node("Add", &["m", "w"], "inner_sum"), node("Mul", &["inner_sum", "v"], "inner")],
        initializer: vec![weight("v", &[2.0])],
        output: vec![value("inner", FLOAT)],
        value_info: vec![value("inner_sum", FLOAT)],
        ..GraphProto::default()
    };
    let expected = [
        "Cast10(x) -> x_fp16",
        "Mul(x_fp16, w) -> m",
        "If(c) -> i",
        "Relu(i) -> y_fp16",
        "Cast1(y_fp16) -> y",
    ];
    let (graph, report) = check(branching(&branch, "If"), &options(), &expected);
    let inner = inside(&graph, 2);
    assert_eq!(inner.node[0].input, ["m", "w"]);
    assert_eq!(weight_types(inner), BTreeMap::from([("v", FLOAT16)]));
    assert_eq!(inner.output[0], value("inner", FLOAT16));
    assert_eq!(inner.value_info[0], value("inner_sum", FLOAT16));
    assert_eq!(inner.initializer[0].raw_data.as_deref(), Some(&[0, 0x40][..]));
    assert_eq!((report.nodes_lowered, report.nodes_kept.len()), (7, 0));
}

#[test]
fn a_kept_subgraph_reads_fp32_and_keeps_all_that_is_in_it() {
    let branch = GraphProto {
        node: vec![node("Add", &["m", "w"], "inner")],
        output: vec![value("inner", FLOAT)],
        ..GraphProto::default()
    };
    let options = LoweringOptions { keep_nodes: vec!["i_node".into()], ..options() };
    let expected = [
        "Cast10(x) -> x_fp16",
        "Mul(x_fp16, w) -> m",
        "Cast1(m) -> m_fp32",
        "If(c) -> i",
        "Cast10(i) -> i_fp16",
        "Relu(i_fp16) -> y_fp16",
        "Cast1(y_fp16) -> y",
    ];
    let (graph, report) = check(branching(&branch, "If"), &options, &expected);
    assert_eq!(inside(&graph, 3).node[0].input, ["m_fp32", "w_fp32"]);
    assert_eq!(inside(&graph, 3).output[0], value("inner", FLOAT));
    assert!(report.nodes_kept.iter().all(|kept| kept.reason == KeepReason::KeptNode));
}

#[test]
fn a_loop_carries_what_it_computes_in_the_lower_precision() {
    let body = GraphProto {
        node: vec![node("MatMul", &["state", "w"], "next"), node("Identity", &["go"], "go_on")],
        input: vec![value("step", INT64), value("go", 9), value("state", FLOAT)],
        output: vec![value("go_on", 9), value("next", FLOAT), value("x", FLOAT)],
        ..GraphProto::default()
    };
    let repeat = NodeProto {
        attribute: vec![subgraph("body", body)],
        output: vec!["last".into(), "all".into()],
        ..node("Loop", &["n", "c", "x"], "last")
    };
    let nodes = vec![repeat, node("Add", &["last", "all"], "y")];
    let mut graph = graph(nodes, vec![weight("w", &[1.0])]);
    graph.input.extend([value("n", INT64), value("c", 9)]);
    let expected = [
        "Cast10(x) -> x_fp16",
        "Loop(n, c, x_fp16) -> last, all",
        "Add(last, all) -> y_fp16",
        "Cast1(y_fp16) -> y",
    ];
    let (graph, _) = check(graph, &options(), &expected);
    let body = inside(&graph, 1);
    assert_eq!(body.input[2], value("state", FLOAT16));
    assert_eq!(body.output[1..], [value("next", FLOAT16), value("x_fp16", FLOAT16)]);
}
