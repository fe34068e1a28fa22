//! Files mapped into memory: read on demand by the kernel, shared, never copied.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use memmap2::{Advice, Mmap, UncheckedAdvice};
use nimctl_backend_kit::read_file::ReadFile;

/// A file mapped for reading.
#[derive(Clone, Debug)]
pub(super) struct MappedFile {
    bytes: Bytes,
    /// `None` for an empty file, which can't be mapped, and for bytes that were in memory.
    mapping: Option<Arc<Mmap>>,
    /// The open file; `None` for bytes that were in memory.
    file: Option<Arc<ReadFile>>,
}

/// The files that are mapped.
static MAPPED: Mutex<Vec<Weak<ReadFile>>> = Mutex::new(Vec::new());

/// Returns the mapped files that became shorter since: reading what they lost ends a process with SIGBUS.
pub fn shortened_files() -> Vec<PathBuf> {
    let mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let files = mapped.iter().filter_map(Weak::upgrade);
    files.filter(|file| file.is_shorter()).map(|file| file.path().to_owned()).collect()
}

/// Lets `Bytes` own a share of a mapping.
struct Shared(Arc<Mmap>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl MappedFile {
    /// Maps a file for reading.
    ///
    /// # Errors
    /// I/O errors, with the path; `InvalidInput` if it is not a regular file.
    pub(super) fn map(path: &Path) -> io::Result<Self> {
        let file = Arc::new(ReadFile::open(path)?);
        let mut mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.retain(|file| file.strong_count() > 0);
        mapped.push(Arc::downgrade(&file));
        drop(mapped);
        if file.size_bytes() == 0 {
            return Ok(Self { bytes: Bytes::new(), mapping: None, file: Some(file) });
        }
        #[expect(unsafe_code, reason = "memory mapping has no safe form, and models are too large to copy")]
        // SAFETY: the mapping is private and read-only. What is left to the caller of any mapping is that nobody
        // truncates or rewrites the file meanwhile; our own writers never do: they rename whole files into place. Others may:
        // whoever uses what was read asks whether the file changed, and SIGBUS ends the program with a message.
        let mapping = Arc::new(unsafe { Mmap::map(file.file()) }?);
        // Only a hint: a system without it reads as well.
        let _ = mapping.advise(Advice::Sequential);
        let bytes = Bytes::from_owner(Shared(Arc::clone(&mapping)));
        Ok(Self { bytes, mapping: Some(mapping), file: Some(file) })
    }

    /// Takes bytes that are in memory already.
    pub(super) fn in_memory(bytes: Bytes) -> Self {
        Self { bytes, mapping: None, file: None }
    }

    /// Returns the open file; `None` for bytes that were in memory.
    pub(super) fn file(&self) -> Option<&ReadFile> {
        self.file.as_deref()
    }

    /// Returns the contents.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the offset of a slice of the contents; `None` for bytes that are elsewhere.
    fn offset_of(&self, part: &[u8]) -> Option<usize> {
        let (all, part): (Range<*const u8>, Range<*const u8>) =
            (self.bytes.as_ptr_range(), part.as_ptr_range());
        (part.start >= all.start && part.end <= all.end).then(|| part.start as usize - all.start as usize)
    }

    /// Takes the pages of `bytes` out of this process's memory, if they are of this file; reading them again reads
    /// them from the file again. Returns whether they are of this file.
    pub(super) fn release(&self, bytes: &[u8]) -> bool {
        let (Some(mapping), Some(offset)) = (&self.mapping, self.offset_of(bytes)) else { return false };
        #[expect(unsafe_code, reason = "the kernel counts mapped pages as ours until we give them back")]
        // SAFETY: the mapping is read-only and backed by its file, so pages that are dropped come back with the same
        // bytes.
        let _ = unsafe { mapping.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, bytes.len()) };
        true
    }
}
