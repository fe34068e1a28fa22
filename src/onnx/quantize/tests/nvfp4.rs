//! 4-bit floating point with scales in blocks.

use super::*;
use crate::onnx::quantize::number_formats::{e2m1_value, e4m3_value};

fn twin(graph: GraphProto, options: &QuantizationOptions, statistics: &Statistics) -> (Made, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twin.onnx");
    let written = quantize_for_cpu(&open(graph), options, Method::MAX, statistics, &path).unwrap();
    let bytes = fs_err::read(&path).unwrap();
    let file = OnnxFile::from_bytes(&path, bytes.into()).unwrap();
    (Made { file, report: written.report }, written.exact_nodes)
}

fn nvfp4() -> QuantizationOptions {
    options(QuantizedPrecision::Nvfp4)
}

/// Every stored number is the nearest that its block has, and the twin's weight is what the stored one stands for.
#[test]
fn weights_have_a_scale_a_block_and_the_twin_has_their_numbers() {
    let statistics = even(&[("x", SIDE, 2.0)]);
    let made = made(one_product(), &nvfp4(), Method::MAX, &statistics);
    let expected = [
        "TRT_FP4DynamicQuantize",
        "DequantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
    ];
    assert_eq!(made.operators()[..5], expected);
    assert_eq!(made.operators()[5..], ["MatMul"]);
    assert_eq!(made.tensor("w.quantized").data_type(), ElementType::Float4e2m1.to_onnx());
    assert_eq!(made.tensor("w.scales").dims, [(SIDE / 16) as i64, SIDE as i64]);
    assert!((made.number("x.scale_of_scales") - 2.0 / 2688.0).abs() < 1e-9);
    let (bytes, scales) = (made.bytes("w.quantized"), made.bytes("w.scales"));
    let global = made.number("w.scale_of_scales");
    assert_eq!(scales.iter().max(), Some(&0x7e), "the largest block has the largest scale");
    let (twin, exact) = twin(one_product(), &nvfp4(), &statistics);
    let stands_for = twin.floats("w.quantized");
    for (index, twin) in stands_for.iter().enumerate() {
        let (row, column) = (index / SIDE, index % SIDE);
        let scale = e4m3_value(scales[row / 16 * SIDE + column]) * global;
        let found = e2m1_value(bytes[index / 2] >> (4 * (index % 2)) & 15) * scale;
        assert_eq!(found, *twin, "{index}");
        let original = noise(index) * (column as f32 + 1.0);
        let nearest =
            (0..16).map(|bits| (e2m1_value(bits) * scale - original).abs()).fold(f32::MAX, f32::min);
        assert!((found - original).abs() <= nearest * 1.000_01, "{index}: {found} for {original}");
    }
    // All but the last compute what the hardware computes exactly.
    let named = |name: &String| twin.nodes().iter().any(|node| node.name() == name);
    assert!(exact.len() > 10 && exact.iter().all(named));
    assert!(twin.file.model().opset_import.iter().all(|opset| opset.domain() != "trt"));
    assert!(made.file.model().opset_import.iter().any(|opset| opset.domain() == "trt"));
}

#[test]
fn transposed_weights_have_the_same_numbers() {
    let turned = |index: usize| {
        let (column, row) = (index / SIDE, index % SIDE);
        noise(row * SIDE + column) * (column as f32 + 1.0)
    };
    let gemm = NodeProto { attribute: vec![integer("transB", 1)], ..node("Gemm", &["x", "w"], "y") };
    let transposed = graph(vec![gemm], vec![tensor("w", &[SIDE, SIDE], turned)]);
    let statistics = even(&[("x", SIDE, 1.0)]);
    let real = made(transposed.clone(), &nvfp4(), Method::MAX, &statistics);
    assert_eq!(real.tensor("w.scales").dims, [SIDE as i64, (SIDE / 16) as i64]);
    let [one, other] =
        [one_product(), transposed].map(|graph| twin(graph, &nvfp4(), &statistics).0.floats("w.quantized"));
    for row in 0..SIDE {
        for column in 0..SIDE {
            assert_eq!(one[row * SIDE + column], other[column * SIDE + row], "{row} {column}");
        }
    }
}

/// A weight of zeros has no scale to divide by.
#[test]
fn zeros_stay_zeros() {
    let zeros = graph(vec![node("MatMul", &["x", "w"], "y")], vec![tensor("w", &[SIDE, SIDE], |_| 0.0)]);
    let made = made(zeros, &nvfp4(), Method::MAX, &even(&[("x", SIDE, 1.0)]));
    assert!(made.bytes("w.quantized").iter().all(|byte| *byte == 0));
    assert!(made.bytes("w.scales").iter().all(|byte| *byte == 0));
}

/// Lowered, scales of scales stay in FP32, where they have room, and the rest of the graph is in half precision.
#[test]
fn scales_of_scales_stay_in_fp32() {
    let folder = tempfile::tempdir().unwrap();
    let (quantized, lowered) = (folder.path().join("q.onnx"), folder.path().join("l.onnx"));
    quantize(&open(one_product()), &nvfp4(), Method::MAX, &even(&[("x", SIDE, 0.01)]), &quantized).unwrap();
    let file = OnnxFile::open(&quantized).unwrap();
    let options = crate::onnx::LoweringOptions::new(Precision::Fp16, &[]);
    crate::onnx::lower::lower(&file, &options, &lowered).unwrap();
    let file = OnnxFile::open(&lowered).unwrap();
    let tensor = |name: &str| file.graph().initializer.iter().find(|tensor| tensor.name() == name).unwrap();
    for name in ["x.scale_of_scales", "w.scale_of_scales"] {
        assert_eq!(tensor(name).data_type(), FLOAT, "{name}");
    }
    let product = file.graph().node.iter().find(|node| node.op_type() == "MatMul").unwrap();
    let maker = file.graph().node.iter().find(|node| node.output[0] == product.input[0]).unwrap();
    // From its quantized numbers straight into the product, with scales in half precision.
    assert_eq!(maker.op_type(), "DequantizeLinear");
    let cast = file.graph().node.iter().find(|node| node.output[0] == maker.input[1]).unwrap();
    assert_eq!(cast.op_type(), "Cast");
}

/// A graph that was written is turned into the twin that is written without it: the same operators, and the same weights.
#[test]
fn the_twin_of_a_written_graph_is_the_twin() {
    let gemm = NodeProto { attribute: vec![integer("transB", 1)], ..node("Gemm", &["x", "w"], "y") };
    let transposed = graph(vec![gemm], vec![tensor("w", &[SIDE + 16, SIDE], noise)]);
    let statistics = even(&[("x", SIDE, 2.0)]);
    for graph in [one_product(), transposed] {
        let folder = tempfile::tempdir().unwrap();
        let (real, path) = (folder.path().join("real.onnx"), folder.path().join("twin.onnx"));
        quantize(&open(graph.clone()), &nvfp4(), Method::MAX, &statistics, &real).unwrap();
        let exact = write_twin(&OnnxFile::open(&real).unwrap(), &path).unwrap().unwrap();
        let bytes = fs_err::read(&path).unwrap();
        let report = made(one_product(), &nvfp4(), Method::MAX, &statistics).report;
        let found = Made { file: OnnxFile::from_bytes(&path, bytes.into()).unwrap(), report };
        let (expected, other_exact) = twin(graph, &nvfp4(), &statistics);
        assert_eq!(found.operators(), expected.operators());
        assert_eq!(exact.len(), other_exact.len());
        assert_eq!(found.floats("w.dequantized"), expected.floats("w.quantized"));
        assert!(found.file.model().opset_import.iter().all(|opset| opset.domain() != "trt"));
    }
    // Any other graph has none.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twin.onnx");
    assert_eq!(write_twin(&open(one_product()), &path).unwrap(), None);
    assert!(!path.exists());
}
