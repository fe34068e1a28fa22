//! What TensorRT for RTX makes of each form of quantization, for each compute capability: the table in `docs/quantization.md`.
//!
//! Every cell is a plan that is built for real and read. A new version of the compiler that changes one fails here, with the cell
//! named.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nimctl::compute_capability::ComputeCapability;
use nimctl::onnx::proto::{ModelProto, dimension, type_proto};
use nimctl::plan::{
    Expected, GemmFacts, NodeVerdict, PlanHeader, PlanLayers, QuantizedNode, TensorType, WeightPath,
    check_nodes, read_layers,
};
use nimctl::shape_range::ShapeRange;
use nimctl::worker::host::{Cancel, Worker};
use nimctl::worker::protocol::BuildRequest;
use prost::Message as _;

use crate::quantized_graphs::{
    BFLOAT16, ConvSizes, DATA_SCALE, FLOAT, FLOAT4, FLOAT8, FLOAT8E5M2, FLOAT8E8M0, FLOAT16, Form, INT4,
    INT8, INT16, OddProduct, Scales, UINT4, UINT8, WEIGHT_SCALE, attention, convolution, dynamic_integers,
    gathered_integers, mxfp8, nvfp4, products, table,
};
use crate::support::{real, start};

const CAPABILITIES: [(u8, u8); 6] = [(7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1)];

/// What a form is judged by.
#[derive(Clone, Copy)]
enum Judged {
    /// All products with weights.
    Products(TensorType),
    /// The fused attention.
    Attention(TensorType),
    /// The table that is read.
    Table(TensorType),
}

/// A row of the table: a letter for each capability.
///
/// * `N`: multiplied in the type;
/// * `F`: stored in it, and converted to the base precision inside the kernel that multiplies or reads;
/// * `D`: stored in it, and converted by a kernel of its own at every inference;
/// * `B`: neither stored nor multiplied in it;
/// * `-`: refused.
struct Row {
    form: &'static str,
    graph: ModelProto,
    judged: Judged,
    expected: &'static str,
}

fn row(form: &'static str, graph: ModelProto, judged: Judged, expected: &'static str) -> Row {
    Row { form, graph, judged, expected }
}

/// Builds a graph for one capability. `Err` has the compiler's message.
fn build(worker: &mut Worker, graph: &ModelProto, capability: ComputeCapability) -> Result<Built, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph.onnx");
    fs_err::write(&path, graph.encode_to_vec()).unwrap();
    let plan = folder.path().join("plan");
    let shape_ranges = graph.graph.as_ref().unwrap().input.iter().map(|input| {
        let Some(type_proto::Value::TensorType(tensor)) = &input.r#type.as_ref().unwrap().value else {
            panic!("an input that is no tensor")
        };
        let with_batch = |batch: i64| {
            let sizes = tensor.shape.as_ref().unwrap().dim.iter().map(|dimension| match dimension.value {
                Some(dimension::Value::DimValue(size)) => size,
                _ => batch,
            });
            sizes.collect::<Vec<_>>()
        };
        let range = ShapeRange { min: with_batch(1), opt: with_batch(8), max: with_batch(16) };
        (input.name.clone().unwrap(), range)
    });
    let request = BuildRequest {
        graph: path,
        plan: plan.clone(),
        compute_capabilities: vec![capability],
        shape_ranges: shape_ranges.collect(),
        workspace_mib: None,
    };
    match worker.build(request, &Cancel::new(), &mut |_| {}) {
        Ok(_) => Ok(Built {
            header: PlanHeader::read(&plan).unwrap().expect("a plan with a header"),
            layers: read_layers(&plan).unwrap().expect("a plan with text"),
        }),
        Err(error) => match error.problem() {
            Some(problem) => Err(problem.message),
            None => panic!("{error}: {:?}", error.stderr_tail()),
        },
    }
}

struct Built {
    header: PlanHeader,
    layers: PlanLayers,
}

impl Judged {
    fn letter(self, layers: &PlanLayers) -> char {
        let letters: Vec<char> = match self {
            Self::Products(expected) => layers
                .gemms
                .iter()
                .filter(|gemm| gemm.weights.is_some())
                .map(|gemm| letter_of(gemm, expected))
                .collect(),
            Self::Attention(expected) => {
                let is_in_it = |inputs: &[TensorType]| inputs.iter().all(|&input| input == expected);
                let letter = |is_in_it| if is_in_it { 'N' } else { 'B' };
                layers.attention.iter().map(|attention| letter(is_in_it(&attention.inputs))).collect()
            }
            Self::Table(expected) => {
                let kept = layers.low_bit_lookups.iter().map(|kernel| (kernel.stored, 'F'));
                let widened = layers.dequantize_kernels.iter().map(|kernel| (kernel.stored, 'D'));
                kept.chain(widened)
                    .map(|(stored, letter)| if stored == expected { letter } else { '?' })
                    .collect()
            }
        };
        match letters[..] {
            [first, ..] if letters.iter().all(|&letter| letter == first) => first,
            _ => '?',
        }
    }
}

fn letter_of(gemm: &GemmFacts, expected: TensorType) -> char {
    let weights = gemm.weights.as_ref().expect("a product with weights");
    match (gemm.computes_in() == expected, weights.stored == expected, weights.path) {
        (true, true, WeightPath::Direct) => 'N',
        (_, true, WeightPath::Fused) => 'F',
        (_, true, WeightPath::Kernel) => 'D',
        (false, false, WeightPath::Direct) => 'B',
        _ => '?',
    }
}

/// Builds every cell, and reports all that differ.
#[track_caller]
fn check(rows: &[Row]) {
    let mut worker = start(&real("tensorrt-rtx"));
    let compiler = worker.description().library.clone().unwrap().version;
    let mut differences = String::new();
    for Row { form, graph, judged, expected } in rows {
        let expected: Vec<char> = expected.split(' ').filter_map(|letter| letter.chars().next()).collect();
        assert_eq!(expected.len(), CAPABILITIES.len(), "{form}");
        for (&(major, minor), expected) in CAPABILITIES.iter().zip(expected) {
            let capability = ComputeCapability::new(major, minor);
            let (found, why) = match build(&mut worker, graph, capability) {
                Ok(Built { layers, header: _ }) => {
                    let why = format!(
                        "{}; attention: {}; {} separate kernels",
                        layers.products_in_words(),
                        layers.attention_in_words(),
                        layers.dequantize_kernels.len()
                    );
                    (judged.letter(&layers), why)
                }
                Err(message) => {
                    let is_of_the_hardware = ["HW-specific datatypes", "is not supported"];
                    let is_refused = is_of_the_hardware.iter().any(|part| message.contains(part));
                    (if is_refused { '-' } else { '?' }, message)
                }
            };
            if found != expected {
                let _ = writeln!(
                    differences,
                    "{form} on {capability}, TensorRT for RTX {compiler}: expected {expected}, found {found} ({why})"
                );
            }
        }
    }
    assert!(differences.is_empty(), "the table in docs/quantization.md is not true here:\n{differences}");
}

/// Weights with a scale for each column: the axis that is not summed over.
const COLUMNS: Scales = Scales::Axis(1);
/// Weights with a scale for each row: the axis that is summed over.
const ROWS: Scales = Scales::Axis(0);

#[test]
fn what_is_not_quantized() {
    let base =
        |base, judged, expected| row("base", products(Form::base(base)), Judged::Products(judged), expected);
    check(&[
        base(FLOAT16, TensorType::Fp16, "N N N N N N"),
        base(FLOAT, TensorType::Fp32, "- N N N N N"),
        base(BFLOAT16, TensorType::Bf16, "- N N N N N"),
    ]);
}

#[test]
fn products_in_int8() {
    let int8 = |form, graph, expected| row(form, graph, Judged::Products(TensorType::Int8), expected);
    let gemm = Form { operator: "Gemm", ..Form::both(INT8, COLUMNS) };
    let data_alone = Form { data: Some(INT8), ..Form::BASE };
    check(&[
        int8("INT8, a scale for each column", products(Form::both(INT8, COLUMNS)), "N N N N N N"),
        int8("INT8, one scale", products(Form::both(INT8, Scales::Tensor)), "N N N N N N"),
        int8("INT8, split scales", products(Form::both(INT8, Scales::Split)), "N N N N N N"),
        int8("INT8, Gemm", products(gemm), "N N N N N N"),
        int8("INT8, a scale for each row (K)", products(Form::both(INT8, ROWS)), "F F F F F F"),
        int8("INT8 data alone", products(data_alone), "B B B B B B"),
    ]);
}

#[test]
fn weights_alone_in_int8() {
    let int8 = |form, graph, expected| row(form, graph, Judged::Products(TensorType::Int8), expected);
    check(&[
        int8("INT8 weights, a scale for each column", products(Form::weights(INT8, COLUMNS)), "F F F F F F"),
        int8("INT8 weights in blocks", products(Form::weights(INT8, Scales::Blocks(32))), "D D D D D D"),
    ]);
}

#[test]
fn products_in_fp8() {
    let fp8 = |form, graph, expected| row(form, graph, Judged::Products(TensorType::Fp8), expected);
    check(&[
        fp8("FP8, a scale for each column", products(Form::both(FLOAT8, COLUMNS)), "- - - N N N"),
        fp8("FP8, one scale", products(Form::both(FLOAT8, Scales::Tensor)), "- - - N N N"),
        fp8("FP8, split scales", products(Form::both(FLOAT8, Scales::Split)), "- - - N N N"),
        fp8("FP8 weights, one scale", products(Form::weights(FLOAT8, Scales::Tensor)), "- - - F F F"),
        fp8("FP8 weights in blocks", products(Form::weights(FLOAT8, Scales::Blocks(32))), "- - - D D D"),
        fp8("MXFP8", mxfp8(true), "- - - D D D"),
        fp8("MXFP8 weights", mxfp8(false), "- - - D D D"),
    ]);
}

#[test]
fn products_in_4_bits() {
    let int4 = |form, scales, expected| {
        row(form, products(Form::weights(INT4, scales)), Judged::Products(TensorType::Int4), expected)
    };
    let fp4 = |form, graph, expected| row(form, graph, Judged::Products(TensorType::Fp4), expected);
    let int4_data = |form, expected| {
        row(form, products(Form::both(INT4, COLUMNS)), Judged::Products(TensorType::Int4), expected)
    };
    let with_data = Form { data: Some(INT8), ..Form::weights(INT4, COLUMNS) };
    check(&[
        int4("INT4 weights in blocks of 32", Scales::Blocks(32), "- F F F F F"),
        int4("INT4 weights in blocks of 128", Scales::Blocks(128), "- F F F F F"),
        int4("INT4 weights, a scale for each column", COLUMNS, "- D D D D D"),
        int4("INT4 weights, one scale", Scales::Tensor, "- D D D D D"),
        row(
            "INT8 data, INT4 weights in blocks",
            products(Form { data: Some(INT8), ..Form::weights(INT4, Scales::Blocks(32)) }),
            Judged::Products(TensorType::Int4),
            "- D D D D D",
        ),
        row(
            "INT8 data, one product of INT4 weights in blocks",
            OddProduct { weights: INT4, block: 32, ..OddProduct::USUAL }.graph(),
            Judged::Products(TensorType::Int4),
            "- D D D D D",
        ),
        row(
            "INT8 data, INT4 weights",
            products(with_data),
            Judged::Products(TensorType::Int4),
            "- D D D D D",
        ),
        int4_data("INT4 data and weights, a scale for each column", "- N N N N N"),
        fp4("NVFP4", nvfp4(true), "- - - - N N"),
        fp4("NVFP4 weights", nvfp4(false), "- - - - D D"),
    ]);
}

#[test]
fn attention_blocks() {
    let block = |form, element_type, inside| attention(Form::both(element_type, form), inside);
    let (int8, fp8) = (TensorType::Int8, TensorType::Fp8);
    check(&[
        row("INT8 around attention", block(COLUMNS, INT8, None), Judged::Products(int8), "N N N N N N"),
        row(
            "INT8 around attention: inside",
            block(Scales::Split, INT8, None),
            Judged::Attention(TensorType::Fp16),
            "N N N N N N",
        ),
        row("INT8 attention", block(COLUMNS, INT8, Some(INT8)), Judged::Attention(int8), "N N N N N N"),
        row("FP8 attention", block(COLUMNS, FLOAT8, Some(FLOAT8)), Judged::Attention(fp8), "- - - N N N"),
    ]);
}

#[test]
fn convolutions() {
    let (int8, fp8) = (Judged::Products(TensorType::Int8), Judged::Products(TensorType::Fp8));
    let (outputs, inputs) = (Scales::Axis(0), Scales::Axis(1));
    let conv = |form| convolution(form, ConvSizes::PLAIN);
    let patches = |form| convolution(form, ConvSizes::PATCHES);
    check(&[
        row("INT8 Conv", conv(Form::both(INT8, outputs)), int8, "D N N N N N"),
        row("INT8 Conv, split scales", conv(Form::both(INT8, Scales::Split)), int8, "D N N N N N"),
        row("INT8 Conv, a scale for each input channel", conv(Form::both(INT8, inputs)), int8, "D D D D D D"),
        row("INT8 Conv weights", conv(Form::weights(INT8, outputs)), int8, "D D D D D D"),
        row("INT8 Conv of patches", patches(Form::both(INT8, outputs)), int8, "D N N N N N"),
        row("FP8 Conv", conv(Form::both(FLOAT8, outputs)), fp8, "- - - N N N"),
        row("FP8 Conv, split scales", conv(Form::both(FLOAT8, Scales::Split)), fp8, "- - - N N N"),
        row("FP8 Conv of patches", patches(Form::both(FLOAT8, outputs)), fp8, "- - - D D D"),
    ]);
}

#[test]
fn convolutions_of_other_sizes() {
    let (int8, fp8) = (Judged::Products(TensorType::Int8), Judged::Products(TensorType::Fp8));
    let mut rows = Vec::new();
    for (name, sizes) in [
        ("a channel each", ConvSizes::DEPTHWISE),
        ("groups of 4", ConvSizes { groups: 16, ..ConvSizes::PLAIN }),
        ("1 x 1", ConvSizes { kernel: 1, ..ConvSizes::PLAIN }),
        ("every other pixel", ConvSizes { stride: 2, ..ConvSizes::PLAIN }),
        ("16 channels", ConvSizes { channels: 16, ..ConvSizes::PLAIN }),
        ("17 channels to 1", ConvSizes { channels: 17, outputs: 1, ..ConvSizes::PLAIN }),
        ("17 channels, 1 x 1", ConvSizes { channels: 17, kernel: 1, ..ConvSizes::PLAIN }),
    ] {
        let form = |element_type| convolution(Form::both(element_type, Scales::Split), sizes);
        rows.push(row(name, form(INT8), int8, "D N N N N N"));
        rows.push(row(name, form(FLOAT8), fp8, "- - - N N N"));
    }
    check(&rows);
}

#[test]
fn tables() {
    let (int8, int4) = (Judged::Table(TensorType::Int8), Judged::Table(TensorType::Int4));
    check(&[
        row("INT8 table, a scale for each row", table(INT8, ROWS), int8, "F F F F F F"),
        row("INT8 table, a scale for each column", table(INT8, COLUMNS), int8, "F F F F F F"),
        row("INT4 table in blocks of 32", table(INT4, Scales::Blocks(32)), int4, "- F F F F F"),
    ]);
}

/// Forms that ONNX allows and the compiler refuses, and what it says: `nimctl quantize` writes none of them.
#[test]
fn what_is_refused_even_for_the_newest_gpu() {
    const USUAL: OddProduct = OddProduct::USUAL;
    let mut worker = start(&real("tensorrt-rtx"));
    let capability = ComputeCapability::new(12, 0);
    let zero_point = "Non-zero zero point is not supported";
    let initializer = "Failed to import initializer";
    assert!(build(&mut worker, &USUAL.graph(), capability).is_ok());
    let mut differences = String::new();
    for (form, graph, expected) in [
        ("INT8 with a zero point", OddProduct { data: Some((INT8, 3.0)), ..USUAL }.graph(), zero_point),
        ("UINT8 around 128", OddProduct { data: Some((UINT8, 128.0)), ..USUAL }.graph(), zero_point),
        ("UINT4 weights", OddProduct { data: None, weights: UINT4, ..USUAL }.graph(), initializer),
        ("INT16 weights", OddProduct { data: None, weights: INT16, ..USUAL }.graph(), initializer),
        ("E5M2 weights", OddProduct { data: None, weights: FLOAT8E5M2, ..USUAL }.graph(), initializer),
        (
            "MXFP4: E2M1 weights with E8M0 scales",
            OddProduct { data: None, weights: FLOAT4, scales: FLOAT8E8M0, block: 32, ..USUAL }.graph(),
            initializer,
        ),
        (
            "a bias of 32-bit integers",
            OddProduct { has_integer_bias: true, ..USUAL }.graph(),
            "has type Int32 but must have type",
        ),
        (
            "FP32 scales of FP16 data",
            OddProduct { data: None, scales: FLOAT, ..USUAL }.graph(),
            "must have same input types",
        ),
        ("INT8 data, FP8 weights", OddProduct { weights: FLOAT8, ..USUAL }.graph(), "same type"),
        ("DynamicQuantizeLinear", dynamic_integers(), "DynamicQuantizeLinear"),
        ("a table that is dequantized behind the Gather", gathered_integers(), "Quantized constant"),
    ] {
        match build(&mut worker, &graph, capability) {
            Err(message) if message.contains(expected) => {}
            Err(message) => _ = writeln!(differences, "{form}: expected `{expected}`, said `{message}`"),
            Ok(_) => _ = writeln!(differences, "{form}: expected `{expected}`, and it is built"),
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// What the products of a plan for 8.9 write, and what they are multiplied by before.
fn outputs(worker: &mut Worker, form: Form) -> Vec<(TensorType, Option<f32>)> {
    let built = build(worker, &products(form), ComputeCapability::new(8, 9)).unwrap();
    built.layers.gemms.iter().map(|gemm| (gemm.output, gemm.alpha)).collect()
}

#[test]
fn what_a_product_writes() {
    let mut worker = start(&real("tensorrt-rtx"));
    let half = |value: f32| half::f16::from_f32(value).to_f32();
    let both = half(DATA_SCALE) * half(WEIGHT_SCALE);
    for element_type in [INT8, FLOAT8] {
        // The sums as they are, in FP16: too large for it.
        let columns = outputs(&mut worker, Form::both(element_type, COLUMNS));
        assert_eq!(columns, [(TensorType::Fp16, Some(1.0)); 2], "{element_type}");
        // Scaled inside the product.
        let split = outputs(&mut worker, Form::both(element_type, Scales::Split));
        assert_eq!(split, [(TensorType::Fp16, Some(both)); 2], "{element_type}");
        // The sums as they are, in FP32.
        let wide = Form { scales: FLOAT, ..Form::both(element_type, COLUMNS) };
        assert_eq!(outputs(&mut worker, wide), [(TensorType::Fp32, Some(1.0)); 2], "{element_type}");
    }
}

/// A convolution's scales are an operand of its own; what shows is whether the sums are written in FP32.
#[test]
fn what_a_convolution_writes() {
    let mut worker = start(&real("tensorrt-rtx"));
    for element_type in [INT8, FLOAT8] {
        for (scales, written) in [(Scales::Axis(0), TensorType::Fp32), (Scales::Split, TensorType::Fp16)] {
            let graph = convolution(Form::both(element_type, scales), ConvSizes::PLAIN);
            let built = build(&mut worker, &graph, ComputeCapability::new(8, 9)).unwrap();
            let written_by: Vec<_> =
                built.layers.gemms.iter().map(|gemm| (gemm.output, gemm.alpha)).collect();
            assert_eq!(written_by, [(written, None)], "{element_type}");
        }
    }
}

#[test]
fn how_many_products_attention_has() {
    let mut worker = start(&real("tensorrt-rtx"));
    let mut counts = BTreeMap::new();
    for (name, element_type) in [("int8", INT8), ("fp8", FLOAT8)] {
        for capability in [ComputeCapability::new(8, 9), ComputeCapability::new(12, 0)] {
            for scales in [COLUMNS, Scales::Split] {
                let graph = attention(Form::both(element_type, scales), None);
                let built = build(&mut worker, &graph, capability).unwrap();
                let is_split = scales == Scales::Split;
                counts.insert((name, capability.to_string(), is_split), built.layers.gemms.len());
            }
        }
    }
    // q, k and v are one product, but for FP8 on 12.0.
    let found: Vec<String> = counts
        .iter()
        .map(|((name, capability, is_split), count)| {
            format!("{name} {capability} {}: {count}", if *is_split { "split" } else { "columns" })
        })
        .collect();
    insta::assert_snapshot!(found.join("\n"));
}

#[test]
fn why_a_node_fell_back() {
    let mut worker = start(&real("tensorrt-rtx"));
    let int8 = Expected::Multiplies(TensorType::Int8);
    let fp8 = Expected::Multiplies(TensorType::Fp8);
    let mut lines = Vec::new();
    for (form, graph, node, expected, capability) in [
        ("as expected", products(Form::both(INT8, COLUMNS)), "up", int8, (8, 9)),
        ("no such node", products(Form::both(INT8, COLUMNS)), "sideways", int8, (8, 9)),
        ("scales along K", products(Form::both(INT8, ROWS)), "down", int8, (8, 9)),
        ("Conv", convolution(Form::both(INT8, Scales::Axis(0)), ConvSizes::PLAIN), "conv", int8, (7, 5)),
        (
            "Conv along its input",
            convolution(Form::both(INT8, Scales::Axis(1)), ConvSizes::PLAIN),
            "conv",
            int8,
            (8, 9),
        ),
        (
            "patches",
            convolution(Form::both(FLOAT8, Scales::Axis(0)), ConvSizes::PATCHES),
            "conv",
            fp8,
            (8, 9),
        ),
        ("not quantized", products(Form::BASE), "up", int8, (8, 9)),
        (
            "INT4 by column",
            products(Form::weights(INT4, COLUMNS)),
            "up",
            Expected::Stores(TensorType::Int4),
            (8, 9),
        ),
        ("merged", attention(Form::both(INT8, Scales::Split), None), "k", int8, (8, 9)),
        ("attention", attention(Form::both(INT8, Scales::Split), None), "qk", int8, (8, 9)),
        ("table", table(INT8, ROWS), "gather", Expected::Stores(TensorType::Int8), (8, 9)),
    ] {
        let capability = ComputeCapability::new(capability.0, capability.1);
        let Built { header, layers } = build(&mut worker, &graph, capability).unwrap();
        let verdict = check_nodes(&header, &layers, &[QuantizedNode { name: node.into(), expected }])[0];
        let words = match verdict {
            NodeVerdict::AsExpected => "as expected".into(),
            NodeVerdict::Unknown => "unknown".into(),
            NodeVerdict::FellBack { computes_in, reason } => format!("{computes_in}: {reason}"),
        };
        lines.push(format!("{form}, {node} on {capability}: {words}"));
    }
    insta::assert_snapshot!(lines.join("\n"));
}
