//! Element types in attributes: which of them change when their node is lowered.

/// What lowering does about an attribute that holds an element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// It is the type of the first output: it changes with that.
    Output,
    /// It is the type of something else, which lowering leaves alone: of statistics, or of what is computed inside.
    Stays,
    /// The operator stays in FP32, whatever it is.
    NotLowered,
}

/// Every operator of ONNX that has such an attribute.
const RULES: &[(&str, &str, Rule)] = &[
    ("Attention", "softmax_precision", Rule::Stays),
    ("Bernoulli", "dtype", Rule::NotLowered),
    ("BitCast", "to", Rule::NotLowered),
    ("BlackmanWindow", "output_datatype", Rule::NotLowered),
    ("Cast", "to", Rule::Output),
    ("DequantizeLinear", "output_dtype", Rule::NotLowered),
    ("EyeLike", "dtype", Rule::NotLowered),
    ("GroupNormalization", "stash_type", Rule::Stays),
    ("HammingWindow", "output_datatype", Rule::NotLowered),
    ("HannWindow", "output_datatype", Rule::NotLowered),
    ("LayerNormalization", "stash_type", Rule::Stays),
    ("MelWeightMatrix", "output_datatype", Rule::NotLowered),
    ("Multinomial", "dtype", Rule::NotLowered),
    ("QuantizeLinear", "output_dtype", Rule::NotLowered),
    ("QuantizeLinear", "precision", Rule::NotLowered),
    ("RMSNormalization", "stash_type", Rule::Stays),
    ("RandomNormal", "dtype", Rule::NotLowered),
    ("RandomNormalLike", "dtype", Rule::NotLowered),
    ("RandomUniform", "dtype", Rule::NotLowered),
    ("RandomUniformLike", "dtype", Rule::NotLowered),
    ("Range", "stash_type", Rule::NotLowered),
    ("SequenceEmpty", "dtype", Rule::NotLowered),
];

/// Returns the attribute that holds the type of an operator's first output, if a lowered node may have one.
pub(super) fn output_type_attribute(op_type: &str) -> Option<&'static str> {
    let rule = RULES.iter().find(|(operator, _, rule)| *operator == op_type && *rule == Rule::Output);
    rule.map(|(_, attribute, _)| *attribute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::analysis::later_signatures;
    use crate::onnx::lower::policy::needs_fp32;

    const DEFINED: &str = include_str!("../analysis/type_attributes.tsv");

    #[test]
    fn every_attribute_of_the_standard_has_a_rule() {
        let defined: Vec<(&str, &str)> = DEFINED
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once('\t').unwrap())
            .collect();
        let ruled: Vec<(&str, &str)> =
            RULES.iter().map(|&(operator, attribute, _)| (operator, attribute)).collect();
        assert_eq!(ruled, defined);
    }

    #[test]
    fn what_has_no_rule_for_a_lowered_node_stays_in_fp32() {
        for (operator, ..) in RULES.iter().filter(|(_, _, rule)| *rule == Rule::NotLowered) {
            let takes_tensors = later_signatures(operator, 0).last().unwrap().1.has_only_tensors();
            assert!(needs_fp32(operator) || !takes_tensors, "{operator}");
        }
    }
}
