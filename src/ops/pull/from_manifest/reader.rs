//! Reads the bytes that a uri leads to.

use std::io;
use std::path::PathBuf;

use super::{FileError, FromManifest};
use crate::oci::{Blob, ImageManifest, PACK_INDEX_TYPE, Place as _, RegistryPlace, Sink, SinkWriter, Which};
use crate::registry::{Reference, WebFile};
use crate::uri::{Location, shown};

/// What a uri leads to, found.
pub(super) enum Reader<'a> {
    File(PathBuf, u64),
    Web(Box<WebFile>),
    Blob(Box<RegistryPlace<'a>>, Blob),
}

impl<'a> Reader<'a> {
    /// Finds what a uri leads to. A file of a server is not asked for yet.
    pub(super) fn open(manifest: &FromManifest<'a>, uri: &str) -> Result<Self, FileError> {
        match manifest.sources.locate(uri)? {
            Location::File(path) => {
                let metadata = fs_err::metadata(&path)?;
                if !metadata.is_file() {
                    return Err(FileError::Other(format!("{} is not a regular file", path.display())));
                }
                Ok(Self::File(path, metadata.len()))
            }
            Location::Web(file) => Ok(Self::Web(file)),
            Location::Registry(reference, path) => layer(manifest, &reference, &path),
            Location::Store(_) => Err(FileError::OnlyInAStore { uri: shown(uri) }),
        }
    }

    /// Returns the same, of which the caller compares the bytes with a digest, and knows the size.
    pub(super) fn verified(self, size_bytes: Option<u64>) -> Self {
        match self {
            Self::Web(file) => {
                let file = file.with_digest();
                Self::Web(Box::new(match size_bytes {
                    Some(size_bytes) => file.of_size(size_bytes),
                    None => file,
                }))
            }
            other => other,
        }
    }

    /// Whether reading from the middle continues what another process began: what is behind the uri can't have changed unseen.
    pub(super) fn is_stable(&self) -> bool {
        matches!(self, Self::Blob(..))
    }

    /// Gives the bytes from `start` on to a sink, and the size of the whole as soon as that is known.
    pub(super) fn read(
        &self,
        manifest: &FromManifest<'_>,
        start: u64,
        on_size: &mut dyn FnMut(u64),
        sink: &mut Sink<'_>,
    ) -> Result<(), FileError> {
        match self {
            Self::File(path, size_bytes) => {
                on_size(*size_bytes);
                let mut file = fs_err::File::open(path)?;
                io::Seek::seek(&mut file, io::SeekFrom::Start(start))?;
                io::copy(&mut file, &mut SinkWriter(sink))?;
            }
            Self::Web(file) => {
                manifest.client.get_file_from(file, start, &mut SinkWriter(sink), on_size)?;
            }
            Self::Blob(place, blob) => {
                on_size(blob.size_bytes);
                place.read_blob(blob, start.min(blob.size_bytes)..blob.size_bytes, sink)?;
            }
        }
        Ok(())
    }

    /// Returns all bytes, at most `limit_bytes`.
    pub(super) fn all(&self, manifest: &FromManifest<'_>, limit_bytes: u64) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        let too_large = || io::Error::other(format!("it is larger than {limit_bytes} bytes"));
        self.read(manifest, 0, &mut |_| (), &mut |piece| {
            bytes.extend_from_slice(piece);
            if bytes.len() as u64 > limit_bytes { Err(too_large()) } else { Ok(()) }
        })?;
        Ok(bytes)
    }
}

/// Finds the layer of an artifact whose title is a path.
fn layer<'a>(
    manifest: &FromManifest<'a>,
    reference: &Reference,
    path: &str,
) -> Result<Reader<'a>, FileError> {
    let place = RegistryPlace::new((manifest.connect)(), reference.repository.clone());
    let artifact = format!("{} {}", reference.repository, reference.tag_or_digest());
    let Some((bytes, _)) = place.manifest(&which(reference))? else {
        return Err(FileError::Other(format!("{artifact} was not found")));
    };
    let found =
        ImageManifest::parse(&bytes, &artifact).map_err(|error| FileError::Other(error.to_string()))?;
    if found.layer(PACK_INDEX_TYPE).is_some() {
        let problem =
            format!("{artifact} is a profile in packs, whose files only a profile of nimctl's can name");
        return Err(FileError::Other(problem));
    }
    match found.layers.iter().find(|layer| layer.title() == Some(path)) {
        Some(layer) => {
            let blob = Blob { digest: layer.digest, size_bytes: layer.size };
            Ok(Reader::Blob(Box::new(place), blob))
        }
        None => Err(FileError::NoLayer { artifact }),
    }
}

/// Returns what a reference names in its repository.
pub(super) fn which(reference: &Reference) -> Which {
    match (&reference.digest, &reference.tag) {
        (Some(digest), _) => Which::Digest(*digest),
        (None, tag) => Which::Tag(tag.clone().unwrap_or_default()),
    }
}
