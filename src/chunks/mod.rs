//! Content-defined chunks: large files are cut where their bytes say, so that files which share bytes share chunks, wherever
//! the bytes lie in them.
//!
//! Plans of one model for several GPUs hold the same weights; what differs is kernels and tables of addresses. Cut into chunks
//! of about 64 KiB, seven builds of a tower of 614 MB (4.29 GB) hold 775 MB of different chunks.
//!
//! The cuts are FastCDC's (Xia and others, 2020), of the crate `fastcdc`. They decide how much is shared and nothing else: a list
//! of chunks is right whoever cut it, since every chunk has its digest and the file has both of its own.

mod list;

use std::io;
use std::sync::mpsc;

use fastcdc::v2020::FastCDC;
pub use list::{CHUNK_LIST_SCHEMA, Chunk, ChunkList, InvalidChunks, MAX_CHUNKS};
use sha2::Digest as _;

use crate::digest::{Blake3, Sha256};

/// Chunks are at least this long, but for the last one of a file.
pub const MIN_CHUNK_BYTES: usize = 16 * 1024;
/// The size that most chunks are near to.
pub const AVERAGE_CHUNK_BYTES: usize = 64 * 1024;
/// Chunks are at most this long.
pub const MAX_CHUNK_BYTES: usize = 256 * 1024;

/// How many pieces of a file wait for its SHA-256 at most.
const PIECES_AHEAD: usize = 2;

/// Cuts a stream of bytes into chunks.
#[derive(Debug, Default)]
pub struct Chunker {
    /// What is not cut yet.
    rest: Vec<u8>,
    chunks: Vec<Chunk>,
    size_bytes: u64,
}

impl Chunker {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.size_bytes += bytes.len() as u64;
        self.rest.extend_from_slice(bytes);
        // A cut depends on at most so many bytes from the beginning of its chunk.
        if self.rest.len() >= 4 * MAX_CHUNK_BYTES {
            self.cut(MAX_CHUNK_BYTES);
        }
    }

    /// Returns the chunks of everything that was pushed.
    pub fn finish(mut self) -> ChunkList {
        self.cut(1);
        let Self { rest: _, chunks, size_bytes } = self;
        ChunkList { size_bytes, chunks }
    }

    /// Cuts while at least this many bytes are left.
    fn cut(&mut self, least: usize) {
        let cutter = FastCDC::new(&self.rest, MIN_CHUNK_BYTES, AVERAGE_CHUNK_BYTES, MAX_CHUNK_BYTES);
        let mut start = 0;
        while self.rest.len() - start >= least {
            let (_, end) = cutter.cut(start, self.rest.len() - start);
            self.chunks.push(Chunk::of(&self.rest[start..end]));
            start = end;
        }
        self.rest.drain(..start);
    }
}

/// What one pass over a file tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digested {
    /// Its SHA-256.
    pub sha256: Sha256,
    /// Its BLAKE3 digest.
    pub blake3: Blake3,
    /// Its chunks, and with them its size.
    pub chunks: ChunkList,
}

/// Returns both digests and the chunks of the bytes that `next_piece` gives until it gives none. Another thread computes the
/// SHA-256, which takes longest.
///
/// # Errors
/// Those of `next_piece`.
pub fn digest_and_cut<P: AsRef<[u8]> + Send>(
    mut next_piece: impl FnMut() -> io::Result<Option<P>>,
) -> io::Result<Digested> {
    let mut blake3 = blake3::Hasher::new();
    let mut chunker = Chunker::default();
    let (sender, pieces) = mpsc::sync_channel::<P>(PIECES_AHEAD);
    std::thread::scope(|scope| {
        let sha256 = scope.spawn(move || {
            let mut hasher = sha2::Sha256::new();
            pieces.iter().for_each(|piece| hasher.update(piece));
            Sha256::from_bytes(hasher.finalize().into())
        });
        // Moved in here, so that it is dropped and the thread ends, whatever happens.
        let sender = sender;
        let ended_early = || io::Error::other("the thread of a digest ended early");
        while let Some(piece) = next_piece()? {
            blake3.update(piece.as_ref());
            chunker.push(piece.as_ref());
            sender.send(piece).map_err(|_| ended_early())?;
        }
        drop(sender);
        let sha256 = sha256.join().map_err(|_| ended_early())?;
        let blake3 = Blake3::from_bytes(*blake3.finalize().as_bytes());
        Ok(Digested { sha256, blake3, chunks: chunker.finish() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..len).map(|_| random.u8(..)).collect()
    }

    fn cut(bytes: &[u8], piece: usize) -> ChunkList {
        let mut chunker = Chunker::default();
        bytes.chunks(piece).for_each(|piece| chunker.push(piece));
        chunker.finish()
    }

    #[test]
    fn chunks_cover_the_file_and_do_not_depend_on_the_pieces() {
        let bytes = noise(1, 5_000_001);
        let whole = cut(&bytes, bytes.len());
        for piece in [4096, 999_999, 1 << 20] {
            assert_eq!(cut(&bytes, piece), whole, "{piece}");
        }
        let mut start = 0;
        for (index, chunk) in whole.chunks.iter().enumerate() {
            let end = start + chunk.length as usize;
            assert_eq!(Chunk::of(&bytes[start..end]), *chunk);
            let is_last = index + 1 == whole.chunks.len();
            assert!(is_last || chunk.length as usize >= MIN_CHUNK_BYTES, "{}", chunk.length);
            assert!(chunk.length as usize <= MAX_CHUNK_BYTES);
            start = end;
        }
        assert_eq!((start, whole.size_bytes), (bytes.len(), bytes.len() as u64));
        let average = bytes.len() / whole.chunks.len();
        assert!((AVERAGE_CHUNK_BYTES / 2..2 * AVERAGE_CHUNK_BYTES).contains(&average), "{average}");
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let before = noise(2, 8 << 20);
        let mut after = before.clone();
        after.splice(3_000_000..3_000_000, noise(3, 12_345));
        let known: std::collections::BTreeSet<Chunk> = cut(&before, 1 << 20).chunks.into_iter().collect();
        let new: u64 = cut(&after, 1 << 20)
            .chunks
            .iter()
            .filter(|chunk| !known.contains(chunk))
            .map(|chunk| u64::from(chunk.length))
            .sum();
        assert!(new < 3 * MAX_CHUNK_BYTES as u64, "{new} bytes are new");
    }

    #[test]
    fn files_of_no_and_of_equal_bytes() {
        assert_eq!(cut(&[], 1), ChunkList::default());
        let zeros = cut(&vec![0; 1 << 20], 1 << 16);
        assert_eq!(zeros.chunks.len(), 4);
        assert!(zeros.chunks.iter().all(|chunk| chunk.length as usize == MAX_CHUNK_BYTES));
    }

    #[test]
    fn one_pass_gives_what_three_would() {
        let bytes = noise(4, 3_000_000);
        let mut pieces = bytes.chunks(100_000);
        let found = digest_and_cut(|| Ok(pieces.next())).unwrap();
        let expected =
            Digested { sha256: Sha256::of(&bytes), blake3: Blake3::of(&bytes), chunks: cut(&bytes, 1 << 20) };
        assert_eq!(found, expected);
        let failing = digest_and_cut(|| Err::<Option<&[u8]>, _>(io::Error::other("no more")));
        assert_eq!(failing.unwrap_err().to_string(), "no more");
    }
}
