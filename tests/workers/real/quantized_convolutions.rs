//! Convolutions that `nimctl quantize` writes, run by ONNX Runtime and built by TensorRT for RTX.

use nimctl::compute_capability::ComputeCapability;
use nimctl::onnx::OnnxFile;
use nimctl::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use nimctl::plan::{
    Expected, Fallback, NodeVerdict, PlanHeader, QuantizedNode, TensorType, check_nodes, read_layers,
};
use nimctl::shape_range::ShapeRange;
use nimctl::worker::host::Cancel;
use nimctl::worker::npy::Tensor;
use nimctl::worker::protocol::BuildRequest;
use prost::Message as _;

use super::quantize::{cosine, numbers, outputs_of, weight};
use crate::home::Home;
use crate::small_models::{graph, model, node, value};
use crate::support::{real, start};

const SIDE: usize = 16;
const CHANNELS: usize = 32;
const ROWS: usize = 8;

/// Gives a node a list or a number.
fn with(node: NodeProto, name: &str, values: &[i64]) -> NodeProto {
    let mut node = node;
    let one = AttributeProto { name: Some(name.into()), ..AttributeProto::default() };
    node.attribute.push(match values {
        [value] => AttributeProto { r#type: Some(2), i: Some(*value), ..one },
        _ => AttributeProto { r#type: Some(7), ints: values.into(), ..one },
    });
    node
}

fn named(name: &str, node: NodeProto) -> NodeProto {
    NodeProto { name: Some(name.into()), ..node }
}

/// The parameters of a BatchNormalization.
fn normalization(name: &str) -> Vec<TensorProto> {
    let positive = |what: &str, about: f32| {
        let values = numbers(&format!("{name}.{what}"), CHANNELS, 0.1);
        let raw: Vec<u8> = values.iter().flat_map(|value| (value + about).to_le_bytes()).collect();
        TensorProto { raw_data: Some(raw.into()), ..weight(&format!("{name}.{what}"), &[CHANNELS], 1.0) }
    };
    vec![positive("scale", 1.0), positive("shift", 0.0), positive("mean", 0.0), positive("variance", 1.0)]
}

/// A network with what stands around convolutions: a normalization that isn't folded into one, a residual sum, a convolution of
/// each channel alone, and an activation with negative values.
fn write_network(home: &Home) {
    let normalized = |input: &str, name: &str, output: &str| {
        let parameters = ["scale", "shift", "mean", "variance"].map(|what| format!("{name}.{what}"));
        let mut inputs = vec![input];
        inputs.extend(parameters.iter().map(String::as_str));
        node("BatchNormalization", &inputs, output)
    };
    let padded = |node: NodeProto| with(node, "pads", &[1, 1, 1, 1]);
    let nodes = vec![
        named("colours", padded(node("Conv", &["x", "colours.w"], "a"))),
        normalized("a", "n", "b"),
        node("Relu", &["b"], "c"),
        named("plain", padded(node("Conv", &["c", "plain.w", "plain.b"], "d"))),
        node("Add", &["c", "d"], "e"),
        node("HardSwish", &["e"], "f"),
        named("each", with(padded(node("Conv", &["f", "each.w"], "g")), "group", &[CHANNELS as i64])),
        normalized("g", "m", "h"),
        node("Relu", &["h"], "i"),
        named("last", with(node("Conv", &["i", "last.w", "last.b"], "j"), "strides", &[2, 2])),
        node("GlobalAveragePool", &["j"], "k"),
        node("Flatten", &["k"], "y"),
    ];
    let mut initializer = vec![
        weight("colours.w", &[CHANNELS, 3, 3, 3], 0.2),
        weight("plain.w", &[CHANNELS, CHANNELS, 3, 3], 0.06),
        weight("plain.b", &[CHANNELS], 0.2),
        weight("each.w", &[CHANNELS, 1, 3, 3], 0.3),
        weight("last.w", &[2 * CHANNELS, CHANNELS, 1, 1], 0.2),
        weight("last.b", &[2 * CHANNELS], 0.2),
    ];
    initializer.extend(normalization("n"));
    initializer.extend(normalization("m"));
    let network = GraphProto {
        input: vec![value("x", &["rows", "3", "16", "16"])],
        output: vec![value("y", &["rows", "64"])],
        initializer,
        ..graph(nodes, Vec::new())
    };
    let mut network = model(network);
    (network.ir_version, network.opset_import[0].version) = (Some(8), Some(17));
    home.write("network.onnx", network.encode_to_vec());
}

pub(super) fn pictures(seed: &str) -> Tensor {
    Tensor::new(&[ROWS, 3, SIDE, SIDE], &numbers(seed, ROWS * 3 * SIDE * SIDE, 1.0)).unwrap()
}

pub(super) fn home() -> Home {
    let home = super::home();
    write_network(&home);
    pictures("calibration").write(&home.path("x.npy")).unwrap();
    home
}

const QUANTIZE: [&str; 6] = ["quantize", "network.onnx", "-o", "out.onnx", "--samples", "x=x.npy"];

fn run(home: &Home, model: &str) -> Vec<f32> {
    outputs_of(home, model, &[("x", pictures("judged"))]).remove("y").unwrap()
}

/// What plans for some capabilities make of the convolutions that were quantized.
fn verdicts(home: &Home, element_type: TensorType, capability: ComputeCapability) -> Vec<NodeVerdict> {
    let mut worker = start(&real("tensorrt-rtx"));
    let plan = home.path("plan");
    let range = |rows: i64| vec![rows, 3, SIDE as i64, SIDE as i64];
    let shapes = ShapeRange { min: range(1), opt: range(4), max: range(8) };
    let request = BuildRequest {
        graph: home.path("out.onnx"),
        plan: plan.clone(),
        compute_capabilities: vec![capability],
        shape_ranges: [("x".to_owned(), shapes)].into(),
        workspace_mib: None,
    };
    worker.build(request, &Cancel::new(), &mut |_| {}).unwrap();
    let (header, layers) = (PlanHeader::read(&plan).unwrap().unwrap(), read_layers(&plan).unwrap().unwrap());
    let expected = Expected::Multiplies(element_type);
    let nodes = ["plain", "last"].map(|name| QuantizedNode { name: name.into(), expected });
    check_nodes(&header, &layers, &nodes)
}

#[test]
fn a_network_is_near_fp32_runs_as_it_is_emulated_and_is_built_as_asked() {
    let home = home();
    let reference = run(&home, "network.onnx");
    for (precision, element_type) in [("int8", TensorType::Int8), ("fp8", TensorType::Fp8)] {
        let arguments = [&QUANTIZE[..], &["--precision", precision]].concat();
        let printed = home.run(&[&arguments[..], &["--output", "json"]].concat());
        let report = printed.exits(0).json();
        let names = |list: &str| -> Vec<String> {
            let nodes = report["report"][list].as_array().unwrap();
            nodes.iter().map(|node| format!("{} {}", node["node"], node["why"])).collect()
        };
        assert_eq!(names("quantized"), [r#""plain" null"#, r#""last" null"#], "{printed}");
        let kept = [r#""colours" "few-channels""#, r#""each" "few-channels""#];
        assert_eq!(names("kept"), kept, "{printed}");
        // Nothing is smoothed, so no two methods are the same graph.
        let tried = report["choice"]["tried"].as_array().unwrap();
        assert!(tried.iter().all(|tried| tried["method"]["smoothing_percent"] == 0), "{printed}");
        assert_eq!(OnnxFile::open(&home.path("out.onnx")).unwrap().opset(), Some(19));
        let real = run(&home, "out.onnx");
        assert_eq!(
            verdicts(&home, element_type, ComputeCapability::new(8, 9)),
            [NodeVerdict::AsExpected; 2],
            "{precision}"
        );
        if precision == "int8" {
            let fell_back =
                NodeVerdict::FellBack { computes_in: TensorType::Fp16, reason: Fallback::ConvOn75 };
            let found = verdicts(&home, element_type, ComputeCapability::new(7, 5));
            assert_eq!(found, [fell_back; 2]);
        }
        home.run(&[&arguments[..], &["--emulate"]].concat()).exits(0);
        let emulated = run(&home, "out.onnx");
        let (a, b) = (cosine(&reference, &real), cosine(&reference, &emulated));
        assert!(a >= 0.999, "{precision}: {a}");
        assert!((a - b).abs() < 1e-4, "{precision}: {a} as it is, {b} emulated");
    }
}

#[test]
fn convolutions_can_be_kept() {
    let home = home();
    let arguments = [&QUANTIZE[..], &["--precision", "int8", "--convolutions", "keep"]].concat();
    home.run(&arguments).exits(1).has(&["has no product", "and no convolution over at least 16 channels"]);
}
