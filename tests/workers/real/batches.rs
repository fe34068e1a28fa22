//! Graphs whose batch can't be varied, and whose inputs were lowered.

use crate::graph::{self, Precision};
use crate::home::Home;

/// A home with one graph, built in FP16 for ONNX Runtime; `max` is the most rows, and `lowering` is added to its profile.
fn built(max: u64, lowering: &str) -> Home {
    let home = super::home();
    graph::write(&home.path("g.onnx"), Precision::Float32);
    home.write(
        "r.yaml",
        format!(
            "schema: nimctl.recipe/1\nmodel: {{ name: small, release: \"1\" }}\ngraphs:\n  g:\n    source: {{ path: \
             g.onnx }}\n    shapes: {{ x: {{ min: [1, 4], opt: [{max}, 4], max: [{max}, 4] }} }}\nprofiles:\n  - {{ \
             backend: onnxruntime, precisions: [fp16], targets: generic{lowering} }}\n"
        ),
    );
    home.set_up(&["build", "r.yaml", "--no-check"]).exits(0);
    home
}

/// Returns the gates of a kind, and what was not compared.
fn found(home: &Home, kind: &str) -> (usize, Vec<String>) {
    let view = home.set_up(&["validate", "r.yaml", "--output", "json", "--quiet"]).exits(0).json();
    let status = &view["profiles"][0]["status"]["executed"];
    let gates = status["gates"].as_array().unwrap().iter().filter(|gate| gate["gate"] == kind).count();
    let words = |what: &serde_json::Value| what.as_str().unwrap().to_owned();
    (gates, status["not_compared"].as_array().map_or_else(Vec::new, |all| all.iter().map(words).collect()))
}

#[test]
fn one_batch_only_is_said() {
    let (gates, not_compared) = found(&built(1, ""), "batch_invariance");
    assert_eq!(gates, 0);
    assert!(not_compared[0].contains("no rows can be run alone"), "{not_compared:?}");
    assert_eq!(found(&built(5, ""), "batch_invariance"), (1, Vec::new()));
}

#[test]
fn lowered_inputs_are_given_in_their_precision() {
    let home = built(4, ", lowering: { io: lower }");
    assert_eq!(found(&home, "row_cosine"), (3, Vec::new()));
    home.set_up(&["bench", "r.yaml", "--rounds", "1", "--budget-ms", "20", "--warm-up-ms", "1"]).exits(0);
}
