//! Tensors whose payload is in another file beside the model: where they are, checked before anything is read.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;

use super::density;
use super::error::OnnxError;
use super::mapped_file::MappedFile;
use super::proto::{ModelProto, StringStringEntryProto, TensorProto};
use super::tensor_size::tensor_size_bytes;
use super::visit::visit_tensors;

/// The external files of one model, mapped.
#[derive(Debug, Default)]
pub(super) struct ExternalFiles {
    folder: PathBuf,
    /// The folder of the file that the model's path leads to, if the path is a link: caches keep a model and its data as links
    /// to files that are beside each other.
    real_folder: Option<PathBuf>,
    files: BTreeMap<PathBuf, MappedFile>,
    /// Whether a file is beside the model's target alone, and not beside the link.
    beside_target: bool,
}

/// A file beside the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalFile {
    /// Its path, relative to the model's folder.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
}

/// Where a tensor says its payload is.
struct Location<'a> {
    text: &'a str,
    path: PathBuf,
    offset_bytes: u64,
    length_bytes: Option<u64>,
}

/// Returns the files that a model's external tensors name, relative to its folder, whether they are there or not; none for a
/// file that is no model, and none outside the folder: opening it says what is wrong.
pub fn external_locations(model: &Path) -> Vec<PathBuf> {
    let Ok(mapped) = MappedFile::map(model) else { return Vec::new() };
    let bytes = mapped.bytes();
    if density::check(model, bytes).is_err() {
        return Vec::new();
    }
    let Ok(decoded) = ModelProto::decode(bytes.clone()) else { return Vec::new() };
    let files = ExternalFiles::beside(model);
    let mut paths = BTreeSet::new();
    let visited = visit_tensors(&decoded, |tensor| {
        if is_external(tensor) {
            paths.extend(files.locate(model, tensor).map(|location| location.path));
        }
        Ok::<(), Infallible>(())
    });
    match visited {
        Ok(()) => paths.into_iter().collect(),
        Err(never) => match never {},
    }
}

/// Returns whether the tensor's payload is in another file.
pub(super) fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(1)
}

/// Returns the entries of a tensor that is at `offset_bytes` of the file `location`.
pub(super) fn entries(location: &str, offset_bytes: u64, length_bytes: u64) -> Vec<StringStringEntryProto> {
    [
        ("location", location.to_string()),
        ("offset", offset_bytes.to_string()),
        ("length", length_bytes.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| StringStringEntryProto { key: Some(key.into()), value: Some(value) })
    .collect()
}

impl ExternalFiles {
    /// Starts with no files, all to be found in the model's folder; links in it may lead to files beside the model's own.
    pub(super) fn beside(model: &Path) -> Self {
        let parent = model.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let real = model.is_symlink().then(|| fs_err::canonicalize(model).ok()).flatten();
        let real_folder = real.and_then(|real| Some(real.parent()?.to_owned()));
        Self { folder: parent.into(), real_folder, files: BTreeMap::new(), beside_target: false }
    }

    /// Checks one external tensor and maps its file, once a file.
    pub(super) fn add(&mut self, model: &Path, tensor: &TensorProto) -> Result<(), OnnxError> {
        let location = self.locate(model, tensor)?;
        if !self.files.contains_key(&location.path) {
            let is_missing = !self.folder.join(&location.path).exists();
            let beside_target = self.real_folder.as_ref().map(|real| real.join(&location.path));
            let file = match beside_target.filter(|path| is_missing && path.exists()) {
                Some(path) => {
                    self.beside_target = true;
                    self.open(tensor, &location, &path)?
                }
                None => self.open(tensor, &location, &self.folder.join(&location.path))?,
            };
            self.files.insert(location.path.clone(), file);
        }
        self.slice(model, tensor).map(drop)
    }

    /// Returns the payload of an external tensor, in place.
    pub(super) fn slice(&self, model: &Path, tensor: &TensorProto) -> Result<Bytes, OnnxError> {
        let location = self.locate(model, tensor)?;
        let Some(file) = self.files.get(&location.path) else {
            return Err(OnnxError::ForeignTensor { path: model.into(), tensor: tensor.name().into() });
        };
        let file = file.bytes();
        let needed_bytes = tensor_size_bytes(model, tensor)?;
        if let Some(found_bytes) = location.length_bytes
            && found_bytes != needed_bytes
        {
            return Err(OnnxError::TensorSize {
                path: model.into(),
                tensor: tensor.name().into(),
                needed_bytes,
                found_bytes,
            });
        }
        let end_bytes = location.offset_bytes.saturating_add(needed_bytes);
        if end_bytes > file.len() as u64 {
            return Err(OnnxError::ExternalTooShort {
                tensor: tensor.name().into(),
                location: location.text.into(),
                folder: self.folder.clone(),
                needed_bytes: end_bytes,
                found_bytes: file.len() as u64,
            });
        }
        // Both are at most the mapped length, so they fit in usize.
        Ok(file.slice(location.offset_bytes as usize..end_bytes as usize))
    }

    /// Returns the absolute path of the model by which a program finds the files too.
    pub(super) fn path_for_others(&self, model: &Path) -> PathBuf {
        let path = match self.beside_target {
            true => fs_err::canonicalize(model).ok(),
            false => std::path::absolute(model).ok(),
        };
        path.unwrap_or_else(|| model.into())
    }

    /// Returns each file with its path, relative to the model's folder, sorted by path.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&PathBuf, &MappedFile)> {
        self.files.iter()
    }

    fn locate<'a>(&self, model: &Path, tensor: &'a TensorProto) -> Result<Location<'a>, OnnxError> {
        let entry = |key: &str| {
            tensor.external_data.iter().find(|entry| entry.key() == key).map(|entry| entry.value())
        };
        let Some(text) = entry("location").filter(|text| !text.is_empty()) else {
            return Err(OnnxError::ExternalWithoutLocation {
                path: model.into(),
                tensor: tensor.name().into(),
            });
        };
        let number = |key: &str| match entry(key).map(|value| (value, value.parse::<u64>())) {
            None => Ok(None),
            Some((_, Ok(number))) => Ok(Some(number)),
            Some((value, Err(_))) => Err(OnnxError::ExternalNotANumber {
                tensor: tensor.name().into(),
                location: text.into(),
                folder: self.folder.clone(),
                key: key.into(),
                value: value.into(),
            }),
        };
        let mut path = PathBuf::new();
        for component in Path::new(text).components() {
            match component {
                Component::Normal(part) => path.push(part),
                Component::CurDir => {}
                Component::Prefix(_) | Component::RootDir | Component::ParentDir => {
                    return Err(OnnxError::ExternalLeavesFolder {
                        tensor: tensor.name().into(),
                        location: text.into(),
                        folder: self.folder.clone(),
                    });
                }
            }
        }
        Ok(Location {
            text,
            path,
            offset_bytes: number("offset")?.unwrap_or(0),
            length_bytes: number("length")?,
        })
    }

    fn open(
        &self,
        tensor: &TensorProto,
        location: &Location<'_>,
        joined: &Path,
    ) -> Result<MappedFile, OnnxError> {
        let (name, text) = (tensor.name().to_string(), location.text.to_string());
        let folder = fs_err::canonicalize(&self.folder).map_err(OnnxError::io("read", &self.folder))?;
        let resolved = match fs_err::canonicalize(joined) {
            Ok(resolved) => resolved,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(OnnxError::ExternalMissing {
                    tensor: name,
                    location: text,
                    folder: self.folder.clone(),
                });
            }
            Err(error) => return Err(OnnxError::io("read", joined)(error)),
        };
        let is_beside_the_real_model =
            self.real_folder.as_ref().is_some_and(|real| resolved.starts_with(real));
        if !resolved.starts_with(&folder) && !is_beside_the_real_model {
            let folder = self.folder.clone();
            return Err(OnnxError::ExternalLinkLeavesFolder { tensor: name, location: text, folder });
        }
        MappedFile::map(&resolved).map_err(OnnxError::io("read", joined))
    }
}
