//! Attention that `nimctl quantize` quantizes, run by ONNX Runtime and built by TensorRT for RTX.

use nimctl::compute_capability::ComputeCapability;
use nimctl::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use nimctl::plan::{TensorType, read_layers};
use nimctl::shape_range::ShapeRange;
use nimctl::worker::host::Cancel;
use nimctl::worker::npy::Tensor;
use nimctl::worker::protocol::BuildRequest;
use prost::Message as _;

use super::quantize::{cosine, numbers, outputs_of, weight};
use crate::home::Home;
use crate::small_models::{floats, graph, model, node, tensor, value};
use crate::support::{real, start};

const TOKENS: usize = 32;
const WIDTH: usize = 128;
const HEADS: i64 = 2;
const ROWS: usize = 6;

fn turned(input: &str, order: [i64; 4], output: &str) -> NodeProto {
    let order = AttributeProto {
        name: Some("perm".into()),
        r#type: Some(7),
        ints: order.into(),
        ..AttributeProto::default()
    };
    NodeProto { attribute: vec![order], ..node("Transpose", &[input], output) }
}

fn shape(name: &str, sides: &[i64]) -> TensorProto {
    let raw: Vec<u8> = sides.iter().flat_map(|side| side.to_le_bytes()).collect();
    TensorProto { raw_data: Some(raw.into()), ..tensor(name, 7, &[sides.len() as i64]) }
}

/// A block of attention.
fn write_network(home: &Home) {
    let mut nodes = Vec::new();
    for name in ["q", "k", "v"] {
        let parts = ["w", "linear", "heads", "turned"].map(|part| format!("{name}.{part}"));
        let [w, linear, heads, last] = parts.each_ref().map(String::as_str);
        nodes.push(node("MatMul", &["x", w], linear));
        nodes.push(node("Reshape", &[linear, "by_head"], heads));
        nodes.push(turned(heads, if name == "k" { [0, 2, 3, 1] } else { [0, 2, 1, 3] }, last));
    }
    nodes.extend([
        NodeProto { name: Some("qk".into()), ..node("MatMul", &["q.turned", "k.turned"], "scores") },
        node("Div", &["scores", "root"], "scaled"),
        node("Softmax", &["scaled"], "p"),
        NodeProto { name: Some("pv".into()), ..node("MatMul", &["p", "v.turned"], "mixed") },
        turned("mixed", [0, 2, 1, 3], "mixed.turned"),
        node("Reshape", &["mixed.turned", "together"], "flat"),
        node("MatMul", &["flat", "out.w"], "y"),
    ]);
    let mut initializer: Vec<TensorProto> =
        ["q.w", "k.w", "v.w", "out.w"].map(|name| weight(name, &[WIDTH, WIDTH], 0.1)).into();
    let root = TensorProto { dims: Vec::new(), ..floats("root", &[8.0]) };
    let by_head = shape("by_head", &[0, TOKENS as i64, HEADS, WIDTH as i64 / HEADS]);
    initializer.extend([root, by_head, shape("together", &[0, TOKENS as i64, WIDTH as i64])]);
    let sides = ["rows", "32", "128"];
    let network = GraphProto {
        input: vec![value("x", &sides)],
        output: vec![value("y", &sides)],
        initializer,
        ..graph(nodes, Vec::new())
    };
    let mut network = model(network);
    (network.ir_version, network.opset_import[0].version) = (Some(8), Some(17));
    home.write("network.onnx", network.encode_to_vec());
}

fn tokens(seed: &str) -> Tensor {
    Tensor::new(&[ROWS, TOKENS, WIDTH], &numbers(seed, ROWS * TOKENS * WIDTH, 1.0)).unwrap()
}

fn run(home: &Home, model: &str) -> Vec<f32> {
    outputs_of(home, model, &[("x", tokens("judged"))]).remove("y").unwrap()
}

/// The types that the fused attention of a plan for 8.9 multiplies.
fn multiplied(home: &Home) -> Vec<Vec<TensorType>> {
    let range = |rows: i64| vec![rows, TOKENS as i64, WIDTH as i64];
    let shapes = ShapeRange { min: range(1), opt: range(4), max: range(6) };
    let request = BuildRequest {
        graph: home.path("out.onnx"),
        plan: home.path("plan"),
        compute_capabilities: vec![ComputeCapability::new(8, 9)],
        shape_ranges: [("x".to_owned(), shapes)].into(),
        workspace_mib: None,
    };
    start(&real("tensorrt-rtx")).build(request, &Cancel::new(), &mut |_| {}).unwrap();
    let layers = read_layers(&home.path("plan")).unwrap().unwrap();
    layers.attention.into_iter().map(|attention| attention.inputs).collect()
}

#[test]
fn attention_is_fused_in_the_type_that_was_asked_for() {
    let home = super::home();
    write_network(&home);
    tokens("calibration").write(&home.path("x.npy")).unwrap();
    let arguments = ["quantize", "network.onnx", "-o", "out.onnx", "--samples", "x=x.npy", "--precision"];
    let reference = run(&home, "network.onnx");
    for (precision, element_type, least) in
        [("int8", TensorType::Int8, 0.998), ("fp8", TensorType::Fp8, 0.995)]
    {
        let quantize = |more: &[&str]| {
            let gate = ["--min-row-cosine", "0.9", "--target", "tensorrt-rtx"];
            home.run(&[&arguments[..], &[precision], &gate, more].concat()).exits(0);
        };
        quantize(&[]);
        assert_eq!(multiplied(&home), [vec![TensorType::Fp16; 3]], "{precision}");
        quantize(&["--attention", "quantize"]);
        assert_eq!(multiplied(&home), [vec![element_type; 3]], "{precision}");
        let real = run(&home, "out.onnx");
        quantize(&["--attention", "quantize", "--emulate"]);
        let emulated = run(&home, "out.onnx");
        let (a, b) = (cosine(&reference, &real), cosine(&reference, &emulated));
        assert!(a >= least, "{precision}: {a}");
        assert!((a - b).abs() < 1e-4, "{precision}: {a} as it is, {b} emulated");
    }
    let weights_alone = [&arguments[..], &["int4", "--attention", "quantize"]].concat();
    home.run(&weights_alone).exits(1).has(&["attention can't be quantized in int4", "use int8 or fp8"]);
}
