//! Names of what lowering adds.

use super::*;
use crate::onnx::analysis::nodes;

/// Checks that a lowered, an emulated and an observed graph have nodes of different names, and that those that were added
/// have names that nothing had.
#[track_caller]
fn check_names(graph: &GraphProto) {
    let (file, _folder) = opened(&model(graph.clone()));
    let low = LoweringOptions { io: Io::Lower, ..options() };
    let options = options();
    let files = [
        written(|to| drop(lower(&file, &options, to).unwrap())).0,
        written(|to| drop(lower(&file, &low, to).unwrap())).0,
        written(|to| drop(emulate(&file, &options, to).unwrap())).0,
        written(|to| drop(observe(&file, &options, to).unwrap())).0,
    ];
    let old_nodes: BTreeSet<&str> = nodes(graph).iter().map(|node| node.name()).collect();
    let mut old = old_nodes.clone();
    old.extend(
        nodes(graph).iter().flat_map(|node| node.input.iter().chain(&node.output).map(String::as_str)),
    );
    let mut added = 0;
    for written in &files {
        let mut names = BTreeSet::new();
        for node in nodes(written.graph()) {
            let name = node.name();
            assert!(names.insert(name) || old_nodes.contains(name), "two nodes `{name}`");
            assert!(
                old_nodes.contains(name) || !old.contains(name),
                "an added node has the name of `{name}`"
            );
        }
        added += names.difference(&old_nodes).count();
    }
    assert!(added > 0, "nothing was added");
}

fn named(name: &str, node: NodeProto) -> NodeProto {
    NodeProto { name: Some(name.into()), ..node }
}

/// `product = x · w`, then a sum, with nodes of these names.
fn two_nodes(first: &str, second: &str) -> GraphProto {
    let nodes = vec![
        named(first, node("Mul", &["x", "w"], "product")),
        named(second, node("Add", &["product", "w"], "y")),
    ];
    graph(nodes, vec![weight("w", &[2.0])])
}

#[test]
fn nodes_have_the_names_of_values_and_casts() {
    check_names(&two_nodes("product", "y"));
    check_names(&two_nodes("y_fp16_cast", "x_fp16_cast"));
    check_names(&two_nodes("x_fp16", "x"));
    check_names(&two_nodes("y_identity", "y_cast"));
    check_names(&two_nodes("nimctl.magnitudes", "nimctl.magnitudes.0.abs"));
}

#[test]
fn a_clip_has_a_name_of_its_own() {
    let nodes = vec![
        named("m_fp16_clipped", node("Mul", &["x", "w"], "m")),
        named("fp16_lowest", node("Relu", &["m"], "y")),
    ];
    check_names(&graph(nodes, vec![weight("w", &[1e9])]));
}

#[test]
fn a_copied_cast_has_a_name_of_its_own() {
    let nodes = vec![
        named("f", cast("n", "f", FLOAT)),
        named("f_fp32_cast", node("Add", &["x", "f"], "a")),
        node("Custom", &["f", "a"], "y"),
    ];
    let mut graph = graph(nodes, vec![]);
    graph.input.push(value("n", INT64));
    check_names(&graph);
}

#[test]
fn names_inside_subgraphs_count() {
    let branch = GraphProto {
        node: vec![
            named("x_fp16_cast", node("Add", &["x", "x"], "x_fp16")),
            named("y", node("Custom", &["x_fp16"], "inner")),
        ],
        output: vec![value("inner", FLOAT)],
        ..GraphProto::default()
    };
    let choose =
        NodeProto { attribute: vec![subgraph("then_branch", branch.clone())], ..node("If", &["c"], "i") };
    let mut graph = graph(vec![choose, node("Mul", &["i", "x"], "y")], vec![]);
    graph.input.push(value("c", 9));
    check_names(&graph);
}

#[test]
fn an_output_that_has_the_name_of_the_magnitudes_keeps_it() {
    let mut graph = graph(vec![node("Relu", &["x"], "nimctl.magnitudes")], vec![]);
    graph.output = vec![value("nimctl.magnitudes", FLOAT)];
    let (file, _folder) = opened(&model(graph));
    let (written, observed) = written(|to| observe(&file, &options(), to).unwrap());
    assert_eq!(observed.output, "nimctl.magnitudes_2");
    assert_eq!(written.graph().output.len(), 2);
}
