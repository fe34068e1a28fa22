//! What is in a model: counted from its structure and the sizes of its tensors. No weight is read.
//!
//! Training graphs are not counted: nothing that runs a model looks at them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::element_type::ElementType;
use super::error::OnnxError;
use super::external_data::ExternalFile;
use super::file::OnnxFile;
use super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use super::tensor_info::TensorInfo;
use super::tensor_size::{element_count, element_type};

/// What is in one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The size of the model file, without its external files.
    pub size_bytes: u64,
    /// The version of the format.
    pub ir_version: i64,
    /// The program that wrote the file; empty if the file doesn't say.
    pub producer_name: String,
    /// That program's version; empty if the file doesn't say.
    pub producer_version: String,
    /// The operator sets, sorted by domain.
    pub opsets: Vec<Opset>,
    /// What a caller feeds.
    pub inputs: Vec<TensorInfo>,
    /// What a caller gets.
    pub outputs: Vec<TensorInfo>,
    /// All nodes, by where they are.
    pub nodes: NodeCount,
    /// The operators, the most frequent first.
    pub operators: Vec<OperatorCount>,
    /// Initializers and the values of Constant nodes, wherever they are, by element type.
    pub parameters: Vec<ParameterCount>,
    /// The operators that the model defines itself, in its order.
    pub functions: Vec<FunctionSize>,
    /// The files beside the model that hold weights, sorted.
    pub external_files: Vec<ExternalFile>,
}

/// An operator set that the model uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opset {
    /// Its domain; `ai.onnx` is ONNX's own.
    pub domain: String,
    /// Its version.
    pub version: i64,
}

/// Numbers of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCount {
    /// In the model's graph.
    pub graph: u64,
    /// In graphs that are attributes of nodes: branches and loop bodies.
    pub subgraphs: u64,
    /// In the bodies of local functions, their subgraphs included; once a function, however often it is called.
    pub functions: u64,
}

/// How often an operator is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorCount {
    /// Its domain; `ai.onnx` is ONNX's own.
    pub domain: String,
    /// Its name.
    pub op_type: String,
    /// Its uses.
    pub nodes: NodeCount,
}

/// Constants of one element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterCount {
    /// The type.
    pub element_type: ElementType,
    /// The number of tensors.
    pub tensors: u64,
    /// The number of their elements; of sparse tensors, those that are stored.
    pub values: u64,
    /// The size of their payload.
    pub size_bytes: u64,
}

/// A local function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionSize {
    /// Its domain.
    pub domain: String,
    /// Its name.
    pub name: String,
    /// The number of nodes of its body, its subgraphs included.
    pub nodes: u64,
}

impl NodeCount {
    /// Returns the number of nodes, wherever they are.
    pub fn total(&self) -> u64 {
        let Self { graph, subgraphs, functions } = self;
        graph + subgraphs + functions
    }

    fn count(&mut self, place: Place) {
        match place {
            Place::Graph => self.graph += 1,
            Place::Subgraph => self.subgraphs += 1,
            Place::Function => self.functions += 1,
        }
    }
}

impl Summary {
    /// Counts what is in a model.
    ///
    /// # Errors
    /// A tensor whose shape is impossible, whose type is unknown, or whose payload has another size than those need.
    pub fn of(file: &OnnxFile) -> Result<Self, OnnxError> {
        let model = file.model();
        let mut counts = Counts {
            file,
            nodes: NodeCount::default(),
            operators: BTreeMap::new(),
            parameters: BTreeMap::new(),
        };
        counts.graph(file.graph(), Place::Graph)?;
        let mut functions = Vec::new();
        for function in &model.functions {
            let before = counts.nodes.functions;
            counts.nodes(&function.node, Place::Function)?;
            // A default for an attribute may be a graph too.
            counts.subgraphs(&function.attribute_proto, Place::Function)?;
            let nodes = counts.nodes.functions - before;
            functions.push(FunctionSize {
                domain: domain(function.domain()),
                name: function.name().into(),
                nodes,
            });
        }
        let opset = |opset: &super::proto::OperatorSetIdProto| Opset {
            domain: domain(opset.domain()),
            version: opset.version(),
        };
        let mut opsets: Vec<Opset> = model.opset_import.iter().map(opset).collect();
        opsets.sort();
        let operators = counts.operators.into_iter();
        let mut operators: Vec<OperatorCount> = operators
            .map(|((domain, op_type), nodes)| OperatorCount { domain, op_type: op_type.into(), nodes })
            .collect();
        operators.sort_by_key(|operator| std::cmp::Reverse(operator.nodes.total()));
        Ok(Self {
            size_bytes: file.size_bytes(),
            ir_version: model.ir_version(),
            producer_name: model.producer_name().into(),
            producer_version: model.producer_version().into(),
            opsets,
            inputs: file.inputs(),
            outputs: file.outputs(),
            nodes: counts.nodes,
            operators,
            parameters: counts.parameters.into_values().collect(),
            functions,
            external_files: file.external_sizes(),
        })
    }
}

#[derive(Clone, Copy)]
enum Place {
    Graph,
    Subgraph,
    Function,
}

struct Counts<'a> {
    file: &'a OnnxFile,
    nodes: NodeCount,
    operators: BTreeMap<(String, &'a str), NodeCount>,
    parameters: BTreeMap<ElementType, ParameterCount>,
}

impl<'a> Counts<'a> {
    fn graph(&mut self, graph: &'a GraphProto, place: Place) -> Result<(), OnnxError> {
        graph.initializer.iter().try_for_each(|tensor| self.tensor(tensor))?;
        for values in graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref()) {
            self.tensor(values)?;
        }
        self.nodes(&graph.node, place)
    }

    fn nodes(&mut self, nodes: &'a [NodeProto], place: Place) -> Result<(), OnnxError> {
        for node in nodes {
            self.nodes.count(place);
            let domain = domain(node.domain());
            if node.op_type() == "Constant" && domain == OWN_DOMAIN {
                node.attribute.iter().try_for_each(|attribute| self.constant(attribute))?;
            }
            self.operators.entry((domain, node.op_type())).or_default().count(place);
            self.subgraphs(&node.attribute, place)?;
        }
        Ok(())
    }

    fn subgraphs(&mut self, attributes: &'a [AttributeProto], place: Place) -> Result<(), OnnxError> {
        let inside = match place {
            Place::Graph | Place::Subgraph => Place::Subgraph,
            Place::Function => Place::Function,
        };
        for attribute in attributes {
            let graphs = attribute.g.as_deref().into_iter().chain(&attribute.graphs);
            for graph in graphs {
                self.graph(graph, inside)?;
            }
        }
        Ok(())
    }

    fn constant(&mut self, attribute: &AttributeProto) -> Result<(), OnnxError> {
        match attribute.name() {
            "value" => attribute.t.iter().try_for_each(|tensor| self.tensor(tensor))?,
            "sparse_value" => {
                let values = attribute.sparse_tensor.as_ref().and_then(|sparse| sparse.values.as_ref());
                values.map_or(Ok(()), |tensor| self.tensor(tensor))?;
            }
            "value_float" => self.parameter(ElementType::Float, 1, 4),
            "value_floats" => {
                let values = attribute.floats.len() as u64;
                self.parameter(ElementType::Float, values, values * 4);
            }
            "value_int" => self.parameter(ElementType::Int64, 1, 8),
            "value_ints" => {
                let values = attribute.ints.len() as u64;
                self.parameter(ElementType::Int64, values, values * 8);
            }
            "value_string" => self.parameter(ElementType::String, 1, attribute.s().len() as u64),
            "value_strings" => {
                let values = attribute.strings.len() as u64;
                self.parameter(ElementType::String, values, total_bytes(&attribute.strings));
            }
            _ => {}
        }
        Ok(())
    }

    fn tensor(&mut self, tensor: &TensorProto) -> Result<(), OnnxError> {
        let path = self.file.path();
        let element_type = element_type(path, tensor)?;
        let (values, size_bytes) = match element_type {
            ElementType::String => (tensor.string_data.len() as u64, total_bytes(&tensor.string_data)),
            // In place: nothing is read, and only what typed fields hold is copied, one tensor at a time.
            _ => (element_count(path, tensor)?, self.file.tensor_bytes(tensor)?.len() as u64),
        };
        self.parameter(element_type, values, size_bytes);
        Ok(())
    }

    fn parameter(&mut self, element_type: ElementType, values: u64, size_bytes: u64) {
        let empty = ParameterCount { element_type, tensors: 0, values: 0, size_bytes: 0 };
        let count = self.parameters.entry(element_type).or_insert(empty);
        count.tensors += 1;
        // Many tensors may share one huge sparse file.
        count.values = count.values.saturating_add(values);
        count.size_bytes = count.size_bytes.saturating_add(size_bytes);
    }
}

fn total_bytes(strings: &[Bytes]) -> u64 {
    strings.iter().map(|text| text.len() as u64).sum()
}

const OWN_DOMAIN: &str = "ai.onnx";

/// Returns the domain under its long name: the empty one is ONNX's own.
fn domain(name: &str) -> String {
    if name.is_empty() { OWN_DOMAIN.into() } else { name.into() }
}
