//! A folder in the OCI image layout.

use std::io::{self, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use super::document::{Descriptor, ImageIndex};
use super::place::{Blob, MAX_DOCUMENT_BYTES, Place, PlaceError, Sink, Which};
use super::{INDEX_TYPE, MANIFEST_TYPE, REF_NAME};
use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::files::file_lock::FileLock;
use crate::registry::ReadSeek;

pub(super) const INDEX_FILE: &str = "index.json";
pub(super) const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";
const LOCK_FILE: &str = ".nimctl-lock";
/// Reads are this large.
const PIECE_BYTES: usize = 1 << 20;

/// A folder in the OCI image layout.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    /// The archive that it becomes, if it does.
    archive: Option<PathBuf>,
}

impl Layout {
    /// Opens a folder that is one.
    ///
    /// # Errors
    /// A folder without `oci-layout`.
    pub fn open(root: &Path) -> Result<Self, PlaceError> {
        if !root.join(LAYOUT_FILE).is_file() {
            let reason = format!("it is no OCI image layout: it has no file `{LAYOUT_FILE}`");
            return Err(PlaceError::NotAPlace { path: root.into(), reason });
        }
        Ok(Self { root: root.into(), archive: None })
    }

    /// Opens a folder, making it an empty layout if it is absent or empty, or was being made by a process that ended early. What
    /// such processes left in it is removed.
    ///
    /// # Errors
    /// A folder with other things in it, or that can't be made.
    pub fn open_or_make(root: &Path) -> Result<Self, PlaceError> {
        let layout = Self { root: root.into(), archive: None };
        let is_ours = |name: &std::ffi::OsStr| name == LOCK_FILE || atomic_file::is_temporary(name);
        let has_other_things = || {
            let entries = fs_err::read_dir(root).into_iter().flatten().flatten();
            entries.into_iter().any(|entry| !is_ours(&entry.file_name()))
        };
        if !root.join(LAYOUT_FILE).is_file() && has_other_things() {
            let reason = format!("it is not empty, and no OCI image layout: it has no file `{LAYOUT_FILE}`");
            return Err(PlaceError::NotAPlace { path: root.into(), reason });
        }
        // What says that the folder is ours comes first: a kill leaves nothing that the next process takes for another's.
        let make = || {
            if !root.join(LAYOUT_FILE).is_file() {
                atomic_file::write(&root.join(LAYOUT_FILE), LAYOUT.as_bytes())?;
            }
            fs_err::create_dir_all(root.join("blobs/sha256"))?;
            if !root.join(INDEX_FILE).is_file() {
                let _lock = FileLock::take(&root.join(LOCK_FILE), || true)?;
                // Another process may have made it, and listed a release.
                if !root.join(INDEX_FILE).is_file() {
                    atomic_file::write(&root.join(INDEX_FILE), &ImageIndex::new(None, Vec::new()).to_json())?;
                }
            }
            io::Result::Ok(())
        };
        make().map_err(|source| layout.io("making it", source))?;
        atomic_file::sweep(root);
        atomic_file::sweep(&root.join("blobs/sha256"));
        Ok(layout)
    }

    /// Returns the same layout under the name of the archive that it becomes: the only one that users know.
    #[must_use]
    pub fn named_as_archive(self, archive: &Path) -> Self {
        Self { archive: Some(archive.into()), ..self }
    }

    /// Returns the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns what is listed under a tag.
    ///
    /// # Errors
    /// An index that can't be read.
    pub fn tagged(&self) -> Result<Vec<Descriptor>, PlaceError> {
        Ok(self.index()?.manifests)
    }

    fn index(&self) -> Result<ImageIndex, PlaceError> {
        let path = self.root.join(INDEX_FILE);
        let wrong = |reason: String| PlaceError::NotAPlace { path: path.clone(), reason };
        let metadata = fs_err::metadata(&path).map_err(|source| self.io("reading it", source))?;
        // A pipe would wait for its writer.
        if !metadata.is_file() {
            return Err(wrong("it is not a regular file".into()));
        }
        if metadata.len() > MAX_DOCUMENT_BYTES {
            return Err(wrong(format!(
                "it is longer than the {MAX_DOCUMENT_BYTES} bytes that an index may have"
            )));
        }
        let bytes = fs_err::read(&path).map_err(|source| self.io("reading it", source))?;
        ImageIndex::parse(&bytes, INDEX_FILE)
            .map_err(|source| PlaceError::Document { place: self.name(), source })
    }

    fn blob(&self, digest: &Sha256) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.to_hex())
    }

    fn tag(&self, tag: &str, mut descriptor: Descriptor) -> Result<(), PlaceError> {
        let io = |source| self.io("writing its index", source);
        let _lock = FileLock::take(&self.root.join(LOCK_FILE), || true).map_err(io)?;
        let mut index = self.index()?;
        descriptor = descriptor.with(REF_NAME, tag);
        index.manifests.retain(|known| known.annotations.get(REF_NAME).is_none_or(|name| name != tag));
        index.manifests.push(descriptor);
        atomic_file::write(&self.root.join(INDEX_FILE), &index.to_json()).map_err(io)
    }

    fn io(&self, doing: &str, source: io::Error) -> PlaceError {
        PlaceError::Io { place: self.name(), doing: doing.into(), source }
    }
}

/// Returns the entry of an index with this tag; without a tag, the only entry.
///
/// # Errors
/// Several entries, of which one has to be named.
pub(super) fn entry<'a>(
    place: &str,
    entries: &'a [Descriptor],
    tag: &str,
) -> Result<Option<&'a Descriptor>, PlaceError> {
    let name = |entry: &'a Descriptor| entry.annotations.get(REF_NAME).map(String::as_str);
    if !tag.is_empty() {
        return Ok(entries.iter().find(|entry| name(entry) == Some(tag)));
    }
    match entries {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        several => {
            let tags: Vec<&str> = several.iter().filter_map(name).collect();
            let what = format!("single release: name one of its tags, {}", tags.join(", "));
            Err(PlaceError::Missing { place: place.into(), what })
        }
    }
}

impl Place for Layout {
    fn name(&self) -> String {
        match &self.archive {
            Some(archive) => format!("oci-archive:{}", archive.display()),
            None => format!("oci:{}", self.root.display()),
        }
    }

    fn manifest(&self, which: &Which) -> Result<Option<(Vec<u8>, String)>, PlaceError> {
        let (digest, media_type) = match which {
            Which::Tag(tag) => match entry(&self.name(), &self.tagged()?, tag)? {
                Some(found) => (found.digest, found.media_type.clone()),
                None => return Ok(None),
            },
            Which::Digest(digest) => (*digest, String::new()),
        };
        if !self.blob(&digest).is_file() {
            return Ok(None);
        }
        let size =
            fs_err::metadata(self.blob(&digest)).map_err(|source| self.io("reading it", source))?.len();
        let bytes = super::fetch_small(self, &Descriptor::new("", digest, size), MAX_DOCUMENT_BYTES)?;
        let media_type = if media_type.is_empty() { media_type_of(&bytes) } else { media_type };
        Ok(Some((bytes, media_type)))
    }

    fn put_manifest(&self, tag: Option<&str>, media_type: &str, bytes: &[u8]) -> Result<Sha256, PlaceError> {
        let mut descriptor = Descriptor::of(media_type, bytes);
        let digest = descriptor.digest;
        self.put_blob(&digest, bytes)?;
        if let Some(tag) = tag {
            descriptor.artifact_type = artifact_type_of(bytes);
            self.tag(tag, descriptor)?;
        }
        Ok(digest)
    }

    fn has_blob(&self, digest: &Sha256) -> Result<bool, PlaceError> {
        // One that is damaged counts as absent, so that publishing again heals it.
        Ok(Sha256::of_file(&self.blob(digest)).is_ok_and(|(found, _)| found == *digest))
    }

    fn read_blob(&self, blob: &Blob, range: Range<u64>, sink: &mut Sink<'_>) -> Result<(), PlaceError> {
        let Blob { digest, size_bytes: _ } = blob;
        // Asked before opening: opening a named pipe waits for its writer.
        if fs_err::metadata(self.blob(digest)).is_ok_and(|metadata| !metadata.is_file()) {
            let reason = format!("blob {digest} is not a regular file");
            return Err(PlaceError::NotAPlace { path: self.root.clone(), reason });
        }
        let file = match fs_err::File::open(self.blob(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(PlaceError::Missing { place: self.name(), what: format!("blob {digest}") });
            }
            Err(source) => return Err(self.io("reading a blob", source)),
        };
        read_range(file.file(), range, sink)
            .map_err(|source| self.io(&format!("reading blob {digest}"), source))
    }

    fn put_blob(&self, digest: &Sha256, bytes: &[u8]) -> Result<(), PlaceError> {
        if self.has_blob(digest)? {
            return Ok(());
        }
        atomic_file::write(&self.blob(digest), bytes).map_err(|source| self.io("writing a blob", source))
    }

    fn put_large_blob(&self, blob: &Blob, source: &mut dyn ReadSeek) -> Result<(), PlaceError> {
        let io = |source| self.io(&format!("writing blob {}", blob.digest), source);
        let mut copy = atomic_file::temporary_in(&self.root.join("blobs/sha256")).map_err(io)?;
        source.seek(SeekFrom::Start(0)).map_err(io)?;
        let mut hasher = sha2::Sha256::new();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = match source.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(io(error)),
            };
            hasher.update(&piece[..count]);
            copy.write_all(&piece[..count]).map_err(io)?;
        }
        // What was written counts, whatever happened to the source meanwhile.
        let found = Sha256::from_bytes(hasher.finalize().into());
        if found != blob.digest {
            let found = format!("they are {found}");
            return Err(PlaceError::OtherBytes { place: self.name(), expected: blob.digest, found });
        }
        atomic_file::persist(copy, &self.blob(&blob.digest)).map_err(io)
    }
}

/// Gives a range of a file to a sink.
pub(super) fn read_range(file: &std::fs::File, range: Range<u64>, sink: &mut Sink<'_>) -> io::Result<()> {
    let Range { start: mut offset, end } = range;
    let mut buffer =
        vec![0; PIECE_BYTES.min(usize::try_from(end.saturating_sub(offset)).unwrap_or(PIECE_BYTES))];
    while offset < end {
        let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(buffer.len());
        match file.read_at(&mut buffer[..wanted], offset) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends too early")),
            Ok(count) => {
                sink(&buffer[..count])?;
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The part that manifests and indexes share.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    media_type: Option<String>,
    artifact_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
}

/// Returns the media type of a document that may not say it.
pub(super) fn media_type_of(bytes: &[u8]) -> String {
    let kind = |head: Head| {
        let by_form = if head.manifests.is_some() { INDEX_TYPE } else { MANIFEST_TYPE };
        head.media_type.unwrap_or_else(|| by_form.into())
    };
    serde_json::from_slice(bytes).map(kind).unwrap_or_default()
}

fn artifact_type_of(bytes: &[u8]) -> Option<String> {
    serde_json::from_slice::<Head>(bytes).ok()?.artifact_type
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{ImageManifest, RELEASE_ARTIFACT};

    #[test]
    fn blobs_and_tags() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("layout");
        assert!(matches!(Layout::open(&root), Err(PlaceError::NotAPlace { .. })));
        let layout = Layout::open_or_make(&root).unwrap();
        let digest = Sha256::of(b"0123456789");
        assert!(!layout.has_blob(&digest).unwrap());
        layout.put_blob(&digest, b"0123456789").unwrap();
        assert!(layout.has_blob(&digest).unwrap());
        let mut got = Vec::new();
        layout
            .read_blob(&Blob { digest, size_bytes: 10 }, 2..5, &mut |piece| {
                got.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        assert_eq!(got, b"234");
        let error = layout.read_blob(&Blob { digest, size_bytes: 10 }, 5..11, &mut |_| Ok(())).unwrap_err();
        assert!(matches!(error, PlaceError::Io { .. }), "{error}");

        let manifest =
            |name: &str| ImageManifest::new(name, Descriptor::of("c", b"{}"), Vec::new()).to_json();
        let digest = layout.put_manifest(Some("1.0"), MANIFEST_TYPE, &manifest("a")).unwrap();
        let only = Which::Tag(String::new());
        assert_eq!(layout.manifest(&only).unwrap().unwrap().0, manifest("a"));
        layout.put_manifest(Some("2.0"), MANIFEST_TYPE, &manifest("b")).unwrap();
        let error = layout.manifest(&only).unwrap_err().to_string();
        assert!(error.ends_with("name one of its tags, 1.0, 2.0"), "{error}");
        layout.put_manifest(Some("1.0"), MANIFEST_TYPE, &manifest("c")).unwrap();
        assert_eq!(layout.manifest(&Which::Tag("1.0".into())).unwrap().unwrap().0, manifest("c"));
        assert_eq!(layout.manifest(&Which::Tag("3.0".into())).unwrap(), None);
        let found = layout.manifest(&Which::Digest(digest)).unwrap().unwrap();
        assert_eq!(found, (manifest("a"), MANIFEST_TYPE.into()));
        assert_eq!(layout.tagged().unwrap().len(), 2);
        assert_eq!(layout.tagged().unwrap()[1].artifact_type.as_deref(), Some("c"));
    }

    #[test]
    fn damage_is_seen_and_healed() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open_or_make(folder.path()).unwrap();
        let bytes = ImageIndex::new(Some(RELEASE_ARTIFACT), Vec::new()).to_json();
        let digest = layout.put_manifest(Some("x"), INDEX_TYPE, &bytes).unwrap();
        fs_err::write(layout.blob(&digest), b"{ damaged").unwrap();
        let error = layout.manifest(&Which::Tag("x".into())).unwrap_err();
        assert!(matches!(error, PlaceError::OtherBytes { .. }), "{error}");
        layout.put_manifest(None, INDEX_TYPE, &bytes).unwrap();
        assert!(layout.manifest(&Which::Tag("x".into())).unwrap().is_some());
        fs_err::write(folder.path().join("other"), b"").unwrap();
        let other = tempfile::tempdir().unwrap();
        fs_err::write(other.path().join("file"), b"").unwrap();
        assert!(Layout::open_or_make(other.path()).is_err());
    }
}
