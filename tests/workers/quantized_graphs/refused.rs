//! Graphs that compilers refuse, or fall back for: forms of others.

use nimctl::onnx::proto::ModelProto;

use super::*;

/// One product of data and weights, node `up`, whose parts a test puts together as no form does.
pub(crate) struct OddProduct {
    /// The types of quantized data and of its zero point, and that.
    pub(crate) data: Option<(i32, f32)>,
    /// The type of the weights.
    pub(crate) weights: i32,
    /// The type of their scales.
    pub(crate) scales: i32,
    /// How many weights share a scale; all, if it is 0.
    pub(crate) block: i64,
    /// Whether a bias of 32-bit integers is dequantized.
    pub(crate) has_integer_bias: bool,
}

impl OddProduct {
    /// One that is as usual.
    pub(crate) const USUAL: Self =
        Self { data: Some((INT8, 0.0)), weights: INT8, scales: FLOAT16, block: 0, has_integer_bias: false };

    pub(crate) fn graph(&self) -> ModelProto {
        let mut graph = Builder::new(Form::BASE);
        graph.input("x", FLOAT16, &[WIDTH]);
        let mut data = "x".to_owned();
        if let Some((element_type, zero)) = self.data {
            let scale = graph.number("x_scale", FLOAT16, DATA_SCALE);
            let zero = graph.number("x_zero", element_type, zero);
            graph.node("QuantizeLinear", &["x", &scale, &zero], "x_q");
            data = graph.node("DequantizeLinear", &["x_q", &scale, &zero], "x_dq");
        }
        let stored = graph.constant("w_q", self.weights, &[WIDTH, INNER]);
        let attributes = if self.block > 0 {
            let blocks = WIDTH / self.block;
            let one = if self.scales == FLOAT8E8M0 { 118.0 } else { WEIGHT_SCALE };
            let scales = element(self.scales, one).repeat((blocks * INNER) as usize);
            graph.raw("w_scale", self.scales, &[blocks, INNER], scales);
            vec![integer("axis", 0), integer("block_size", self.block)]
        } else {
            graph.number("w_scale", self.scales, WEIGHT_SCALE);
            vec![]
        };
        let weights = graph.node_with("DequantizeLinear", &[&stored, "w_scale"], &["w_dq"], attributes);
        let product = graph.node("MatMul", &[&data, &weights], "up");
        if self.has_integer_bias {
            graph.raw("b_q", INT32, &[INNER], element(INT32, 7.0).repeat(INNER as usize));
            let scale = graph.number("b_scale", FLOAT16, WEIGHT_SCALE);
            let bias = graph.node("DequantizeLinear", &["b_q", &scale], "b_dq");
            graph.node("Add", &[&product, &bias], "y");
        }
        graph.model(&[INNER])
    }
}

/// What ONNX's own dynamic quantization writes: scales that are found while the graph runs, and a product of integers.
pub(crate) fn dynamic_integers() -> ModelProto {
    let mut graph = Builder::new(Form::base(FLOAT));
    graph.input("x", FLOAT, &[WIDTH]);
    graph.node_with("DynamicQuantizeLinear", &["x"], &["x_q", "x_scale", "x_zero"], vec![]);
    graph.raw("w_q", INT8, &[WIDTH, INNER], pattern(INT8, (WIDTH * INNER) as usize));
    graph.node("MatMulInteger", &["x_q", "w_q", "x_zero"], "up");
    graph.node_with("Cast", &["up"], &["y"], vec![integer("to", FLOAT.into())]);
    graph.model(&[INNER])
}

/// Rows of a table of 8-bit integers that is dequantized behind the Gather.
pub(crate) fn gathered_integers() -> ModelProto {
    let mut graph = Builder::new(Form::BASE);
    graph.input("ids", INT64, &[16]);
    graph.raw("table_q", INT8, &[4096, MODEL], pattern(INT8, (4096 * MODEL) as usize));
    let rows = graph.node("Gather", &["table_q", "ids"], "gather");
    let scale = graph.number("scale", FLOAT16, WEIGHT_SCALE);
    graph.node("DequantizeLinear", &[&rows, &scale], "y");
    graph.model(&[16, MODEL])
}
