//! Files mapped into memory: read on demand by the kernel, shared, never copied.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Advice, Mmap, UncheckedAdvice};

/// A file mapped for reading.
#[derive(Clone, Debug)]
pub(super) struct MappedFile {
    bytes: Bytes,
    /// `None` for an empty file, which can't be mapped, and for bytes that were in memory.
    mapping: Option<Arc<Mmap>>,
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
        // Asked before opening: opening a named pipe waits for its writer.
        if !fs_err::metadata(path)?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} is not a regular file", path.display()),
            ));
        }
        let file = fs_err::File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self { bytes: Bytes::new(), mapping: None });
        }
        #[expect(unsafe_code, reason = "memory mapping has no safe form, and models are too large to copy")]
        // SAFETY: the mapping is private and read-only. What is left to the caller of any mapping is that nobody
        // truncates or rewrites the file meanwhile; our own writers never do: they rename whole files into place.
        let mapping = Arc::new(unsafe { Mmap::map(file.file()) }?);
        // Only a hint: a system without it reads as well.
        let _ = mapping.advise(Advice::Sequential);
        Ok(Self { bytes: Bytes::from_owner(Shared(Arc::clone(&mapping))), mapping: Some(mapping) })
    }

    /// Takes bytes that are in memory already.
    pub(super) fn in_memory(bytes: Bytes) -> Self {
        Self { bytes, mapping: None }
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
