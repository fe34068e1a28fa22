//! `nimctl inspect` on a made-up model and on small ones with everything that it counts.

use prost::Message as _;

use crate::graph::{Precision, write_external};
use crate::small_models::nested;
use crate::support::{User, user_with_graph};

#[test]
fn a_model_as_text_and_as_json() {
    let user = User::new();
    user.run(&["model", "synth", "nvclip", "--size", "tiny", "-o", "."]).expect(0, &[]);
    let text = user.run(&["inspect", "vision.onnx"]);
    let json = user.run(&["inspect", "text.onnx", "--output", "json"]);
    assert_eq!((text.code, json.code), (Some(0), Some(0)));
    insta::assert_snapshot!("text", text.text);
    insta::assert_snapshot!("json", json.stdout);
}

#[test]
fn subgraphs_functions_and_constants_are_counted() {
    let user = User::new();
    fs_err::write(user.path("m.onnx"), nested().encode_to_vec()).unwrap();
    let said = user.run(&["inspect", "m.onnx"]);
    insta::assert_snapshot!("nested", said.text);
    let json = user.run(&["inspect", "m.onnx", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["nodes"]["total"], 11);
    assert_eq!(json["inputs"][1]["shape"], serde_json::Value::Null);
    assert_eq!(json["parameters"][1]["element_type"], "int32");
}

#[test]
fn external_files_have_sizes() {
    let user = user_with_graph("");
    write_external(&user.path("graph.onnx"), Precision::Float32);
    user.run(&["inspect", "graph.onnx"]).expect(0, &["EXTERNAL FILE  SIZE\nw.bin          48 B\n", "[N, 4]"]);
}

#[test]
fn what_is_no_model_is_refused() {
    let user = user_with_graph("");
    user.run(&["inspect", "r.yaml"]).expect(1, &["r.yaml is not an ONNX model: it is a text file"]);
    user.run(&["inspect", "absent.onnx"]).expect(1, &["cannot read absent.onnx", "No such file"]);
    user.run(&["inspect", "r.yaml", "--output", "json"]).expect(1, &["nimctl.error/1", "\"exit_code\": 1"]);
    user.run(&["inspect"]).expect(2, &["MODEL"]);
}
