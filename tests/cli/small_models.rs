//! Small models that together have everything a model can have: what is read, broken on purpose, and where the fuzzer
//! starts (`fuzz/seeds/onnx_reader`).

use nimctl::onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TrainingInfoProto, TypeProto, ValueInfoProto,
    dimension, type_proto,
};
use prost::Message as _;

/// The size of the external file `w.bin` that some of them name.
pub(crate) const EXTERNAL_BYTES: usize = 64;

/// All of them, encoded, by name.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let models = [
        ("initializers", initializers()),
        ("typed_fields", typed_fields()),
        ("constants", constants()),
        ("nested", nested()),
        ("loop", looping()),
        ("sparse", sparse()),
        ("external", external()),
        ("types", types()),
    ];
    models.map(|(name, model)| (name, model.encode_to_vec())).into()
}

pub(crate) fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op_type.into()),
        input: inputs.iter().map(|&input| input.into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

pub(crate) fn with(attributes: Vec<AttributeProto>, node: NodeProto) -> NodeProto {
    NodeProto { attribute: attributes, ..node }
}

pub(crate) fn attribute(name: &str) -> AttributeProto {
    AttributeProto { name: Some(name.into()), ..AttributeProto::default() }
}

pub(crate) fn branch(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(Box::new(graph)), r#type: Some(5), ..attribute(name) }
}

/// A tensor of this element type without a payload.
pub(crate) fn tensor(name: &str, data_type: i32, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(data_type),
        dims: dims.into(),
        ..TensorProto::default()
    }
}

pub(crate) fn floats(name: &str, values: &[f32]) -> TensorProto {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorProto { raw_data: Some(raw.into()), ..tensor(name, 1, &[values.len() as i64]) }
}

pub(crate) fn external_tensor(name: &str, dims: &[i64], entries: &[(&str, &str)]) -> TensorProto {
    let external_data = entries.iter().map(|(key, value)| entry(key, value)).collect();
    TensorProto { data_location: Some(1), external_data, ..tensor(name, 1, dims) }
}

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.into()), value: Some(value.into()) }
}

/// A value of FP32 with these dimensions.
pub(crate) fn value(name: &str, dims: &[&str]) -> ValueInfoProto {
    let dimension = |dim: &&str| {
        let value = dim
            .parse()
            .map_or_else(|_| dimension::Value::DimParam((*dim).into()), dimension::Value::DimValue);
        nimctl::onnx::proto::Dimension { value: Some(value), denotation: None }
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dimension).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(shape) };
    typed(name, type_proto::Value::TensorType(tensor))
}

fn typed(name: &str, value: type_proto::Value) -> ValueInfoProto {
    let r#type = Some(TypeProto { value: Some(value), denotation: None });
    ValueInfoProto { name: Some(name.into()), r#type, ..ValueInfoProto::default() }
}

/// A model around a graph.
pub(crate) fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(10),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(21) }],
        ..ModelProto::default()
    }
}

/// The graph `y = f(x)` of these nodes and weights.
pub(crate) fn graph(nodes: Vec<NodeProto>, initializers: Vec<TensorProto>) -> GraphProto {
    GraphProto {
        node: nodes,
        name: Some("g".into()),
        initializer: initializers,
        input: vec![value("x", &["N", "4"])],
        output: vec![value("y", &["N", "4"])],
        ..GraphProto::default()
    }
}

fn initializers() -> ModelProto {
    let large = TensorProto { raw_data: Some(vec![0x3c; 64].into()), ..tensor("w", 1, &[4, 4]) };
    let tiny = floats("epsilon", &[1e-12]);
    let outside_fp16 = floats("big", &[1e6, -1e6, 0.0, f32::NAN]);
    let nodes = vec![
        node("MatMul", &["x", "w"], "product"),
        node("Add", &["product", "epsilon"], "sum"),
        node("Add", &["sum", "big"], "sum2"),
        NodeProto { output: vec!["y".into(), String::new()], ..node("Relu", &["sum2"], "y") },
    ];
    let mut model = model(graph(nodes, vec![large, tiny, outside_fp16]));
    model.producer_name = Some("a test".into());
    model.metadata_props = vec![entry("author", "nobody")];
    model
}

fn typed_fields() -> ModelProto {
    let tensors = vec![
        TensorProto { float_data: vec![1.0, 2.0], ..tensor("float", 1, &[2]) },
        TensorProto { int32_data: vec![1, -2], ..tensor("int8", 3, &[2]) },
        TensorProto { int32_data: vec![0x3c00], ..tensor("half", 10, &[]) },
        TensorProto { int32_data: vec![0x21, 3], ..tensor("int4", 22, &[3]) },
        TensorProto { int64_data: vec![0, -1], ..tensor("int64", 7, &[2]) },
        TensorProto { uint64_data: vec![7], ..tensor("uint32", 12, &[1]) },
        TensorProto { double_data: vec![0.5], ..tensor("double", 11, &[1]) },
        TensorProto { float_data: vec![0.5, 1.0], ..tensor("complex", 14, &[1]) },
        TensorProto { string_data: vec!["a".into(), "".into()], ..tensor("string", 8, &[2]) },
        tensor("none", 1, &[0, 5]),
    ];
    model(graph(vec![node("Mul", &["x", "float"], "y")], tensors))
}

fn constants() -> ModelProto {
    let ones = AttributeProto { t: Some(floats("", &[1.0])), r#type: Some(4), ..attribute("value") };
    let nodes = vec![
        with(vec![ones.clone()], node("Constant", &[], "a")),
        with(vec![AttributeProto { f: Some(2.0), ..attribute("value_float") }], node("Constant", &[], "b")),
        with(
            vec![AttributeProto { ints: vec![1, -1], ..attribute("value_ints") }],
            node("Constant", &[], "c"),
        ),
        with(
            vec![AttributeProto { strings: vec!["s".into()], ..attribute("value_strings") }],
            node("Constant", &[], "d"),
        ),
        with(vec![ones], node("ConstantOfShape", &["c"], "e")),
        node("Add", &["a", "b"], "f"),
        with(vec![AttributeProto { i: Some(1), ..attribute("to") }], node("Cast", &["c"], "h")),
        node("Mul", &["x", "f"], "y"),
    ];
    model(graph(nodes, vec![]))
}

/// A branch within a branch, a function that has one too, and three kinds of constant.
pub(crate) fn nested() -> ModelProto {
    let constants = vec![
        with(
            vec![AttributeProto { floats: vec![1.0, 2.0], ..attribute("value_floats") }],
            node("Constant", &[], "a"),
        ),
        with(vec![AttributeProto { i: Some(1), ..attribute("value_int") }], node("Constant", &[], "b")),
        with(
            vec![AttributeProto { s: Some("ab".into()), ..attribute("value_string") }],
            node("Constant", &[], "c"),
        ),
    ];
    let then = |nodes: Vec<NodeProto>, output| {
        let graph = GraphProto { node: nodes, output: vec![value("z", &[])], ..GraphProto::default() };
        with(vec![branch("then_branch", graph)], node("If", &["w"], output))
    };
    let weights = TensorProto { int32_data: vec![1, 2, 3], ..tensor("w", 6, &[3]) };
    let twice = |input, output| NodeProto { domain: Some("own".into()), ..node("Twice", &[input], output) };
    let function = FunctionProto {
        name: Some("Twice".into()),
        domain: Some("own".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: vec![node("Add", &["a", "a"], "b"), then(vec![node("Add", &["a", "a"], "z")], "c")],
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(21) }],
        ..FunctionProto::default()
    };
    let inner = vec![then(constants, "d"), node("Add", &["x", "x"], "z")];
    let nodes = vec![then(inner, "e"), twice("x", "t"), twice("t", "y")];
    let odd_input = ValueInfoProto { name: Some("x\n\u{1b}[2J".into()), ..ValueInfoProto::default() };
    let mut model = model(graph(nodes, vec![weights]));
    model.graph.as_mut().unwrap().input.push(odd_input);
    model.producer_name = Some("a test".into());
    model.opset_import.insert(0, OperatorSetIdProto { domain: Some("own".into()), version: Some(1) });
    model.functions = vec![function];
    model
}

fn looping() -> ModelProto {
    let body = GraphProto {
        node: vec![node("Identity", &["go"], "go_on"), node("Mul", &["state", "x"], "z")],
        initializer: vec![floats("inner", &[1.0])],
        input: vec![value("i", &[]), value("go", &[]), value("state", &["N", "4"])],
        output: vec![value("go_on", &[]), value("z", &["N", "4"])],
        ..GraphProto::default()
    };
    let weights = floats("w", &[1.0, 2.0, 3.0, 4.0]);
    let nodes = vec![
        node("Add", &["x", "w"], "start"),
        with(vec![branch("body", body)], node("Loop", &["", "", "start"], "y")),
    ];
    model(graph(nodes, vec![weights]))
}

fn sparse() -> ModelProto {
    let values = |name: &str| SparseTensorProto {
        values: Some(floats(name, &[1.0, 2.0])),
        indices: Some(TensorProto { int64_data: vec![0, 3], ..tensor("", 7, &[2]) }),
        dims: vec![4],
    };
    let constant = AttributeProto { sparse_tensor: Some(values("")), ..attribute("sparse_value") };
    let nodes = vec![
        with(vec![constant], node("Constant", &[], "c")),
        node("Add", &["x", "s"], "sum"),
        node("Add", &["sum", "c"], "y"),
    ];
    let mut graph = graph(nodes, vec![]);
    graph.sparse_initializer = vec![values("s")];
    model(graph)
}

fn external() -> ModelProto {
    let tensors = vec![
        external_tensor("w", &[4, 2], &[("location", "w.bin"), ("offset", "32"), ("length", "32")]),
        external_tensor("b", &[4], &[("location", "./w.bin")]),
    ];
    model(graph(vec![node("MatMul", &["x", "w"], "p"), node("Add", &["p", "b"], "y")], tensors))
}

/// Values that are no tensors, a graph to train with, and what else is rare.
fn types() -> ModelProto {
    let element = || Some(Box::new(value("", &["?"]).r#type.unwrap()));
    let mut graph = graph(vec![node("Identity", &["x"], "y")], vec![]);
    graph.input.extend([
        typed(
            "sequence",
            type_proto::Value::SequenceType(type_proto::Sequence { elem_type: element() }.into()),
        ),
        typed(
            "map",
            type_proto::Value::MapType(type_proto::Map { key_type: Some(7), value_type: element() }.into()),
        ),
        typed(
            "optional",
            type_proto::Value::OptionalType(type_proto::Optional { elem_type: element() }.into()),
        ),
        typed(
            "opaque",
            type_proto::Value::OpaqueType(type_proto::Opaque { domain: None, name: Some("o".into()) }),
        ),
        value("unknown", &["-1", ""]),
    ]);
    graph.value_info = vec![value("x", &["N", "4"])];
    let training = TrainingInfoProto { initialization: Some(graph.clone()), ..TrainingInfoProto::default() };
    let mut model = model(graph);
    model.training_info = vec![training];
    model
}
