//! Large files, past the system's page cache.
//!
//! A plan is hundreds of megabytes, written once and read once. To take them, the cache needs as many fresh pages, which
//! costs more than the disk does: several times more on a virtual machine whose host has to find those pages first.
//! Direct reading and writing is an optimization and no promise: a file system that doesn't know it gets ordinary reads
//! and writes.
//!
//! The price: what was written has to be read back from the disk, which on one slower than a few hundred megabytes a
//! second takes longer than a cache would have.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{OFlags, fcntl_setfl};

/// Offsets, sizes and addresses are multiples of this, which is enough for every disk in use.
const ALIGNMENT_BYTES: usize = 4096;
/// Large enough that a request's latency doesn't matter, small enough to have several in memory.
const CHUNK_BYTES: usize = 1 << 20;

/// Writes a file anew. It may not be on the disk yet, as with any other: sync it before it counts.
///
/// # Errors
/// I/O errors.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = fs_err::File::create(path)?.into_parts().0;
    let aligned = bytes.len() - bytes.len() % ALIGNMENT_BYTES;
    let written = write_directly(&file, &bytes[..aligned]).map_or(0, |()| aligned);
    fcntl_setfl(&file, OFlags::empty())?;
    file.write_all_at(&bytes[written..], written as u64)
}

fn write_directly(file: &File, bytes: &[u8]) -> io::Result<()> {
    fcntl_setfl(file, OFlags::DIRECT)?;
    let mut buffer = Chunk::new();
    for (chunk, offset) in bytes.chunks(CHUNK_BYTES).zip((0..).step_by(CHUNK_BYTES)) {
        let buffer = &mut buffer.space()[..chunk.len()];
        buffer.copy_from_slice(chunk);
        file.write_all_at(buffer, offset)?;
    }
    Ok(())
}

/// Reads a file from its beginning to its end.
#[derive(Debug)]
pub struct Reader {
    file: File,
    offset: u64,
    direct: bool,
}

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    /// I/O errors, with the path.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = fs_err::File::open(path)?.into_parts().0;
        let direct = fcntl_setfl(&file, OFlags::DIRECT).is_ok();
        Ok(Self { file, offset: 0, direct })
    }

    /// Returns the next bytes; `None` at the end.
    ///
    /// # Errors
    /// I/O errors.
    pub fn next_chunk(&mut self) -> io::Result<Option<Chunk>> {
        let mut chunk = Chunk::new();
        let count = loop {
            match self.file.read_at(chunk.space(), self.offset) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if self.direct => self.read_ordinarily()?,
                Err(error) => return Err(error),
            }
        };
        if count % ALIGNMENT_BYTES != 0 {
            // What follows, if anything, is at an offset that direct reading refuses.
            self.read_ordinarily()?;
        }
        self.offset += count as u64;
        chunk.filled.end = chunk.filled.start + count;
        Ok(Some(chunk).filter(|_| count > 0))
    }

    fn read_ordinarily(&mut self) -> io::Result<()> {
        self.direct = false;
        Ok(fcntl_setfl(&self.file, OFlags::empty())?)
    }
}

/// Some bytes of a file.
#[derive(Debug)]
pub struct Chunk {
    buffer: Vec<u8>,
    filled: Range<usize>,
}

impl Chunk {
    fn new() -> Self {
        let buffer = vec![0; CHUNK_BYTES + ALIGNMENT_BYTES];
        let start = buffer.as_ptr().align_offset(ALIGNMENT_BYTES);
        Self { buffer, filled: start..start }
    }

    fn space(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled.start..][..CHUNK_BYTES]
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[self.filled.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::{ALIGNMENT_BYTES, CHUNK_BYTES, Reader, write};

    #[test]
    fn every_size_comes_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for size in [0, 1, ALIGNMENT_BYTES, ALIGNMENT_BYTES + 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5] {
            let bytes: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
            write(&path, &bytes).unwrap();
            assert!(fs_err::read(&path).unwrap() == bytes, "{size} bytes, written");
            let mut reader = Reader::open(&path).unwrap();
            let mut read = Vec::new();
            while let Some(chunk) = reader.next_chunk().unwrap() {
                read.extend_from_slice(chunk.as_ref());
            }
            assert!(read == bytes, "{size} bytes, read");
        }
    }
}
