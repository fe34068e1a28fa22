//! `nimctl quantize` with the real `onnxruntime` worker.

use std::collections::BTreeMap;
use std::path::Path;

use nimctl::onnx::proto::{GraphProto, TensorProto};
use nimctl::onnx::{ElementType, OnnxFile};
use nimctl::synth::weights::write_normal;
use nimctl::worker::host::{Cancel, Limits, Worker};
use nimctl::worker::npy::Tensor;
use nimctl::worker::protocol::{Digests, Execution, RunRequest};
use prost::Message as _;

use crate::home::Home;
use crate::small_models::{graph, model, node, tensor, value};
use crate::support::real;

const WIDTH: usize = 64;
const HIDDEN: usize = 128;
const TOKENS: usize = 6;
const ROWS: usize = 8;

pub(super) fn numbers(name: &str, count: usize, deviation: f64) -> Vec<f32> {
    let mut bytes = Vec::new();
    write_normal(&mut bytes, 3, name, count as u64, deviation).unwrap();
    bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

pub(super) fn weight(name: &str, dims: &[usize], deviation: f64) -> TensorProto {
    let values = numbers(name, dims.iter().product(), deviation);
    let dims: Vec<i64> = dims.iter().map(|&length| length as i64).collect();
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorProto { raw_data: Some(raw.into()), ..tensor(name, 1, &dims) }
}

/// Writes a network of two products whose outputs are zero where the mask is.
pub(super) fn write_network(home: &Home) {
    let shape = TensorProto {
        raw_data: Some(
            [0i64, -1, 1].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into(),
        ),
        ..tensor("shape", ElementType::Int64.to_onnx(), &[3])
    };
    let network = GraphProto {
        input: vec![value("x", &["rows", "tokens", "64"]), value("attention_mask", &["rows", "tokens"])],
        output: vec![value("y", &["rows", "tokens", "64"])],
        initializer: vec![weight("up", &[WIDTH, HIDDEN], 0.1), weight("down", &[HIDDEN, WIDTH], 0.1), shape],
        ..graph(
            vec![
                node("MatMul", &["x", "up"], "hidden"),
                node("Relu", &["hidden"], "active"),
                node("MatMul", &["active", "down"], "all"),
                node("Reshape", &["attention_mask", "shape"], "column"),
                node("Mul", &["all", "column"], "y"),
            ],
            Vec::new(),
        )
    };
    let mut network = model(network);
    // Without the nodes that quantized graphs need.
    (network.ir_version, network.opset_import[0].version) = (Some(8), Some(17));
    home.write("network.onnx", network.encode_to_vec());
}

/// Samples whose last tokens are padding: huge numbers, which no scale may see.
pub(super) struct Samples {
    x: Vec<f32>,
    mask: Vec<f32>,
}

impl Samples {
    /// Samples without any padding.
    pub(super) fn without_padding(seed: &str) -> Self {
        Self { x: numbers(seed, ROWS * TOKENS * WIDTH, 1.0), mask: vec![1.0; ROWS * TOKENS] }
    }

    pub(super) fn new(seed: &str) -> Self {
        let mut x = numbers(seed, ROWS * TOKENS * WIDTH, 1.0);
        let mut mask = vec![1.0; ROWS * TOKENS];
        for row in 0..ROWS {
            for token in TOKENS - row % 3..TOKENS {
                mask[row * TOKENS + token] = 0.0;
                let first = (row * TOKENS + token) * WIDTH;
                x[first..first + WIDTH].fill(1e6);
            }
        }
        Self { x, mask }
    }

    pub(super) fn write(&self, home: &Home, x: &str, mask: &str) {
        Tensor::new(&[ROWS, TOKENS, WIDTH], &self.x).unwrap().write(&home.path(x)).unwrap();
        Tensor::new(&[ROWS, TOKENS], &self.mask).unwrap().write(&home.path(mask)).unwrap();
    }
}

fn home() -> Home {
    let home = super::home();
    write_network(&home);
    Samples::new("calibration").write(&home, "x.npy", "mask.npy");
    home
}

const SAMPLES: [&str; 4] = ["--samples", "x=x.npy", "--samples", "attention_mask=mask.npy"];

fn arguments<'a>(precision: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["quantize", "network.onnx", "-o", "out.onnx", "--precision", precision];
    arguments.extend(SAMPLES);
    arguments.extend(more);
    arguments
}

/// Runs a graph in ONNX Runtime, and returns its outputs of FP32 numbers by name.
pub(super) fn outputs_of(home: &Home, model: &str, inputs: &[(&str, Tensor)]) -> BTreeMap<String, Vec<f32>> {
    let folder = tempfile::tempdir().unwrap();
    let written = |(name, tensor): &(&str, Tensor)| {
        let path = folder.path().join(format!("{name}.npy"));
        tensor.write(&path).unwrap();
        ((*name).to_owned(), path)
    };
    let mut worker = Worker::spawn(&real("onnxruntime"), Limits::default()).unwrap();
    let request = RunRequest {
        path: home.path(model),
        digests: Digests::new(),
        inputs: inputs.iter().map(written).collect(),
        output_folder: folder.path().into(),
        execution: Execution::default(),
    };
    let outputs = worker.run(request, &Cancel::default(), &mut |_| {}).unwrap().result.outputs;
    let floats = |path| Tensor::read(path).unwrap().elements::<f32>().unwrap();
    outputs.iter().map(|(name, path)| (name.clone(), floats(path))).collect()
}

/// Runs a graph on a row without padding: row 0 has none.
fn run(home: &Home, model: &str) -> Vec<f32> {
    let samples = Samples::new("judged");
    let x = Tensor::new(&[1, TOKENS, WIDTH], &samples.x[..TOKENS * WIDTH]).unwrap();
    let mask = Tensor::new(&[1, TOKENS], &samples.mask[..TOKENS]).unwrap();
    outputs_of(home, model, &[("x", x), ("attention_mask", mask)]).remove("y").unwrap()
}

pub(super) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The report, and what the result gives: near FP32, as near as the emulated graph, and smaller.
#[test]
fn each_format_is_near_fp32_and_runs_as_it_is_emulated() {
    let home = home();
    let reference = run(&home, "network.onnx");
    // What is found on the rows that judge, which calibrated nothing, and what other rows must come to.
    for (precision, least, least_of_others, opset) in [
        ("int8", 0.999, 0.998, 19),
        ("int8-weights", 0.9999, 0.9989, 19),
        ("fp8", 0.997, 0.997, 19),
        ("int4", 0.985, 0.984, 21),
    ] {
        let printed = home.run(&arguments(precision, &["--output", "json"]));
        let report = printed.exits(0).json();
        assert_eq!(report["schema"], "nimctl.quantize/1");
        let found = report["choice"]["result"]["min_row_cosine"].as_f64().unwrap();
        assert!(found >= least, "{precision}: {found}\n{printed}");
        assert_eq!(report["report"]["quantized"].as_array().unwrap().len(), 2);
        assert_eq!(report["choice"]["calibration_rows"], ROWS);
        let file = OnnxFile::open(&home.path("out.onnx")).unwrap();
        assert_eq!(file.opset(), Some(opset));
        let original = OnnxFile::open(&home.path("network.onnx")).unwrap();
        assert!(file.size_bytes() < original.size_bytes() / 2, "{precision}: {}", file.size_bytes());
        let real = run(&home, "out.onnx");
        assert!(cosine(&reference, &real) >= least_of_others, "{precision}: {}", cosine(&reference, &real));
        home.run(&arguments(precision, &["--emulate"])).exits(0);
        let emulated = run(&home, "out.onnx");
        let (a, b) = (cosine(&reference, &real), cosine(&reference, &emulated));
        assert!((a - b).abs() < 1e-4, "{precision}: {a} as it is, {b} emulated");
    }
}

/// Padding is never measured, and equal arguments give equal bytes.
#[test]
fn padding_is_not_measured_and_bytes_are_equal() {
    let home = home();
    home.run(&arguments("int8", &["--method", "max"])).exits(0);
    let first = fs_err::read(home.path("out.onnx")).unwrap();
    home.run(&arguments("int8", &["--method", "max"])).exits(0);
    assert!(first == fs_err::read(home.path("out.onnx")).unwrap(), "other bytes");
    let mut other = Samples::new("calibration");
    for value in other.x.iter_mut().filter(|value| **value == 1e6) {
        *value = 0.0;
    }
    other.write(&home, "x.npy", "mask.npy");
    home.run(&arguments("int8", &["--method", "max"])).exits(0);
    assert!(first == fs_err::read(home.path("out.onnx")).unwrap(), "padding was measured");
}

#[track_caller]
fn refused(home: &Home, more: &[&str], code: i32, pieces: &[&str]) {
    home.run(&arguments("int8", more)).exits(code).has(pieces);
    assert!(!Path::new(&home.path("out.onnx")).exists(), "something was written");
}

#[test]
fn samples_that_say_nothing_are_refused() {
    let home = home();
    // A row that judges itself.
    let same = ["--judge", "x=x.npy", "--judge", "attention_mask=mask.npy"];
    refused(&home, &same, 1, &["row 0 of the samples that judge is row 0 of those that calibrate"]);
    Samples::new("judged").write(&home, "x2.npy", "mask2.npy");
    let apart = ["--judge", "x=x2.npy", "--judge", "attention_mask=mask2.npy"];
    home.run(&arguments("int8", &apart)).exits(0);
    fs_err::remove_file(home.path("out.onnx")).unwrap();

    // Out of reach, or too short a search: they are told apart.
    let strict = ["--min-row-cosine", "0.99999999", "--evaluations", "3"];
    refused(
        &home,
        &strict,
        3,
        &["ran its 3 graphs before it found what to keep", "allow more `evaluations`"],
    );

    let folder = ["quantize", "network.onnx", "-o", "nowhere/out.onnx", "--precision", "int8"];
    home.run(&[&folder[..], &SAMPLES].concat())
        .exits(1)
        .has(&["cannot write out.onnx to", "create it first"]);
    refused(&home, &["--keep-node", "nobody"], 1, &["the graph has no node `nobody`"]);
    refused(&home, &["--samples", "x=x.npy"], 1, &["the samples of input `x` are given twice"]);

    let mut broken = Samples::new("calibration");
    broken.x[2 * TOKENS * WIDTH + 5] = f32::NAN;
    broken.write(&home, "x.npy", "mask.npy");
    refused(&home, &[], 1, &["row 2 of the samples of input `x` has a value that is NaN or infinite"]);

    let mut padding = Samples::new("calibration");
    padding.mask[3 * TOKENS..4 * TOKENS].fill(0.0);
    padding.write(&home, "x.npy", "mask.npy");
    refused(&home, &[], 1, &["row 3 of the samples is padding only: `attention_mask` is all zeros there"]);

    Tensor::new(&[1, TOKENS, WIDTH], &[1f32; TOKENS * WIDTH]).unwrap().write(&home.path("x.npy")).unwrap();
    refused(&home, &[], 1, &["`attention_mask` have 8 rows, and those of other inputs 1"]);
    Tensor::new(&[1, TOKENS], &[1f32; TOKENS]).unwrap().write(&home.path("mask.npy")).unwrap();
    refused(&home, &[], 1, &["1 sample is too few to calibrate with"]);
}

#[test]
fn a_gate_that_cannot_be_reached_is_refused_and_one_that_can_keeps_nodes() {
    let home = home();
    let printed = home.run(&arguments("int8", &["--min-row-cosine", "0.99999", "--output", "json"]));
    let report = printed.exits(0).json();
    let kept = report["choice"]["kept"].as_array().unwrap();
    assert!(!kept.is_empty(), "{printed}");
    assert!(report["choice"]["result"]["min_row_cosine"].as_f64().unwrap() >= 0.99999, "{printed}");
    fs_err::remove_file(home.path("out.onnx")).unwrap();
    // Half precision alone loses more than that.
    refused(
        &home,
        &["--min-row-cosine", "0.9999999999"],
        3,
        &["the best is 0.99", "keep_nodes", "higher precision"],
    );
}
