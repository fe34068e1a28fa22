//! `nimctl inspect` on a made-up model and on small ones with everything that it counts.

use prost::Message as _;

use crate::graph::{Precision, write_external};
use crate::home::Home;
use crate::recipes::home_with_graph;
use crate::small_models::nested;

#[test]
fn a_model_as_text_and_as_json() {
    let home = Home::new();
    home.set_up(&["model", "synth", "nvclip", "--size", "tiny", "-o", "."]).exits(0);
    let text = home.run(&["inspect", "vision.onnx"]);
    let json = home.run(&["inspect", "text.onnx", "--output", "json"]);
    assert_eq!((text.code, json.code), (Some(0), Some(0)));
    insta::assert_snapshot!("text", text);
    insta::assert_snapshot!("json", json.stdout);
}

#[test]
fn subgraphs_functions_and_constants_are_counted() {
    let home = Home::new();
    fs_err::write(home.path("m.onnx"), nested().encode_to_vec()).unwrap();
    insta::assert_snapshot!("nested", home.run(&["inspect", "m.onnx"]));
    let json = home.run(&["inspect", "m.onnx", "--output", "json"]).json();
    assert_eq!(json["nodes"]["total"], 11);
    assert_eq!(json["inputs"][1]["shape"], serde_json::Value::Null);
    assert_eq!(json["parameters"][1]["element_type"], "int32");
}

#[test]
fn external_files_have_sizes() {
    let home = home_with_graph("");
    write_external(&home.path("graph.onnx"), Precision::Float32);
    home.run(&["inspect", "graph.onnx"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn what_is_no_model_is_refused() {
    let home = home_with_graph("");
    home.run(&["inspect", "r.yaml"]).exits(1);
    home.run(&["inspect", "absent.onnx"]).exits(1);
    home.run(&["inspect", "r.yaml", "--output", "json"]).exits(1);
    home.run(&["inspect"]).exits(2);
    insta::assert_snapshot!(home.transcript());
}
