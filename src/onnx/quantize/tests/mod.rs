//! Small graphs, quantized.

mod attention;
mod convolutions;
mod nvfp4;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::onnx::Precision;
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto};
use crate::onnx::test_graphs::{FLOAT, INT64, integer, model, node, value};

/// The sides of most weights.
const SIDE: usize = 64;

fn tensor(name: &str, dims: &[usize], of: impl Fn(usize) -> f32) -> TensorProto {
    let count: usize = dims.iter().product();
    TensorProto {
        name: Some(name.into()),
        dims: dims.iter().map(|&length| length as i64).collect(),
        data_type: Some(FLOAT),
        raw_data: Some((0..count).flat_map(|index| of(index).to_le_bytes()).collect::<Bytes>()),
        ..TensorProto::default()
    }
}

/// A number between -1 and 1 that looks random.
fn noise(index: usize) -> f32 {
    let mixed = (index as u32).wrapping_mul(2_654_435_761) ^ 0x9e37_79b9;
    (mixed.wrapping_mul(2_246_822_519) >> 8) as f32 / (1u32 << 23) as f32 - 1.0
}

fn graph(nodes: Vec<NodeProto>, weights: Vec<TensorProto>) -> GraphProto {
    GraphProto {
        name: Some("g".into()),
        node: nodes,
        input: vec![value("x", FLOAT)],
        output: vec![value("y", FLOAT)],
        initializer: weights,
        ..GraphProto::default()
    }
}

fn open(graph: GraphProto) -> OnnxFile {
    let mut model = model(graph);
    // The first that has blocks.
    model.opset_import[0].version = Some(21);
    let bytes = prost::Message::encode_to_vec(&model);
    OnnxFile::from_bytes(Path::new("m.onnx"), bytes.into()).unwrap()
}

/// Statistics of values whose channels all reach from -`largest` to `largest`.
fn even(values: &[(&str, usize, f32)]) -> Statistics {
    let mut statistics = Statistics::default();
    for &(value, channels, largest) in values {
        let mut all = Channels::default();
        all.add(&vec![largest; channels], &vec![largest * largest; channels]);
        statistics.values.insert(value.into(), all);
    }
    statistics
}

struct Made {
    file: OnnxFile,
    report: QuantizationReport,
}

impl Made {
    fn nodes(&self) -> Vec<&NodeProto> {
        self.file.graph().node.iter().collect()
    }

    fn operators(&self) -> Vec<&str> {
        self.nodes().iter().map(|node| node.op_type()).collect()
    }

    fn tensor(&self, name: &str) -> &TensorProto {
        let all = &self.file.graph().initializer;
        let names: Vec<&str> = all.iter().map(|tensor| tensor.name()).collect();
        all.iter().find(|tensor| tensor.name() == name).unwrap_or_else(|| panic!("{name} of {names:?}"))
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let bytes = self.file.tensor_bytes(self.tensor(name)).unwrap();
        bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
    }

    /// Returns a scale that is one number.
    fn number(&self, name: &str) -> f32 {
        let numbers = self.floats(name);
        assert_eq!(numbers.len(), 1, "{name}");
        numbers[0]
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        self.file.tensor_bytes(self.tensor(name)).unwrap().to_vec()
    }
}

fn options(precision: QuantizedPrecision) -> QuantizationOptions {
    QuantizationOptions::new(precision, Precision::Fp16)
}

fn made(graph: GraphProto, options: &QuantizationOptions, method: Method, statistics: &Statistics) -> Made {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.onnx");
    let Quantized { report, .. } = quantize(&open(graph), options, method, statistics, &path).unwrap();
    let bytes = fs_err::read(&path).unwrap();
    Made { file: OnnxFile::from_bytes(&path, bytes.into()).unwrap(), report }
}

fn one_product() -> GraphProto {
    let weight = tensor("w", &[SIDE, SIDE], |index| noise(index) * ((index % SIDE) as f32 + 1.0));
    graph(vec![node("MatMul", &["x", "w"], "y")], vec![weight])
}

#[test]
fn eight_bits_have_a_shared_scale_and_the_rest_behind_the_product() {
    let statistics = even(&[("x", SIDE, 2.0)]);
    let made = made(one_product(), &options(QuantizedPrecision::Int8), Method::MAX, &statistics);
    assert_eq!(made.operators(), ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul", "Mul"]);
    assert_eq!(made.nodes()[3].name(), "y_node");
    assert_eq!(made.nodes()[4].output, ["y"]);
    let scale = made.number("x.scale");
    assert!((2.0 / 127.0..2.01 / 127.0).contains(&scale), "{scale}");
    let (bytes, shared) = (made.bytes("w.quantized"), made.number("w.scale"));
    let ratios = made.floats("w.rest_of_scale");
    for (index, byte) in bytes.iter().enumerate() {
        let column = index % SIDE;
        let (expected, step) = (noise(index) * (column as f32 + 1.0), shared * ratios[column]);
        let found = f32::from(*byte as i8) * step;
        assert!((found - expected).abs() <= step * 0.51, "{index}: {found} {expected}");
        // The largest of a column uses the whole range.
    }
    for column in 0..SIDE {
        let most = bytes.iter().skip(column).step_by(SIDE).map(|byte| (*byte as i8).unsigned_abs()).max();
        assert!(most >= Some(126), "{column}: {most:?}");
    }
    assert_eq!(made.report.weights_before_bytes, (SIDE * SIDE * 4) as u64);
    assert!(made.report.weights_after_bytes < made.report.weights_before_bytes / 3);
    assert!(made.file.graph().initializer.iter().all(|tensor| tensor.name() != "w"), "the old weight stays");
}

/// Lowered, no scale loses anything: they are numbers of half precision already.
#[test]
fn scales_are_numbers_of_the_base() {
    for precision in QuantizedPrecision::ALL {
        let method = Method { smoothing_percent: 50, ..Method::MAX };
        let made = made(one_product(), &options(precision), method, &even(&[("x", SIDE, 3.0)]));
        for tensor in &made.file.graph().initializer {
            // Of NVFP4's block scales, which stay in FP32.
            let is_of_scales = tensor.name().ends_with(".scale_of_scales");
            if tensor.data_type() == FLOAT && !is_of_scales {
                for number in made.floats(tensor.name()) {
                    let half = half::f16::from_f32(number);
                    assert_eq!(half.to_f32(), number, "{precision} {}", tensor.name());
                    assert!(half.is_normal(), "{precision} {}", tensor.name());
                }
            }
        }
    }
}

#[test]
fn readers_of_one_activation_share_its_quantization_and_their_scale() {
    let weights = ["q", "k", "v"].map(|name| tensor(name, &[SIDE, SIDE], noise));
    let mut nodes: Vec<NodeProto> =
        ["q", "k", "v"].iter().map(|name| node("MatMul", &["x", name], &format!("{name}_out"))).collect();
    nodes.push(node("Sum", &["q_out", "k_out", "v_out"], "y"));
    let made = made(
        graph(nodes, weights.into()),
        &options(QuantizedPrecision::Fp8),
        Method::MAX,
        &even(&[("x", SIDE, 1.0)]),
    );
    let quantizes = made.operators().iter().filter(|operator| **operator == "QuantizeLinear").count();
    assert_eq!(quantizes, 1);
    assert_eq!(made.floats("q.scale"), made.floats("k.scale"));
    assert_eq!(made.floats("q.scale"), made.floats("v.scale"));
    assert_eq!(made.tensor("q.quantized").data_type(), ElementType::Float8e4m3fn.to_onnx());
}

#[test]
fn a_gemm_becomes_a_product_and_a_sum() {
    let gemm = NodeProto { attribute: vec![integer("transB", 1)], ..node("Gemm", &["x", "w", "b"], "y") };
    let weights = vec![tensor("w", &[SIDE + 64, SIDE], noise), tensor("b", &[SIDE + 64], noise)];
    let made = made(
        graph(vec![gemm], weights),
        &options(QuantizedPrecision::Int8),
        Method::MAX,
        &even(&[("x", SIDE, 1.0)]),
    );
    let expected =
        ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Transpose", "MatMul", "Mul", "Add"];
    assert_eq!(made.operators(), expected);
    assert_eq!(made.floats("w.rest_of_scale").len(), SIDE + 64);
    assert_eq!(made.nodes()[6].input[1], "b");
}

/// Smoothing costs nothing where a normalization makes the activation for quantized products alone.
#[test]
fn smoothing_goes_into_the_normalization_before() {
    let nodes = |more: bool| {
        let mut nodes = vec![
            node("LayerNormalization", &["x", "gamma", "beta"], "n"),
            node("MatMul", &["n", "w"], if more { "product" } else { "y" }),
        ];
        nodes.extend(more.then(|| node("Add", &["product", "n"], "y")));
        nodes
    };
    let weights = || {
        vec![
            tensor("gamma", &[SIDE], |_| 1.0),
            tensor("beta", &[SIDE], noise),
            tensor("w", &[SIDE, SIDE], noise),
        ]
    };
    let mut statistics = even(&[("n", SIDE, 1.0)]);
    statistics.values.get_mut("n").unwrap().largest[5] = 100.0;
    let method = Method { smoothing_percent: 80, ..Method::MAX };
    let folded =
        made(graph(nodes(false), weights()), &options(QuantizedPrecision::Int8), method, &statistics);
    assert!(!folded.operators()[..3].contains(&"Mul"), "{:?}", folded.operators());
    let gamma = folded.floats("gamma.smoothed");
    assert!(gamma[5] < gamma[4] / 10.0, "{gamma:?}");
    assert_eq!(folded.nodes()[0].input, ["x", "gamma.smoothed", "beta.smoothed"]);
    // Something else reads it as it was.
    let apart = made(graph(nodes(true), weights()), &options(QuantizedPrecision::Int8), method, &statistics);
    assert_eq!(apart.operators()[..3], ["LayerNormalization", "Mul", "QuantizeLinear"]);
    assert_eq!(apart.floats("gamma"), vec![1.0; SIDE]);
    // The range of the activation is narrower than without smoothing.
    let plain =
        made(graph(nodes(false), weights()), &options(QuantizedPrecision::Int8), Method::MAX, &statistics);
    assert!(folded.floats("n.scale")[0] < plain.floats("n.scale")[0] / 4.0);
}

#[test]
fn four_bits_are_packed_along_the_summed_side() {
    let made = made(one_product(), &options(QuantizedPrecision::Int4), Method::MAX, &Statistics::default());
    assert_eq!(made.operators(), ["DequantizeLinear", "MatMul"]);
    assert_eq!(made.tensor("w.scale").dims, [2, SIDE as i64]);
    let (bytes, scales) = (made.bytes("w.quantized"), made.floats("w.scale"));
    assert_eq!(bytes.len(), SIDE * SIDE / 2);
    for index in 0..SIDE * SIDE {
        let nibble = bytes[index / 2] >> (4 * (index % 2)) & 15;
        let number = if nibble > 7 { f32::from(nibble) - 16.0 } else { f32::from(nibble) };
        let (row, column) = (index / SIDE, index % SIDE);
        let scale = scales[row / 32 * SIDE + column];
        let expected = noise(index) * (column as f32 + 1.0);
        assert!((number * scale - expected).abs() <= scale * 0.51, "{index}");
    }
}

/// Of a weight and its transpose, the same numbers are quantized to the same.
#[test]
fn transposed_weights_are_the_same() {
    let plain = one_product();
    let turned = |index: usize| {
        let (column, row) = (index / SIDE, index % SIDE);
        noise(row * SIDE + column) * (column as f32 + 1.0)
    };
    let gemm = NodeProto { attribute: vec![integer("transB", 1)], ..node("Gemm", &["x", "w"], "y") };
    let transposed = graph(vec![gemm], vec![tensor("w", &[SIDE, SIDE], turned)]);
    let folder = tempfile::tempdir().unwrap();
    let statistics = with_tokens(&folder, |token, channel| noise(token * SIDE + channel) + noise(9 + token));
    let methods = [(QuantizedPrecision::Int8, false), (QuantizedPrecision::Int4, true)];
    for ((precision, clipped), gptq) in methods.into_iter().flat_map(|one| [(one, false), (one, true)]) {
        let method = Method { clipped, smoothing_percent: 50, gptq, ..Method::MAX };
        let [one, other] = [plain.clone(), transposed.clone()]
            .map(|graph| made(graph, &options(precision), method, &statistics));
        let nibbles = |made: &Made| -> Vec<u8> {
            let bytes = made.bytes("w.quantized");
            match precision {
                QuantizedPrecision::Int4 => bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]).collect(),
                _ => bytes,
            }
        };
        let (a, b) = (nibbles(&one), nibbles(&other));
        for row in 0..SIDE {
            for column in 0..SIDE {
                assert_eq!(a[row * SIDE + column], b[column * SIDE + row], "{precision} {row} {column}");
            }
        }
    }
}

const TOKENS: usize = 96;

/// Statistics of `x` with tokens of two samples, in files of the folder.
fn with_tokens(folder: &tempfile::TempDir, of: impl Fn(usize, usize) -> f32) -> Statistics {
    let sample = |number: usize| {
        let tokens = number * TOKENS / 2..(number + 1) * TOKENS / 2;
        let values: Vec<f32> = tokens
            .flat_map(|token| (0..SIDE).map(move |channel| (token, channel)))
            .map(|(token, channel)| of(token, channel))
            .collect();
        let mut channels = Channels::default();
        for token in values.chunks(SIDE) {
            let magnitudes: Vec<f32> = token.iter().map(|value| value.abs()).collect();
            let squares: Vec<f32> = token.iter().map(|value| value * value).collect();
            channels.add(&magnitudes, &squares);
        }
        let path = folder.path().join(number.to_string());
        let tokens = SampleTokens::write(&path, &[("x".into(), SIDE, TOKENS / 2)], &values).unwrap();
        Statistics { values: BTreeMap::from([("x".to_owned(), channels)]), tokens: vec![tokens] }
    };
    Statistics::of_all(&[sample(0), sample(1)])
}

#[test]
fn gptq_changes_the_products_of_the_samples_less() {
    // Channels that have much in common.
    let of = |token: usize, channel: usize| noise(token * SIDE + channel) + 3.0 * noise(70_000 + token);
    let folder = tempfile::tempdir().unwrap();
    let statistics = with_tokens(&folder, of);
    let has_gptq = |precision: &QuantizedPrecision| *precision != QuantizedPrecision::Nvfp4;
    for precision in QuantizedPrecision::ALL.into_iter().filter(has_gptq) {
        let [plain, gptq] = [false, true].map(|gptq| {
            let method = Method { gptq, ..Method::MAX };
            let made = made(one_product(), &options(precision), method, &statistics);
            let scales = match precision {
                QuantizedPrecision::Int8 | QuantizedPrecision::Fp8 => {
                    let shared = made.number("w.scale");
                    made.floats("w.rest_of_scale").iter().map(|ratio| ratio * shared).collect()
                }
                _ => made.floats("w.scale"),
            };
            let bytes = made.bytes("w.quantized");
            let error = |index: usize| {
                let (row, column) = (index / SIDE, index % SIDE);
                let number = match precision {
                    QuantizedPrecision::Int4 => {
                        f32::from((bytes[index / 2] << (4 - 4 * (index % 2))) as i8 >> 4)
                    }
                    QuantizedPrecision::Fp8 => number_formats::e4m3_value(bytes[index]),
                    _ => f32::from(bytes[index] as i8),
                };
                let block = if precision == QuantizedPrecision::Int4 { row / 32 } else { 0 };
                noise(index) * (column as f32 + 1.0) - number * scales[block * SIDE + column]
            };
            let errors: Vec<f32> = (0..SIDE * SIDE).map(error).collect();
            let product = |token: usize, column: usize| {
                (0..SIDE).map(|row| f64::from(of(token, row) * errors[row * SIDE + column])).sum::<f64>()
            };
            (0..TOKENS)
                .flat_map(|token| (0..SIDE).map(move |column| (token, column)))
                .map(|(token, column)| product(token, column).powi(2))
                .sum::<f64>()
        });
        assert!(gptq < plain / 2.0, "{precision}: {gptq} {plain}");
    }
}

/// With tokens too few, weights are rounded to the nearest, and the reason is known.
#[test]
fn gptq_needs_tokens() {
    let int4 = options(QuantizedPrecision::Int4);
    let method = Method { gptq: true, ..Method::MAX };
    let folder = tempfile::tempdir().unwrap();
    let mut statistics = with_tokens(&folder, |token, channel| noise(token * SIDE + channel));
    assert_eq!(gptq_obstacle(&statistics), None);
    let values = vec![1.0; 7 * SIDE];
    let path = folder.path().join("few");
    statistics.tokens = vec![SampleTokens::write(&path, &[("x".into(), SIDE, 7)], &values).unwrap()];
    let expected = "the samples have 7 tokens, and 64 channels need 8";
    assert_eq!(gptq_obstacle(&statistics).as_deref(), Some(expected));
    let few = made(one_product(), &int4, method, &statistics);
    let plain = made(one_product(), &int4, Method::MAX, &statistics);
    assert_eq!(few.bytes("w.quantized"), plain.bytes("w.quantized"));
}

#[test]
fn tables_have_a_scale_a_row() {
    let gather = node("Gather", &["t", "i"], "x2");
    let nodes = vec![gather, node("MatMul", &["x2", "w"], "y")];
    let rows = 2048;
    let mut all = graph(
        nodes,
        vec![
            tensor("t", &[rows, SIDE], |index| noise(index) / (1 + index / SIDE) as f32),
            tensor("w", &[SIDE, SIDE], noise),
        ],
    );
    all.input = vec![value("i", INT64)];
    let statistics = even(&[("x2", SIDE, 1.0)]);
    for (embeddings, kind, scales) in [
        (Embeddings::Int8, ElementType::Int8, vec![rows as i64]),
        (Embeddings::Int4, ElementType::Int4, vec![rows as i64, 2]),
    ] {
        let options = QuantizationOptions { embeddings, ..options(QuantizedPrecision::Int8) };
        let folder = tempfile::tempdir().unwrap();
        let file = open(all.clone());
        let path = folder.path().join("out.onnx");
        let report = quantize(&file, &options, Method::MAX, &statistics, &path).unwrap().report;
        let made = Made { file: OnnxFile::open(&path).unwrap(), report };
        assert_eq!(made.operators()[..2], ["DequantizeLinear", "Gather"]);
        assert_eq!(made.tensor("t.quantized").data_type(), kind.to_onnx());
        assert_eq!(made.tensor("t.scale").dims, scales);
    }
}

/// What can't be quantized stays as it was, and is named with the reason.
#[test]
fn what_stays_is_named() {
    let zeros =
        |name: &str| tensor(name, &[SIDE, SIDE], |index| if index % SIDE == 3 { 0.0 } else { noise(index) });
    let nodes = vec![
        node("MatMul", &["x", "zeros"], "a"),
        node("MatMul", &["a", "broken"], "b"),
        node("MatMul", &["b", "narrow"], "c"),
        node("MatMul", &["x", "x"], "d"),
        node("MatMul", &["b", "asked"], "e"),
        node("MatMul", &["never", "unseen"], "f"),
        node("Sum", &["c", "d", "e", "f"], "y"),
        node("Relu", &["x"], "never"),
    ];
    let mut nodes = nodes;
    nodes.rotate_right(1);
    let weights = vec![
        zeros("zeros"),
        tensor("broken", &[SIDE, SIDE], |index| if index == 77 { f32::NAN } else { noise(index) }),
        tensor("narrow", &[SIDE, 8], noise),
        tensor("asked", &[SIDE, SIDE], noise),
        tensor("unseen", &[SIDE, SIDE], noise),
    ];
    let options =
        QuantizationOptions { keep_nodes: vec!["e_node".into()], ..options(QuantizedPrecision::Int8) };
    let statistics = even(&[("x", SIDE, 1.0), ("a", SIDE, 1.0), ("b", SIDE, 1.0), ("never", SIDE, 0.0)]);
    let made = made(graph(nodes, weights), &options, Method::MAX, &statistics);
    let kept: BTreeMap<&str, WhyKept> =
        made.report.kept.iter().map(|kept| (kept.node.as_str(), kept.why)).collect();
    let expected = BTreeMap::from([
        ("b_node", WhyKept::NotFinite),
        ("c_node", WhyKept::Small),
        ("d_node", WhyKept::NoConstantWeight),
        ("e_node", WhyKept::KeptNode),
        ("f_node", WhyKept::NoActivation),
    ]);
    assert_eq!(kept, expected);
    let quantized: Vec<&str> = made.report.quantized.iter().map(|node| node.node.as_str()).collect();
    assert_eq!(quantized, ["a_node"]);
    // A column of zeros has a scale, and stays zeros.
    let bytes = made.bytes("zeros.quantized");
    assert!(bytes.iter().skip(3).step_by(SIDE).all(|byte| *byte == 0));
    assert_eq!(made.floats("zeros.rest_of_scale")[3], 1.0);
}

/// An outlier of 10^4 in one channel costs the others nothing once it is smoothed, and no number leaves half precision.
#[test]
fn an_outlier_channel_is_smoothed() {
    let mut statistics = even(&[("x", SIDE, 1.0)]);
    statistics.values.get_mut("x").unwrap().largest[9] = 1e4;
    let method = Method { smoothing_percent: 80, ..Method::MAX };
    let made = made(one_product(), &options(QuantizedPrecision::Int8), method, &statistics);
    let (scale, factors) = (made.number("x.scale"), made.floats("x.smoothing"));
    let steps_of_others = factors[10] / scale;
    assert!(steps_of_others > 10.0, "{steps_of_others} steps");
    let plain = self::made(one_product(), &options(QuantizedPrecision::Int8), Method::MAX, &statistics)
        .number("x.scale");
    assert!(1.0 / plain < 0.1);
}

#[test]
fn statistics_are_the_same_in_any_grouping() {
    let one = even(&[("x", 4, 1.0)]);
    let two = even(&[("x", 4, 3.0), ("y", 2, 5.0)]);
    let all = Statistics::of_all([&one, &two, &one]);
    assert_eq!(all.values["x"].largest, [3.0; 4]);
    assert_eq!(all.values["x"].squares, [11.0; 4]);
    assert_eq!(all.values["y"].squares, [25.0; 2]);
}

#[test]
fn an_older_operator_set_is_raised() {
    let mut old = model(one_product());
    old.opset_import[0].version = Some(13);
    let file = OnnxFile::from_bytes(Path::new("m.onnx"), prost::Message::encode_to_vec(&old).into()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.onnx");
    for (precision, opset) in [(QuantizedPrecision::Int8Weights, 19), (QuantizedPrecision::Int4, 21)] {
        quantize(&file, &options(precision), Method::MAX, &Statistics::default(), &path).unwrap();
        assert_eq!(OnnxFile::open(&path).unwrap().opset(), Some(opset));
    }
}
