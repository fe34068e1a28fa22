//! What can be wrong with a recipe, with the place in the file.

use std::fmt;

use serde_saphyr::{Location, Spanned};

use crate::backend::{Backend, QuantizedRefusal};
use crate::compute_capability::ComputeCapability;
use crate::gpu::UnknownGpu;
use crate::onnx::Precision;
use crate::onnx::quantize::{QuantizedPrecision, UnknownMethod};
use crate::stored_format::NewerSchema;

use super::{MAX_NAME_CHARS, MAX_WORKSPACE_MIB, UnknownName};

/// A recipe that can't be used, and the line with the problem.
#[derive(Debug)]
pub struct RecipeError {
    /// The file, as it was named by the user.
    pub path: String,
    /// Line and column, counted from 1, where known.
    pub position: Option<(u64, u64)>,
    /// What is wrong.
    pub problem: Box<RecipeProblem>,
}

/// What is wrong with a recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeProblem {
    /// It isn't the YAML that the schema describes; the text has a snippet of the file.
    #[error("{0}")]
    Syntax(String),
    /// A later version of the schema.
    #[error(transparent)]
    Newer(#[from] NewerSchema),
    /// Another schema.
    #[error(
        "the schema is `{found}`, but this nimctl reads `nimctl.recipe/1`; write `schema: nimctl.recipe/1`"
    )]
    Schema {
        /// What the file says.
        found: String,
    },
    /// A name that can't be part of a path or a tag.
    #[error(
        "{what} `{name}` may contain only letters, digits, `.`, `_` and `-`, and must start with a letter or digit"
    )]
    Name {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name that would make a file name too long.
    #[error("{what} has {length} characters: at most {MAX_NAME_CHARS} are allowed")]
    LongName {
        /// What is named.
        what: &'static str,
        /// Its length, in characters.
        length: usize,
    },
    /// A graph whose folder would have the name of a file.
    #[error("a graph cannot be named `{name}`: every profile has a file of that name")]
    NotForGraphs {
        /// The name.
        name: String,
    },
    /// A workspace whose bytes no JSON reader would keep exactly.
    #[error("`workspace_mib` is {mib}: expected at most {MAX_WORKSPACE_MIB}")]
    Workspace {
        /// What was given, in MiB.
        mib: u64,
    },
    /// An empty list.
    #[error("{what} must not be empty")]
    Empty {
        /// Which list.
        what: &'static str,
    },
    /// A GPU that the data file doesn't have.
    #[error(transparent)]
    UnknownGpu(#[from] UnknownGpu),
    /// Not a compute capability.
    #[error(transparent)]
    ComputeCapability(#[from] crate::compute_capability::InvalidComputeCapability),
    /// Not a backend's name.
    #[error(transparent)]
    Backend(#[from] crate::backend::InvalidBackend),
    /// A target that the backend can't build for.
    #[error(
        "{backend} cannot build for {target}: it builds for compute capabilities {can}; use the backend {instead}"
    )]
    UnsupportedTarget {
        /// The backend.
        backend: Backend,
        /// The target and its compute capability.
        target: String,
        /// What it can build for.
        can: String,
        /// Which one can.
        instead: Backend,
    },
    /// Only ONNX profiles are generic.
    #[error(
        "backend {backend} compiles for a GPU: name `gpus`, `compute_capabilities` or `portable` (only onnxruntime profiles are generic){}",
        or_the_reference(backend)
    )]
    GenericPlan {
        /// The backend.
        backend: Backend,
    },
    /// The generic backend with GPU targets.
    #[error("backend onnxruntime ships the ONNX itself, the same for every GPU: write `targets: generic`")]
    TargetedOnnx,
    /// Only TensorRT for RTX builds a plan for several targets.
    #[error(
        "backend {backend} cannot build portable plans: use `compute_capabilities` for one plan per compute capability"
    )]
    NoPortablePlans {
        /// The backend.
        backend: Backend,
    },
    /// A shape range that is not valid.
    #[error("shape range of graph `{graph}`, input `{input}`: {problem}")]
    ShapeRange {
        /// The graph.
        graph: String,
        /// The input.
        input: String,
        /// What is wrong.
        problem: crate::shape_range::InvalidShapeRange,
    },
    /// Two profiles with the same tags.
    #[error(
        "profile {name} is requested twice (also on line {first_line}): both would have the same tags, so neither could be selected"
    )]
    EqualTags {
        /// Their name.
        name: String,
        /// Line of the first.
        first_line: u64,
    },
    /// Options that make no sense for FP32.
    /// A headroom that would allow values which overflow.
    #[error("`headroom` is {headroom}: expected a factor of 1 or more")]
    Headroom {
        /// What was given.
        headroom: f64,
    },
    /// A gate that every output passes, or none.
    #[error("`min_row_cosine` is {min_row_cosine}: expected a number between 0 and 1, such as 0.999")]
    Gate {
        /// What was given.
        min_row_cosine: f64,
    },
    /// A name that refers to nothing.
    #[error("{0}")]
    UnknownName(String),
    /// The `validation` section makes no sense.
    #[error("`validation`: {0}")]
    Validation(String),
    /// Options of quantization where nothing is quantized.
    #[error(
        "`quantize` has no effect: no entry of `precisions` is quantized (int8, int8-weights, fp8 or int4)"
    )]
    NothingQuantized,
    /// Two searches for nodes to keep.
    #[error(
        "`lowering.calibrate` and `lowering.search` are not for {0}: `quantize.gate` decides what stays in the base precision; \
         remove them, or give {0} an entry of its own"
    )]
    SearchOfQuantized(QuantizedPrecision),
    /// A block that no compiler fuses.
    #[error("`block` is {block}: expected 16, 32, 64 or 128")]
    Block {
        /// What was given.
        block: u32,
    },
    /// Not a method.
    #[error("{0}, or auto")]
    Method(UnknownMethod),
    /// A search that may run nothing.
    #[error("`evaluations` is 0: expected the number of graphs that the search may run, such as 60")]
    NoEvaluations,
    /// A backend or GPU that can't.
    #[error(transparent)]
    Refused(#[from] QuantizedRefusal),
    /// A base precision that a GPU doesn't have.
    #[error(
        "compute capability {capability} computes no products in {base} with {backend}: use `base: fp16`"
    )]
    Base {
        /// The base precision.
        base: Precision,
        /// The backend.
        backend: Backend,
        /// The GPU's.
        capability: ComputeCapability,
    },
    /// Nothing to calibrate with.
    #[error(
        "graph `{graph}` has no `calibration`, which {precision} needs: add samples of real data for its inputs, other than `samples`"
    )]
    NoCalibration {
        /// The graph.
        graph: String,
        /// A precision that needs it.
        precision: QuantizedPrecision,
    },
    /// What calibrates would judge.
    #[error(
        "graph `{graph}`: `calibration` is the same as `samples`, which the profiles are judged by: give other samples to one of them"
    )]
    JudgedCalibration {
        /// The graph.
        graph: String,
    },
    /// Lowering options in a profile that lowers nothing.
    #[error("`lowering` has no effect in {0}: remove it, or give fp32 an entry of its own without it")]
    LoweringOfFp32(Precision),
}

/// Asks about a name that is close to that of the backend whose profiles are generic.
fn or_the_reference(backend: &Backend) -> String {
    let reference = Backend::reference();
    match strsim::jaro_winkler(backend.name(), reference.name()) > 0.8 {
        true => format!("; did you mean `{reference}`?"),
        false => String::new(),
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, position, problem } = self;
        match position {
            Some((line, column)) => write!(f, "{path}:{line}:{column}: {problem}"),
            None => write!(f, "{path}: {problem}"),
        }
    }
}

impl std::error::Error for RecipeError {}

impl From<UnknownName> for RecipeError {
    fn from(UnknownName { recipe, position, problem }: UnknownName) -> Self {
        Self { path: recipe, position, problem: Box::new(RecipeProblem::UnknownName(problem)) }
    }
}

impl RecipeProblem {
    /// Puts the problem at a place of a file.
    pub(super) fn at(self, path: &str, location: Location) -> RecipeError {
        let position = (location.line() > 0).then(|| (location.line(), location.column()));
        RecipeError { path: path.into(), position, problem: Box::new(self) }
    }

    /// Puts the problem at a value of a file.
    pub(super) fn at_value<T>(self, path: &str, value: &Spanned<T>) -> RecipeError {
        self.at(path, value.referenced)
    }
}
