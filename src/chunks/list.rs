//! A file's list of chunks, as it is kept.

use serde::{Deserialize, Serialize};

use super::MAX_CHUNK_BYTES;
use crate::digest::{Blake3, Sha256};
use crate::stored_format::{self, Unreadable};

/// The schema name inside a list.
pub const CHUNK_LIST_SCHEMA: &str = "nimctl.chunk-list/1";
/// Files have at most this many chunks: at 64 KiB each, 1 TiB.
pub const MAX_CHUNKS: usize = 1 << 24;

/// A chunk: its length and digest. Where it lies follows from those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chunk {
    /// The digest of its bytes.
    pub blake3: Blake3,
    /// How many they are; at most [`MAX_CHUNK_BYTES`].
    pub length: u32,
}

/// The chunks of a file, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkList {
    /// The size of the file.
    pub size_bytes: u64,
    /// Its chunks.
    pub chunks: Vec<Chunk>,
}

/// Chunks that can't be those of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChunks {
    /// A chunk has no bytes, or more than a chunk has.
    #[error("chunk {index} has {length} bytes, which is not 1 to {MAX_CHUNK_BYTES}")]
    Length {
        /// Which.
        index: usize,
        /// Its length.
        length: u64,
    },
    /// The lengths don't come to the file's size.
    #[error("the chunks have {found} bytes, but the file has {expected}")]
    Size {
        /// Bytes in all chunks.
        found: u64,
        /// The size of the file.
        expected: u64,
    },
    /// More than any file has.
    #[error("{count} chunks are more than the {MAX_CHUNKS} that a file may have")]
    Count {
        /// How many.
        count: usize,
    },
}

/// How a list is written; a chunk is its length and the hexadecimal digits of its digest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    schema: String,
    sha256: Sha256,
    size_bytes: u64,
    chunks: Vec<(u32, String)>,
}

impl Chunk {
    /// Returns the chunk of these bytes.
    ///
    /// # Panics
    /// More than 4 GiB, which no chunk has.
    pub fn of(bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).expect("a chunk is short");
        Self { blake3: Blake3::of(bytes), length }
    }
}

impl ChunkList {
    /// Makes a list from chunks that someone else named.
    ///
    /// # Errors
    /// Chunks that are empty or too long, too many of them, or of another size together than the file has.
    pub fn new(size_bytes: u64, chunks: Vec<Chunk>) -> Result<Self, InvalidChunks> {
        if chunks.len() > MAX_CHUNKS {
            return Err(InvalidChunks::Count { count: chunks.len() });
        }
        let wrong = |chunk: &Chunk| chunk.length == 0 || chunk.length as usize > MAX_CHUNK_BYTES;
        if let Some(index) = chunks.iter().position(wrong) {
            return Err(InvalidChunks::Length { index, length: chunks[index].length.into() });
        }
        // 2^24 chunks of 2^18 bytes: no overflow.
        let found = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        if found != size_bytes {
            return Err(InvalidChunks::Size { found, expected: size_bytes });
        }
        Ok(Self { size_bytes, chunks })
    }

    /// Returns each chunk with its offset in the file, in bytes.
    pub fn placed(&self) -> impl Iterator<Item = (u64, Chunk)> {
        self.chunks.iter().scan(0, |next, chunk| {
            let offset = *next;
            *next += u64::from(chunk.length);
            Some((offset, *chunk))
        })
    }

    /// Reads the list of the file with this digest; `path` is only named in errors.
    ///
    /// # Errors
    /// A list of a newer nimctl, a damaged one, or that of another file.
    pub fn parse(bytes: &[u8], sha256: &Sha256, path: &str) -> Result<Self, Unreadable> {
        let damaged = |problem: String| Unreadable::Damaged { path: path.into(), problem };
        let Written { schema: _, sha256: found, size_bytes, chunks } =
            stored_format::from_json(bytes, CHUNK_LIST_SCHEMA, path)?;
        if found != *sha256 {
            return Err(damaged(format!("it is the list of {found}, not of {sha256}")));
        }
        let chunk = |(length, hex): (u32, String)| {
            Blake3::from_hex(&hex)
                .map(|blake3| Chunk { blake3, length })
                .map_err(|error| damaged(error.to_string()))
        };
        let chunks = chunks.into_iter().map(chunk).collect::<Result<_, _>>()?;
        Self::new(size_bytes, chunks).map_err(|error| damaged(error.to_string()))
    }

    /// Writes the list of the file with this digest.
    pub fn to_json(&self, sha256: &Sha256) -> String {
        let Self { size_bytes, chunks } = self;
        let written = Written {
            schema: CHUNK_LIST_SCHEMA.into(),
            sha256: *sha256,
            size_bytes: *size_bytes,
            chunks: chunks.iter().map(|chunk| (chunk.length, chunk.blake3.to_hex())).collect(),
        };
        serde_json::to_string(&written).unwrap_or_else(|_| unreachable!("numbers and texts have a JSON form"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(length: u32) -> Chunk {
        Chunk { blake3: Blake3::of(&length.to_le_bytes()), length }
    }

    /// A file of an earlier nimctl, which must stay readable.
    #[test]
    fn the_golden_file_is_read_and_written_as_it_was() {
        const GOLDEN: &str = include_str!("../../tests/fixtures/formats/chunk-list.json");
        let digest = Sha256::of(b"f");
        let list = ChunkList::parse(GOLDEN.as_bytes(), &digest, "golden").unwrap();
        assert_eq!(list.to_json(&digest), GOLDEN);
        assert_eq!((list.size_bytes, list.chunks.len()), (300, 2));
    }

    #[test]
    fn what_is_written_is_read() {
        let list = ChunkList::new(300, vec![chunk(100), chunk(200)]).unwrap();
        let digest = Sha256::of(b"x");
        let text = list.to_json(&digest);
        assert_eq!(ChunkList::parse(text.as_bytes(), &digest, "list").unwrap(), list);
        assert_eq!(list.placed().collect::<Vec<_>>(), [(0, chunk(100)), (100, chunk(200))]);
        let other = ChunkList::parse(text.as_bytes(), &Sha256::of(b"y"), "list").unwrap_err().to_string();
        assert!(other.starts_with("list: it is the list of sha256:"), "{other}");
        let newer = text.replace("chunk-list/1", "chunk-list/2");
        let newer = ChunkList::parse(newer.as_bytes(), &digest, "list").unwrap_err();
        assert!(matches!(newer, Unreadable::Newer(_)), "{newer}");
        for (from, to) in
            [("[100,", "[0,"), ("[100,", "[262145,"), ("[100,", "[101,"), ("300", "18446744073709551615")]
        {
            let damaged = ChunkList::parse(text.replace(from, to).as_bytes(), &digest, "list").unwrap_err();
            assert!(matches!(damaged, Unreadable::Damaged { .. }), "{damaged}");
        }
    }
}
