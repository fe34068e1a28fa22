//! Digests of the files of one graph.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

/// One file, its digest and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GraphDigest {
    /// The files; the model file has the path [`GraphDigest::MODEL_PATH`].
    pub files: Vec<FileDigest>,
}

impl GraphDigest {
    /// The name that stands for the model file's own.
    pub const MODEL_PATH: &'static str = "model.onnx";
}

/// The files that were written for one graph, under their actual names: the model file first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WrittenFiles {
    /// The files, relative to the folder of the destination.
    pub files: Vec<FileDigest>,
}

impl WrittenFiles {
    /// Returns what [`graph_digest`](super::graph_digest) gives for these files, without reading them.
    pub fn graph_digest(&self) -> GraphDigest {
        let mut files = self.files.clone();
        if let Some(model) = files.first_mut() {
            model.path = GraphDigest::MODEL_PATH.into();
        }
        GraphDigest { files }
    }
}
