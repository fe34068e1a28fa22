//! The types of the inputs and outputs of ONNX's own operators, from the operators' definitions (`operator_types.tsv`).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::onnx::{ElementType, Precision};

const TABLE: &str = include_str!("operator_types.tsv");

/// The parameters of an operator since some operator set.
#[derive(Debug)]
pub(in crate::onnx) struct Signature {
    inputs: Vec<Parameter>,
    outputs: Vec<Parameter>,
}

/// One input or output, or, at the end, any number of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::onnx) struct Parameter {
    pub(in crate::onnx) kind: Kind,
    repeats: bool,
}

/// What a parameter may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::onnx) enum Kind {
    /// A tensor of this type.
    Fixed(ElementType),
    /// A tensor of the type that all parameters with this variable share.
    Variable(Variable),
    /// A sequence or an optional, or perhaps one.
    NoTensor,
}

/// A type that the parameters of one node share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::onnx) struct Variable {
    pub(in crate::onnx) name: &'static str,
    /// Whether each of a repeated parameter has a type of its own.
    pub(in crate::onnx) each_its_own: bool,
    flags: &'static str,
}

impl Variable {
    /// Returns whether the operator is defined for this precision.
    pub(in crate::onnx) fn takes(&self, precision: Precision) -> bool {
        self.flags.contains(match precision {
            Precision::Fp32 => 'f',
            Precision::Fp16 => 'h',
            Precision::Bf16 => 'b',
        })
    }
}

impl Signature {
    /// Returns what is known of an input.
    pub(in crate::onnx) fn input(&self, index: usize) -> Option<Kind> {
        at(&self.inputs, index)
    }

    /// Returns what is known of an output.
    pub(in crate::onnx) fn output(&self, index: usize) -> Option<Kind> {
        at(&self.outputs, index)
    }

    /// Returns whether all parameters are tensors.
    pub(in crate::onnx) fn has_only_tensors(&self) -> bool {
        self.inputs.iter().chain(&self.outputs).all(|parameter| parameter.kind != Kind::NoTensor)
    }
}

/// Returns the signature of an operator in an operator set; `None` for an operator that ONNX doesn't have there.
pub(in crate::onnx) fn signature(op_type: &str, opset: i64) -> Option<&'static Signature> {
    let versions = signatures().get(op_type)?;
    versions.iter().rev().find(|(since, _)| *since <= opset).map(|(_, signature)| signature)
}

/// Returns whether ONNX has an operator of this name in any operator set.
pub(in crate::onnx) fn is_known_operator(op_type: &str) -> bool {
    signatures().contains_key(op_type)
}

/// Returns the signatures of an operator in operator sets after `opset`, each with the first that has it.
pub(in crate::onnx) fn later_signatures(
    op_type: &str,
    opset: i64,
) -> impl Iterator<Item = (i64, &'static Signature)> {
    let versions = signatures().get(op_type).map(Vec::as_slice).unwrap_or_default();
    versions.iter().filter(move |(since, _)| *since > opset).map(|(since, signature)| (*since, signature))
}

fn signatures() -> &'static BTreeMap<&'static str, Vec<(i64, Signature)>> {
    static SIGNATURES: OnceLock<BTreeMap<&str, Vec<(i64, Signature)>>> = OnceLock::new();
    SIGNATURES.get_or_init(read_table)
}

/// Returns the names of all operators.
#[cfg(test)]
pub(super) fn operators() -> impl Iterator<Item = &'static str> {
    TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split('\t').next())
}

fn at(parameters: &[Parameter], index: usize) -> Option<Kind> {
    let last = parameters.last().filter(|last| last.repeats);
    parameters.get(index).or(last).map(|parameter| parameter.kind)
}

fn read_table() -> BTreeMap<&'static str, Vec<(i64, Signature)>> {
    let mut signatures: BTreeMap<&str, Vec<(i64, Signature)>> = BTreeMap::new();
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split('\t');
        let mut field = || fields.next().unwrap_or_default();
        let (op_type, since, inputs, outputs) = (field(), field(), field(), field());
        let side = |side: &'static str| side.split_whitespace().map(parameter).collect();
        let signature = Signature { inputs: side(inputs), outputs: side(outputs) };
        signatures.entry(op_type).or_default().push((since.parse().unwrap_or(i64::MAX), signature));
    }
    signatures
}

fn parameter(text: &'static str) -> Parameter {
    let bare = text.trim_end_matches('*');
    let kind = match (bare.strip_prefix('='), bare.split_once(':')) {
        (Some(name), _) => ElementType::from_name(name).map_or(Kind::NoTensor, Kind::Fixed),
        (None, Some((name, flags))) => {
            Kind::Variable(Variable { name, each_its_own: text.ends_with("**"), flags })
        }
        (None, None) => Kind::NoTensor,
    };
    Parameter { kind, repeats: text.ends_with('*') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_is_understood() {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            let fields: Vec<&str> = line.split('\t').collect();
            let [op_type, since, inputs, outputs] = fields[..] else { panic!("{line}") };
            assert!(signature(op_type, since.parse().unwrap()).is_some(), "{line}");
            for text in inputs.split_whitespace().chain(outputs.split_whitespace()) {
                assert_eq!(parameter(text).kind == Kind::NoTensor, text.starts_with('!'), "{line}");
            }
        }
    }

    #[test]
    fn versions_and_repeats() {
        let takes = |op_type, opset, input, precision| match signature(op_type, opset)?.input(input)? {
            Kind::Variable(variable) => Some(variable.takes(precision)),
            Kind::Fixed(_) | Kind::NoTensor => None,
        };
        assert_eq!(takes("CumSum", 11, 0, Precision::Fp16), Some(false));
        assert_eq!(takes("CumSum", 14, 0, Precision::Fp16), Some(true));
        assert_eq!(takes("Concat", 11, 7, Precision::Bf16), Some(false));
        assert_eq!(takes("Concat", 13, 7, Precision::Bf16), Some(true));
        assert_eq!(takes("Resize", 13, 2, Precision::Fp16), None);
        assert_eq!(takes("Add", 13, 2, Precision::Fp16), None);
        assert!(signature("LayerNormalization", 16).is_none());
        assert!(!signature("SequenceInsert", 11).unwrap().has_only_tensors());
    }
}
