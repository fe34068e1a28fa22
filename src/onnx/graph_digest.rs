//! Digests of the files of one graph.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

/// One file, its digest and its size.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// The path, relative to the model's folder.
    pub path: String,
    /// The SHA-256 digest of its bytes.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// What a graph is, whatever its file is called: the model file first, then its external files by path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GraphDigest {
    /// The files; the model file has the path [`GraphDigest::MODEL_PATH`].
    pub files: Vec<FileDigest>,
}

impl GraphDigest {
    /// The name that stands for the model file's own.
    pub const MODEL_PATH: &'static str = "model.onnx";
}
