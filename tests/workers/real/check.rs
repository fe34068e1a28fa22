//! `nimctl check` with the real compiler: every node that TensorRT for RTX refuses, and what it can't compile.

use nimctl::onnx::proto::GraphProto;
use prost::Message as _;

use crate::graph::{Precision, write};
use crate::small_models::{graph, model, node, value};

/// The verdicts of a report, as `precision capability verdict`.
fn verdicts(report: &serde_json::Value) -> Vec<String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let verdict = |one: &serde_json::Value| {
        format!(
            "{} {} {}",
            text(&one["precision"]),
            text(&one["compute_capabilities"][0]),
            text(&one["verdict"])
        )
    };
    report["verdicts"].as_array().unwrap().iter().map(verdict).collect()
}

#[test]
fn a_graph_compiles_for_some_capabilities_in_some_precisions() {
    let home = super::home();
    write(&home.path("graph.onnx"), Precision::Float32);
    let printed = home.run(&["check", "graph.onnx", "--for", "7.5,8.9", "--output", "json"]);
    let report = printed.exits(0).json();
    assert_eq!(
        verdicts(&report),
        ["fp32 7.5 no", "fp32 8.9 yes", "fp16 7.5 yes", "fp16 8.9 yes"],
        "{report:#}"
    );
    let obstacle = &report["verdicts"][0]["obstacles"][0];
    assert_eq!(obstacle["reason"], "no matrix products in FP32 on compute capability 7.5");
    assert_eq!(obstacle["nodes"][0]["name"], "product");
    assert_eq!(report["shapes"]["graph"]["x"]["opt"], serde_json::json!([8, 4]));

    // One precision that works is enough for a target; without it the answer is no.
    let fp32 = ["check", "graph.onnx", "--for", "7.5", "--precision", "fp32"];
    home.run(&fp32).exits(3).has(&["build for it in fp16"]);
    home.run(&["check", "graph.onnx", "--for", "h100-sxm"])
        .exits(3)
        .has(&["not for 9.0", "tensorrt backend"]);
    assert!(!home.path("data").join("store").exists(), "something was kept");
}

#[test]
fn every_node_that_is_refused_is_named() {
    let home = super::home();
    let refused = GraphProto {
        input: vec![value("x", &["4", "4"])],
        output: vec![value("y", &["1"])],
        ..graph(
            vec![
                node("Det", &["x"], "first"),
                node("Relu", &["first"], "fine"),
                node("Det", &["x"], "second"),
                node("Unheard", &["fine", "second"], "y"),
            ],
            vec![],
        )
    };
    home.write("refused.onnx", model(refused).encode_to_vec());
    let printed =
        home.run(&["check", "refused.onnx", "--for", "8.9", "--precision", "fp32", "--output", "json"]);
    let report = printed.exits(3).json();
    let obstacles = report["verdicts"][0]["obstacles"].as_array().unwrap();
    let found: Vec<(String, String)> = obstacles
        .iter()
        .flat_map(|obstacle| obstacle["nodes"].as_array().unwrap())
        .map(|node| (node["op_type"].as_str().unwrap().into(), node["name"].as_str().unwrap().into()))
        .collect();
    let operators: Vec<&str> = found.iter().map(|(op_type, _)| op_type.as_str()).collect();
    assert_eq!(operators, ["Det", "Det", "Unheard"], "{report:#}");
    assert_eq!(obstacles.len(), 2, "{report:#}");
}
