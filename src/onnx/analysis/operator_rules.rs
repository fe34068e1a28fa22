//! What each operator does to numbers, and which of its inputs must be exact.
//!
//! Every operator of the standard stands in [`RULES`], with [`Rule::Computes`] as the conservative default; a test holds
//! the table against the operators' definitions (`operator_types.tsv`), so that a new one cannot be forgotten.

/// What an operator's first output is, in terms of its inputs. Integers that a rule says nothing of have no bound;
/// truth values are 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::onnx) enum Rule {
    /// Elements of these inputs, moved, repeated, chosen or left out; no others.
    Moves(&'static [usize]),
    /// Elements of any input.
    MovesAll,
    /// Elements of the first input in each output.
    Splits,
    /// A sum or difference of its inputs.
    Adds,
    /// A product of two numbers.
    Multiplies,
    /// A quotient.
    Divides,
    /// The first input with another sign.
    Signs,
    /// A whole number near the first input.
    Rounds,
    /// The first input within limits.
    Clips,
    /// A remainder.
    Remains,
    /// A sum over many elements of the first input.
    Sums,
    /// Another type.
    Casts,
    /// The same number everywhere.
    Fills,
    /// Whole numbers: counts, sizes, places.
    Counts,
    /// 0, 1 and -1.
    Units,
    /// A number that stays small whatever the input is.
    Bounds,
    /// The places of the largest or smallest elements.
    Ranks,
    /// A product with weights, summed up: what comes out is rounded anyway.
    Learned,
    /// A normalization by its own statistics or by learned ones.
    Normalizes,
    /// Runs subgraphs.
    ControlFlow,
    /// Something else that depends on all inputs.
    Computes,
}

/// Inputs that must be exact, because they are shapes, counts, indices, positions, or are compared for equality.
/// Rows are in the order of the alphabet.
const RULES: &[(&str, Rule, &[usize])] = {
    use Rule::*;
    &[
        ("Abs", Signs, &[]),
        ("Acos", Computes, &[]),
        ("Acosh", Computes, &[]),
        ("Add", Adds, &[]),
        ("AffineGrid", Computes, &[0, 1]),
        ("And", Computes, &[]),
        ("ArgMax", Ranks, &[]),
        ("ArgMin", Ranks, &[]),
        ("Asin", Computes, &[]),
        ("Asinh", Computes, &[]),
        ("Atan", Bounds, &[]),
        ("Atanh", Computes, &[]),
        ("Attention", Learned, &[]),
        ("AveragePool", Computes, &[]),
        ("BatchNormalization", Normalizes, &[]),
        ("Bernoulli", Units, &[]),
        ("BitCast", Computes, &[0]),
        ("BitShift", Computes, &[]),
        ("BitwiseAnd", Computes, &[]),
        ("BitwiseNot", Computes, &[]),
        ("BitwiseOr", Computes, &[]),
        ("BitwiseXor", Computes, &[]),
        ("BlackmanWindow", Bounds, &[0]),
        ("Cast", Casts, &[]),
        ("CastLike", Casts, &[]),
        ("CausalConvWithState", Learned, &[]),
        ("Ceil", Rounds, &[0]),
        ("Celu", Computes, &[]),
        ("CenterCropPad", Moves(&[0]), &[1]),
        ("Clip", Clips, &[]),
        ("Col2Im", Sums, &[1, 2]),
        ("Compress", Moves(&[0]), &[1]),
        ("Concat", MovesAll, &[]),
        ("ConcatFromSequence", MovesAll, &[]),
        ("Constant", Computes, &[]),
        ("ConstantOfShape", Fills, &[0]),
        ("Conv", Learned, &[]),
        ("ConvInteger", Learned, &[]),
        ("ConvTranspose", Learned, &[]),
        ("Cos", Bounds, &[]),
        ("Cosh", Computes, &[]),
        ("CumProd", Computes, &[1]),
        ("CumSum", Sums, &[1]),
        ("DFT", Computes, &[1, 2]),
        ("DeformConv", Learned, &[]),
        ("DepthToSpace", Moves(&[0]), &[]),
        ("DequantizeLinear", Computes, &[]),
        ("Det", Computes, &[]),
        ("Div", Divides, &[]),
        ("Dropout", Moves(&[0]), &[]),
        ("DynamicQuantizeLinear", Computes, &[]),
        ("Einsum", Learned, &[]),
        ("Elu", Computes, &[]),
        ("Equal", Computes, &[0, 1]),
        ("Erf", Bounds, &[]),
        ("Exp", Computes, &[]),
        ("Expand", Moves(&[0]), &[1]),
        ("EyeLike", Units, &[]),
        ("Flatten", Moves(&[0]), &[]),
        ("Floor", Rounds, &[0]),
        ("GRU", Learned, &[4]),
        ("Gather", Moves(&[0]), &[1]),
        ("GatherElements", Moves(&[0]), &[1]),
        ("GatherND", Moves(&[0]), &[1]),
        ("Gelu", Computes, &[]),
        ("Gemm", Learned, &[]),
        ("GlobalAveragePool", Computes, &[]),
        ("GlobalLpPool", Computes, &[]),
        ("GlobalMaxPool", Moves(&[0]), &[]),
        ("Greater", Computes, &[]),
        ("GreaterOrEqual", Computes, &[]),
        ("GridSample", Computes, &[1]),
        ("GroupNormalization", Normalizes, &[]),
        ("HammingWindow", Bounds, &[0]),
        ("HannWindow", Bounds, &[0]),
        ("HardSigmoid", Bounds, &[]),
        ("HardSwish", Computes, &[]),
        ("Hardmax", Units, &[]),
        ("Identity", Moves(&[0]), &[]),
        ("If", ControlFlow, &[0]),
        ("ImageDecoder", Computes, &[]),
        ("InstanceNormalization", Normalizes, &[]),
        ("IsInf", Computes, &[]),
        ("IsNaN", Computes, &[]),
        ("LRN", Normalizes, &[]),
        ("LSTM", Learned, &[4]),
        ("LayerNormalization", Normalizes, &[]),
        ("LeakyRelu", Computes, &[]),
        ("Less", Computes, &[]),
        ("LessOrEqual", Computes, &[]),
        ("LinearAttention", Learned, &[]),
        ("Log", Computes, &[]),
        ("LogSoftmax", Computes, &[]),
        ("Loop", ControlFlow, &[0, 1]),
        ("LpNormalization", Normalizes, &[]),
        ("LpPool", Computes, &[]),
        ("MatMul", Learned, &[]),
        ("MatMulInteger", Learned, &[]),
        ("Max", MovesAll, &[]),
        ("MaxPool", Moves(&[0]), &[]),
        ("MaxRoiPool", Moves(&[0]), &[1]),
        ("MaxUnpool", Moves(&[0]), &[1, 2]),
        ("Mean", Computes, &[]),
        ("MeanVarianceNormalization", Normalizes, &[]),
        ("MelWeightMatrix", Computes, &[0, 1, 2, 3, 4]),
        ("Min", MovesAll, &[]),
        ("Mish", Computes, &[]),
        ("Mod", Remains, &[0, 1]),
        ("Mul", Multiplies, &[]),
        ("Multinomial", Counts, &[]),
        ("Neg", Signs, &[]),
        ("NegativeLogLikelihoodLoss", Computes, &[1]),
        ("NonMaxSuppression", Counts, &[0, 2, 3, 4]),
        ("NonZero", Counts, &[0]),
        ("Not", Computes, &[]),
        ("OneHot", Moves(&[2]), &[0, 1]),
        ("Optional", Moves(&[0]), &[]),
        ("OptionalGetElement", Moves(&[0]), &[]),
        ("OptionalHasElement", Computes, &[]),
        ("Or", Computes, &[]),
        ("PRelu", Computes, &[]),
        ("Pad", Moves(&[0, 2]), &[1, 3]),
        ("Pow", Computes, &[]),
        ("QLinearConv", Learned, &[]),
        ("QLinearMatMul", Learned, &[]),
        ("QuantizeLinear", Computes, &[]),
        ("RMSNormalization", Normalizes, &[]),
        ("RNN", Learned, &[4]),
        ("RandomNormal", Computes, &[]),
        ("RandomNormalLike", Computes, &[]),
        ("RandomUniform", Computes, &[]),
        ("RandomUniformLike", Computes, &[]),
        ("Range", Adds, &[0, 1, 2]),
        ("Reciprocal", Computes, &[]),
        ("ReduceL1", Sums, &[1]),
        ("ReduceL2", Computes, &[1]),
        ("ReduceLogSum", Computes, &[1]),
        ("ReduceLogSumExp", Computes, &[1]),
        ("ReduceMax", Moves(&[0]), &[1]),
        ("ReduceMean", Computes, &[1]),
        ("ReduceMin", Moves(&[0]), &[1]),
        ("ReduceProd", Computes, &[1]),
        ("ReduceSum", Sums, &[1]),
        ("ReduceSumSquare", Computes, &[1]),
        ("RegexFullMatch", Computes, &[]),
        ("Relu", Signs, &[]),
        ("Reshape", Moves(&[0]), &[1]),
        ("Resize", Computes, &[1, 2, 3]),
        ("ReverseSequence", Moves(&[0]), &[1]),
        ("RoiAlign", Computes, &[1, 2]),
        ("RotaryEmbedding", Computes, &[3]),
        ("Round", Rounds, &[0]),
        ("STFT", Learned, &[1, 3]),
        ("Scan", ControlFlow, &[]),
        ("Scatter", Moves(&[0, 2]), &[1]),
        ("ScatterElements", Moves(&[0, 2]), &[1]),
        ("ScatterND", Moves(&[0, 2]), &[1]),
        ("Selu", Computes, &[]),
        ("SequenceAt", Moves(&[0]), &[1]),
        ("SequenceConstruct", MovesAll, &[]),
        ("SequenceEmpty", Computes, &[]),
        ("SequenceErase", Moves(&[0]), &[1]),
        ("SequenceInsert", Moves(&[0, 1]), &[2]),
        ("SequenceLength", Counts, &[]),
        ("SequenceMap", Computes, &[]),
        ("Shape", Counts, &[]),
        ("Shrink", Computes, &[]),
        ("Sigmoid", Bounds, &[]),
        ("Sign", Units, &[]),
        ("Sin", Bounds, &[]),
        ("Sinh", Computes, &[]),
        ("Size", Counts, &[]),
        ("Slice", Moves(&[0]), &[1, 2, 3, 4]),
        ("Softmax", Bounds, &[]),
        ("SoftmaxCrossEntropyLoss", Computes, &[1]),
        ("Softplus", Computes, &[]),
        ("Softsign", Bounds, &[]),
        ("SpaceToDepth", Moves(&[0]), &[]),
        ("Split", Splits, &[1]),
        ("SplitToSequence", Splits, &[1]),
        ("Sqrt", Computes, &[]),
        ("Squeeze", Moves(&[0]), &[1]),
        ("StringConcat", Computes, &[]),
        ("StringNormalizer", Computes, &[]),
        ("StringSplit", Computes, &[]),
        ("Sub", Adds, &[]),
        ("Sum", Adds, &[]),
        ("SwiGLU", Computes, &[]),
        ("Swish", Computes, &[]),
        ("Tan", Computes, &[]),
        ("Tanh", Bounds, &[]),
        ("TensorScatter", Moves(&[0, 1]), &[2]),
        ("TfIdfVectorizer", Computes, &[0]),
        ("ThresholdedRelu", Computes, &[]),
        ("Tile", Moves(&[0]), &[1, 2]),
        ("TopK", Moves(&[0]), &[1]),
        ("Transpose", Moves(&[0]), &[]),
        ("Trilu", Moves(&[0]), &[1]),
        ("Unique", Moves(&[0]), &[0]),
        ("Unsqueeze", Moves(&[0]), &[1]),
        ("Upsample", Computes, &[1]),
        ("Where", Moves(&[1, 2]), &[]),
        ("Xor", Computes, &[]),
    ]
};

/// Returns what an operator of ONNX's own does to numbers.
pub(in crate::onnx) fn rule(op_type: &str) -> Rule {
    row(op_type).map_or(Rule::Computes, |row| row.1)
}

/// Returns the inputs of an operator that must be exact.
pub(in crate::onnx) fn exact_inputs(op_type: &str) -> &'static [usize] {
    row(op_type).map_or(&[], |row| row.2)
}

/// Returns whether an operator repeats itself along its input, so that a large input must keep its fraction.
pub(in crate::onnx) fn is_periodic(op_type: &str) -> bool {
    matches!(op_type, "Cos" | "Sin" | "Tan")
}

fn row(op_type: &str) -> Option<&'static (&'static str, Rule, &'static [usize])> {
    RULES.binary_search_by(|row| row.0.cmp(op_type)).ok().map(|index| &RULES[index])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::signature;
    use super::*;

    #[test]
    fn every_operator_of_the_standard_has_a_rule() {
        let ruled: Vec<&str> = RULES.iter().map(|row| row.0).collect();
        assert!(ruled.is_sorted(), "binary search needs the rows in order");
        let defined: BTreeSet<&str> = signature::operators().collect();
        assert_eq!(ruled.into_iter().collect::<BTreeSet<_>>(), defined);
    }
}
