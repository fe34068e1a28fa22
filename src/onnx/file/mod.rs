//! An ONNX model on disk, mapped, with its external data checked.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nimctl_backend_kit::read_file::ReadFile;
use prost::Message as _;

use crate::digest::Sha256;
use crate::onnx::analysis::wiring;
use crate::onnx::density;
use crate::onnx::dimension_name::has_placeholders;
use crate::onnx::error::OnnxError;
use crate::onnx::external_data::{ExternalFile, ExternalFiles, is_external};
use crate::onnx::graph_digest::{FileDigest, GraphDigest};
use crate::onnx::mapped_file::MappedFile;
use crate::onnx::not_onnx::explain;
use crate::onnx::opset::{self, Raised};
use crate::onnx::proto::{GraphProto, ModelProto, TensorProto};
use crate::onnx::tensor_bytes::inline_bytes;
use crate::onnx::tensor_info::TensorInfo;
use crate::onnx::visit::visit_tensors;

/// An open model. Weights stay in the mapped files until they are asked for.
#[derive(Debug)]
pub struct OnnxFile {
    path: PathBuf,
    mapped: MappedFile,
    model: ModelProto,
    external: ExternalFiles,
    external_paths: Vec<PathBuf>,
}

impl OnnxFile {
    /// Maps and decodes a model, and checks that every external tensor is where the model says.
    ///
    /// # Errors
    /// The file is unreadable, no ONNX model or cut off; nodes or functions refer to themselves, or a value is made
    /// twice; or an external file is
    /// missing, too short or elsewhere.
    pub fn open(path: &Path) -> Result<Self, OnnxError> {
        Self::read(path, MappedFile::map(path).map_err(OnnxError::io("read", path))?)
    }

    /// Decodes a model that is in memory already, as if `path` had been opened: errors name it, and external tensors
    /// are looked for beside it.
    ///
    /// # Errors
    /// Those of [`OnnxFile::open`], but that the file is unreadable.
    pub fn from_bytes(path: &Path, bytes: Bytes) -> Result<Self, OnnxError> {
        Self::read(path, MappedFile::in_memory(bytes))
    }

    fn read(path: &Path, mapped: MappedFile) -> Result<Self, OnnxError> {
        let bytes = mapped.bytes();
        if bytes.is_empty() {
            return Err(OnnxError::Empty { path: path.into() });
        }
        density::check(path, bytes)?;
        let model = ModelProto::decode(bytes.clone()).map_err(|error| explain(path, bytes, &error))?;
        if model.graph.is_none() {
            return Err(OnnxError::NoGraph { path: path.into() });
        }
        if model.ir_version.is_none() {
            return Err(OnnxError::NoIrVersion { path: path.into() });
        }
        if model.opset_import.is_empty() {
            return Err(OnnxError::NoOpset { path: path.into() });
        }
        wiring::check(path, &model)?;
        let mut external = ExternalFiles::beside(path);
        visit_tensors(
            &model,
            |tensor| if is_external(tensor) { external.add(path, tensor) } else { Ok(()) },
        )?;
        let own_name = Path::new(GraphDigest::MODEL_PATH);
        if external.iter().any(|(external, _)| external == own_name) {
            return Err(OnnxError::ExternalNamedAsModel { path: path.into() });
        }
        let external_paths = external.iter().map(|(path, _)| path.clone()).collect();
        // Decoding looked at what stands between the weights, and the system brought their neighbours along.
        mapped.release(mapped.bytes());
        Ok(Self { path: path.into(), mapped, model, external, external_paths })
    }

    /// Returns the path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the decoded model.
    pub fn model(&self) -> &ModelProto {
        &self.model
    }

    /// Returns the external files, relative to the model's folder, sorted, each once.
    pub fn external_files(&self) -> &[PathBuf] {
        &self.external_paths
    }

    /// Returns the files that are open, the model first and the external ones sorted; none for bytes that were in memory.
    pub(crate) fn open_files(&self) -> impl Iterator<Item = &ReadFile> {
        let external = self.external.iter().map(|(_, mapped)| mapped);
        std::iter::once(&self.mapped).chain(external).filter_map(MappedFile::file)
    }

    /// Returns the absolute path by which other programs find the model and its external files: where links lead if that is where
    /// the files are.
    pub fn path_for_others(&self) -> PathBuf {
        self.external.path_for_others(&self.path)
    }

    /// Returns the external files with their sizes, as [`OnnxFile::external_files`] lists them.
    pub fn external_sizes(&self) -> Vec<ExternalFile> {
        let file = |(path, mapped): (&PathBuf, &MappedFile)| ExternalFile {
            path: path.clone(),
            size_bytes: mapped.bytes().len() as u64,
        };
        self.external.iter().map(file).collect()
    }

    /// Returns the size of the model file, without its external files.
    pub fn size_bytes(&self) -> u64 {
        self.mapped.bytes().len() as u64
    }

    /// Returns the inputs that a caller feeds: those that no initializer fills.
    pub fn inputs(&self) -> Vec<TensorInfo> {
        let graph = self.graph();
        let filled: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
        graph.input.iter().filter(|value| !filled.contains(value.name())).map(TensorInfo::of).collect()
    }

    /// Returns the outputs.
    pub fn outputs(&self) -> Vec<TensorInfo> {
        self.graph().output.iter().map(TensorInfo::of).collect()
    }

    /// Returns whether an input or output has a dimension with a symbol that is no name (`?`), which compilers would take
    /// for one.
    pub fn has_placeholder_dimensions(&self) -> bool {
        has_placeholders(self.graph())
    }

    /// Returns the version of ONNX's own operator set; `None` if the model uses only others.
    pub fn opset(&self) -> Option<i64> {
        opset::own_opset(&self.model.opset_import)
    }

    /// Raises the operator set of the model in memory; the file on disk stays as it is. See [`opset::raise`].
    ///
    /// # Errors
    /// Those of [`opset::raise`].
    pub fn raised(mut self, to: i64) -> Result<(Self, Raised), OnnxError> {
        match opset::raise(&mut self.model, to) {
            Ok(raised) => Ok((self, raised)),
            Err(problem) => Err(OnnxError::Opset { path: self.path, problem }),
        }
    }

    /// Returns the little-endian payload of a tensor of this model, in place where it is stored as such.
    ///
    /// # Errors
    /// The payload's size is not what shape and type need, the type has no bytes (strings), or the tensor is not of
    /// this model.
    pub fn tensor_bytes(&self, tensor: &TensorProto) -> Result<Bytes, OnnxError> {
        if is_external(tensor) {
            self.external.slice(&self.path, tensor)
        } else {
            inline_bytes(&self.path, tensor)
        }
    }

    /// Gives back the memory that reading `payload` took, if it is a part of a mapped file of this model. It can be
    /// read again, from the file.
    pub(super) fn release(&self, payload: &[u8]) {
        let external = self.external.iter().map(|(_, file)| file);
        let _ = std::iter::once(&self.mapped).chain(external).any(|file| file.release(payload));
    }

    /// Returns the graph of the decoded model.
    pub fn graph(&self) -> &GraphProto {
        self.model.graph.as_ref().expect("checked in OnnxFile::from_bytes")
    }
}

/// Returns the digests of the model file and of its external files.
///
/// # Errors
/// None today: the files are mapped. Callers must be ready for I/O errors all the same.
pub fn graph_digest(file: &OnnxFile) -> io::Result<GraphDigest> {
    let digest = |path: String, mapped: &MappedFile| FileDigest {
        path,
        sha256: Sha256::of(mapped.bytes()),
        size_bytes: mapped.bytes().len() as u64,
    };
    let mut files = vec![digest(GraphDigest::MODEL_PATH.into(), &file.mapped)];
    files.extend(file.external.iter().map(|(path, mapped)| digest(path.display().to_string(), mapped)));
    Ok(GraphDigest { files })
}

#[cfg(test)]
mod tests;
