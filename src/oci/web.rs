//! A folder in the OCI image layout that a web server serves.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::document::ImageIndex;
use super::layout::{INDEX_FILE, LAYOUT_FILE, entry, media_type_of};
use super::place::{Blob, MAX_DOCUMENT_BYTES, Place, PlaceError, Sink, SinkWriter, Which};
use crate::digest::Sha256;
use crate::registry::{Client, ReadSeek, RegistryError, WebFile};

const READ_ONLY: &str = "publish to oci:FOLDER, and let the server serve that folder";
/// What a folder says that it is.
const MAX_LAYOUT_BYTES: u64 = 4096;

/// A folder in the OCI image layout that a web server serves.
pub struct WebPlace<'a> {
    client: Client<'a>,
    root: WebFile,
    reads_ranges: AtomicBool,
}

impl<'a> WebPlace<'a> {
    /// Makes a place of the address of a folder, and looks whether it is a layout.
    ///
    /// # Errors
    /// A server that can't be reached, or has no layout there.
    pub fn open(client: Client<'a>, root: WebFile) -> Result<Self, PlaceError> {
        let place = Self { client, root, reads_ranges: AtomicBool::new(true) };
        let no_layout = |found: String| {
            let reason = format!(
                "it is no OCI image layout: {found}; give the address of a folder that `nimctl publish --to oci:FOLDER` made"
            );
            PlaceError::NotAPlace { path: place.root.name().into(), reason }
        };
        match place.client.get_small_file(&place.root.below(LAYOUT_FILE), MAX_LAYOUT_BYTES) {
            Ok(bytes) => {
                let json: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
                if json.is_none_or(|json| json["imageLayoutVersion"].as_str().is_none()) {
                    return Err(no_layout(format!("its file `{LAYOUT_FILE}` is something else")));
                }
            }
            Err(RegistryError::NotFound { .. }) => {
                return Err(no_layout(format!("it has no file `{LAYOUT_FILE}`")));
            }
            Err(error @ (RegistryError::BadAnswer { .. } | RegistryError::TooLarge { .. })) => {
                return Err(no_layout(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(place)
    }

    fn blob(&self, digest: &Sha256) -> WebFile {
        self.root.below(&format!("blobs/sha256/{}", digest.to_hex())).with_digest()
    }

    fn other(&self, digest: &Sha256, found: &Sha256) -> PlaceError {
        PlaceError::OtherBytes { place: self.name(), expected: *digest, found: format!("they are {found}") }
    }
}

impl Place for WebPlace<'_> {
    fn name(&self) -> String {
        self.root.name().trim_end_matches('/').into()
    }

    fn manifest(&self, which: &Which) -> Result<Option<(Vec<u8>, String)>, PlaceError> {
        let (digest, media_type) = match which {
            Which::Tag(tag) => {
                let file = self.root.below(INDEX_FILE);
                let bytes = self.client.get_small_file(&file, MAX_DOCUMENT_BYTES)?;
                let index = ImageIndex::parse(&bytes, INDEX_FILE)
                    .map_err(|source| PlaceError::Document { place: self.name(), source })?;
                match entry(&self.name(), &index.manifests, tag)? {
                    Some(found) => (found.digest, found.media_type.clone()),
                    None => return Ok(None),
                }
            }
            Which::Digest(digest) => (*digest, String::new()),
        };
        let bytes = match self.client.get_small_file(&self.blob(&digest), MAX_DOCUMENT_BYTES) {
            Ok(bytes) => bytes,
            Err(RegistryError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let found = Sha256::of(&bytes);
        if found != digest {
            return Err(self.other(&digest, &found));
        }
        let media_type = if media_type.is_empty() { media_type_of(&bytes) } else { media_type };
        Ok(Some((bytes, media_type)))
    }

    fn put_manifest(&self, _: Option<&str>, _: &str, _: &[u8]) -> Result<Sha256, PlaceError> {
        Err(PlaceError::ReadOnly { place: self.name(), reason: READ_ONLY })
    }

    fn has_blob(&self, digest: &Sha256) -> Result<bool, PlaceError> {
        Ok(self.client.has_file(&self.blob(digest))?)
    }

    fn read_blob(&self, wanted: &Blob, range: Range<u64>, sink: &mut Sink<'_>) -> Result<(), PlaceError> {
        let Blob { digest, size_bytes } = wanted;
        let file = self.blob(digest).of_size(*size_bytes);
        match self.client.get_file(&file, Some(range), &mut SinkWriter(sink)) {
            Ok(fetched) => {
                if fetched.range_ignored {
                    self.reads_ranges.store(false, Ordering::Relaxed);
                }
                Ok(())
            }
            Err(RegistryError::NotFound { .. }) => {
                Err(PlaceError::Missing { place: self.name(), what: format!("blob {digest}") })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn put_blob(&self, _: &Sha256, _: &[u8]) -> Result<(), PlaceError> {
        Err(PlaceError::ReadOnly { place: self.name(), reason: READ_ONLY })
    }

    fn put_large_blob(&self, _: &Blob, _: &mut dyn ReadSeek) -> Result<(), PlaceError> {
        Err(PlaceError::ReadOnly { place: self.name(), reason: READ_ONLY })
    }

    fn reads_ranges(&self) -> bool {
        self.reads_ranges.load(Ordering::Relaxed)
    }
}
