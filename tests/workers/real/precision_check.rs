//! The comparison that `nimctl build` makes by itself, with a real ONNX Runtime: a sum that leaves FP16's range is found, and what is
//! proposed repairs it.

use nimctl::onnx::proto::{GraphProto, TensorProto};
use prost::Message as _;

use crate::small_models::{graph, model, node, tensor, value};

/// Rows divided by the sums of their magnitudes, which are beyond 65504. Sums stay in FP32 unless a recipe says otherwise.
fn normalized() -> GraphProto {
    let scale = TensorProto { float_data: vec![4000.0], ..tensor("scale", 1, &[1]) };
    GraphProto {
        input: vec![value("x", &["N", "64"])],
        output: vec![value("y", &["N", "64"])],
        ..graph(
            vec![
                node("Mul", &["x", "scale"], "large"),
                node("Abs", &["large"], "magnitudes"),
                node("ReduceL1", &["magnitudes"], "sum"),
                node("Div", &["large", "sum"], "y"),
            ],
            vec![scale],
        )
    }
}

fn recipe(lowering: &str) -> String {
    format!(
        "schema: nimctl.recipe/1\nmodel: {{ name: m, release: 1.0.0 }}\ngraphs:\n  main:\n    source: {{ path: m.onnx }}\n    \
         shapes:\n      x: {{ min: [1, 64], opt: [4, 64], max: [8, 64] }}\nprofiles:\n  - backend: onnxruntime\n    \
         precisions: [fp16]\n    targets: generic\n    lowering:\n      lower_ops: [ReduceL1]\n{lowering}"
    )
}

#[test]
fn a_sum_that_overflows_is_named_with_what_repairs_it() {
    let home = super::home();
    home.write("m.onnx", model(normalized()).encode_to_vec());
    home.write("r.yaml", recipe(""));
    let report = home.run(&["build", "r.yaml", "--output", "json"]).exits(0).json();
    let check = &report["checks"][0];
    assert_eq!(check["status"], "warned", "{check:#}");
    assert_eq!(check["parting"]["nodes"][0]["op_type"], "ReduceL1", "{check:#}");
    assert!(check["parting"]["row_cosine_then"].as_f64().unwrap() > 0.999, "{check:#}");
    home.run(&["build", "r.yaml"]).exits(0).has(&["first differs at", "(ReduceL1)", "warning"]);

    // It is never run again for the same, and not at all if it isn't wanted.
    let again = home.run(&["build", "r.yaml", "--output", "json"]).exits(0).json();
    assert_eq!(again["checks"][0], *check);
    let without = home.run(&["build", "r.yaml", "--no-check", "--output", "json"]).exits(0).json();
    assert_eq!(without["checks"], serde_json::json!([]));

    // What it says to write in the recipe is enough.
    let lines = check["recipe"].as_str().unwrap().lines();
    let lowering: String = lines.map(|line| format!("      {line}\n")).collect();
    home.write("r.yaml", recipe(&lowering));
    let repaired = home.run(&["build", "r.yaml", "--output", "json"]).exits(0).json();
    assert_eq!(repaired["checks"][0]["status"], "passed", "{:#}", repaired["checks"]);
}
