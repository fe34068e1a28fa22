//! A tiny ONNX graph, written field by field: `y = relu(x · W + b)` with x of shape [N, 4] and y of shape [N, 3].
//!
//! The numbers are the field numbers of `onnx.proto`; nothing else is needed for a graph of three nodes.

use std::path::Path;

/// The element type of the graph, with ONNX's number for it.
#[derive(Clone, Copy)]
pub(crate) enum Precision {
    Float32 = 1,
    Float16 = 10,
}

/// x for a batch of two, and the y that follows from W and b below.
pub(crate) const X: [f32; 8] = [1.0, 2.0, 3.0, 4.0, -1.0, 0.5, 0.0, 2.0];
pub(crate) const Y: [f32; 6] = [13.5, 0.0, 4.25, 4.5, 0.0, 2.0];
const W: [f32; 12] = [1.0, -1.0, 0.5, 0.0, 2.0, -1.0, 1.0, -1.0, 0.75, 2.0, -3.0, 0.25];
const B: [f32; 3] = [1.5, -0.5, 2.5];

/// Writes the graph with its weights inside.
pub(crate) fn write(path: &Path, precision: Precision) {
    fs_err::write(path, model(precision, &weights(precision, None))).unwrap();
}

/// Writes the graph with W in a file of its own beside it.
pub(crate) fn write_external(path: &Path, precision: Precision) {
    fs_err::write(path, model(precision, &weights(precision, Some("w.bin")))).unwrap();
    fs_err::write(path.with_file_name("w.bin"), raw(precision, &W)).unwrap();
}

/// Writes the graph with its weights in another file, which is not written.
pub(crate) fn write_external_elsewhere(path: &Path, precision: Precision, location: &str) {
    fs_err::write(path, model(precision, &weights(precision, Some(location)))).unwrap();
}

/// Writes a graph that takes a while to compile: many products of a square matrix of `width`.
pub(crate) fn write_slow(path: &Path, width: usize, layers: usize) {
    let values = vec![0.001; width * width];
    let square = tensor("W", &[width, width], Precision::Float16, &raw(Precision::Float16, &values));
    let mut graph = Vec::new();
    for layer in 0..layers {
        let input = if layer == 0 { "x".into() } else { format!("t{}", layer - 1) };
        let output = if layer == layers - 1 { "y".into() } else { format!("t{layer}") };
        graph.extend(bytes(1, &node("MatMul", &[&input, "W"], &output)));
    }
    graph.extend(bytes(2, b"slow"));
    graph.extend(bytes(5, &square));
    graph.extend(bytes(11, &value("x", Precision::Float16, width)));
    graph.extend(bytes(12, &value("y", Precision::Float16, width)));
    fs_err::write(path, envelope(&graph)).unwrap();
}

/// Writes a graph of three open dimensions, x of shape [N, 3, H, W]: convolutions that are scaled by their own means, then
/// attention over all pixels, whose shapes are computed.
pub(crate) fn write_open(path: &Path) {
    let mut graph = Vec::new();
    let mut input = "x".to_owned();
    for block in 0..5 {
        let name = |what: &str| format!("{what}{block}");
        for (operator, inputs, output) in [
            ("Conv", [input, name("w")].as_slice(), name("c")),
            ("Relu", &[name("c")], name("r")),
            ("GlobalAveragePool", &[name("r")], name("m")),
            ("Sigmoid", &[name("m")], name("s")),
            ("Mul", &[name("r"), name("s")], name("o")),
        ] {
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            graph.extend(bytes(1, &node(operator, &inputs, &output)));
        }
        let channels = if block == 0 { 3 } else { 8 };
        graph.extend(bytes(5, &numbers(&name("w"), &[8, channels, 3, 3])));
        input = name("o");
    }
    let attribute = |name: &str, value: Vec<u8>| bytes(5, &[bytes(1, name.as_bytes()), value].concat());
    let axis = || attribute("axis", [number(3, 0), number(20, 2)].concat());
    let order = |axes: &[u64]| {
        let axes: Vec<u8> = axes.iter().flat_map(|&axis| number(8, axis)).collect();
        attribute("perm", [axes, number(20, 7)].concat())
    };
    for (operator, inputs, output, attributes) in [
        ("Shape", ["o4"].as_slice(), "shape", vec![]),
        ("Gather", &["shape", "[0]"], "n", vec![]),
        ("Gather", &["shape", "[2]"], "h", vec![]),
        ("Gather", &["shape", "[3]"], "w", vec![]),
        ("Mul", &["h", "w"], "hw", vec![]),
        ("Concat", &["n", "[8]", "hw"], "flat", axis()),
        ("Reshape", &["o4", "flat"], "flattened", vec![]),
        ("Transpose", &["flattened"], "rows", order(&[0, 2, 1])),
        ("MatMul", &["rows", "w_qkv"], "qkv", vec![]),
        ("Concat", &["n", "hw", "[3]", "[8]"], "three", axis()),
        ("Reshape", &["qkv", "three"], "parts", vec![]),
        ("Transpose", &["parts"], "split", order(&[2, 0, 1, 3])),
        ("Gather", &["split", "0"], "q", vec![]),
        ("Gather", &["split", "1"], "k", vec![]),
        ("Gather", &["split", "2"], "v", vec![]),
        ("Transpose", &["k"], "k_t", order(&[0, 2, 1])),
        ("MatMul", &["q", "k_t"], "scores", vec![]),
        ("Softmax", &["scores"], "p", vec![]),
        ("MatMul", &["p", "v"], "mixed", vec![]),
        ("Add", &["mixed", "rows"], "sum", vec![]),
        ("MatMul", &["sum", "w_y"], "logits", vec![]),
        ("Softmax", &["logits"], "y", vec![]),
    ] {
        graph.extend(bytes(1, &[node(operator, inputs, output), attributes].concat()));
    }
    for index in [0, 1, 2, 3, 8_i64] {
        for (name, shape) in [(index.to_string(), [].as_slice()), (format!("[{index}]"), &[1])] {
            graph.extend(bytes(5, &integers(&name, shape, index)));
        }
    }
    graph.extend(bytes(5, &numbers("w_qkv", &[8, 24])));
    graph.extend(bytes(5, &numbers("w_y", &[8, 33])));
    graph.extend(bytes(2, b"open"));
    let open = |name: &str| bytes(2, name.as_bytes());
    let value = |name: &str, dimensions: &[Vec<u8>]| {
        let shape: Vec<u8> = dimensions.iter().flat_map(|dimension| bytes(1, dimension)).collect();
        let tensor = [number(1, Precision::Float32 as u64), bytes(2, &shape)].concat();
        [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
    };
    graph.extend(bytes(11, &value("x", &[open("N"), number(1, 3), open("H"), open("W")])));
    graph.extend(bytes(12, &value("y", &[open("N"), open("pixels"), number(1, 33)])));
    fs_err::write(path, envelope(&graph)).unwrap();
}

/// Some FP32 numbers, the same ones every time.
fn numbers(name: &str, shape: &[usize]) -> Vec<u8> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|index| (index % 7) as f32 * 0.05 - 0.15).collect();
    tensor(name, shape, Precision::Float32, &raw(Precision::Float32, &values))
}

fn integers(name: &str, shape: &[u64], value: i64) -> Vec<u8> {
    let shape: Vec<u8> = shape.iter().flat_map(|&dimension| number(1, dimension)).collect();
    [shape, number(2, 7), bytes(8, name.as_bytes()), bytes(9, &value.to_le_bytes())].concat()
}

/// Little-endian elements of a precision.
pub(crate) fn raw(precision: Precision, values: &[f32]) -> Vec<u8> {
    match precision {
        Precision::Float32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Precision::Float16 => {
            values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect()
        }
    }
}

fn model(precision: Precision, initializers: &[Vec<u8>]) -> Vec<u8> {
    let mut graph = Vec::new();
    graph.extend(bytes(1, &node("MatMul", &["x", "W"], "product")));
    graph.extend(bytes(1, &node("Add", &["product", "b"], "sum")));
    graph.extend(bytes(1, &node("Relu", &["sum"], "y")));
    graph.extend(bytes(2, b"tiny"));
    for initializer in initializers {
        graph.extend(bytes(5, initializer));
    }
    graph.extend(bytes(11, &value("x", precision, 4)));
    graph.extend(bytes(12, &value("y", precision, 3)));
    envelope(&graph)
}

fn envelope(graph: &[u8]) -> Vec<u8> {
    // ir_version 8; the default operator set, version 17.
    [number(1, 8), bytes(7, graph), bytes(8, &number(2, 17))].concat()
}

fn weights(precision: Precision, external: Option<&str>) -> Vec<Vec<u8>> {
    let w = match external {
        None => tensor("W", &[4, 3], precision, &raw(precision, &W)),
        Some(location) => {
            let entry = [bytes(1, b"location"), bytes(2, location.as_bytes())].concat();
            let shape = [number(1, 4), number(1, 3)].concat();
            [shape, number(2, precision as u64), bytes(8, b"W"), bytes(13, &entry), number(14, 1)].concat()
        }
    };
    vec![w, tensor("b", &[3], precision, &raw(precision, &B))]
}

fn tensor(name: &str, shape: &[usize], precision: Precision, raw: &[u8]) -> Vec<u8> {
    let shape: Vec<u8> = shape.iter().flat_map(|&dimension| number(1, dimension as u64)).collect();
    [shape, number(2, precision as u64), bytes(8, name.as_bytes()), bytes(9, raw)].concat()
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| bytes(1, input.as_bytes())).collect();
    [inputs, bytes(2, output.as_bytes()), bytes(3, output.as_bytes()), bytes(4, operator.as_bytes())].concat()
}

fn value(name: &str, precision: Precision, width: usize) -> Vec<u8> {
    let shape = [bytes(1, &bytes(2, b"N")), bytes(1, &number(1, width as u64))].concat();
    let tensor = [number(1, precision as u64), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A graph of a few nodes, written one after another; its first dimension is `N`.
pub(crate) struct Small(Vec<u8>);

/// ONNX's numbers of element types.
pub(crate) const FLOAT: u64 = 1;
pub(crate) const INT64: u64 = 7;
pub(crate) const BOOL: u64 = 9;
pub(crate) const DOUBLE: u64 = 11;

impl Small {
    pub(crate) fn new() -> Self {
        Self(bytes(2, b"small"))
    }

    pub(crate) fn node(self, operator: &str, inputs: &[&str], output: &str) -> Self {
        self.node_with(operator, inputs, output, &[])
    }

    /// Adds a node with attributes that are integers.
    pub(crate) fn node_with(
        mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        integers: &[(&str, u64)],
    ) -> Self {
        let attribute = |(name, value): &(&str, u64)| {
            bytes(5, &[bytes(1, name.as_bytes()), number(3, *value), number(20, 2)].concat())
        };
        let attributes: Vec<u8> = integers.iter().flat_map(attribute).collect();
        self.0.extend(bytes(1, &[node(operator, inputs, output), attributes].concat()));
        self
    }

    pub(crate) fn weight(mut self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        self.0.extend(bytes(5, &tensor(name, shape, Precision::Float32, &raw(Precision::Float32, values))));
        self
    }

    /// Adds an input of shape [N, …].
    pub(crate) fn input(mut self, name: &str, element_type: u64, row: &[u64]) -> Self {
        self.0.extend(bytes(11, &Self::value(name, element_type, Some(row))));
        self
    }

    /// Adds an output of shape [N, …], or without dimensions.
    pub(crate) fn output(mut self, name: &str, element_type: u64, row: Option<&[u64]>) -> Self {
        self.0.extend(bytes(12, &Self::value(name, element_type, row)));
        self
    }

    pub(crate) fn write(self, path: &Path) {
        fs_err::write(path, envelope(&self.0)).unwrap();
    }

    fn value(name: &str, element_type: u64, row: Option<&[u64]>) -> Vec<u8> {
        let fixed = |&size: &u64| bytes(1, &number(1, size));
        let shape: Vec<u8> = row.map_or_else(Vec::new, |row| {
            bytes(1, &bytes(2, b"N")).into_iter().chain(row.iter().flat_map(fixed)).collect()
        });
        let tensor = [number(1, element_type), bytes(2, &shape)].concat();
        [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
    }
}
