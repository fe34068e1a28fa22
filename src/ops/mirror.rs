//! `mirror`: copies a release, or any other artifact, from one place to another, without unpacking it. What is there already is not
//! copied, and the tag comes last.

use std::io::{self, Write as _};

use sha2::Digest as _;

use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::oci::{
    Blob, Descriptor, INDEX_TYPE, ImageIndex, ImageManifest, InvalidDocument, MANIFEST_TYPE, Place,
    PlaceError, SIGNATURE_TYPE, Which, fetch_small,
};
use crate::packs::MAX_PACK_BYTES;
use crate::signing::MAX_BUNDLE_BYTES;

/// Indexes may hold indexes, but not without end.
const MAX_DEPTH: usize = 4;
/// Signatures or attestations of one manifest that are copied, at most.
const MAX_ATTACHED: usize = 100;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Blobs and manifests that were copied.
    pub copied: usize,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Blobs that were there.
    pub were_there: usize,
    /// Signatures and attestations among the manifests that were copied.
    pub attached: usize,
    /// What was attached and is none, or too much of it: it was not copied.
    pub not_attached: usize,
}

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// One of the places.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A manifest or index that can't be read.
    #[error(transparent)]
    Document(#[from] InvalidDocument),
    /// Nothing there.
    #[error("{place} has no {which}")]
    Nothing {
        /// The place.
        place: String,
        /// The tag or digest.
        which: String,
    },
    /// Something that nimctl does not know how to copy.
    #[error("{which} is `{media_type}`, neither an OCI manifest nor an index of them")]
    Unknown {
        /// The tag or digest.
        which: String,
        /// What it is.
        media_type: String,
    },
    /// A large blob could not be kept on the way.
    #[error("cannot keep a blob on the way")]
    Spool(#[source] io::Error),
    /// Cancelled.
    #[error("cancelled: what was copied is there, and the next copy goes on from there")]
    Cancelled,
}

impl MirrorError {
    /// Returns what the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Place(error) => error.hint(),
            _ => None,
        }
    }

    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Place(error) => error.kind(),
            Self::Nothing { .. } | Self::Unknown { .. } | Self::Spool(_) => ErrorKind::Input,
            Self::Document(_) => ErrorKind::Refused,
            Self::Cancelled => ErrorKind::Interrupted,
        }
    }
}

/// Copies what a tag or digest names, and gives it a tag.
///
/// # Errors
/// Nothing there; a place that can't be read or written, or gives bytes that are not those of their digest; cancelled.
pub fn mirror(
    from: &dyn Place,
    which: &Which,
    to: &dyn Place,
    tag: Option<&str>,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Mirrored, MirrorError> {
    let with_referrers = from.keeps_referrers() && to.keeps_referrers();
    let mut copy = Copy { from, to, cancelled, with_referrers, done: Mirrored::default() };
    copy.document(which, tag, 0)?;
    Ok(copy.done)
}

struct Copy<'a> {
    from: &'a dyn Place,
    to: &'a dyn Place,
    cancelled: &'a (dyn Fn() -> bool + Sync),
    with_referrers: bool,
    done: Mirrored,
}

impl Copy<'_> {
    fn document(&mut self, which: &Which, tag: Option<&str>, depth: usize) -> Result<(), MirrorError> {
        let Some((bytes, media_type)) = self.from.manifest(which)? else {
            return Err(MirrorError::Nothing { place: self.from.name(), which: which.to_string() });
        };
        let what = which.to_string();
        match media_type.as_str() {
            MANIFEST_TYPE => {
                let manifest = ImageManifest::parse(&bytes, &what)?;
                for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                    self.blob(blob)?;
                }
            }
            INDEX_TYPE if depth < MAX_DEPTH => {
                for manifest in ImageIndex::parse(&bytes, &what)?.manifests {
                    self.document(&Which::Digest(manifest.digest), None, depth + 1)?;
                }
            }
            _ => return Err(MirrorError::Unknown { which: what, media_type }),
        }
        if self.with_referrers {
            // Before the tag, as they were published. Their subject need not be there yet.
            self.attached(&Sha256::of(&bytes))?;
        }
        self.to.put_manifest(tag, &media_type, &bytes)?;
        self.count(bytes.len() as u64);
        Ok(())
    }

    /// Copies the signatures and attestations that are attached to a manifest. Anyone may have attached something: what is no bundle, or not
    /// whole, is counted and left out.
    fn attached(&mut self, subject: &Sha256) -> Result<(), MirrorError> {
        let listed = self.from.referrers(subject, SIGNATURE_TYPE)?;
        for (number, digest) in listed.iter().enumerate() {
            let copied = if number < MAX_ATTACHED { self.bundle(digest, subject) } else { Ok(false) };
            match copied {
                Ok(true) => self.done.attached += 1,
                Ok(false) => self.done.not_attached += 1,
                Err(error) if matches!(error.kind(), ErrorKind::Input | ErrorKind::Refused) => {
                    self.done.not_attached += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Copies one bundle, if it is one.
    fn bundle(&mut self, digest: &Sha256, subject: &Sha256) -> Result<bool, MirrorError> {
        let Some((bytes, media_type)) = self.from.manifest(&Which::Digest(*digest))? else {
            return Ok(false);
        };
        if media_type != MANIFEST_TYPE {
            return Ok(false);
        }
        let manifest = ImageManifest::parse(&bytes, &digest.to_string())?;
        let is_small = |blob: &Descriptor| blob.size <= MAX_BUNDLE_BYTES;
        let is_bundle = manifest.subject.as_ref().is_some_and(|found| found.digest == *subject)
            && manifest.layers.iter().all(|layer| layer.media_type == SIGNATURE_TYPE && is_small(layer))
            && is_small(&manifest.config);
        if !is_bundle {
            return Ok(false);
        }
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            self.blob(blob)?;
        }
        self.to.put_manifest(None, &media_type, &bytes)?;
        self.count(bytes.len() as u64);
        Ok(true)
    }

    fn blob(&mut self, blob: &Descriptor) -> Result<(), MirrorError> {
        if (self.cancelled)() {
            return Err(MirrorError::Cancelled);
        }
        if self.to.has_blob(&blob.digest)? {
            self.done.were_there += 1;
            return Ok(());
        }
        if blob.size <= MAX_PACK_BYTES {
            let bytes = fetch_small(self.from, blob, MAX_PACK_BYTES)?;
            self.to.put_blob(&blob.digest, &bytes)?;
        } else {
            self.large(blob)?;
        }
        self.count(blob.size);
        Ok(())
    }

    fn large(&self, blob: &Descriptor) -> Result<(), MirrorError> {
        let mut file = tempfile::NamedTempFile::new().map_err(MirrorError::Spool)?;
        let mut hasher = sha2::Sha256::new();
        self.from.read_blob(
            &Blob { digest: blob.digest, size_bytes: blob.size },
            0..blob.size,
            &mut |piece| {
                if (self.cancelled)() {
                    return Err(io::Error::other("cancelled"));
                }
                hasher.update(piece);
                file.write_all(piece)
            },
        )?;
        let found = Sha256::from_bytes(hasher.finalize().into());
        if found != blob.digest {
            let found = format!("they are {found}");
            return Err(
                PlaceError::OtherBytes { place: self.from.name(), expected: blob.digest, found }.into()
            );
        }
        let large = Blob { digest: blob.digest, size_bytes: blob.size };
        Ok(self.to.put_large_blob(&large, file.as_file_mut())?)
    }

    fn count(&mut self, bytes: u64) {
        self.done.copied += 1;
        self.done.copied_bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Layout;

    #[test]
    fn a_release_is_copied_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let layout = |name: &str| Layout::open_or_make(&folder.path().join(name)).unwrap();
        let (from, to) = (layout("from"), layout("to"));
        let blob = Descriptor::of("a/b", b"layer");
        from.put_blob(&blob.digest, b"layer").unwrap();
        let config = Descriptor::of("c/d", b"{}");
        from.put_blob(&config.digest, b"{}").unwrap();
        let manifest = ImageManifest::new("x", config, vec![blob.clone()]).to_json();
        from.put_manifest(None, MANIFEST_TYPE, &manifest).unwrap();
        let index = ImageIndex::new(Some("y"), vec![Descriptor::of(MANIFEST_TYPE, &manifest)]).to_json();
        let digest = from.put_manifest(Some("1.0"), INDEX_TYPE, &index).unwrap();

        let go = || mirror(&from, &Which::Tag("1.0".into()), &to, Some("2.0"), &|| false);
        assert_eq!(go().unwrap().copied, 4);
        assert_eq!(to.manifest(&Which::Tag("2.0".into())).unwrap().unwrap().0, index);
        assert!(to.has_blob(&blob.digest).unwrap());
        assert_eq!(go().unwrap().were_there, 2);
        assert!(matches!(
            mirror(&from, &Which::Digest(digest), &to, None, &|| true),
            Err(MirrorError::Cancelled)
        ));
        let none = mirror(&from, &Which::Tag("3".into()), &to, None, &|| false).unwrap_err().to_string();
        assert!(none.ends_with("has no 3"), "{none}");
    }
}
