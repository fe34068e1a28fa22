//! Large files, past the system's page cache.
//!
//! A plan is hundreds of megabytes. To take them, the cache needs as many fresh pages, which
//! costs more than the disk does: several times more on a virtual machine whose host has to find those pages first.
//! Direct writing is an optimization and no promise: a file system that doesn't know it gets ordinary writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{OFlags, fcntl_setfl};

/// Offsets, sizes and addresses are multiples of this, which is enough for every disk in use.
const ALIGNMENT_BYTES: usize = 4096;
/// Large enough that a request's latency doesn't matter.
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

/// Aligned memory.
struct Chunk {
    buffer: Vec<u8>,
    start: usize,
}

impl Chunk {
    fn new() -> Self {
        let buffer = vec![0; CHUNK_BYTES + ALIGNMENT_BYTES];
        let start = buffer.as_ptr().align_offset(ALIGNMENT_BYTES);
        Self { buffer, start }
    }

    fn space(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..][..CHUNK_BYTES]
    }
}

#[cfg(test)]
mod tests {
    use super::{ALIGNMENT_BYTES, CHUNK_BYTES, write};

    #[test]
    fn every_size_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for size in [0, 1, ALIGNMENT_BYTES, ALIGNMENT_BYTES + 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5] {
            let bytes: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
            write(&path, &bytes).unwrap();
            assert!(fs_err::read(&path).unwrap() == bytes, "{size} bytes");
        }
    }
}
