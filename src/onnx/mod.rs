//! Reads, writes and lowers ONNX graphs.
//!
//! [`OnnxFile`] maps a model and checks its external data; [`Summary`] says what is in it; [`write_model`] writes one
//! whose weights are produced on demand. Weights are never in memory as a whole: they are read in place from the mapping,
//! and written in pieces.
//!
//! What changes graphs stands on two floors: [`analysis`] finds what follows from a graph by itself, and
//! [`lower()`](lower::lower), on top of it, turns an FP32 graph into an FP16 or BF16 one, and [`opset::raise`] a model of one
//! operator set into one of a later.

pub mod analysis;
mod consistency;
mod density;
mod dimension_name;
mod element_type;
mod error;
mod external_data;
mod file;
mod free_names;
mod graph_digest;
pub mod lower;
mod mapped_file;
mod model_parts;
mod new_nodes;
mod node_names;
mod not_onnx;
pub mod opset;
mod other_weight;
mod parallel;
mod precision;
pub mod proto;
pub mod quantize;
pub mod summary;
mod tensor_bytes;
mod tensor_info;
mod tensor_size;
#[cfg(test)]
mod test_graphs;
mod visit;
mod weights;
mod write;

pub use analysis::index_bounds;
pub use element_type::ElementType;
pub use error::OnnxError;
pub use external_data::{ExternalFile, external_locations};
pub use file::{OnnxFile, graph_digest};
pub use graph_digest::{FileDigest, GraphDigest};
pub use lower::{Fp32Inside, Io, LOWERING_VERSION, LoweringOptions, LoweringReport, Quantization};
pub use mapped_file::shortened_files;
pub use node_names::NodeNames;
pub use opset::{OpsetProblem, Raised};
pub use other_weight::{OtherWeight, other_weight};
pub use precision::{Precision, UnknownPrecision};
pub use summary::Summary;
pub use tensor_info::{Dimension, TensorInfo};
pub use write::{DEFAULT_INLINE_LIMIT_BYTES, Initializer, Produce, WrittenFile, write_model};
