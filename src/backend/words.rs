//! What a compiler's words mean: messages that say too little, or say it to the compiler's own authors, in plain words and with
//! what to do next. Every entry was seen with TensorRT for RTX 1.7.

/// What a message means.
#[derive(Debug, PartialEq, Eq)]
pub struct Words {
    /// Parts that the message has, all of them.
    has: &'static [&'static str],
    /// What stands in the way. `{op}` stands for the operator, where the message is about a node.
    pub means: &'static str,
    /// The operators that it is about, where the message names none of the nodes or only the first.
    pub about: &'static [&'static str],
    /// What the user can do.
    pub next: &'static str,
}

impl Words {
    /// Returns whether a message is one of these.
    pub fn fit(&self, message: &str) -> bool {
        self.has.iter().all(|part| message.contains(part))
    }
}

const REPLACE: &str = "export the model without it, or serve this graph with a generic onnxruntime profile";
const CONSTANT: &str = "make that input a constant of the graph when you export it";

/// The messages of both TensorRTs; the first that fits counts.
pub(super) const OF_TENSORRT: &[Words] = &[
    Words {
        has: &["FP32 GEMM is not supported"],
        means: "no matrix products in FP32 on compute capability 7.5",
        about: &["MatMul", "Gemm", "Einsum"],
        next: "build for it in fp16",
    },
    Words {
        has: &["ScopeType::kUNDEFINED"],
        means: "the compiler stops at a branch or loop of the graph",
        about: &["If", "Loop", "Scan"],
        next: "export the model without If, Loop and Scan, or serve this graph with a generic onnxruntime profile",
    },
    Words {
        has: &["Attention operation was not supported by a dedicated kernel"],
        means: "no kernel for this form of Attention",
        about: &["Attention"],
        next: "export the model with attention in plain operators",
    },
    Words { has: &["Plugin not found"], means: "TensorRT has no operator {op}", about: &[], next: REPLACE },
    Words {
        has: &["plugin registry"],
        means: "the library lacks the plugin for operator {op}",
        about: &[],
        next: REPLACE,
    },
    Words {
        has: &["failed to load", "plugin"],
        means: "the library lacks the plugin for operator {op}",
        about: &[],
        next: REPLACE,
    },
    Words {
        has: &["has no runners that implement it"],
        means: "the library has no implementation of a node of this graph",
        about: &[],
        next: REPLACE,
    },
    Words {
        has: &["Failed to convert ONNX"],
        means: "an input or output has an element type that TensorRT does not have",
        about: &[],
        next: "export the model with another type there: strings, for example, have to be numbered outside of the graph",
    },
    Words {
        has: &["is not a constant"],
        means: "operator {op} takes one of its inputs only as a constant",
        about: &[],
        next: CONSTANT,
    },
    Words {
        has: &["must resolve to a build-time constant"],
        means: "operator {op} takes one of its inputs only as a constant",
        about: &[],
        next: CONSTANT,
    },
    Words {
        has: &["initializer"],
        means: "operator {op} takes one of its inputs only as a constant",
        about: &[],
        next: CONSTANT,
    },
    Words {
        has: &["shapes depend on the values of input"],
        means: "shapes depend on the values of an input",
        about: &[],
        next: CONSTANT,
    },
    Words {
        has: &["has dynamic dimensions", "no shape range"],
        means: "an input has dynamic dimensions and no shape range",
        about: &[],
        next: "give its min, opt and max shapes in the recipe",
    },
];
