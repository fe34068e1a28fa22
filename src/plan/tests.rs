//! Plans' texts, shortened by hand from what TensorRT for RTX 1.7.1.116 writes for small graphs.

use super::text::Graph;
use super::*;
use crate::compute_capability::ComputeCapability;

const SM75: ComputeCapability = ComputeCapability::new(7, 5);
const SM89: ComputeCapability = ComputeCapability::new(8, 9);

/// A constant as `descriptors` has it; its place is made of its name.
fn constant(name: &str, element_type: &str, shape: &str, size_bytes: u64) -> String {
    format!(
        "  tensor={{ alignment=128 const_payload_size={size_bytes} dims={{ {shape} }} name=\"{name}\" offset={} region=consts type={element_type} }}\n",
        name.len()
    )
}

fn tensor(name: &str, element_type: &str) -> String {
    format!(
        "  tensor={{ alignment=16 dims={{ \"rows\" 8 }} name=\"{name}\" offset=0 region=\"\" type={element_type} }}\n"
    )
}

fn graph(header: &str, tensors: &[String], main: &str) -> Graph {
    let tensors = tensors.concat();
    Graph::parse(&format!(
        "header {{\n{header}\n}}\ndescriptors {{\n{tensors}}}\nmain {{\n{main}}}\nshape_main {{\n}}\n"
    ))
}

fn plan(tensors: &[String], main: &str) -> Graph {
    graph("  accelerators={sm89 }", tensors, main)
}

fn inside(inputs: &str, tensors: &[String], main: &str) -> Graph {
    graph(&format!("  accelerators={{*}}\n  inputs={{ {inputs} }}"), tensors, main)
}

fn facts(graphs: &[Graph]) -> PlanLayers {
    layers::of(graphs).unwrap()
}

fn header(capability: ComputeCapability) -> PlanHeader {
    PlanHeader {
        builder_version: "1.7.1.116".into(),
        compute_capabilities: vec![capability],
        unknown_target_bits: 0,
    }
}

fn verdict(
    layers: &PlanLayers,
    capability: ComputeCapability,
    name: &str,
    expected: Expected,
) -> NodeVerdict {
    let node = QuantizedNode { name: name.into(), expected };
    check_nodes(&header(capability), layers, &[node])[0]
}

fn fell_back(reason: Fallback) -> NodeVerdict {
    NodeVerdict::FellBack { computes_in: TensorType::Fp16, reason }
}

/// Quantized data and weights: the product is a kernel of its own, between those that quantize and that add.
fn int8_product() -> PlanLayers {
    let tensors = [
        constant("w_q", "int8", "8 16", 128),
        constant("alpha", "float", "1", 4),
        constant("table", "half", "1 16", 32),
        tensor("x", "half"),
        tensor("x_q", "int8"),
        tensor("mm", "half"),
        tensor("y", "half"),
    ];
    let main = "  shape_call={ name=\"sizes\" stream=0 layers=\"\" }\n\
        \x20 function={ name=__myl_MulMinMaxRounCast args={ \"x\" \"rows\" \"x_q\" } input_args={ \"x\" \"rows\" } shape_args_count=1 output_args={ \"x_q\" } layers=\"[ONNX Layer: quantize]\" }\n\
        \x20 fully_connected={ name=\"mm\" output={\"mm\" } input={\"x_q\" \"w_q\" \"alpha\" \"beta\" } trB=false alpha=3A83126F layers=\"[ONNX Layer: mm]\x1f[ONNX Layer: dequantize]\" }\n\
        \x20 function={ name=__myl_MulAdd input_args={ \"mm\" \"table\" } output_args={ \"y\" } layers=\"[ONNX Layer: add]\" }\n";
    facts(&[plan(&tensors, main)])
}

#[test]
fn a_product_in_int8() {
    let layers = int8_product();
    let weights = WeightFacts {
        stored: TensorType::Int8,
        shape: vec![8, 16],
        path: WeightPath::Direct,
        scales: vec![],
        is_transposed: false,
    };
    let gemm = GemmFacts {
        nodes: vec!["mm".into()],
        kind: GemmKind::Gemm,
        operands: [TensorType::Int8; 2],
        output: TensorType::Fp16,
        alpha: Some(0.001),
        weights: Some(weights),
    };
    assert_eq!(layers.gemms, [gemm]);
    assert_eq!(layers.kernels, 3);
    assert_eq!(
        (layers.attention.len(), layers.dequantize_kernels.len(), layers.low_bit_lookups.len()),
        (0, 0, 0)
    );
    let bytes = [(TensorType::Fp32, 4), (TensorType::Fp16, 32), (TensorType::Int8, 128)];
    assert_eq!(layers.weight_bytes_by_type, bytes.into());
    let int8 = Expected::Multiplies(TensorType::Int8);
    assert_eq!(verdict(&layers, SM89, "mm", int8), NodeVerdict::AsExpected);
    assert_eq!(verdict(&layers, SM89, "dequantize", int8), NodeVerdict::Unknown);
    assert_eq!(verdict(&layers, SM89, "m", int8), NodeVerdict::Unknown);
}

/// Weights that a fused kernel turns into FP16, with scales of a shape.
fn fused_product(scales: &str, is_transposed: bool) -> PlanLayers {
    let tensors = [
        constant("w_q", "int8", "8 16", 128),
        constant("scales", "half", scales, 32),
        tensor("x", "half"),
        tensor("y", "half"),
    ];
    let main = "  runtime_fusion={ name=__myl_CastMulFc input_args={ \"x\" \"scales\" \"w_q\" \"rows\" } output_args={ \"y\" } binary=0 layers=\"[ONNX Layer: dequantize]\x1f[ONNX Layer: mm]\" backbone=gemm }\n";
    // The inside has names of its own.
    let names = ["x.1", "w.1"].map(|name| tensor(name, if name == "x.1" { "half" } else { "int8" }));
    let more = ["cast", "wide", "y.1"].map(|name| tensor(name, "half"));
    let steps = format!(
        "  cast={{ name=\"c\" output={{\"cast\" }} input={{\"w.1\" }} layers=\"[ONNX Layer: dequantize]\" }}\n\
         \x20 mul={{ name=\"m\" output={{\"wide\" }} input={{\"cast\" \"s.1\" }} layers=\"[ONNX Layer: dequantize]\" }}\n\
         \x20 fully_connected={{ name=\"mm\" output={{\"y.1\" }} input={{\"x.1\" \"wide\" \"one\" \"zero\" }} trB={is_transposed} alpha=3F800000 layers=\"[ONNX Layer: mm]\" }}\n"
    );
    let inside = inside("\"x.1\" \"s.1\" \"w.1\" \"rows\"", &[names.concat(), more.concat()], &steps);
    facts(&[plan(&tensors, main), inside])
}

#[test]
fn weights_that_the_products_kernel_dequantizes() {
    let layers = fused_product("1 16", false);
    let gemm = &layers.gemms[0];
    assert_eq!((gemm.operands, gemm.output), ([TensorType::Fp16; 2], TensorType::Fp16));
    let weights = gemm.weights.as_ref().unwrap();
    assert_eq!((weights.stored, weights.path), (TensorType::Int8, WeightPath::Fused));
    assert_eq!((weights.shape.as_slice(), weights.scales.as_slice()), (&[8, 16][..], &[1, 16][..]));
    assert_eq!(layers.dequantize_kernels, []);
    assert_eq!(verdict(&layers, SM89, "mm", Expected::Stores(TensorType::Int8)), NodeVerdict::AsExpected);
    assert_eq!(
        verdict(&layers, SM89, "mm", Expected::Stores(TensorType::Int4)),
        fell_back(Fallback::StoredOtherwise)
    );
    let int8 = Expected::Multiplies(TensorType::Int8);
    assert_eq!(verdict(&layers, SM89, "mm", int8), fell_back(Fallback::Unknown));
    for (scales, is_transposed) in [("8 1", false), ("1 16", true)] {
        let layers = fused_product(scales, is_transposed);
        assert_eq!(verdict(&layers, SM89, "mm", int8), fell_back(Fallback::ScaleAlongK), "{scales}");
    }
}

#[test]
fn weights_that_a_kernel_of_their_own_dequantizes() {
    let tensors = [
        constant("w_q", "int4", "8 16", 64),
        constant("by_block", "half", "2 16", 64),
        tensor("wide", "half"),
        tensor("x", "half"),
        tensor("y", "half"),
    ];
    let main = "  function={ name=__myl_ReplCastMulCast input_args={ \"w_q\" \"by_block\" } shape_args_count=0 output_args={ \"wide\" } layers=\"[ONNX Layer: dequantize]\" }\n\
        \x20 fully_connected={ name=\"mm\" output={\"y\" } input={\"x\" \"wide\" } layers=\"[ONNX Layer: mm]\" }\n";
    let layers = facts(&[plan(&tensors, main)]);
    let kernel = KernelFacts {
        nodes: vec!["dequantize".into()],
        stored: TensorType::Int4,
        output: TensorType::Fp16,
        size_bytes: 64,
    };
    assert_eq!(layers.dequantize_kernels, [kernel]);
    let weights = layers.gemms[0].weights.as_ref().unwrap();
    assert_eq!((weights.stored, weights.path), (TensorType::Int4, WeightPath::Kernel));
    assert_eq!(weights.scales, [2, 16]);
    let stores = Expected::Stores(TensorType::Int4);
    assert_eq!(verdict(&layers, SM89, "mm", stores), fell_back(Fallback::SeparateKernel));
}

#[test]
fn convolutions() {
    let conv = |weights: &str, scales: &str| {
        let tensors = [
            constant("w_q", "int8", weights, 64),
            constant("padding", "half", "4 5 2 2", 160),
            constant("scales", "half", scales, 8),
            tensor("x", "half"),
            tensor("wide", "half"),
            tensor("y", "half"),
        ];
        let main = "  function={ name=__myl_CastMulConc input_args={ \"padding\" \"scales\" \"w_q\" } output_args={ \"wide\" } layers=\"[ONNX Layer: dequantize]\" }\n\
            \x20 corrltn={ name=\"conv\" output={\"y\" } input={\"x\" \"wide\" \"a\" } layers=\"[ONNX Layer: conv]\x1f[ONNX Layer: relu]\" }\n";
        facts(&[plan(&tensors, main)])
    };
    let int8 = Expected::Multiplies(TensorType::Int8);
    let of = |layers: &PlanLayers, capability| verdict(layers, capability, "conv", int8);
    let wide = conv("4 16 2 2", "4 1 1 1");
    assert_eq!(
        (wide.gemms[0].kind, wide.gemms[0].weights.as_ref().unwrap().stored),
        (GemmKind::Conv, TensorType::Int8)
    );
    assert_eq!(of(&wide, SM75), fell_back(Fallback::ConvOn75));
    assert_eq!(of(&wide, SM89), fell_back(Fallback::SeparateKernel));
    assert_eq!(of(&conv("4 3 2 2", "4 1 1 1"), SM89), fell_back(Fallback::FewChannels));
    assert_eq!(of(&conv("4 16 2 2", "1 16 1 1"), SM75), fell_back(Fallback::ScaleAlongK));
}

#[test]
fn attention_and_merged_products() {
    let parts = ["q", "k", "v"].map(|name| tensor(name, "int8"));
    let base = "  sub_tensor={ base=\"packed\" const_offset=0 dims={ 8 8 } name=\"w^part\" type=fp8_e4m3 }\n";
    let tensors = [
        parts.concat(),
        base.into(),
        constant("packed", "fp8_e4m3", "8 24", 192),
        tensor("x_q", "fp8_e4m3"),
        tensor("qkv", "half"),
        tensor("o", "half"),
        tensor("scores", "half"),
    ];
    let main = "  fully_connected={ name=\"v+a _b_+q\" output={\"qkv\" } input={\"x_q\" \"w^part\" } layers=\"[ONNX Layer: v]\x1f[ONNX Layer: x_dq]\x1f[ONNX Layer: a \\\"b\\\"]\x1f[ONNX Layer: q]\" }\n\
        \x20 function={ name=_gemm_mha_v2 input_args={ \"q\" \"k\" \"v\" \"rows\" } shape_args_count=1 output_args={ \"o\" } layers=\"[ONNX Layer: qk]\x1f[ONNX Layer: softmax]\x1f[ONNX Layer: pv]\" }\n\
        \x20 fully_connected={ name=\"qk 2\" output={\"scores\" } input={\"o\" \"qkv\" } layers=\"[ONNX Layer: qk 2]\" }\n\
        \x20 novelty={ name=\"n\" output={\"scores\" } }\n";
    let layers = facts(&[plan(&tensors, main)]);
    assert_eq!(layers.gemms[0].nodes, ["v", "a \"b\"", "q"]);
    assert_eq!(layers.gemms[0].weights.as_ref().unwrap().stored, TensorType::Fp8);
    let attention = FusedAttention {
        nodes: vec!["qk".into(), "softmax".into(), "pv".into()],
        inputs: vec![TensorType::Int8; 3],
        output: TensorType::Fp16,
    };
    assert_eq!(layers.attention, [attention]);
    assert_eq!(layers.products_of_computed_tensors(), 1);
    assert_eq!(layers.products_by_type(), [(TensorType::Fp8, 1)].into());
    assert_eq!(layers.unknown_operations, [("novelty".into(), 1)].into());
    assert_eq!(layers.kernels, 4);
    let int8 = Expected::Multiplies(TensorType::Int8);
    assert_eq!(verdict(&layers, SM89, "pv", int8), NodeVerdict::AsExpected);
    assert_eq!(verdict(&layers, SM89, "qk 2", int8), fell_back(Fallback::Unknown));
}

#[test]
fn nodes_that_are_called_like_tensors() {
    let names = |name: &str, layers: &[&str]| {
        let layers: Vec<String> = layers.iter().map(|layer| format!("[ONNX Layer: {layer}]")).collect();
        let main = format!("  fully_connected={{ name=\"{name}\" layers=\"{}\" }}\n", layers.join("\x1f"));
        facts(&[plan(&[], &main)]).gemms[0].nodes.join(" ")
    };
    assert_eq!(names("up_U19", &["up", "x_dq"]), "up");
    assert_eq!(names("v_U3+k+q_U12", &["v", "k", "k_U", "q", "w"]), "v k q");
    assert_eq!(names("up_Up", &["up"]), "");
    assert_eq!(names("up_U", &["up", "up_U"]), "up_U");
    assert_eq!(names("up_U1+upper", &["per", "upper", "u"]), "upper");
}

#[test]
fn embedding_tables() {
    let tensors = [
        constant("table", "int8", "100 8", 800),
        constant("scales", "half", "100 1", 200),
        tensor("ids", "int64"),
        tensor("rows", "half"),
    ];
    let main = "  function={ name=__myl_CastMulGath input_args={ \"table\" \"scales\" \"ids\" } shape_args_count=0 output_args={ \"rows\" } layers=\"[ONNX Layer: dequantize]\x1f[ONNX Layer: gather]\" }\n";
    let layers = facts(&[plan(&tensors, main)]);
    assert_eq!(layers.dequantize_kernels, []);
    assert_eq!(
        (layers.low_bit_lookups[0].stored, layers.low_bit_lookups[0].size_bytes),
        (TensorType::Int8, 800)
    );
    let stores = Expected::Stores(TensorType::Int8);
    assert_eq!(verdict(&layers, SM89, "gather", stores), NodeVerdict::AsExpected);
}

#[test]
fn what_is_not_understood_is_unknown() {
    // A fused kernel without an inside, and a product of tensors of which nothing is said.
    let main = "  runtime_fusion={ name=__myl_Fc input_args={ \"x\" } output_args={ \"y\" } binary=3 layers=\"[ONNX Layer: a]\" }\n\
        \x20 fully_connected={ name=\"b\" input={\"p\" \"q\" } layers=\"[ONNX Layer: b]\" }\n\
        \x20 fully_connected={ layers=\"[ONNX Layer: c]\" }\n";
    let layers = facts(&[plan(&[], main)]);
    assert_eq!(layers.unknown_operations, [("runtime_fusion".into(), 1)].into());
    assert_eq!(layers.gemms[0].operands, [TensorType::Unknown; 2]);
    assert_eq!(layers.gemms[1].nodes, [""; 0]);
    let int8 = Expected::Multiplies(TensorType::Int8);
    for node in ["a", "b", "c"] {
        assert_eq!(verdict(&layers, SM89, node, int8), NodeVerdict::Unknown, "{node}");
    }
    assert_eq!(layers::of(&[]), None);
    assert_eq!(layers::of(&[inside("", &[], "")]), None);
}

#[test]
fn the_type_that_weights_share_bytes_in_is_counted_once() {
    let shared = constant("one", "half", "4", 8);
    let layers = facts(&[plan(&[shared.clone(), shared.replace("\"one\"", "\"two\"")], "")]);
    assert_eq!(layers.weight_bytes_by_type, [(TensorType::Fp16, 8)].into());
}
