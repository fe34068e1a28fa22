//! A repository in a registry.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::place::{Blob, Place, PlaceError, Sink, SinkWriter, Which};
use crate::digest::Sha256;
use crate::registry::{self, Client, ReadSeek, Reference, RegistryError, Repository};

/// A repository in a registry.
pub struct RegistryPlace<'a> {
    client: Client<'a>,
    repository: Repository,
    reads_ranges: AtomicBool,
}

impl<'a> RegistryPlace<'a> {
    /// Makes a place of a repository; nothing is sent yet.
    pub fn new(client: Client<'a>, repository: Repository) -> Self {
        Self { client, repository, reads_ranges: AtomicBool::new(true) }
    }

    fn reference(&self, which: &Which) -> Result<Reference, PlaceError> {
        match which {
            Which::Digest(digest) => Ok(self.repository.with_digest(*digest)),
            Which::Tag(tag) if tag.is_empty() => {
                Ok(Reference { repository: self.repository.clone(), tag: None, digest: None })
            }
            Which::Tag(tag) => {
                self.repository.with_tag(tag).map_err(|error| RegistryError::Reference(error).into())
            }
        }
    }
}

fn blob(digest: &Sha256, size_bytes: u64) -> registry::Blob {
    registry::Blob { digest: *digest, size_bytes }
}

impl Place for RegistryPlace<'_> {
    fn name(&self) -> String {
        self.repository.to_string()
    }

    fn manifest(&self, which: &Which) -> Result<Option<(Vec<u8>, String)>, PlaceError> {
        match self.client.get_manifest(&self.reference(which)?) {
            Ok(manifest) => Ok(Some((manifest.bytes, manifest.media_type))),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn put_manifest(&self, tag: Option<&str>, media_type: &str, bytes: &[u8]) -> Result<Sha256, PlaceError> {
        let which = tag.map_or_else(|| Which::Digest(Sha256::of(bytes)), |tag| Which::Tag(tag.into()));
        Ok(self.client.put_manifest(&self.reference(&which)?, media_type, bytes)?)
    }

    fn has_blob(&self, digest: &Sha256) -> Result<bool, PlaceError> {
        let found = self.client.has_blob(&self.repository, digest)?;
        Ok(found.is_some())
    }

    fn read_blob(&self, wanted: &Blob, range: Range<u64>, sink: &mut Sink<'_>) -> Result<(), PlaceError> {
        let Blob { digest, size_bytes } = wanted;
        let is_whole = range == (0..*size_bytes);
        let range = (!is_whole).then_some(range);
        let fetched = self.client.get_blob(
            &self.repository,
            blob(digest, *size_bytes),
            range,
            &mut SinkWriter(sink),
        )?;
        if fetched.range_ignored {
            self.reads_ranges.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn put_blob(&self, digest: &Sha256, bytes: &[u8]) -> Result<(), PlaceError> {
        let mut source = io::Cursor::new(bytes);
        let blob = blob(digest, bytes.len() as u64);
        self.client.put_blob(&self.repository, blob, &mut source, None)?;
        Ok(())
    }

    fn put_large_blob(&self, large: &Blob, source: &mut dyn ReadSeek) -> Result<(), PlaceError> {
        let large = blob(&large.digest, large.size_bytes);
        self.client.put_blob(&self.repository, large, source, None)?;
        Ok(())
    }

    fn keeps_referrers(&self) -> bool {
        true
    }

    fn referrers(&self, subject: &Sha256, artifact_type: &str) -> Result<Vec<Sha256>, PlaceError> {
        let found = self.client.referrers(&self.repository, subject, Some(artifact_type))?;
        Ok(found.into_iter().map(|descriptor| descriptor.digest).collect())
    }

    fn reads_ranges(&self) -> bool {
        self.reads_ranges.load(Ordering::Relaxed)
    }
}
