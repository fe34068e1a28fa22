//! `nimctl init`: what is proposed for a model that has no recipe. That real models then build and validate is tried with
//! a real ONNX Runtime in `tests/workers`.

use nimctl::onnx::proto::{GraphProto, TensorProto, ValueInfoProto, type_proto};
use prost::Message as _;

use crate::home::Home;
use crate::small_models::{all, graph, model, node, tensor, value};

/// An input of this element type.
fn input(name: &str, element_type: i32, dims: &[&str]) -> ValueInfoProto {
    let mut info = value(name, dims);
    if let Some(type_proto::Value::TensorType(tensor)) =
        info.r#type.as_mut().and_then(|kind| kind.value.as_mut())
    {
        tensor.elem_type = Some(element_type);
    }
    info
}

const FLOAT: i32 = 1;
const INT64: i32 = 7;
const STRING: i32 = 8;
const BOOL: i32 = 9;

/// Writes a model with these inputs that does nothing with them but what `nodes` say.
fn write(home: &Home, name: &str, inputs: Vec<ValueInfoProto>, change: impl FnOnce(&mut GraphProto)) {
    let mut graph = GraphProto { input: inputs, ..graph(vec![], vec![]) };
    change(&mut graph);
    home.write(name, model(graph).encode_to_vec());
}

/// Token ids that are cast and looked up in a table of 1000 rows, as exporters write it.
fn text_model(home: &Home, name: &str) {
    let inputs = vec![
        input("input_ids", INT64, &["batch_size", "sequence_length"]),
        input("attention_mask", INT64, &["batch_size", "sequence_length"]),
        input("token_type_ids", INT64, &["batch_size", "sequence_length"]),
        input("past", FLOAT, &["batch_size", "past_length", "4"]),
        input("both", BOOL, &["batch_size", "past_length + sequence_length"]),
    ];
    write(home, name, inputs, |graph| {
        graph.initializer =
            vec![TensorProto { float_data: vec![0.5; 4000], ..tensor("table", 1, &[1000, 4]) }];
        graph.node = vec![node("Cast", &["input_ids"], "ids"), node("Gather", &["table", "ids"], "y")];
    });
}

#[test]
fn recipes_of_usual_models() {
    let home = Home::new();
    home.set_up(&["model", "synth", "nvclip", "--size", "tiny", "-o", "clip"]).exits(0);
    text_model(&home, "bert/model.onnx");
    let images = vec![input("images", FLOAT, &["?", "3", "?", "p2o.DynamicDimension.1"])];
    write(&home, "detector 2.onnx", images, |_| ());
    let speech = vec![
        input("input:0", FLOAT, &["-1", "-1"]),
        input("state", FLOAT, &["2", "-1", "128"]),
        input("sr", INT64, &[]),
    ];
    write(&home, "speech.onnx", speech, |_| ());
    home.run(&[
        "init",
        "clip/vision.onnx",
        "clip/text.onnx",
        "--gpus",
        "l4,rtx-5090,h100-sxm,v100-sxm",
        "--no-trial",
        "-o",
        "recipes/clip.yaml",
    ])
    .exits(1);
    fs_err::create_dir(home.path("recipes")).unwrap();
    let clip = ["init", "clip/vision.onnx", "clip/text.onnx", "--gpus", "l4,rtx-5090,h100-sxm,v100-sxm"];
    home.run(&[&clip[..], &["--no-trial", "-o", "recipes/clip.yaml"]].concat()).exits(0);
    insta::assert_snapshot!("clip", format!("{}{}", home.transcript(), home.read("recipes/clip.yaml")));
    for (file, name) in
        [("bert/model.onnx", "bert"), ("detector 2.onnx", "detector"), ("speech.onnx", "speech")]
    {
        home.run(&["init", file, "--gpus", "l4", "--no-trial", "-o", "-"]).exits(0);
        insta::assert_snapshot!(name, home.transcript());
    }
}

#[test]
fn what_no_tensorrt_takes_has_a_generic_profile_only() {
    let home = Home::new();
    write(&home, "strings.onnx", vec![input("text", STRING, &["N"])], |_| ());
    write(&home, "foreign.onnx", vec![value("x", &["N", "4"])], |graph| {
        let mut own = node("Gelu", &["x"], "y");
        own.domain = Some("com.microsoft".into());
        graph.node = vec![own];
    });
    home.run(&["init", "strings.onnx", "--gpus", "l4", "--no-trial", "-o", "-"]).exits(0);
    home.run(&["init", "foreign.onnx", "--gpus", "l4", "--no-trial", "-o", "-"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn every_small_model_has_a_recipe_that_checks() {
    let home = Home::new();
    home.write("w.bin", [0; crate::small_models::EXTERNAL_BYTES]);
    for (name, bytes) in all() {
        home.write(&format!("{name}.onnx"), bytes);
        let recipe = format!("{name}.yaml");
        home.run(&["init", &format!("{name}.onnx"), "--no-trial", "-o", &recipe]).exits(0);
        home.run(&["recipe", "check", &recipe]).exits(0);
    }
}

#[test]
fn what_it_refuses() {
    let home = Home::new();
    text_model(&home, "m.onnx");
    home.write("no.onnx", "not a model");
    home.run(&["init", "m.onnx", "--no-trial"]).exits(0);
    home.run(&["init", "m.onnx", "--no-trial"]).exits(1);
    home.run(&["init", "m.onnx", "--no-trial", "--force", "--quiet"]).exits(0);
    home.run(&["init", "absent.onnx", "--force"]).exits(1);
    home.run(&["init", "no.onnx", "--force"]).exits(1);
    home.run(&["init", "m.onnx", "./m.onnx", "--force"]).exits(1);
    home.run(&["init", "m.onnx", "--gpus", "l5", "--force"]).exits(1);
    home.run(&["init", "m.onnx", "--name", "a b", "--force"]).exits(1);
    home.run(&["init"]).exits(2);
    insta::assert_snapshot!(home.transcript());
}
