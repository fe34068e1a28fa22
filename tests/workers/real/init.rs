//! `nimctl init` with a real ONNX Runtime: what it proposes for a model builds and validates untouched.

use nimctl::onnx::proto::{GraphProto, TensorProto, ValueInfoProto, type_proto};
use prost::Message as _;

use crate::small_models::{graph, model, node, tensor, value};

const INT64: i32 = 7;

fn weights(name: &str, dims: &[i64]) -> TensorProto {
    let count = dims.iter().product::<i64>();
    let float_data = (0..count).map(|index| (index % 7) as f32 / 7.0 - 0.4).collect();
    TensorProto { float_data, ..tensor(name, 1, dims) }
}

fn ids(name: &str, dims: &[&str]) -> ValueInfoProto {
    let mut info = value(name, dims);
    if let Some(type_proto::Value::TensorType(tensor)) =
        info.r#type.as_mut().and_then(|kind| kind.value.as_mut())
    {
        tensor.elem_type = Some(INT64);
    }
    info
}

/// Looks up tokens in a table of ten rows: most numbers are none of its rows.
fn lookup() -> GraphProto {
    GraphProto {
        input: vec![ids("tokens", &["batch", "sequence"])],
        output: vec![value("y", &["batch", "sequence", "4"])],
        ..graph(vec![node("Gather", &["table", "tokens"], "y")], vec![weights("table", &[10, 4])])
    }
}

/// Takes rows of 512 values, and doesn't say so; a state has its rows in the second dimension, so one row is run at a time.
fn stubborn() -> GraphProto {
    GraphProto {
        input: vec![value("x", &["batch", "?"]), value("state", &["2", "batch", "4"])],
        output: vec![value("y", &["batch", "4"]), value("next", &["2", "batch", "4"])],
        ..graph(
            vec![node("MatMul", &["x", "w"], "y"), node("Add", &["state", "y"], "next")],
            vec![weights("w", &[512, 4])],
        )
    }
}

#[test]
fn what_is_proposed_builds_and_validates_untouched() {
    let home = super::home();
    home.write("m/lookup.onnx", model(lookup()).encode_to_vec());
    home.write("m/stubborn.onnx", model(stubborn()).encode_to_vec());
    let printed = home.run(&["init", "m/lookup.onnx", "m/stubborn.onnx", "--gpus", "v100-sxm"]);
    printed.exits(0);
    let recipe = home.read("recipe.yaml");
    assert!(recipe.contains("tokens: { integers: { low: 0, high: 10 } }"), "{recipe}");
    assert!(recipe.contains("x: { min: [1, 512], opt: [1, 512], max: [1, 512] }"), "{recipe}");
    assert!(recipe.contains("In the opt shapes it failed"), "{recipe}");
    home.run(&["build", "recipe.yaml"]).exits(0);
    home.run(&["validate", "recipe.yaml"]).exits(0);
    home.run(&["bench", "recipe.yaml", "--rounds", "1", "--budget-ms", "50", "--window-ms", "10"]).exits(0);

    // Without samples it says what it took instead, and takes the same.
    let samples = recipe.lines().filter(|line| !line.contains("integers:") && !line.contains("normal:"));
    let without: String =
        samples.filter(|line| line.trim() != "samples:").map(|line| format!("{line}\n")).collect();
    home.write("recipe.yaml", without);
    let view = home.run(&["validate", "recipe.yaml", "--output", "json"]).json();
    let seeded: Vec<&str> =
        view["seeded_inputs"].as_array().unwrap().iter().map(|one| one["sample"].as_str().unwrap()).collect();
    assert_eq!(seeded, ["{ integers: { low: 0, high: 10 } }", "{ normal: {} }", "{ normal: {} }"]);
    assert_eq!(view["profiles"][0]["verdict"], "passed");
}
