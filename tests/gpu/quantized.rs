//! Products in 8 bits whose sums are as large as they can be: x and w at the ends of their scales, 768 of them.
//!
//! Such a sum is 768 · 127² = 12.4 million for INT8, and 768 · 448² = 154 million for FP8: no number of FP16. With the split scales
//! that `nimctl quantize` writes, it is scaled while it is still in FP32. With a scale a column in the graph, compilers may write
//! the bare sum to FP16 first.

use std::collections::BTreeMap;
use std::path::Path;

use nimctl::onnx::lower::lower;
use nimctl::onnx::proto::{
    Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, dimension, type_proto,
};
use nimctl::onnx::quantize::{
    Channels, Method, QuantizationOptions, QuantizedPrecision, Statistics, quantize,
};
use nimctl::onnx::{Fp32Inside, Io, LoweringOptions, OnnxFile, Precision};
use nimctl::worker::host::Cancel;
use nimctl::worker::npy::Tensor;
use nimctl::worker::protocol::{BuildRequest, Execution, RunRequest};
use prost::Message as _;

use crate::nvidia::{first_gpu, is_known_to_rtx, is_without};
use crate::support::{real, start};

const SUMMED: usize = 768;
const COLUMNS: usize = 128;
const ROWS: usize = 16;
/// What each product of ones is.
const EXPECTED: f64 = SUMMED as f64;

/// Writes `y = x · w` of ones in FP32.
fn write_product(path: &Path) {
    let ones: Vec<u8> = [1f32; SUMMED * COLUMNS].iter().flat_map(|one| one.to_le_bytes()).collect();
    let weight = TensorProto {
        name: Some("w".into()),
        dims: vec![SUMMED as i64, COLUMNS as i64],
        data_type: Some(1),
        raw_data: Some(ones.into()),
        ..TensorProto::default()
    };
    let product = NodeProto {
        name: Some("product".into()),
        op_type: Some("MatMul".into()),
        input: vec!["x".into(), "w".into()],
        output: vec!["y".into()],
        ..NodeProto::default()
    };
    let model = ModelProto {
        ir_version: Some(9),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(19) }],
        graph: Some(GraphProto {
            name: Some("g".into()),
            node: vec![product],
            initializer: vec![weight],
            input: vec![value("x", SUMMED)],
            output: vec![value("y", COLUMNS)],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    };
    fs_err::write(path, model.encode_to_vec()).unwrap();
}

fn value(name: &str, columns: usize) -> ValueInfoProto {
    let dimension = |length: usize| Dimension {
        value: Some(dimension::Value::DimValue(length as i64)),
        ..Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(1),
        shape: Some(TensorShapeProto { dim: vec![dimension(ROWS), dimension(columns)] }),
    };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(kind), ..ValueInfoProto::default() }
}

/// Quantizes the product and lowers the rest to FP16, as `nimctl quantize` does.
fn write_split(folder: &Path, precision: QuantizedPrecision) {
    write_product(&folder.join("fp32.onnx"));
    let mut channels = Channels::default();
    channels.add(&[1.0; SUMMED], &[1.0; SUMMED]);
    let values = BTreeMap::from([("x".to_owned(), channels)]);
    let statistics = Statistics { values, ..Statistics::default() };
    let options = QuantizationOptions::new(precision, Precision::Fp16);
    let file = OnnxFile::open(&folder.join("fp32.onnx")).unwrap();
    quantize(&file, &options, Method::MAX, &statistics, &folder.join("quantized.onnx")).unwrap();
    let quantized = OnnxFile::open(&folder.join("quantized.onnx")).unwrap();
    let lowering =
        LoweringOptions { io: Io::Lower, ..LoweringOptions::new(Precision::Fp16, &[Fp32Inside::Softmax]) };
    lower(&quantized, &lowering, &folder.join("graph.onnx")).unwrap();
}

/// Makes a scale a column of the one that all share: what other quantizers write. The factors behind the product are ones then.
fn scale_each_column(folder: &Path) {
    let path = folder.join("graph.onnx");
    let mut model = ModelProto::decode(fs_err::read(&path).unwrap().as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let dequantize = graph
        .node
        .iter_mut()
        .find(|node| node.op_type() == "DequantizeLinear" && node.input[0].contains("w.quantized"));
    let dequantize = dequantize.unwrap();
    dequantize.attribute.push(nimctl::onnx::proto::AttributeProto {
        name: Some("axis".into()),
        r#type: Some(2),
        i: Some(1),
        ..Default::default()
    });
    let name = dequantize.input[1].clone();
    let scale = graph.initializer.iter_mut().find(|tensor| tensor.name() == name).unwrap();
    let bytes = scale.raw_data.clone().unwrap();
    scale.dims = vec![COLUMNS as i64];
    scale.raw_data = Some(bytes.repeat(COLUMNS).into());
    fs_err::write(&path, model.encode_to_vec()).unwrap();
}

/// Builds a plan on this GPU and runs it on ones.
fn run(folder: &Path) -> Vec<f64> {
    let gpu = first_gpu();
    let is_rtx = is_known_to_rtx(gpu.compute_capability);
    let mut worker = start(&real(if is_rtx { "tensorrt-rtx" } else { "tensorrt" }));
    let request = BuildRequest {
        graph: folder.join("graph.onnx"),
        plan: folder.join("plan"),
        compute_capabilities: vec![gpu.compute_capability],
        shape_ranges: BTreeMap::new(),
        workspace_mib: None,
    };
    worker.build(request, &Cancel::new(), &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
    let ones = [half::f16::ONE; ROWS * SUMMED];
    Tensor::new(&[ROWS, SUMMED], &ones).unwrap().write(&folder.join("x.npy")).unwrap();
    let request = RunRequest {
        path: folder.join("plan"),
        digests: BTreeMap::new(),
        inputs: BTreeMap::from([("x".into(), folder.join("x.npy"))]),
        output_folder: folder.into(),
        execution: Execution::default(),
    };
    let result = worker.run(request, &Cancel::new(), &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
    Tensor::read(&result.result.outputs["y"]).unwrap().to_f64()
}

fn check(precision: QuantizedPrecision, with_a_scale_a_column: bool) {
    let gpu = first_gpu();
    if !is_known_to_rtx(gpu.compute_capability) && is_without("TENSORRT") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_split(folder.path(), precision);
    if with_a_scale_a_column {
        scale_each_column(folder.path());
    }
    let found = run(folder.path());
    let (least, most) = found.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), &value| {
        (least.min(value), most.max(value))
    });
    let is_right = found.iter().all(|value| (value - EXPECTED).abs() < EXPECTED * 0.01);
    assert!(is_right, "{precision}: {least} to {most} in place of {EXPECTED}, on {}", gpu.name);
}

#[test]
fn split_scales_of_int8_do_not_overflow() {
    check(QuantizedPrecision::Int8, false);
}

#[test]
fn split_scales_of_fp8_do_not_overflow() {
    check(QuantizedPrecision::Fp8, false);
}

#[test]
fn a_scale_a_column_of_int8() {
    check(QuantizedPrecision::Int8, true);
}

#[test]
fn a_scale_a_column_of_fp8() {
    check(QuantizedPrecision::Fp8, true);
}
