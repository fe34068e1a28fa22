//! Calibration and search with the real `onnxruntime` worker, on a transformer that is made to fail in FP16.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use nimctl::backend::facts_of;
use nimctl::mixed_precision::{Calibrate, MixedPrecision, MixedPrecisionReport, Search};
use nimctl::onnx::proto::{
    AttributeProto, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, dimension, type_proto,
};
use nimctl::onnx::{LoweringOptions, OnnxFile, Precision};
use nimctl::ops::mixed_precision::{MixedPrecisionError, Runner, find};
use nimctl::ops::samples::Subject;
use nimctl::samples::{Normal, Sample};
use nimctl::synth::weights::write_normal;
use nimctl::worker::host::{BackendCommand, Cancel};
use prost::Message as _;

use crate::support::real;

const BATCH: i64 = 8;
const TOKENS: i64 = 6;
const WIDTH: i64 = 16;

/// The nodes of the block whose scores are beyond 65504, and of the normalization over large values, that can't be
/// lowered one without the other.
const CULPRITS: [&str; 5] = ["block.2.scores", "block.2.scaled", "head.large", "head.sum", "head.norm"];

#[derive(Default)]
struct Builder {
    graph: GraphProto,
}

impl Builder {
    fn node(&mut self, op: &str, name: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.graph.node.push(NodeProto {
            op_type: Some(op.into()),
            name: Some(name.into()),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![format!("{name}.out")],
            attribute: attributes,
            ..NodeProto::default()
        });
        format!("{name}.out")
    }

    fn weight(&mut self, name: &str, dims: &[i64], deviation: f64, mean: f32) -> String {
        let mut bytes = Vec::new();
        write_normal(&mut bytes, 7, name, dims.iter().product::<i64>() as u64, deviation).unwrap();
        let shifted = bytes
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|four| (f32::from_le_bytes(*four) + mean).to_le_bytes())
            .collect::<Vec<u8>>();
        self.graph.initializer.push(TensorProto {
            name: Some(name.into()),
            dims: dims.into(),
            data_type: Some(1),
            raw_data: Some(Bytes::from(shifted)),
            ..TensorProto::default()
        });
        name.into()
    }

    fn norm(&mut self, name: &str, input: &str) -> String {
        let scale = self.weight(&format!("{name}.scale"), &[WIDTH], 0.1, 1.0);
        let bias = self.weight(&format!("{name}.bias"), &[WIDTH], 0.1, 0.0);
        self.node("LayerNormalization", name, &[input, &scale, &bias], vec![])
    }

    /// Attention whose queries and keys are `amplified`, and whose scores are scaled back by as much.
    fn block(&mut self, index: usize, stream: &str, amplified: f64) -> String {
        let name = |part: &str| format!("block.{index}.{part}");
        let normal = self.norm(&name("norm"), stream);
        let mut project = |part: &str, input: &str, amplified: f64| {
            let weight =
                self.weight(&name(&format!("{part}.weight")), &[WIDTH, WIDTH], 0.25 * amplified, 0.0);
            self.node("MatMul", &name(part), &[input, &weight], vec![])
        };
        let query = project("query", &normal, amplified);
        let key = project("key", &normal, amplified);
        let value = project("value", &normal, 1.0);
        let turned = self.node("Transpose", &name("turned"), &[&key], vec![ints("perm", &[0, 2, 1])]);
        let scores = self.node("MatMul", &name("scores"), &[&query, &turned], vec![]);
        let scale = self.weight(&name("scale"), &[], 0.0, (0.25 / (amplified * amplified)) as f32);
        let scaled = self.node("Mul", &name("scaled"), &[&scores, &scale], vec![]);
        let attention = self.node("Softmax", &name("softmax"), &[&scaled], vec![]);
        let mixed = self.node("MatMul", &name("mixed"), &[&attention, &value], vec![]);
        self.node("Add", &name("residual"), &[stream, &mixed], vec![])
    }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(7),
        ints: ints.into(),
        ..AttributeProto::default()
    }
}

fn floats(name: &str) -> ValueInfoProto {
    let dim = |length| Dimension { value: Some(dimension::Value::DimValue(length)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: [BATCH, TOKENS, WIDTH].map(dim).into() };
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(shape) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(kind), ..ValueInfoProto::default() }
}

/// Writes a transformer with scores beyond 65504 in its third block, and a last normalization over values beyond it.
fn write_failing(path: &Path) {
    let mut builder = Builder::default();
    let mut stream = "x".to_owned();
    for index in 0..4 {
        stream = builder.block(index, &stream, if index == 2 { 300.0 } else { 1.0 });
    }
    let weight = builder.weight("head.weight", &[WIDTH, WIDTH], 18_000.0, 0.0);
    let large = builder.node("MatMul", "head.large", &[&stream, &weight], vec![]);
    let sum = builder.node("Add", "head.sum", &[&large, &stream], vec![]);
    let y = builder.norm("head.norm", &sum);
    write(builder, floats(&y), path);
}

/// Writes a graph that gives those elements of `x` whose product with one matrix is larger than that with another, whose weights
/// are a little smaller. In FP16 most products are equal, so that the output has another shape.
fn write_of_another_shape(path: &Path) {
    let mut builder = Builder::default();
    let mut normal = Vec::new();
    write_normal(&mut normal, 7, "weight", (WIDTH * WIDTH) as u64, 0.25).unwrap();
    let mut tensor = |name: &str, dims: &[i64], data_type: i32, bytes: Vec<u8>| {
        builder.graph.initializer.push(TensorProto {
            name: Some(name.into()),
            dims: dims.into(),
            data_type: Some(data_type),
            raw_data: Some(Bytes::from(bytes)),
            ..TensorProto::default()
        });
    };
    for (name, factor) in [("one", 1.0), ("more", 1.0 + 1.0 / 8192.0)] {
        let scaled = normal.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four) * factor);
        tensor(name, &[WIDTH, WIDTH], 1, scaled.flat_map(f32::to_le_bytes).collect());
    }
    tensor("flat", &[1], 7, (-1i64).to_le_bytes().into());
    let product = builder.node("MatMul", "product", &["x", "one"], vec![]);
    let larger = builder.node("MatMul", "larger", &["x", "more"], vec![]);
    let is_larger = builder.node("Greater", "is_larger", &[&larger, &product], vec![]);
    let condition = builder.node("Reshape", "condition", &[&is_larger, "flat"], vec![]);
    let y = builder.node("Compress", "chosen", &["x", &condition], vec![]);
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: None };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    write(builder, ValueInfoProto { name: Some(y), r#type: Some(kind), ..ValueInfoProto::default() }, path);
}

fn write(mut builder: Builder, output: ValueInfoProto, path: &Path) {
    builder.graph.input = vec![floats("x")];
    builder.graph.output = vec![output];
    builder.graph.name = Some("failing".into());
    let model = ModelProto {
        ir_version: Some(9),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(19) }],
        graph: Some(builder.graph),
        ..ModelProto::default()
    };
    nimctl::files::atomic_file::write(path, &model.encode_to_vec()).unwrap();
}

struct Case {
    folder: tempfile::TempDir,
    command: BackendCommand,
    file: OnnxFile,
}

impl Case {
    fn new() -> Self {
        Self::of(write_failing)
    }

    fn of(write: fn(&Path)) -> Self {
        let command = real("onnxruntime");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("failing.onnx");
        write(&path);
        Self { folder, command, file: OnnxFile::open(&path).unwrap() }
    }

    fn find(
        &self,
        asked: MixedPrecision,
        samples: &BTreeMap<String, Sample>,
    ) -> Result<MixedPrecisionReport, MixedPrecisionError> {
        let shapes = BTreeMap::new();
        let subject =
            Subject { file: &self.file, samples, sample_folder: self.folder.path(), shapes: &shapes };
        let runner = Runner {
            command: self.command.clone(),
            work_folder: self.folder.path().join("work"),
            journal: self.journal(),
            timeout: Duration::from_secs(120),
            cancel: Cancel::new(),
        };
        find(
            &subject,
            &LoweringOptions::new(Precision::Fp16, facts_of("onnxruntime").fp32_inside),
            asked,
            &runner,
            &|_| {},
        )
    }

    fn journal(&self) -> std::path::PathBuf {
        self.folder.path().join("journal.jsonl")
    }
}

fn samples() -> BTreeMap<String, Sample> {
    let normal = Normal { mean: 0.0, standard_deviation: 1.0 };
    BTreeMap::from([("x".to_owned(), Sample::Normal(normal))])
}

fn search(evaluations: u32) -> MixedPrecision {
    MixedPrecision { calibrate: None, search: Some(Search { min_row_cosine: 0.999, evaluations }) }
}

fn names(report: &MixedPrecisionReport) -> BTreeSet<&str> {
    report.kept.iter().map(|kept| kept.node.as_str()).collect()
}

#[test]
fn search_finds_the_nodes_that_fail_and_what_each_costs() {
    let case = Case::new();
    let report = case.find(search(200), &samples()).unwrap();
    assert!(report.row_cosine_before.unwrap() < 0.9, "{report:?}");
    assert!(report.row_cosine_after.unwrap() >= 0.999, "{report:?}");
    assert!(report.complete, "{report:?}");
    assert_eq!(names(&report), CULPRITS.into(), "{report:?}");
    for kept in &report.kept {
        assert!(kept.row_cosine_if_lowered.unwrap() < 0.999, "{kept:?}");
    }
    let head = report.kept.iter().find(|kept| kept.node == "head.large").unwrap();
    assert_eq!((head.op_type.as_str(), head.weight_bytes), ("MatMul", 16 * 16 * 4));

    // What was run is in the journal: the second search finds the same without running anything.
    let journal = fs_err::read(case.journal()).unwrap();
    assert_eq!(journal.iter().filter(|byte| **byte == b'\n').count(), report.evaluations as usize);
    assert_eq!(case.find(search(200), &samples()).unwrap(), report);
    assert_eq!(fs_err::read(case.journal()).unwrap(), journal);
}

#[test]
fn a_search_that_is_cut_short_still_holds_the_gate() {
    let case = Case::new();
    let report = case.find(search(6), &samples()).unwrap();
    assert!(!report.complete);
    assert!(report.row_cosine_after.unwrap() >= 0.999, "{report:?}");
    assert!(names(&report).is_superset(&CULPRITS.into()), "{report:?}");
}

#[test]
fn a_graph_that_gives_another_shape_is_a_bad_set_and_not_the_end() {
    let case = Case::of(write_of_another_shape);
    let report = case.find(search(30), &samples()).unwrap();
    assert_eq!(report.row_cosine_before, Some(-1.0), "{report:?}");
    assert!(report.row_cosine_after.unwrap() >= 0.999, "{report:?}");
    assert!(names(&report).is_superset(&["larger", "product"].into()), "{report:?}");
}

#[test]
fn calibration_marks_what_leaves_the_range() {
    let case = Case::new();
    let asked = MixedPrecision { calibrate: Some(Calibrate { headroom: 2.0 }), search: None };
    let report = case.find(asked, &samples()).unwrap();
    let values: BTreeSet<&str> = report.out_of_range.iter().map(|value| value.value.as_str()).collect();
    assert_eq!(values, ["block.2.scores.out", "head.large.out", "head.sum.out"].into(), "{report:?}");
    assert!(names(&report).is_superset(&CULPRITS.into()), "{report:?}");
    assert!(report.kept.len() <= 8, "{report:?}");

    let both = MixedPrecision { search: search(200).search, ..asked };
    let report = case.find(both, &samples()).unwrap();
    assert!(report.row_cosine_after.unwrap() >= 0.999, "{report:?}");
}

#[test]
fn wrong_samples_are_explained() {
    let case = Case::new();
    let refused = |samples: &[(&str, Sample)]| {
        let samples = samples.iter().map(|(name, sample)| ((*name).to_owned(), sample.clone())).collect();
        case.find(search(6), &samples).unwrap_err().to_string()
    };
    assert!(refused(&[]).starts_with("input `x` has no samples"), "{}", refused(&[]));
    let normal = Sample::Normal(Normal { mean: 0.0, standard_deviation: 1.0 });
    let unknown = refused(&[("x", normal.clone()), ("z", normal)]);
    assert_eq!(unknown, "there are samples for `z`, but the graph's inputs are x");
    let infinite = Sample::Normal(Normal { mean: f64::INFINITY, standard_deviation: 1.0 });
    assert!(refused(&[("x", infinite)]).contains("is not finite in FP32"));
}
