//! What passed was compared: outputs of every type, labelled sets, and what can't be compared is said.

use serde_json::{Value, json};

use crate::graph::{BOOL, DOUBLE, FLOAT, INT64, Small};
use crate::home::Home;

/// A recipe of one graph with the input `x` of 4 numbers.
fn recipe(samples: &str, validation: &str) -> String {
    format!(
        "schema: nimctl.recipe/1\nmodel: {{ name: m, release: \"1\" }}\ngraphs:\n  g:\n    source: {{ path: g.onnx }}\n    \
         shapes: {{ x: {{ min: [1, 4], opt: [3, 4], max: [8, 4] }} }}\n    samples: {{ x: {samples} }}\nprofiles:\n  - {{ \
         backend: onnxruntime, precisions: [fp32], targets: generic }}\n{validation}"
    )
}

/// The largest of four numbers, whether each is above zero, and all of them in double precision; their sum, and the sum of all
/// rows.
fn every_kind(scale: f32) -> Small {
    Small::new()
        .weight("scale", &[4], &[scale, 1.0, 1.0, 1.0])
        .weight("zero", &[], &[0.0])
        .node("Mul", &["x", "scale"], "scaled")
        .node_with("ArgMax", &["scaled"], "largest", &[("axis", 1), ("keepdims", 0)])
        .node("Greater", &["scaled", "zero"], "positive")
        .node_with("Cast", &["scaled"], "precise", &[("to", DOUBLE)])
        .node_with("ReduceMax", &["scaled"], "peak", &[("keepdims", 0)])
        .input("x", FLOAT, &[4])
        .output("largest", INT64, Some(&[]))
        .output("positive", BOOL, Some(&[4]))
        .output("precise", DOUBLE, Some(&[4]))
        .output("peak", FLOAT, None)
}

fn gates(view: &Value) -> Vec<(String, String, bool)> {
    let gates = view["profiles"][0]["status"]["executed"]["gates"].as_array().unwrap();
    let text = |gate: &Value, key: &str| gate[key].as_str().unwrap().to_owned();
    gates
        .iter()
        .filter(|gate| gate["shapes"] == "max")
        .map(|gate| (text(gate, "subject"), text(gate, "gate"), gate["passed"] == true))
        .collect()
}

/// Builds a profile, then has its reference be of another graph: every output differs.
fn of_another_graph(home: &Home) {
    home.set_up(&["validate", "r.yaml"]).exits(0);
    let folder = home.path("data/store/nimctl/references");
    let path = fs_err::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let right = fs_err::read(&path).unwrap();
    let mut arrays = nimctl::worker::npy::archive::read_all(&right).unwrap();
    for array in arrays.values_mut() {
        // Every bit of every value, but the exponents of floating-point numbers.
        let flipped: Vec<u8> = match array.element_type() {
            nimctl::worker::npy::ElementType::Bool => array.bytes().iter().map(|byte| byte ^ 1).collect(),
            nimctl::worker::npy::ElementType::Float32 => {
                array.elements::<f32>().unwrap().into_iter().flat_map(|v| (v * 1.5).to_le_bytes()).collect()
            }
            nimctl::worker::npy::ElementType::Float64 => {
                array.elements::<f64>().unwrap().into_iter().flat_map(|v| (v * 1.5).to_le_bytes()).collect()
            }
            _ => array.elements::<i64>().unwrap().into_iter().flat_map(|v| (v + 1).to_le_bytes()).collect(),
        };
        *array =
            nimctl::worker::npy::Tensor::from_bytes(array.element_type(), array.shape(), &flipped).unwrap();
    }
    fs_err::write(path, nimctl::worker::npy::archive::write(&arrays).unwrap()).unwrap();
}

#[test]
fn outputs_of_every_type_are_compared() {
    let home = super::home();
    every_kind(1.5).write(&home.path("g.onnx"));
    home.write("r.yaml", recipe("{ normal: {} }", ""));
    home.set_up(&["build", "r.yaml"]).exits(0);
    let view = home.set_up(&["validate", "r.yaml", "--output", "json"]).exits(0).json();
    let names: Vec<String> =
        gates(&view).into_iter().map(|(subject, gate, _)| format!("{subject} {gate}")).collect();
    assert_eq!(
        names,
        [
            "g/largest equal",
            "g/peak finite",
            "g/peak row_cosine",
            "g/peak norm_ratio",
            "g/positive equal",
            "g/precise finite",
            "g/precise row_cosine",
            "g/precise norm_ratio",
        ]
    );
    of_another_graph(&home);
    let view = home.set_up(&["validate", "r.yaml", "--output", "json"]).exits(3).json();
    let failed: Vec<String> = gates(&view)
        .into_iter()
        .filter(|(_, _, passed)| !passed)
        .map(|(subject, gate, _)| format!("{subject} {gate}"))
        .collect();
    assert_eq!(
        failed,
        [
            "g/largest equal",
            "g/peak row_cosine",
            "g/peak norm_ratio",
            "g/positive equal",
            "g/precise norm_ratio"
        ]
    );
    // Indices and truth values within a tolerance, or a part of them.
    let tolerant = "validation:\n  tolerances:\n    g/largest: { absolute: 1 }\n    g/positive: { absolute: 1 }\n    \
                    g/peak: { relative: 0.4 }\n    g/precise: { relative: 0.4 }\n";
    home.write("r.yaml", recipe("{ normal: {} }", tolerant));
    home.set_up(&["validate", "r.yaml"]).exits(0);
}

#[test]
fn samples_without_rows_and_outputs_without_values_are_no_measure() {
    let home = super::home();
    let nothing = nimctl::worker::npy::Tensor::new::<f32>(&[0, 4], &[]).unwrap();
    nothing.write(&home.path("none.npy")).unwrap();
    every_kind(1.5).write(&home.path("g.onnx"));
    home.write("r.yaml", recipe("{ npy: none.npy }", ""));
    home.set_up(&["build", "r.yaml"]).exits(0);
    home.run(&["validate", "r.yaml"]).exits(1);
    // None of the numbers is not a number, so nothing is found.
    Small::new()
        .node("IsNaN", &["x"], "nans")
        .node("NonZero", &["nans"], "places")
        .input("x", FLOAT, &[4])
        .output("places", INT64, Some(&[2]))
        .write(&home.path("g.onnx"));
    home.write("r.yaml", recipe("{ normal: {} }", ""));
    home.set_up(&["build", "r.yaml"]).exits(0);
    home.run(&["validate", "r.yaml"]).exits(1);
    insta::assert_snapshot!(home.transcript());
}

/// Four numbers that leave FP16's range on the way, and come back.
fn overflows() -> Small {
    Small::new()
        .weight("up", &[], &[1024.0])
        .weight("down", &[], &[1.0 / 1024.0])
        .node("Mul", &["x", "up"], "large")
        .node("Mul", &["large", "up"], "larger")
        .node("Mul", &["larger", "down"], "smaller")
        .node("Mul", &["smaller", "down"], "y")
        .input("x", FLOAT, &[4])
        .output("y", FLOAT, Some(&[4]))
}

/// ONNX Runtime computes FP16 in FP32 on the CPU: what passes there has not shown what FP16 gives.
#[test]
fn what_a_higher_precision_hides_is_emulated_and_gated() {
    let home = super::home();
    overflows().write(&home.path("g.onnx"));
    let of = |precisions: &str| {
        let recipe = recipe("{ normal: {} }", "");
        home.write("r.yaml", recipe.replace("precisions: [fp32]", &format!("precisions: [{precisions}]")));
        home.set_up(&["build", "r.yaml", "--no-check"]).exits(0);
    };
    of("fp16");
    home.set_up(&["validate", "r.yaml"]).exits(3).has(&[
        "executed in fp32",
        "lowered graph with fp16 emulated",
        "FAILED",
    ]);
    let view = home.set_up(&["validate", "r.yaml", "--output", "json"]).exits(3).json();
    let status = &view["profiles"][0]["status"]["executed"];
    assert!(gates(&view).iter().all(|(_, _, passed)| *passed), "{status}");
    let emulated = &status["emulated"];
    assert_eq!((&emulated["executed_in"], &emulated["precision"]), (&json!("fp32"), &json!("fp16")));
    let finite = |gate: &Value| gate["gate"] == "finite" && gate["passed"] == false;
    assert!(emulated["gates"].as_array().unwrap().iter().any(finite), "{status}");
    home.set_up(&["report", "r.yaml", "-o", "page.html"]).exits(0);
    assert!(home.read("page.html").contains("executed in fp32, fp16 emulated, failed"));
    home.set_up(&["validate", "r.yaml", "--replay", "g/opt/0"]).exits(3);
    assert!(home.path("replay-g-opt-0/emulated-fp16").exists());

    // A profile that passes both ways is no better than one that was only emulated; FP32 is what it was executed in.
    every_kind(1.5).write(&home.path("g.onnx"));
    of("fp16, fp32");
    let view = home.set_up(&["validate", "r.yaml", "--output", "json"]).exits(0).json();
    let statuses = [0, 1].map(|index| &view["profiles"][index]["status"]["executed"]["emulated"]);
    assert!(statuses[0].is_object() && statuses[1].is_null(), "{view}");
    let manifest = "manifests/r/model_manifest.yaml";
    home.set_up(&["select", "-m", manifest, "--device", "none"]).exits(0).has(&["onnx-fp32"]);
}

/// Indices, truth values and doubles that FP16 changes, with its precision emulated.
#[test]
fn half_precision_that_changes_what_is_no_float() {
    let home = super::home();
    let coarse = || {
        let small = Small::new().weight("big", &[], &[2000.0]);
        small.node("Add", &["x", "big"], "sum").input("x", FLOAT, &[4])
    };
    let graphs = [
        coarse().node_with("ArgMax", &["sum"], "y", &[("axis", 1)]).output("y", INT64, Some(&[1])),
        coarse().weight("edge", &[], &[2000.3]).node("Greater", &["sum", "edge"], "y").output(
            "y",
            BOOL,
            Some(&[4]),
        ),
        coarse()
            .node("Sub", &["sum", "big"], "rest")
            .node_with("Cast", &["rest"], "y", &[("to", DOUBLE)])
            .output("y", DOUBLE, Some(&[4])),
    ];
    for graph in graphs {
        graph.write(&home.path("g.onnx"));
        home.write("r.yaml", recipe("{ normal: {} }", "").replace("[fp32]", "[fp16]"));
        home.set_up(&["build", "r.yaml", "--no-check"]).exits(0);
        home.set_up(&["validate", "r.yaml"]).exits(3).has(&["emulated", "failed"]);
    }
}
