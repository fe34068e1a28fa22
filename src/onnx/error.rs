//! What can be wrong with a graph, its external data, or the writing of one.

use std::io;
use std::path::{Path, PathBuf};

use super::opset::OpsetProblem;
use crate::error_kind::ErrorKind;

/// Why a graph can't be read, lowered or written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "fields are named in the message of their variant")]
pub enum OnnxError {
    /// A file can't be read or written.
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// External data with the name that profiles have for the model itself.
    #[error(
        "{}: its external data is in a file named model.onnx, which is what the model itself is called in a profile: export it with \
         another name for the data, such as model.onnx.data",
        path.display()
    )]
    ExternalNamedAsModel { path: PathBuf },
    /// The file has no bytes.
    #[error("{} is empty: expected an ONNX model", path.display())]
    Empty { path: PathBuf },
    /// The bytes are not an ONNX model.
    #[error("{} is not an ONNX model: {reason}", path.display())]
    NotOnnx { path: PathBuf, reason: String },
    /// The file ends before its contents do.
    #[error(
        "{} is truncated: it needs at least {needed_bytes} bytes, but has {found_bytes}; copy or download it again",
        path.display()
    )]
    Truncated { path: PathBuf, needed_bytes: u64, found_bytes: u64 },
    /// A model without a graph.
    #[error("{} has no graph: expected an ONNX model, not another protobuf file", path.display())]
    NoGraph { path: PathBuf },
    /// A model without IR version.
    #[error("{} has no ir_version: export the model again with a current exporter", path.display())]
    NoIrVersion { path: PathBuf },
    /// A model without operator sets.
    #[error("{} has no opset_import: export the model again with a current exporter", path.display())]
    NoOpset { path: PathBuf },
    /// Parts that take little in the file and much in memory.
    #[error(
        "{} has {file_bytes} bytes and would take {needed_bytes} in memory, because it consists of empty parts: expected a \
         model written by an exporter", path.display()
    )]
    TooDense { path: PathBuf, needed_bytes: u64, file_bytes: u64 },
    /// Two nodes with one output, two inputs of one name, or a node that makes an input or weight.
    #[error("value `{value}` of {} is defined more than once: export the model again", path.display())]
    DefinedTwice { path: PathBuf, value: String },
    /// The graph has a cycle.
    #[error("the graph of {} has a cycle: {cycle}; export the model again", path.display())]
    NodeCycle { path: PathBuf, cycle: String },
    /// Local functions are recursive.
    #[error("local functions of {} are recursive: {cycle}; ONNX does not allow recursion, export the model again", path.display())]
    FunctionCycle { path: PathBuf, cycle: String },
    /// An external tensor without a location.
    #[error("tensor `{tensor}` of {} is external but names no location: export the model again", path.display())]
    ExternalWithoutLocation { path: PathBuf, tensor: String },
    /// A location that is absolute or has `..` in it.
    #[error(
        "tensor `{tensor}` names the external file `{location}`: expected a relative path without `..`, inside {}",
        folder.display()
    )]
    ExternalLeavesFolder { tensor: String, location: String, folder: PathBuf },
    /// A location that leaves the folder through a symbolic link.
    #[error(
        "tensor `{tensor}` names the external file `{location}`, a link that points outside {}: replace the link with a copy of the file",
        folder.display()
    )]
    ExternalLinkLeavesFolder { tensor: String, location: String, folder: PathBuf },
    /// A location without a file.
    #[error(
        "tensor `{tensor}` needs the external file `{location}`, which is not in {}: copy it beside the model",
        folder.display()
    )]
    ExternalMissing { tensor: String, location: String, folder: PathBuf },
    /// An external file that ends before the tensor does.
    #[error(
        "tensor `{tensor}` needs {needed_bytes} bytes of the external file `{location}` in {}, which has \
         {found_bytes}: copy or download it again",
        folder.display()
    )]
    ExternalTooShort {
        tensor: String,
        location: String,
        folder: PathBuf,
        needed_bytes: u64,
        found_bytes: u64,
    },
    /// An offset or length that is not a number.
    #[error(
        "tensor `{tensor}` gives `{value}` as {key} in the external file `{location}` of {}: expected a number of bytes",
        folder.display()
    )]
    ExternalNotANumber { tensor: String, location: String, folder: PathBuf, key: String, value: String },
    /// A payload that doesn't fit the tensor's shape.
    #[error(
        "tensor `{tensor}` of {} has {found_bytes} bytes, but its shape and type need {needed_bytes}: \
         export the model again", path.display()
    )]
    TensorSize { path: PathBuf, tensor: String, needed_bytes: u64, found_bytes: u64 },
    /// Dimensions that are negative or whose product is too large.
    #[error("tensor `{tensor}` of {} has the impossible shape {dims:?}: export the model again", path.display())]
    TensorShape { path: PathBuf, tensor: String, dims: Vec<i64> },
    /// An element type that has no bytes, or that the specification doesn't have.
    #[error("tensor `{tensor}` of {} has element type {code}: expected a numeric type of ONNX", path.display())]
    TensorType { path: PathBuf, tensor: String, code: i32 },
    /// A tensor that is not of this file.
    #[error("tensor `{tensor}` is not a tensor of {}: read it with the file it came from", path.display())]
    ForeignTensor { path: PathBuf, tensor: String },
    /// The model's operator set lacks what lowering inserts.
    #[error("{} uses opset {opset}, but {precision} needs opset {needed} or later: raise it with `nimctl lower --precision fp32 --opset {needed}` first", path.display())]
    OpsetTooOld { path: PathBuf, opset: i64, needed: i64, precision: &'static str },
    /// The model's operator set can't be raised.
    #[error("{} {problem}", path.display())]
    Opset { path: PathBuf, problem: OpsetProblem },
    /// A graph that is to be lowered as a quantized one.
    #[error("{} is not the quantized graph that lowering needs: this is a bug of nimctl", path.display())]
    NotQuantized { path: PathBuf },
    /// A graph that stays beyond what one file can hold.
    #[error(
        "{} would have {size_bytes} bytes without its external data, but a protobuf file cannot exceed 2 GiB: \
         turn the large constants of its nodes into initializers", path.display()
    )]
    TooLarge { path: PathBuf, size_bytes: u64 },
    /// A destination without a file name.
    #[error("cannot write a model to {}: expected a path that ends in a UTF-8 file name", path.display())]
    NoFileName { path: PathBuf },
    /// A producer that gave another number of bytes than it promised.
    #[error(
        "the payload of tensor `{tensor}` has {found_bytes} bytes instead of {needed_bytes}: this is a bug"
    )]
    PayloadSize { tensor: String, needed_bytes: u64, found_bytes: u64 },
    /// What lowering made is invalid, and the original isn't.
    #[error(
        "lowering {} would give a graph that no runtime takes: {problem}; nothing was written",
        path.display()
    )]
    Inconsistent { path: PathBuf, problem: String },
}

impl OnnxError {
    /// Returns what the error means to the person who runs the program.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::PayloadSize { .. }
            | Self::ForeignTensor { .. }
            | Self::Inconsistent { .. }
            | Self::NotQuantized { .. } => ErrorKind::Bug,
            _ => ErrorKind::Input,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.into(), source }
    }
}
