//! NVFP4: the twin that ONNX Runtime runs against a second implementation of the format, and what TensorRT for RTX builds.

use std::collections::BTreeMap;

use nimctl::compute_capability::ComputeCapability;
use nimctl::onnx::OnnxFile;
use nimctl::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use nimctl::plan::{TensorType, read_layers};
use nimctl::shape_range::ShapeRange;
use nimctl::worker::host::Cancel;
use nimctl::worker::npy::Tensor;
use nimctl::worker::protocol::BuildRequest;
use prost::Message as _;

use super::quantize::{numbers, outputs_of, weight};
use crate::home::Home;
use crate::small_models::{graph, model, node, value};
use crate::support::{real, start};

const WIDTH: usize = 64;
const HIDDEN: usize = 128;
const ROWS: usize = 8;
const BLOCK: usize = 16;

/// Two products, the weight of the second stored transposed, whose results are both outputs.
fn write_network(home: &Home) {
    let transposed = AttributeProto {
        name: Some("transB".into()),
        r#type: Some(2),
        i: Some(1),
        ..AttributeProto::default()
    };
    let gemm = NodeProto { attribute: vec![transposed], ..node("Gemm", &["active", "down", "bias"], "y") };
    let nodes = vec![node("MatMul", &["x", "up"], "hidden"), node("Tanh", &["hidden"], "active"), gemm];
    let network = GraphProto {
        input: vec![value("x", &["rows", "64"])],
        output: vec![value("hidden", &["rows", "128"]), value("y", &["rows", "64"])],
        initializer: vec![
            weight("up", &[WIDTH, HIDDEN], 0.1),
            weight("down", &[WIDTH, HIDDEN], 0.1),
            weight("bias", &[WIDTH], 0.1),
        ],
        ..graph(nodes, Vec::new())
    };
    let mut network = model(network);
    (network.ir_version, network.opset_import[0].version) = (Some(8), Some(17));
    home.write("network.onnx", network.encode_to_vec());
}

/// Numbers with what rounding is about: zeros, blocks of zeros, halves, and what is beyond the range of the samples.
fn judged() -> Vec<f32> {
    let mut values = numbers("judged", ROWS * WIDTH, 1.0);
    values[..BLOCK].fill(0.0);
    values[3 * BLOCK + 5] = 40.0;
    values[4 * BLOCK..4 * BLOCK + 8].copy_from_slice(&[6.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]);
    values[5 * BLOCK..6 * BLOCK].fill(1e-12);
    values
}

fn run(home: &Home, model: &str) -> BTreeMap<String, Vec<f32>> {
    outputs_of(home, model, &[("x", Tensor::new(&[ROWS, WIDTH], &judged()).unwrap())])
}

/// The number format as its tables say it: every number that there is, and the nearest is searched; of two, the even one.
struct Format(Vec<f32>);

impl Format {
    fn e2m1() -> Self {
        Self(vec![0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    }

    fn e4m3() -> Self {
        let number = |bits: u16| match (bits >> 3, f32::from(bits & 7)) {
            (0, fraction) => fraction / 512.0,
            (exponent, fraction) => (8.0 + fraction) / 8.0 * 2f32.powi(i32::from(exponent) - 7),
        };
        Self((0..0x7f).map(number).collect())
    }

    fn nearest(&self, value: f32) -> f32 {
        let distance = |bits: usize| (f64::from(self.0[bits]) - f64::from(value.abs())).abs();
        let mut best = 0;
        for bits in 1..self.0.len() {
            if distance(bits) < distance(best) || (distance(bits) == distance(best) && bits % 2 == 0) {
                best = bits;
            }
        }
        self.0[best].copysign(value)
    }
}

/// Quantizes and dequantizes an activation, block by block.
fn through(values: &[f32], global: f32) -> Vec<f32> {
    let (e2m1, e4m3) = (Format::e2m1(), Format::e4m3());
    let mut all = Vec::new();
    for block in values.chunks(BLOCK) {
        let most = block.iter().fold(0f32, |most, value| most.max(value.abs()));
        let scale = e4m3.nearest(most / 6.0 / global) * global;
        let one = |value: &f32| if scale == 0.0 { 0.0 } else { e2m1.nearest(value / scale) * scale };
        all.extend(block.iter().map(one));
    }
    all
}

/// A weight that was read back from the file, as [columns, summed].
fn stored(file: &OnnxFile, name: &str, is_transposed: bool) -> Vec<f32> {
    let bytes = |name: String| {
        let all = &file.graph().initializer;
        let tensor: &TensorProto = all.iter().find(|tensor| tensor.name() == name).unwrap();
        file.tensor_bytes(tensor).unwrap()
    };
    let (codes, scales) = (bytes(format!("{name}.quantized")), bytes(format!("{name}.scales")));
    let global = bytes(format!("{name}.scale_of_scales"));
    let global = f32::from_le_bytes(global[..4].try_into().unwrap());
    let (e2m1, e4m3) = (Format::e2m1().0, Format::e4m3().0);
    let (summed, columns) = if is_transposed { (HIDDEN, WIDTH) } else { (WIDTH, HIDDEN) };
    let mut weight = Vec::new();
    for column in 0..columns {
        for place in 0..summed {
            let (index, block) = if is_transposed {
                (column * summed + place, column * (summed / BLOCK) + place / BLOCK)
            } else {
                (place * columns + column, place / BLOCK * columns + column)
            };
            let code = codes[index / 2] >> (4 * (index % 2)) & 15;
            let sign = if code & 8 == 0 { 1.0 } else { -1.0 };
            weight.push(sign * e2m1[usize::from(code & 7)] * e4m3[usize::from(scales[block])] * global);
        }
    }
    weight
}

fn number(file: &OnnxFile, name: &str) -> f32 {
    let tensor = file.graph().initializer.iter().find(|tensor| tensor.name() == name).unwrap();
    f32::from_le_bytes(file.tensor_bytes(tensor).unwrap()[..4].try_into().unwrap())
}

/// Products of quantized rows with a weight, in double precision.
fn product(rows: &[f32], global: f32, weight: &[f32], summed: usize) -> Vec<f32> {
    let dot = |row: &[f32], column: &[f32]| -> f32 {
        row.iter().zip(column).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
    };
    let rows = through(rows, global);
    let of_row = |row| weight.chunks(summed).map(move |column| dot(row, column));
    rows.chunks(summed).flat_map(of_row).collect()
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 2e-5, "{index}: {found}, expected {expected}");
    }
}

const QUANTIZE: [&str; 12] = [
    "quantize",
    "network.onnx",
    "-o",
    "out.onnx",
    "--samples",
    "x=x.npy",
    "--precision",
    "nvfp4",
    "--method",
    "max",
    "--min-row-cosine",
    "0.5",
];

fn home() -> Home {
    let home = super::home();
    write_network(&home);
    let x = numbers("calibration", ROWS * WIDTH, 1.0);
    Tensor::new(&[ROWS, WIDTH], &x).unwrap().write(&home.path("x.npy")).unwrap();
    home
}

#[test]
fn the_twin_computes_what_the_format_says() {
    let home = home();
    let target = ["--target", "tensorrt-rtx", "--base", "fp32"];
    home.run(&[&QUANTIZE[..], &target].concat()).exits(0);
    fs_err::rename(home.path("out.onnx"), home.path("real.onnx")).unwrap();
    home.run(&[&QUANTIZE[..], &target, &["--emulate"]].concat()).exits(0);
    let real = OnnxFile::open(&home.path("real.onnx")).unwrap();
    let found = run(&home, "out.onnx");
    let up = product(&judged(), number(&real, "x.scale_of_scales"), &stored(&real, "up", false), WIDTH);
    assert_near(&found["hidden"], &up);
    // From what the first product gave, so that its last bit doesn't matter.
    let active: Vec<f32> = found["hidden"].iter().map(|value| value.tanh()).collect();
    let down = stored(&real, "down", true);
    let mut expected = product(&active, number(&real, "active.scale_of_scales"), &down, HIDDEN);
    let bias = numbers("bias", WIDTH, 0.1);
    expected.iter_mut().zip(bias.iter().cycle()).for_each(|(value, bias)| *value += bias);
    assert_near(&found["y"], &expected);
}

#[test]
fn plans_multiply_in_4_bits_where_there_are_units_for_it() {
    let home = home();
    home.run(&[&QUANTIZE[..], &["--target", "tensorrt-rtx"]].concat()).exits(0);
    let range = |rows: i64| vec![rows, WIDTH as i64];
    let shapes = ShapeRange { min: range(1), opt: range(8), max: range(16) };
    let build = |major, minor| {
        let request = BuildRequest {
            graph: home.path("out.onnx"),
            plan: home.path("plan"),
            compute_capabilities: vec![ComputeCapability::new(major, minor)],
            shape_ranges: [("x".to_owned(), shapes.clone())].into(),
            workspace_mib: None,
        };
        start(&real("tensorrt-rtx"))
            .build(request, &Cancel::new(), &mut |_| {})
            .map_err(|error| error.to_string())
    };
    for (major, minor) in [(12, 0), (12, 1)] {
        build(major, minor).unwrap();
        let layers = read_layers(&home.path("plan")).unwrap().unwrap();
        let types: Vec<TensorType> = layers.gemms.iter().map(|gemm| gemm.computes_in()).collect();
        assert_eq!(types, [TensorType::Fp4; 2], "{major}.{minor}");
        assert!(layers.dequantize_kernels.is_empty());
    }
    assert!(build(8, 9).unwrap_err().contains("fp4_e2m1"));
}

/// The graph has operators that only TensorRT has.
#[test]
fn a_backend_without_it_is_refused() {
    let home = home();
    for target in ["any", "onnxruntime"] {
        home.run(&[&QUANTIZE[..], &["--target", target]].concat()).exits(1).has(&[
            "nvfp4 graphs have operators",
            target,
            "--target",
        ]);
    }
    assert!(!home.path("out.onnx").exists());
}
