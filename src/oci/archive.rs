//! A tar of an OCI image layout: what `skopeo` calls `oci-archive`.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use super::document::{Descriptor, ImageIndex};
use super::layout::{INDEX_FILE, LAYOUT_FILE, Layout, entry, media_type_of, read_range};
use super::place::{Blob, MAX_DOCUMENT_BYTES, Place, PlaceError, Sink, Which};
use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::files::text::tar_problem;
use crate::registry::ReadSeek;

/// An archive, opened for reading.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: fs_err::File,
    /// Where each file lies.
    files: BTreeMap<String, Range<u64>>,
}

impl Archive {
    /// Opens an archive and reads what it holds, but not the contents.
    ///
    /// # Errors
    /// No tar, a compressed one, or one without `oci-layout`; a member that is neither a file nor a folder, or is there twice.
    pub fn open(path: &Path) -> Result<Self, PlaceError> {
        let wrong = |reason: String| PlaceError::NotAPlace { path: path.into(), reason };
        let unreadable = |error: io::Error| {
            wrong(format!("it can't be read as a tar of an OCI image layout: {}", tar_problem(&error)))
        };
        // It is read in any order, and a pipe would wait for its writer.
        if !fs_err::metadata(path).map_err(unreadable)?.is_file() {
            return Err(wrong("it is not a regular file".into()));
        }
        let file = fs_err::File::open(path).map_err(unreadable)?;
        let size_bytes = file.metadata().map_err(unreadable)?.len();
        let mut files = BTreeMap::new();
        let mut archive = tar::Archive::new(&file);
        for member in archive.entries_with_seek().map_err(unreadable)? {
            let member = member.map_err(unreadable)?;
            let name = plain_name(&member.path().map_err(unreadable)?).ok_or_else(|| {
                wrong(format!("a member leads out of it: {}", member.path_bytes().escape_ascii()))
            })?;
            match member.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {}
                tar::EntryType::Directory | tar::EntryType::XGlobalHeader => continue,
                other => return Err(wrong(format!("`{name}` is neither a file nor a folder: {other:?}"))),
            }
            let start = member.raw_file_position();
            let end = start.checked_add(member.size()).filter(|end| *end <= size_bytes);
            let end = end.ok_or_else(|| wrong(format!("it ends inside of `{name}`")))?;
            if files.insert(name.clone(), start..end).is_some() {
                return Err(wrong(format!("`{name}` is in it twice")));
            }
        }
        if !files.contains_key(LAYOUT_FILE) || !files.contains_key(INDEX_FILE) {
            return Err(wrong(format!(
                "it holds no OCI image layout: no `{LAYOUT_FILE}` and `{INDEX_FILE}`"
            )));
        }
        Ok(Self { path: path.into(), file, files })
    }

    fn small(&self, name: &str) -> Result<Vec<u8>, PlaceError> {
        let Some(range) = self.files.get(name).cloned() else {
            return Err(PlaceError::Missing { place: self.name(), what: format!("`{name}`") });
        };
        if range.end - range.start > MAX_DOCUMENT_BYTES {
            let reason = format!("`{name}` is longer than {MAX_DOCUMENT_BYTES} bytes");
            return Err(PlaceError::NotAPlace { path: self.path.clone(), reason });
        }
        let mut bytes = Vec::new();
        let mut sink = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        read_range(self.file.file(), range, &mut sink)
            .map_err(|source| self.io(format!("reading `{name}`"), source))?;
        Ok(bytes)
    }

    fn io(&self, doing: String, source: io::Error) -> PlaceError {
        PlaceError::Io { place: self.name(), doing, source }
    }
}

/// Returns a member's path without `./`; `None` if it leads elsewhere.
fn plain_name(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

fn blob_name(digest: &Sha256) -> String {
    format!("blobs/sha256/{}", digest.to_hex())
}

impl Place for Archive {
    fn name(&self) -> String {
        format!("oci-archive:{}", self.path.display())
    }

    fn manifest(&self, which: &Which) -> Result<Option<(Vec<u8>, String)>, PlaceError> {
        let digest = match which {
            Which::Tag(tag) => {
                let index = ImageIndex::parse(&self.small(INDEX_FILE)?, INDEX_FILE)
                    .map_err(|source| PlaceError::Document { place: self.name(), source })?;
                match entry(&self.name(), &index.manifests, tag)? {
                    Some(found) => found.digest,
                    None => return Ok(None),
                }
            }
            Which::Digest(digest) => *digest,
        };
        let Some(range) = self.files.get(&blob_name(&digest)) else { return Ok(None) };
        let descriptor = Descriptor::new("", digest, range.end - range.start);
        let bytes = super::fetch_small(self, &descriptor, MAX_DOCUMENT_BYTES)?;
        let media_type = media_type_of(&bytes);
        Ok(Some((bytes, media_type)))
    }

    fn put_manifest(&self, _: Option<&str>, _: &str, _: &[u8]) -> Result<Sha256, PlaceError> {
        Err(PlaceError::ReadOnly { place: self.name(), reason: "an archive is written as a whole" })
    }

    fn has_blob(&self, digest: &Sha256) -> Result<bool, PlaceError> {
        Ok(self.files.contains_key(&blob_name(digest)))
    }

    fn read_blob(&self, blob: &Blob, range: Range<u64>, sink: &mut Sink<'_>) -> Result<(), PlaceError> {
        let Blob { digest, size_bytes: _ } = blob;
        let Some(whole) = self.files.get(&blob_name(digest)) else {
            return Err(PlaceError::Missing { place: self.name(), what: format!("blob {digest}") });
        };
        let start = whole.start.checked_add(range.start);
        let end = whole.start.checked_add(range.end).filter(|end| *end <= whole.end);
        let doing = || format!("reading blob {digest}");
        let Some((start, end)) = start.zip(end) else {
            let short = io::Error::new(io::ErrorKind::UnexpectedEof, "it ends too early");
            return Err(self.io(doing(), short));
        };
        read_range(self.file.file(), start..end, sink).map_err(|source| self.io(doing(), source))
    }

    fn put_blob(&self, _: &Sha256, _: &[u8]) -> Result<(), PlaceError> {
        Err(PlaceError::ReadOnly { place: self.name(), reason: "an archive is written as a whole" })
    }

    fn put_large_blob(&self, _: &Blob, _: &mut dyn ReadSeek) -> Result<(), PlaceError> {
        Err(PlaceError::ReadOnly { place: self.name(), reason: "an archive is written as a whole" })
    }
}

/// Packs a layout into an archive: the same layout gives the same bytes. The destination is whole or absent.
///
/// # Errors
/// Reading and writing files.
pub fn pack_archive(layout: &Layout, destination: &Path) -> Result<(), PlaceError> {
    let place = || format!("oci-archive:{}", destination.display());
    let io = |doing: &str, source| PlaceError::Io { place: place(), doing: doing.into(), source };
    let parent =
        destination.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = atomic_file::temporary_in(parent).map_err(|source| io("making it", source))?;
    let mut write = || -> io::Result<()> {
        let mut archive = tar::Builder::new(io::BufWriter::with_capacity(1 << 20, &mut file));
        // What describes comes first, so that a reader of a stream knows what is coming.
        let mut names = vec![LAYOUT_FILE.to_owned(), INDEX_FILE.to_owned()];
        let mut blobs = Vec::new();
        for entry in fs_err::read_dir(layout.root().join("blobs/sha256"))? {
            let name = entry?.file_name().into_string().unwrap_or_default();
            if Sha256::from_hex(&name).is_ok() {
                blobs.push(format!("blobs/sha256/{name}"));
            }
        }
        blobs.sort();
        names.extend(blobs);
        for name in names {
            let content = fs_err::File::open(layout.root().join(&name))?;
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(content.metadata()?.len());
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            archive.append_data(&mut header, name, content)?;
        }
        archive.into_inner()?.flush()
    };
    write().map_err(|source| io("writing it", source))?;
    atomic_file::persist(file, destination).map_err(|source| io("naming it", source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::INDEX_TYPE;

    fn layout(folder: &Path) -> Layout {
        let layout = Layout::open_or_make(folder).unwrap();
        layout.put_blob(&Sha256::of(b"0123456789"), b"0123456789").unwrap();
        layout.put_manifest(Some("1.0"), INDEX_TYPE, &ImageIndex::new(None, Vec::new()).to_json()).unwrap();
        layout
    }

    #[test]
    fn what_is_packed_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(&folder.path().join("layout"));
        let path = folder.path().join("a.tar");
        pack_archive(&layout, &path).unwrap();
        let archive = Archive::open(&path).unwrap();
        for tag in ["", "1.0"] {
            let which = Which::Tag(tag.into());
            assert_eq!(archive.manifest(&which).unwrap(), layout.manifest(&which).unwrap());
        }
        let digest = Sha256::of(b"0123456789");
        let mut got = Vec::new();
        archive
            .read_blob(&Blob { digest, size_bytes: 10 }, 2..5, &mut |piece| {
                got.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        assert_eq!(got, b"234");
        for range in [5..11, u64::MAX - 1..u64::MAX] {
            assert!(matches!(
                archive.read_blob(&Blob { digest, size_bytes: 10 }, range, &mut |_| Ok(())),
                Err(PlaceError::Io { .. })
            ));
        }
        let again = folder.path().join("b.tar");
        pack_archive(&layout, &again).unwrap();
        assert_eq!(fs_err::read(path).unwrap(), fs_err::read(again).unwrap());
    }

    #[test]
    fn other_tars_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let refused = |bytes: &[u8]| {
            fs_err::write(&path, bytes).unwrap();
            Archive::open(&path).unwrap_err().to_string()
        };
        assert!(refused(b"no tar").contains("can't be read as a tar"));
        let tar = |members: &[(&str, tar::EntryType)]| {
            let mut archive = tar::Builder::new(Vec::new());
            for (name, kind) in members {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(*kind);
                header.set_size(if *kind == tar::EntryType::Regular { 2 } else { 0 });
                header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_cksum();
                archive.append(&header, &b"{}"[..header.size().unwrap() as usize]).unwrap();
            }
            archive.into_inner().unwrap()
        };
        use tar::EntryType::{Fifo, Regular, Symlink};
        assert!(refused(&tar(&[("a", Regular)])).contains("holds no OCI image layout"));
        assert!(refused(&tar(&[("../a", Regular)])).contains("leads out of it"));
        assert!(refused(&tar(&[("/a", Regular)])).contains("leads out of it"));
        assert!(refused(&tar(&[("a", Symlink)])).contains("neither a file nor a folder"));
        assert!(refused(&tar(&[("a", Fifo)])).contains("neither a file nor a folder"));
        assert!(refused(&tar(&[("a", Regular), ("./a", Regular)])).contains("is in it twice"));
        let cut = tar(&[("oci-layout", Regular), ("index.json", Regular)]);
        assert!(
            refused(&cut[..1025]).contains("ends inside of `index.json`")
                || refused(&cut[..1025]).contains("tar")
        );
    }
}
