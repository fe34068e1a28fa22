//! The graph that lowering begins with: the recipe's, or what was made of it by quantization, which the store has.

use crate::error_kind::ErrorKind;
use crate::files::work_folder::WorkFolder;
use crate::onnx::{GraphDigest, LoweringOptions, OnnxError, OnnxFile};
use crate::store::{Store, StoreError};

/// A graph to lower.
pub(super) enum ToLower<'a> {
    /// The recipe's.
    Source(&'a OnnxFile),
    /// A quantized one, in a folder of its own.
    Quantized { file: Box<OnnxFile>, _folder: WorkFolder },
}

/// Why there is no graph to lower.
#[derive(Debug, thiserror::Error)]
pub enum ToLowerError {
    /// It is not quantized yet.
    #[error("how the graph is quantized is found by `nimctl build`")]
    NotFound,
    /// It was, elsewhere or long ago.
    #[error("the quantized graph is not in the store: `nimctl build` makes it again")]
    NotInStore,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is in it.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
}

impl ToLowerError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound | Self::NotInStore => ErrorKind::Refused,
            Self::Store(source) => source.kind(),
            Self::Onnx(source) => source.kind(),
        }
    }
}

impl<'a> ToLower<'a> {
    /// Returns the graph that these options lower; `source` is the recipe's.
    pub(super) fn of(
        source: &'a OnnxFile,
        lowering: &LoweringOptions,
        store: &Store,
    ) -> Result<Self, ToLowerError> {
        let Some(quantization) = &lowering.quantization else { return Ok(Self::Source(source)) };
        let graph = quantization.graph.as_ref().ok_or(ToLowerError::NotFound)?;
        if !store.has_graph(graph) {
            return Err(ToLowerError::NotInStore);
        }
        let folder = store.work_folder()?;
        store.lay_out_graph(graph, folder.path())?;
        let file = OnnxFile::open(&folder.path().join(GraphDigest::MODEL_PATH))?;
        Ok(Self::Quantized { file: Box::new(file), _folder: folder })
    }

    /// Returns the graph.
    pub(super) fn file(&self) -> &OnnxFile {
        match self {
            Self::Source(file) => file,
            Self::Quantized { file, _folder: _ } => file,
        }
    }
}
