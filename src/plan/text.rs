//! The text that the compiler's code generator leaves in a plan: its graphs of kernels.
//!
//! ```text
//! header {
//!   accelerators={sm89 }
//!   inputs={ "x.1" }
//! }
//! descriptors {
//!   tensor={ const_payload_size=6 dims={ 2 3 } name="w" offset=9 region=consts type=int8 }
//! }
//! main {
//!   fully_connected={ name="mm" output={"y.1" } input={"x_q" "w" } alpha=3F800000 layers="[ONNX Layer: mm]" }
//! }
//! ```
//!
//! A value is a word, a string in quotes, or a group in braces. The grammar is not published; what does not fit is passed over.

use std::collections::BTreeMap;

/// How deep groups may be nested; 3 were seen.
const MAX_DEPTH: usize = 16;
/// What separates the entries of `layers`, and what is around each.
const LAYER_SEPARATOR: char = '\u{1f}';
const LAYER_PREFIX: &str = "[ONNX Layer: ";

/// One graph of kernels: that of a plan, or that inside one fused kernel.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// What it is compiled for: `sm89`; `*` for the inside of a kernel.
    pub(super) accelerators: Vec<String>,
    /// Its inputs, in order.
    pub(super) inputs: Vec<String>,
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// What runs, in order.
    pub(super) operations: Vec<Operation>,
}

/// What is known of a tensor; the type is the text's own word, `half`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) element_type: String,
    /// 0 for a dimension that is known at run time only.
    pub(super) shape: Vec<u64>,
    pub(super) constant: Option<Constant>,
    /// The tensor that it is a part of.
    pub(super) base: Option<String>,
}

/// Where the bytes of a constant are. Equal places are the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Constant {
    pub(super) region: String,
    pub(super) offset: u64,
    pub(super) size_bytes: u64,
}

/// One kernel, or one step inside a fused one.
#[derive(Debug, Default)]
pub(super) struct Operation {
    /// `fully_connected`, `corrltn`, `function`, `runtime_fusion`, `cast`, …
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    /// The ONNX nodes that it computes.
    pub(super) layers: Vec<String>,
    /// The number of inputs, the last ones, that are no data but sizes.
    pub(super) shape_inputs: usize,
    /// What its product is multiplied by.
    pub(super) alpha: Option<f32>,
    /// Whether its second operand is read as its transpose.
    pub(super) is_second_transposed: bool,
    /// The number of the fused kernel whose inside has a graph of its own.
    pub(super) binary: Option<usize>,
}

impl Graph {
    /// Reads a graph's text.
    pub(super) fn parse(text: &str) -> Self {
        let mut graph = Self::default();
        let mut words = Words { text, at: 0 };
        while let Some(section) = words.section() {
            while let Some((key, value)) = words.entry() {
                match (section.as_str(), key.as_str()) {
                    ("header", "accelerators") => graph.accelerators = value.names(),
                    ("header", "inputs") => graph.inputs = value.names(),
                    ("descriptors", "tensor" | "sub_tensor") => {
                        graph.tensors.insert(value.word("name"), Tensor::of(&value));
                    }
                    ("main", _) if matches!(value, Value::Group(_)) => {
                        graph.operations.push(Operation::of(key, &value));
                    }
                    _ => {}
                }
            }
        }
        graph
    }

    /// Whether this is the inside of a fused kernel.
    pub(super) fn is_inside_of_a_kernel(&self) -> bool {
        self.accelerators.iter().any(|accelerator| accelerator == "*")
    }
}

impl Tensor {
    fn of(value: &Value) -> Self {
        let number = |key| value.get(key).and_then(|value| value.text().parse().ok());
        let constant = number("const_payload_size").map(|size_bytes| Constant {
            region: value.word("region"),
            offset: number("offset").unwrap_or(0),
            size_bytes,
        });
        let dimensions = value.get("dims").map(Value::names).unwrap_or_default();
        Self {
            element_type: value.word("type"),
            shape: dimensions.iter().map(|dimension| dimension.parse().unwrap_or(0)).collect(),
            constant,
            base: value.get("base").map(|base| base.text().to_owned()),
        }
    }
}

impl Operation {
    fn of(kind: String, value: &Value) -> Self {
        let names = |key| value.get(key).map(Value::names).unwrap_or_default();
        let either = |one, other| {
            let found: Vec<String> = names(one);
            if found.is_empty() { names(other) } else { found }
        };
        let number = |key| value.get(key).and_then(|value| value.text().parse::<usize>().ok());
        let bits = value.get("alpha").and_then(|alpha| u32::from_str_radix(alpha.text(), 16).ok());
        Self {
            kind,
            name: value.word("name"),
            inputs: either("input", "input_args"),
            outputs: either("output", "output_args"),
            layers: value.word("layers").split(LAYER_SEPARATOR).filter_map(layer).collect(),
            shape_inputs: number("shape_args_count").unwrap_or(0),
            alpha: bits.map(f32::from_bits),
            is_second_transposed: value.word("trB") == "true",
            binary: number("binary"),
        }
    }
}

/// The node's name in `[ONNX Layer: mm]`.
fn layer(entry: &str) -> Option<String> {
    Some(entry.strip_prefix(LAYER_PREFIX)?.strip_suffix(']')?.to_owned())
}

#[derive(Debug)]
enum Value {
    /// A word, or what was in quotes.
    Text(String),
    /// What was in braces; the key is empty for a value without one.
    Group(Vec<(String, Value)>),
}

impl Value {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Group(_) => "",
        }
    }

    fn get(&self, key: &str) -> Option<&Self> {
        let Self::Group(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    fn word(&self, key: &str) -> String {
        self.get(key).map(|value| value.text().to_owned()).unwrap_or_default()
    }

    /// The values of a group that have no key.
    fn names(&self) -> Vec<String> {
        let Self::Group(entries) = self else { return vec![self.text().to_owned()] };
        entries.iter().filter(|(key, _)| key.is_empty()).map(|(_, value)| value.text().to_owned()).collect()
    }
}

/// A text, and how far it has been read.
struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl Words<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
    }

    /// Reads up to the `{` of the next section, and returns its name.
    fn section(&mut self) -> Option<String> {
        loop {
            self.skip_space();
            let name = self.bare();
            self.skip_space();
            match self.peek()? {
                '{' => {
                    self.next();
                    return Some(name);
                }
                _ if name.is_empty() => {
                    self.next();
                }
                _ => {}
            }
        }
    }

    /// Reads the next entry of a section that has a value; `None` at the end of the section.
    fn entry(&mut self) -> Option<(String, Value)> {
        loop {
            self.skip_space();
            match self.peek()? {
                '}' => {
                    self.next();
                    return None;
                }
                '{' | '"' | '=' => {
                    // A value without a key says nothing.
                    self.value(0)?;
                    continue;
                }
                _ => {}
            }
            let key = self.bare();
            if self.equals() {
                return Some((key, self.value(0)?));
            }
        }
    }

    /// Skips an equals sign and the spaces around it, if there is one.
    fn equals(&mut self) -> bool {
        let start = self.at;
        self.skip_space();
        if self.peek() != Some('=') {
            self.at = start;
            return false;
        }
        self.next();
        true
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        // Not over a line's end: a key without a value is the last word of its line.
        while matches!(self.peek(), Some(' ' | '\t')) {
            self.next();
        }
        match self.peek()? {
            '{' => {
                self.next();
                self.group(depth + 1)
            }
            '"' => {
                self.next();
                Some(Value::Text(self.quoted()))
            }
            '=' => {
                self.next();
                Some(Value::Text(String::new()))
            }
            _ => Some(Value::Text(self.bare())),
        }
    }

    fn group(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        let mut entries = Vec::new();
        loop {
            self.skip_space();
            match self.peek()? {
                '}' => {
                    self.next();
                    return Some(Value::Group(entries));
                }
                '{' | '"' | '=' => entries.push((String::new(), self.value(depth)?)),
                _ => {
                    let word = self.bare();
                    if self.equals() {
                        entries.push((word, self.value(depth)?));
                    } else {
                        entries.push((String::new(), Value::Text(word)));
                    }
                }
            }
        }
    }

    /// Reads what is in quotes, after the first of them; `\"` is a quote.
    fn quoted(&mut self) -> String {
        let mut found = String::new();
        while let Some(next) = self.next() {
            match next {
                '"' => break,
                '\\' if self.peek() == Some('"') => {
                    self.next();
                    found.push('"');
                }
                other => found.push(other),
            }
        }
        found
    }

    fn bare(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(|next| !next.is_whitespace() && !matches!(next, '{' | '}' | '"' | '='))
        {
            self.next();
        }
        self.text[start..self.at].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_as_the_compiler_writes_it() {
        let graph = Graph::parse(
            "header {\n  version = 5\n  region = { name=consts size=6 constant=true }\n  inputs={ \"x.1\" \"{Foreign[a...b]}\" }\n  accelerators={sm86 sm89 }\n}\n\
             descriptors {\n\
             \x20 tensor={ alignment=128 const_payload_size=6 dims={ 2 3 } name=\"w\" offset=9 rank0=0 region=consts stride_order={ 1 0 } type=int8 }\n\
             \x20 sub_tensor={ base=\"x.1\" const_offset=0 dims={ \"rows\" 3 } name=\"x^part\" type=half }\n}\n\
             main {\n label bb1: \n\
             \x20 shape_call={ name=\"s\" stream=0  layers=\"\" subg_id=0 }\n\
             \x20 function={ name=__myl_Mul args={ \"a\" \"b\" } input_args={ \"a\" } shape_args_count=1 output_args={ \"b\" } binary = 2 grid = { 8 1 } cond_fqn = { exec_cond = \"c\" grid = { 8 1 }  } layers=\"[ONNX Layer: n 1]\x1f[ONNX Layer: n{2}]\" swap_ab=false }\n\
             \x20 fully_connected={ name=\"m+n\" output={\"y\" } input={\"x^part\" \"w\" } alpha=3F000000 relu=false }\n}\n",
        );
        assert_eq!(graph.accelerators, ["sm86", "sm89"]);
        assert_eq!(graph.inputs, ["x.1", "{Foreign[a...b]}"]);
        let constant = Constant { region: "consts".into(), offset: 9, size_bytes: 6 };
        let w =
            Tensor { element_type: "int8".into(), shape: vec![2, 3], constant: Some(constant), base: None };
        assert_eq!(graph.tensors["w"], w);
        assert_eq!(graph.tensors["x^part"].base.as_deref(), Some("x.1"));
        assert_eq!(graph.tensors["x^part"].shape, [0, 3]);
        let kinds: Vec<_> = graph.operations.iter().map(|operation| operation.kind.as_str()).collect();
        assert_eq!(kinds, ["shape_call", "function", "fully_connected"]);
        let function = &graph.operations[1];
        assert_eq!(
            (function.name.as_str(), function.shape_inputs, function.binary),
            ("__myl_Mul", 1, Some(2))
        );
        assert_eq!(function.layers, ["n 1", "n{2}"]);
        assert_eq!(
            (function.inputs.as_slice(), function.outputs.as_slice()),
            (&["a".into()][..], &["b".into()][..])
        );
        assert_eq!(graph.operations[2].alpha, Some(0.5));
        assert_eq!(graph.operations[2].inputs, ["x^part", "w"]);
    }

    #[test]
    fn names_of_any_kind() {
        let graph = Graph::parse(
            "main {\n  fully_connected={ name=\"a _b_ {c}\n+é\" layers=\"[ONNX Layer: a \\\"b\\\" {c}\n+é]\x1f[ONNX Layer: q]\" }\n}\n",
        );
        assert_eq!(graph.operations[0].name, "a _b_ {c}\n+é");
        assert_eq!(graph.operations[0].layers, ["a \"b\" {c}\n+é", "q"]);
    }

    #[test]
    fn any_text_ends() {
        let whole = "header {\n  accelerators={*}\n  x = = }\n} main { a={ b={ c=\"d\" } e }\n = \"z\" {y} }";
        for end in 0..whole.len() {
            Graph::parse(&whole[..end]);
        }
        Graph::parse(&"main { a={ ".repeat(3));
        Graph::parse(&format!("main {{ a={}", "{ a=".repeat(100_000)));
        Graph::parse("= } { \" main");
    }
}
