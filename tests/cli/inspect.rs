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

/// A plan for 8.9 as TensorRT for RTX 1.7.1.116 would write it: the header, the table of sections, and a text.
fn plan(text: &str) -> Vec<u8> {
    let mut plan = b"vtrt".to_vec();
    plan.resize(24, 0);
    plan.extend([1, 7, 1, 0x74]);
    plan.extend(b"vtrt");
    plan.extend(8_u32.to_le_bytes());
    plan.resize(64, 0);
    let engine = [b"NLYM\0\0\0\0".as_slice(), &(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    plan.extend(b"NGNE\0\0\0\0");
    plan.extend(88_u64.to_le_bytes());
    plan.extend((engine.len() as u64).to_le_bytes());
    plan.extend(engine);
    plan
}

/// Two products in INT8, one that fell back, a table, attention, and a kernel that no version has yet.
const LAYERS: &str = "header {
  accelerators={sm89 }
}
descriptors {
  tensor={ const_payload_size=2359296 dims={ 768 3072 } name=\"up_w\" offset=0 region=consts type=int8 }
  tensor={ const_payload_size=2359296 dims={ 3072 768 } name=\"down_w\" offset=1 region=consts type=int8 }
  tensor={ const_payload_size=589824 dims={ 768 768 } name=\"out_w\" offset=2 region=consts type=int8 }
  tensor={ const_payload_size=1536 dims={ 768 1 } name=\"out_s\" offset=3 region=consts type=half }
  tensor={ const_payload_size=11720448 dims={ 30522 768 } name=\"table\" offset=4 region=consts type=int4 }
  tensor={ dims={ \"n\" 768 } name=\"x_q\" type=int8 }
  tensor={ dims={ \"n\" 768 } name=\"x\" type=half }
}
main {
  function={ name=__myl_Gath input_args={ \"table\" \"ids\" } output_args={ \"x\" } layers=\"[ONNX Layer: /embed]\" }
  fully_connected={ name=\"/up\" output={\"x\" } input={\"x_q\" \"up_w\" } alpha=3812C3A0 layers=\"[ONNX Layer: /up]\" }
  fully_connected={ name=\"/down\" output={\"x\" } input={\"x_q\" \"down_w\" } alpha=3812C3A0 layers=\"[ONNX Layer: /down]\" }
  function={ name=_gemm_mha_v2 input_args={ \"x\" \"x\" \"x\" } output_args={ \"x\" } layers=\"[ONNX Layer: /softmax]\" }
  function={ name=__myl_CastMul input_args={ \"out_w\" \"out_s\" } output_args={ \"x_wide\" } layers=\"[ONNX Layer: /out_dq]\" }
  fully_connected={ name=\"/out\" output={\"x\" } input={\"x\" \"x_wide\" } layers=\"[ONNX Layer: /out]\" }
  novelty={ name=\"n\" }
}
";

#[test]
fn a_plan_as_text_and_as_json() {
    let home = Home::new();
    let wide = "  tensor={ dims={ 768 768 } name=\"x_wide\" type=half }\n}\nmain";
    fs_err::write(home.path("m.plan"), plan(&LAYERS.replacen("}\nmain", wide, 1))).unwrap();
    fs_err::write(home.path("silent.plan"), plan("")).unwrap();
    home.run(&["inspect", "m.plan"]).exits(0);
    home.run(&["inspect", "silent.plan"]).exits(0);
    insta::assert_snapshot!("plan", home.transcript());
    let json = home.run(&["inspect", "m.plan", "--output", "json"]);
    insta::assert_snapshot!("plan_json", json.stdout);
    let silent = home.run(&["inspect", "silent.plan", "--output", "json"]).json();
    assert_eq!(
        (silent["schema"].as_str(), &silent["layers"]),
        (Some("nimctl.plan/1"), &serde_json::Value::Null)
    );
}
