//! Small recipes of one small graph.

use crate::graph::{self, Precision};
use crate::home::Home;

/// A recipe with one graph at `graph.onnx` and the given profiles.
pub(crate) fn recipe(shapes: &str, profiles: &str) -> String {
    format!(
        "schema: nimctl.recipe/1\nmodel: {{ name: m, release: 1.0.0 }}\ngraphs:\n  main:\n    source: {{ path: graph.onnx }}\n    shapes:\n      {shapes}\nprofiles:\n{profiles}"
    )
}

pub(crate) const X_RANGE: &str = "x: { min: [1, 4], opt: [2, 4], max: [8, 4] }";
pub(crate) const GENERIC: &str = "  - { backend: onnxruntime, precisions: [fp32], targets: generic }\n";
pub(crate) const FAKE: &str =
    "  - { backend: fake, precisions: [fp16], targets: { compute_capabilities: [\"8.9\", \"9.0\"] } }\n";

/// A home with a small graph and a recipe of it.
pub(crate) fn home_with_graph(profiles: &str) -> Home {
    let home = Home::new();
    graph::write(&home.path("graph.onnx"), Precision::Float32);
    home.write("r.yaml", recipe(X_RANGE, profiles));
    home
}
