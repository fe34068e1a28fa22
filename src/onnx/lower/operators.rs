//! The operators that lowering knows: what type their outputs have, and what they demand of their inputs.
//!
//! An operator that is not here is kept in FP32, so a missing line costs speed and never correctness.

use crate::onnx::ElementType;

/// What is known of one operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operator {
    /// The types of its outputs; the last rule stands for all further ones.
    pub(super) outputs: &'static [OutputType],
    /// Inputs that stay FP32 also in a lowered node.
    pub(super) fp32_inputs: &'static [usize],
    /// Inputs that are shapes, sizes, counts or indices: what they are computed from must stay exact.
    pub(super) shape_inputs: &'static [usize],
    /// Whether its nodes can be lowered at all.
    pub(super) lowerable: bool,
}

/// How an output's type follows from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutputType {
    /// The type of this input.
    Same(usize),
    /// Always this type.
    Fixed(ElementType),
    /// The type whose number is in this attribute; without it, the type given.
    Attribute(&'static str, ElementType),
    /// The type whose number is in this attribute; without it, that of input 0.
    AttributeOrSame(&'static str),
    /// The type of this input; without it, the type given.
    SameOr(usize, ElementType),
    /// The type of the tensor in the attribute `value`; without it, FP32.
    ValueAttribute,
}

use OutputType::{Attribute, AttributeOrSame, Fixed, Same, SameOr, ValueAttribute};

const BOOL: ElementType = ElementType::Bool;
const FLOAT: ElementType = ElementType::Float;
const INT32: ElementType = ElementType::Int32;
const INT64: ElementType = ElementType::Int64;
const UINT8: ElementType = ElementType::Uint8;

const PLAIN: Operator =
    Operator { outputs: &[Same(0)], fp32_inputs: &[], shape_inputs: &[], lowerable: true };

const fn outputs(outputs: &'static [OutputType]) -> Operator {
    Operator { outputs, ..PLAIN }
}

const fn with_shapes(shape_inputs: &'static [usize]) -> Operator {
    Operator { shape_inputs, ..PLAIN }
}

const fn fp32_only(outputs: &'static [OutputType]) -> Operator {
    Operator { outputs, lowerable: false, ..PLAIN }
}

/// Returns what is known of an operator of ONNX's own domain.
pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        // Element by element.
        "Abs" | "Acos" | "Acosh" | "Add" | "Asin" | "Asinh" | "Atan" | "Atanh" | "Ceil" | "Celu" | "Clip"
        | "Cos" | "Cosh" | "Div" | "Elu" | "Erf" | "Exp" | "Floor" | "Gelu" | "HardSigmoid" | "HardSwish"
        | "LeakyRelu" | "Log" | "Max" | "Mean" | "Min" | "Mish" | "Mod" | "Mul" | "Neg" | "PRelu" | "Pow"
        | "Reciprocal" | "Relu" | "Round" | "Selu" | "Shrink" | "Sigmoid" | "Sign" | "Sin" | "Sinh"
        | "Softplus" | "Softsign" | "Sqrt" | "Sub" | "Sum" | "Swish" | "Tan" | "Tanh" | "ThresholdedRelu" => {
            PLAIN
        }
        // Products, convolutions, pooling, normalization.
        "AveragePool"
        | "Conv"
        | "ConvTranspose"
        | "Einsum"
        | "Gemm"
        | "GlobalAveragePool"
        | "GlobalLpPool"
        | "GlobalMaxPool"
        | "GroupNormalization"
        | "Hardmax"
        | "InstanceNormalization"
        | "LRN"
        | "LogSoftmax"
        | "LpNormalization"
        | "LpPool"
        | "MatMul"
        | "MeanVarianceNormalization"
        | "RMSNormalization"
        | "Softmax" => PLAIN,
        // Mean and inverse deviation, the further outputs, are in the type that the statistics are computed in.
        "LayerNormalization" => outputs(&[Same(0), Attribute("stash_type", FLOAT)]),
        "BatchNormalization" => outputs(&[Same(0), Same(3)]),
        "MaxPool" => outputs(&[Same(0), Fixed(INT64)]),
        "RNN" | "GRU" | "LSTM" => PLAIN,
        "Dropout" => Operator { outputs: &[Same(0), Fixed(BOOL)], fp32_inputs: &[1], ..PLAIN },
        // Reductions.
        "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax" | "ReduceMean"
        | "ReduceMin" | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" => with_shapes(&[1]),
        "ArgMax" | "ArgMin" => outputs(&[Fixed(INT64)]),
        "CumSum" => with_shapes(&[1]),
        "TopK" => Operator { outputs: &[Same(0), Fixed(INT64)], shape_inputs: &[1], ..PLAIN },
        // Moving data.
        "Compress" | "Concat" | "DepthToSpace" | "Flatten" | "GridSample" | "Identity"
        | "ReverseSequence" | "SpaceToDepth" | "Transpose" | "Trilu" => PLAIN,
        "Gather" | "GatherElements" | "GatherND" | "ScatterElements" | "Scatter" | "ScatterND" => {
            with_shapes(&[1])
        }
        "Expand" | "Reshape" | "Split" | "Squeeze" | "Tile" | "Unsqueeze" | "CenterCropPad" => {
            with_shapes(&[1])
        }
        "Slice" => with_shapes(&[1, 2, 3, 4]),
        "Pad" => with_shapes(&[1, 3]),
        "Where" => outputs(&[Same(1)]),
        "OneHot" => Operator { outputs: &[Same(2)], shape_inputs: &[0, 1], ..PLAIN },
        "Resize" => Operator { fp32_inputs: &[1, 2], shape_inputs: &[1, 2, 3], ..PLAIN },
        "Upsample" => Operator { fp32_inputs: &[1], shape_inputs: &[1], ..PLAIN },
        // Types and constants.
        "Cast" => outputs(&[Attribute("to", ElementType::Undefined)]),
        "CastLike" => outputs(&[Same(1)]),
        "ConstantOfShape" => Operator { outputs: &[ValueAttribute], shape_inputs: &[0], ..PLAIN },
        // Results that are not floats.
        "Shape" | "Size" | "NonZero" => outputs(&[Fixed(INT64)]),
        "And" | "Equal" | "Greater" | "GreaterOrEqual" | "IsInf" | "IsNaN" | "Less" | "LessOrEqual"
        | "Not" | "Or" | "Xor" => outputs(&[Fixed(BOOL)]),
        "BitShift" | "BitwiseAnd" | "BitwiseNot" | "BitwiseOr" | "BitwiseXor" => PLAIN,
        // What computes positions, boxes, random numbers, spectra or scales keeps its precision.
        "Range" => Operator { shape_inputs: &[0, 1, 2], ..fp32_only(&[Same(0)]) },
        "NonMaxSuppression" => fp32_only(&[Fixed(INT64)]),
        "RoiAlign" | "MaxRoiPool" | "MaxUnpool" | "Det" | "DFT" | "STFT" | "AffineGrid" | "Attention"
        | "RotaryEmbedding" | "DeformConv" => fp32_only(&[Same(0)]),
        "HannWindow" | "HammingWindow" | "BlackmanWindow" | "MelWeightMatrix" => {
            fp32_only(&[Attribute("output_datatype", FLOAT)])
        }
        "Bernoulli" | "EyeLike" | "RandomNormalLike" | "RandomUniformLike" => {
            fp32_only(&[AttributeOrSame("dtype")])
        }
        "RandomNormal" | "RandomUniform" => fp32_only(&[Attribute("dtype", FLOAT)]),
        "Multinomial" => fp32_only(&[Attribute("dtype", INT32)]),
        "Unique" => fp32_only(&[Same(0), Fixed(INT64)]),
        "QuantizeLinear" => fp32_only(&[SameOr(2, UINT8)]),
        "DequantizeLinear" => fp32_only(&[Same(1)]),
        "DynamicQuantizeLinear" => fp32_only(&[Fixed(UINT8), Fixed(FLOAT), Fixed(UINT8)]),
        "QLinearConv" | "QLinearMatMul" => fp32_only(&[Same(7)]),
        "MatMulInteger" | "ConvInteger" => fp32_only(&[Fixed(INT32)]),
        _ => return None,
    })
}

/// Returns whether arithmetic on shapes goes through this operator.
pub(super) fn carries_shapes(op_type: &str) -> bool {
    matches!(
        op_type,
        "Abs"
            | "Add"
            | "Cast"
            | "Ceil"
            | "Clip"
            | "Concat"
            | "Div"
            | "Expand"
            | "Floor"
            | "Gather"
            | "Identity"
            | "Log"
            | "Max"
            | "Min"
            | "Mod"
            | "Mul"
            | "Neg"
            | "Pow"
            | "Range"
            | "ReduceProd"
            | "Reshape"
            | "Round"
            | "Slice"
            | "Sqrt"
            | "Squeeze"
            | "Sub"
            | "Unsqueeze"
            | "Where"
    )
}

/// Returns whether a node is of ONNX's own operator set.
pub(super) fn is_own_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}
