//! Small graphs with quantized weights, in all the forms that a compiler may be given. Their numbers mean nothing.

mod refused;

use bytes::Bytes;
use nimctl::onnx::proto::{
    AttributeProto, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, dimension, type_proto,
};

pub(crate) use refused::{OddProduct, dynamic_integers, gathered_integers};

/// ONNX's numbers of element types.
pub(crate) const FLOAT: i32 = 1;
pub(crate) const UINT8: i32 = 2;
pub(crate) const INT8: i32 = 3;
pub(crate) const INT16: i32 = 5;
pub(crate) const INT32: i32 = 6;
pub(crate) const INT64: i32 = 7;
pub(crate) const FLOAT16: i32 = 10;
pub(crate) const BFLOAT16: i32 = 16;
pub(crate) const FLOAT8: i32 = 17;
pub(crate) const FLOAT8E5M2: i32 = 19;
pub(crate) const UINT4: i32 = 21;
pub(crate) const INT4: i32 = 22;
pub(crate) const FLOAT4: i32 = 23;
pub(crate) const FLOAT8E8M0: i32 = 24;

/// The sizes of the two products.
const WIDTH: i64 = 768;
const INNER: i64 = 3072;
/// Sizes of the attention block: tokens, width, heads.
const TOKENS: i64 = 64;
const MODEL: i64 = 384;
const HEADS: i64 = 6;
/// The scale of quantized data, and that of weights.
pub(crate) const DATA_SCALE: f32 = 0.05;
pub(crate) const WEIGHT_SCALE: f32 = 0.0007;

/// How weights are scaled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scales {
    /// One scale.
    Tensor,
    /// One for each index of an axis.
    Axis(i64),
    /// One for each block of this many elements along axis 0.
    Blocks(i64),
    /// One in the graph, with the others multiplied behind the product.
    Split,
}

/// A form of quantization.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    /// The type that the graph computes in where nothing is quantized.
    pub(crate) base: i32,
    /// The type that data is quantized to.
    pub(crate) data: Option<i32>,
    /// The type that weights are stored in, and how they are scaled.
    pub(crate) weights: Option<(i32, Scales)>,
    /// The type of scales, with that of the graph named by `output_dtype` where they differ.
    pub(crate) scales: i32,
    /// The operator of the products.
    pub(crate) operator: &'static str,
}

impl Form {
    pub(crate) const BASE: Self =
        Self { base: FLOAT16, data: None, weights: None, scales: FLOAT16, operator: "MatMul" };

    pub(crate) fn base(base: i32) -> Self {
        Self { base, scales: base, ..Self::BASE }
    }

    /// Data and weights of one type.
    pub(crate) fn both(element_type: i32, scales: Scales) -> Self {
        Self { data: Some(element_type), weights: Some((element_type, scales)), ..Self::BASE }
    }

    pub(crate) fn weights(element_type: i32, scales: Scales) -> Self {
        Self { weights: Some((element_type, scales)), ..Self::BASE }
    }
}

/// A graph that is being made; nodes have the names of their outputs.
struct Builder {
    form: Form,
    graph: GraphProto,
}

impl Builder {
    fn new(form: Form) -> Self {
        Self { form, graph: GraphProto { name: Some("forms".into()), ..GraphProto::default() } }
    }

    fn input(&mut self, name: &str, element_type: i32, row: &[i64]) {
        self.graph.input.push(value(name, element_type, row));
    }

    /// Ends the graph with what the last node writes.
    fn model(mut self, row: &[i64]) -> ModelProto {
        let last = self.graph.node.last().unwrap().output[0].clone();
        self.graph.output.push(value(&last, self.form.base, row));
        let opset = |domain: &str, version| OperatorSetIdProto {
            domain: Some(domain.into()),
            version: Some(version),
        };
        ModelProto {
            ir_version: Some(11),
            opset_import: vec![opset("", 23), opset("trt", 1)],
            graph: Some(self.graph),
            ..ModelProto::default()
        }
    }

    fn node(&mut self, operator: &str, inputs: &[&str], output: &str) -> String {
        self.node_with(operator, inputs, &[output], vec![])
    }

    fn node_with(
        &mut self,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let strings = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        self.graph.node.push(NodeProto {
            op_type: Some(operator.into()),
            domain: operator.starts_with("TRT_").then(|| "trt".into()),
            name: Some(outputs[0].into()),
            input: strings(inputs),
            output: strings(outputs),
            attribute: attributes,
            ..NodeProto::default()
        });
        outputs[0].into()
    }

    /// Adds a constant of many values.
    fn constant(&mut self, name: &str, element_type: i32, shape: &[i64]) -> String {
        let count: i64 = shape.iter().product();
        self.raw(name, element_type, shape, pattern(element_type, count as usize))
    }

    /// Adds a constant of one value.
    fn number(&mut self, name: &str, element_type: i32, value: f32) -> String {
        self.raw(name, element_type, &[], element(element_type, value))
    }

    fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.raw(name, INT64, &[values.len() as i64], raw)
    }

    fn raw(&mut self, name: &str, element_type: i32, shape: &[i64], raw: Vec<u8>) -> String {
        self.graph.initializer.push(TensorProto {
            name: Some(name.into()),
            data_type: Some(element_type),
            dims: shape.into(),
            raw_data: Some(Bytes::from(raw)),
            ..TensorProto::default()
        });
        name.into()
    }

    /// The attribute of a DequantizeLinear whose scales are of another type than its result.
    fn output_type(&self) -> Vec<AttributeProto> {
        let differs = self.form.scales != self.form.base;
        differs.then(|| integer("output_dtype", self.form.base.into())).into_iter().collect()
    }

    /// Quantizes data, if the form does.
    fn data(&mut self, name: &str, element_type: Option<i32>) -> String {
        let Some(element_type) = element_type else { return name.into() };
        let scale = self.number(&format!("{name}_scale"), self.form.scales, DATA_SCALE);
        let zero = self.number(&format!("{name}_zero"), element_type, 0.0);
        let quantized = format!("{name}_q");
        self.node("QuantizeLinear", &[name, &scale, &zero], &quantized);
        let attributes = self.output_type();
        self.node_with("DequantizeLinear", &[&quantized, &scale, &zero], &[&format!("{name}_dq")], attributes)
    }

    /// Adds weights in the form.
    fn weights(&mut self, name: &str, shape: &[i64]) -> String {
        let Some((element_type, scales)) = self.form.weights else {
            return self.constant(name, self.form.base, shape);
        };
        let stored = self.constant(&format!("{name}_q"), element_type, shape);
        let scale = format!("{name}_scale");
        let mut attributes = self.output_type();
        match scales {
            Scales::Tensor | Scales::Split => {
                self.number(&scale, self.form.scales, WEIGHT_SCALE);
            }
            Scales::Axis(axis) => {
                attributes.push(integer("axis", axis));
                let count = shape[axis as usize];
                let scales = element(self.form.scales, WEIGHT_SCALE).repeat(count as usize);
                self.raw(&scale, self.form.scales, &[count], scales);
            }
            Scales::Blocks(size) => {
                attributes.extend([integer("axis", 0), integer("block_size", size)]);
                let count = shape[0] / size * shape[1];
                let scales = element(self.form.scales, WEIGHT_SCALE).repeat(count as usize);
                self.raw(&scale, self.form.scales, &[shape[0] / size, shape[1]], scales);
            }
        }
        self.node_with("DequantizeLinear", &[&stored, &scale], &[&format!("{name}_dq")], attributes)
    }

    /// A product with weights and a bias, of data that is quantized already.
    fn linear(&mut self, data: &str, name: &str, [from, to]: [i64; 2]) -> String {
        let weights = self.weights(&format!("{name}_w"), &[from, to]);
        let bias = self.constant(&format!("{name}_b"), self.form.base, &[to]);
        if self.form.operator == "Gemm" {
            return self.node("Gemm", &[data, &weights, &bias], name);
        }
        let mut product = self.node("MatMul", &[data, &weights], name);
        if matches!(self.form.weights, Some((_, Scales::Split))) {
            let ratios = self.constant(&format!("{name}_ratios"), self.form.base, &[to]);
            product = self.node("Mul", &[&product, &ratios], &format!("{name}_scaled"));
        }
        self.node("Add", &[&product, &bias], &format!("{name}_sum"))
    }

    fn gelu(&mut self, data: &str) -> String {
        let base = self.form.base;
        let root = self.number("root", base, std::f32::consts::FRAC_1_SQRT_2);
        let (one, half) = (self.number("one", base, 1.0), self.number("half", base, 0.5));
        let scaled = self.node("Mul", &[data, &root], "gelu_scaled");
        let erf = self.node("Erf", &[&scaled], "gelu_erf");
        let above = self.node("Add", &[&erf, &one], "gelu_above");
        let product = self.node("Mul", &[data, &above], "gelu_product");
        self.node("Mul", &[&product, &half], "gelu")
    }
}

/// Two products with a GELU between them: nodes `up` and `down`.
pub(crate) fn products(form: Form) -> ModelProto {
    let mut graph = Builder::new(form);
    graph.input("x", form.base, &[WIDTH]);
    let data = graph.data("x", form.data);
    let up = graph.linear(&data, "up", [WIDTH, INNER]);
    let gelu = graph.gelu(&up);
    let data = graph.data(&gelu, form.data);
    graph.linear(&data, "down", [INNER, WIDTH]);
    graph.model(&[WIDTH])
}

/// An attention block: nodes `q`, `k`, `v`, `qk`, `pv` and `out`; what attention multiplies is quantized to `inside`.
pub(crate) fn attention(form: Form, inside: Option<i32>) -> ModelProto {
    let mut graph = Builder::new(form);
    graph.input("x", form.base, &[TOKENS, MODEL]);
    let data = graph.data("x", form.data);
    graph.integers("by_head", &[0, TOKENS, HEADS, MODEL / HEADS]);
    graph.integers("together", &[0, TOKENS, MODEL]);
    graph.number("root", form.base, (HEADS as f32 / MODEL as f32).sqrt());
    let mut part = |name: &str| {
        let linear = graph.linear(&data, name, [MODEL, MODEL]);
        let heads = graph.node("Reshape", &[&linear, "by_head"], &format!("{name}_heads"));
        let order: &[i64] = if name == "k" { &[0, 2, 3, 1] } else { &[0, 2, 1, 3] };
        let mut turned = graph.node_with(
            "Transpose",
            &[&heads],
            &[&format!("{name}_turned")],
            vec![integers("perm", order)],
        );
        if name == "q" {
            turned = graph.node("Mul", &[&turned, "root"], "q_root");
        }
        graph.data(&turned, inside)
    };
    let (q, k, v) = (part("q"), part("k"), part("v"));
    let scores = graph.node("MatMul", &[&q, &k], "qk");
    let softmax = graph.node_with("Softmax", &[&scores], &["softmax"], vec![integer("axis", -1)]);
    let softmax = graph.data(&softmax, inside);
    let mixed = graph.node("MatMul", &[&softmax, &v], "pv");
    let turned = graph.node_with("Transpose", &[&mixed], &["mixed"], vec![integers("perm", &[0, 2, 1, 3])]);
    let flat = graph.node("Reshape", &[&turned, "together"], "flat");
    let data = graph.data(&flat, form.data);
    graph.linear(&data, "out", [MODEL, MODEL]);
    graph.model(&[TOKENS, MODEL])
}

/// The sizes of a convolution.
#[derive(Clone, Copy)]
pub(crate) struct ConvSizes {
    pub(crate) channels: i64,
    pub(crate) outputs: i64,
    pub(crate) groups: i64,
    pub(crate) kernel: i64,
    pub(crate) stride: i64,
    pub(crate) pixels: i64,
}

impl ConvSizes {
    /// 3 × 3 over 64 channels.
    pub(crate) const PLAIN: Self =
        Self { channels: 64, outputs: 128, groups: 1, kernel: 3, stride: 1, pixels: 28 };
    /// Patches of an image of 3 channels.
    pub(crate) const PATCHES: Self =
        Self { channels: 3, outputs: 384, groups: 1, kernel: 14, stride: 14, pixels: 224 };
    /// Each channel alone.
    pub(crate) const DEPTHWISE: Self = Self { outputs: 64, groups: 64, ..Self::PLAIN };
}

/// A convolution, node `conv`, and a Relu.
pub(crate) fn convolution(form: Form, sizes: ConvSizes) -> ModelProto {
    let mut graph = Builder::new(form);
    let ConvSizes { channels, outputs, groups, kernel, stride, pixels } = sizes;
    graph.input("x", form.base, &[channels, pixels, pixels]);
    let data = graph.data("x", form.data);
    let weights = graph.weights("w", &[outputs, channels / groups, kernel, kernel]);
    let padding = if stride < kernel { kernel / 2 } else { 0 };
    let attributes = vec![
        integers("kernel_shape", &[kernel; 2]),
        integers("strides", &[stride; 2]),
        integers("pads", &[padding; 4]),
        integer("group", groups),
    ];
    let sum = if matches!(form.weights, Some((_, Scales::Split))) {
        let conv = graph.node_with("Conv", &[&data, &weights], &["conv"], attributes);
        let ratios = graph.constant("ratios", form.base, &[outputs, 1, 1]);
        let scaled = graph.node("Mul", &[&conv, &ratios], "scaled");
        let bias = graph.constant("b", form.base, &[outputs, 1, 1]);
        graph.node("Add", &[&scaled, &bias], "sum")
    } else {
        let bias = graph.constant("b", form.base, &[outputs]);
        graph.node_with("Conv", &[&data, &weights, &bias], &["conv"], attributes)
    };
    graph.node("Relu", &[&sum], "y");
    let side = (pixels + 2 * padding - kernel) / stride + 1;
    graph.model(&[outputs, side, side])
}

/// Rows of a table, node `gather`, and a product in the base precision.
pub(crate) fn table(element_type: i32, scales: Scales) -> ModelProto {
    let mut graph = Builder::new(Form::weights(element_type, scales));
    graph.input("ids", INT64, &[16]);
    // Blocks lie along a row.
    let rows = match scales {
        Scales::Blocks(size) => {
            graph.constant("table_q", element_type, &[4096, MODEL]);
            let count = (4096 * MODEL / size) as usize;
            let scales = element(FLOAT16, WEIGHT_SCALE).repeat(count);
            graph.raw("table_scale", FLOAT16, &[4096, MODEL / size], scales);
            let attributes = vec![integer("axis", 1), integer("block_size", size)];
            graph.node_with("DequantizeLinear", &["table_q", "table_scale"], &["table_dq"], attributes)
        }
        _ => graph.weights("table", &[4096, MODEL]),
    };
    let gathered = graph.node("Gather", &[&rows, "ids"], "gather");
    let weights = graph.constant("w", FLOAT16, &[MODEL, 256]);
    graph.node("MatMul", &[&gathered, &weights], "product");
    graph.model(&[16, 256])
}

/// Two products with weights in NVFP4, and data quantized while it runs, if asked for.
pub(crate) fn nvfp4(quantizes_data: bool) -> ModelProto {
    const BLOCK: i64 = 16;
    let mut graph = Builder::new(Form::BASE);
    graph.input("x", FLOAT16, &[WIDTH]);
    // Scales of blocks are FP8, with a scale of their own.
    let half_scales = |graph: &mut Builder, name: &str, scales: &str, global: &str| {
        let wide = graph.node("DequantizeLinear", &[scales, global], &format!("{name}_wide"));
        let to = vec![integer("to", FLOAT16.into())];
        graph.node_with("Cast", &[&wide], &[&format!("{name}_half")], to)
    };
    let mut data = "x".to_owned();
    for (name, [from, to]) in [("up", [WIDTH, INNER]), ("down", [INNER, WIDTH])] {
        if quantizes_data {
            let global = graph.number(&format!("{name}_data_global"), FLOAT, 0.01);
            let (quantized, scales) = (format!("{name}_data_q"), format!("{name}_data_scales"));
            let attributes =
                vec![integer("axis", -1), integer("block_size", BLOCK), integer("scale_type", FLOAT8.into())];
            graph.node_with("TRT_FP4DynamicQuantize", &[&data, &global], &[&quantized, &scales], attributes);
            let scales = half_scales(&mut graph, &format!("{name}_data"), &scales, &global);
            let blocks = vec![integer("axis", -1), integer("block_size", BLOCK)];
            let output = format!("{name}_data_dq");
            data = graph.node_with("DequantizeLinear", &[&quantized, &scales], &[&output], blocks);
        }
        let stored = graph.constant(&format!("{name}_w_q"), FLOAT4, &[from, to]);
        let scales = graph.constant(&format!("{name}_w_scales"), FLOAT8, &[from / BLOCK, to]);
        let global = graph.number(&format!("{name}_w_global"), FLOAT, 0.0005);
        let scales = half_scales(&mut graph, &format!("{name}_w"), &scales, &global);
        let blocks = vec![integer("axis", 0), integer("block_size", BLOCK)];
        let weights =
            graph.node_with("DequantizeLinear", &[&stored, &scales], &[&format!("{name}_w_dq")], blocks);
        let product = graph.node("MatMul", &[&data, &weights], name);
        let bias = graph.constant(&format!("{name}_b"), FLOAT16, &[to]);
        data = graph.node("Add", &[&product, &bias], &format!("{name}_sum"));
        if name == "up" {
            data = graph.gelu(&data);
        }
    }
    graph.model(&[WIDTH])
}

/// Two products with weights in MXFP8, and data quantized while it runs, if asked for.
pub(crate) fn mxfp8(quantizes_data: bool) -> ModelProto {
    const BLOCK: i64 = 32;
    let mut graph = Builder::new(Form::BASE);
    graph.input("x", FLOAT16, &[WIDTH]);
    let blocks = |axis| {
        vec![integer("axis", axis), integer("block_size", BLOCK), integer("output_dtype", FLOAT16.into())]
    };
    let mut data = "x".to_owned();
    for (name, [from, to]) in [("up", [WIDTH, INNER]), ("down", [INNER, WIDTH])] {
        let operator = "TRT_MXFP8DequantizeLinear";
        if quantizes_data {
            let (quantized, scales) = (format!("{name}_data_q"), format!("{name}_data_scales"));
            let attributes = vec![integer("axis", -1), integer("block_size", BLOCK)];
            graph.node_with("TRT_MXFP8DynamicQuantize", &[&data], &[&quantized, &scales], attributes);
            let output = format!("{name}_data_dq");
            data = graph.node_with(operator, &[&quantized, &scales], &[&output], blocks(-1));
        }
        let stored = graph.constant(&format!("{name}_w_q"), FLOAT8, &[from, to]);
        let count = (from / BLOCK * to) as usize;
        let scales = graph.raw(&format!("{name}_w_scales"), UINT8, &[from / BLOCK, to], vec![118; count]);
        let weights = graph.node_with(operator, &[&stored, &scales], &[&format!("{name}_w_dq")], blocks(0));
        data = graph.node("MatMul", &[&data, &weights], name);
        if name == "up" {
            data = graph.gelu(&data);
        }
    }
    graph.model(&[WIDTH])
}

/// An input or output of shape [N, …].
fn value(name: &str, element_type: i32, row: &[i64]) -> ValueInfoProto {
    let dimension = |value| Dimension { value: Some(value), ..Dimension::default() };
    let first = dimension(dimension::Value::DimParam("N".into()));
    let rest = row.iter().map(|&size| dimension(dimension::Value::DimValue(size)));
    let shape = TensorShapeProto { dim: std::iter::once(first).chain(rest).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(element_type), shape: Some(shape) };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(kind), ..ValueInfoProto::default() }
}

fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(2), i: Some(value), ..AttributeProto::default() }
}

fn integers(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(7),
        ints: values.into(),
        ..AttributeProto::default()
    }
}

/// The bytes of one number; of types of 8 bits that are no integers, 0 alone is known here.
fn element(element_type: i32, value: f32) -> Vec<u8> {
    match element_type {
        FLOAT => value.to_le_bytes().into(),
        FLOAT16 => half::f16::from_f32(value).to_le_bytes().into(),
        BFLOAT16 => half::bf16::from_f32(value).to_le_bytes().into(),
        INT8 | UINT8 | FLOAT8 | FLOAT8E5M2 | FLOAT8E8M0 | INT4 | UINT4 => vec![value as u8],
        INT16 => (value as i16).to_le_bytes().into(),
        INT32 => (value as i32).to_le_bytes().into(),
        other => unreachable!("no numbers of type {other} are needed"),
    }
}

/// The bytes of many numbers, none of which is infinite or not a number.
fn pattern(element_type: i32, count: usize) -> Vec<u8> {
    const PERIOD: usize = 251;
    let small = |index: usize| (index as f32 - 125.0) * 0.0005;
    let one: Vec<u8> = match element_type {
        INT8 => (0..PERIOD).map(|index| index.wrapping_sub(125) as u8).collect(),
        // Signs alternate; exponents stay below those of NaN.
        FLOAT8 => (0..PERIOD).map(|index| (index % 0x70) as u8 | ((index % 2) as u8) << 7).collect(),
        INT4 | UINT4 | FLOAT4 => (0..PERIOD).map(|index| index as u8).collect(),
        other => (0..PERIOD).flat_map(|index| element(other, small(index))).collect(),
    };
    let size = match element_type {
        INT4 | UINT4 | FLOAT4 => count.div_ceil(2),
        _ => count * one.len() / PERIOD,
    };
    let mut bytes = one.repeat(size.div_ceil(one.len()));
    bytes.truncate(size);
    bytes
}
