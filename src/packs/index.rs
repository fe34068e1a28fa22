//! The index of a profile's files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::chunks::{Chunk, ChunkList, InvalidChunks, MAX_CHUNKS};
use crate::digest::{Blake3, Sha256};
use crate::portable_path::{self, NotPortable};
use crate::stored_format::{self, Unreadable};

/// The schema name inside an index.
pub const PACK_INDEX_SCHEMA: &str = "nimctl.pack-index/1";
/// An index is at most this long: some 4 million chunks, which is 250 GB.
pub const MAX_INDEX_BYTES: u64 = 512 << 20;

/// The index of a profile's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackIndex {
    /// [`PACK_INDEX_SCHEMA`].
    pub schema: String,
    /// The packs that chunks lie in.
    pub packs: Vec<Pack>,
    /// The files, sorted by path.
    pub files: Vec<IndexedFile>,
}

/// A pack, which is a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// Its digest.
    pub digest: Sha256,
    /// Its size.
    pub size_bytes: u64,
}

/// A file and where its chunks lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexedFile {
    /// Its path in the profile, with `/`.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// Its digest.
    pub sha256: Sha256,
    /// Its other digest.
    pub blake3: Blake3,
    /// Its chunks, in their order.
    pub chunks: Vec<Placed>,
}

/// Where a chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u64, u32, Hex)", into = "(u32, u64, u32, Hex)")]
pub struct Placed {
    /// The number of its pack in the index.
    pub pack: u32,
    /// Where it begins there, in bytes.
    pub offset: u64,
    /// The chunk.
    pub chunk: Chunk,
}

/// A digest without its algorithm: there are ten thousand in an index.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Hex(Blake3);

impl TryFrom<String> for Hex {
    type Error = crate::digest::InvalidDigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Blake3::from_hex(&text).map(Self)
    }
}

impl From<Hex> for String {
    fn from(Hex(digest): Hex) -> Self {
        digest.to_hex()
    }
}

impl From<(u32, u64, u32, Hex)> for Placed {
    fn from((pack, offset, length, Hex(blake3)): (u32, u64, u32, Hex)) -> Self {
        Self { pack, offset, chunk: Chunk { blake3, length } }
    }
}

impl From<Placed> for (u32, u64, u32, Hex) {
    fn from(placed: Placed) -> Self {
        let Placed { pack, offset, chunk: Chunk { blake3, length } } = placed;
        (pack, offset, length, Hex(blake3))
    }
}

impl Placed {
    /// Returns where it ends in its pack; `None` beyond 2^64.
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.chunk.length.into())
    }
}

/// An index that can't be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InvalidIndex {
    /// It is no index, or one of a newer nimctl.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A path that does not stay in its folder, or means something else elsewhere.
    #[error("file `{}`: {source}", path.escape_debug())]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        source: NotPortable,
    },
    /// Two files of one path, or of two that some file systems don't distinguish.
    #[error("files `{}` and `{}` would be one file", first.escape_debug(), second.escape_debug())]
    SamePath {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A file whose chunks can't be its.
    #[error("file `{path}`: {source}")]
    Chunks {
        /// The file.
        path: String,
        /// What is wrong.
        source: InvalidChunks,
    },
    /// A chunk that is not inside a pack.
    #[error("file `{path}`: chunk {index} lies outside of its pack")]
    Outside {
        /// The file.
        path: String,
        /// The chunk.
        index: usize,
    },
    /// Two chunks that share some of their bytes.
    #[error("chunks overlap in pack {pack} at byte {offset}")]
    Overlap {
        /// The digest of the pack.
        pack: Sha256,
        /// Where the second one begins.
        offset: u64,
    },
    /// A pack that is longer than a pack may be, or listed twice.
    #[error("pack {digest} {problem}")]
    Pack {
        /// Its digest.
        digest: Sha256,
        /// What is wrong.
        problem: &'static str,
    },
}

impl PackIndex {
    /// Reads an index that anyone may have written; `source` is only named in errors.
    ///
    /// # Errors
    /// No index; a path that leads out of the folder or is there twice (also in other case); chunks outside of their pack, that
    /// overlap, or don't come to the size of their file.
    pub fn parse(bytes: &[u8], source: &str) -> Result<Self, InvalidIndex> {
        let index: Self = stored_format::from_json(bytes, PACK_INDEX_SCHEMA, source)?;
        index.check()?;
        Ok(index)
    }

    /// Returns the bytes of the index.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|_| unreachable!("numbers and texts have a JSON form"))
    }

    /// Returns the chunk list of a file.
    ///
    /// # Errors
    /// None for an index that was parsed.
    pub fn chunk_list(file: &IndexedFile) -> Result<ChunkList, InvalidChunks> {
        ChunkList::new(file.size_bytes, file.chunks.iter().map(|placed| placed.chunk).collect())
    }

    fn check(&self) -> Result<(), InvalidIndex> {
        let Self { schema: _, packs, files } = self;
        let mut digests = BTreeMap::new();
        for Pack { digest, size_bytes } in packs {
            let pack = |problem| InvalidIndex::Pack { digest: *digest, problem };
            if *size_bytes > super::MAX_PACK_BYTES {
                return Err(pack("is longer than 64 MiB"));
            }
            if digests.insert(digest, ()).is_some() {
                return Err(pack("is listed twice"));
            }
        }
        let mut paths: BTreeMap<String, &str> = BTreeMap::new();
        let mut count = 0_usize;
        for file in files {
            let IndexedFile { path, chunks, .. } = file;
            portable_path::check(path).map_err(|source| InvalidIndex::Path { path: path.clone(), source })?;
            if let Some(other) = paths.insert(portable_path::folded(path), path) {
                return Err(InvalidIndex::SamePath { first: other.into(), second: path.clone() });
            }
            let wrong = |source| InvalidIndex::Chunks { path: path.clone(), source };
            count = count.saturating_add(chunks.len());
            if count > MAX_CHUNKS {
                return Err(wrong(InvalidChunks::Count { count }));
            }
            Self::chunk_list(file).map_err(wrong)?;
            let is_outside = |placed: &Placed| {
                let pack = packs.get(placed.pack as usize);
                pack.zip(placed.end()).is_none_or(|(pack, end)| end > pack.size_bytes)
            };
            if let Some(index) = chunks.iter().position(is_outside) {
                return Err(InvalidIndex::Outside { path: path.clone(), index });
            }
        }
        self.check_overlaps()
    }

    /// The same chunk may be used often; others may not begin in its middle.
    fn check_overlaps(&self) -> Result<(), InvalidIndex> {
        let mut places: Vec<(u32, u64, Chunk)> = self
            .files
            .iter()
            .flat_map(|file| &file.chunks)
            .map(|placed| (placed.pack, placed.offset, placed.chunk))
            .collect();
        places.sort_unstable();
        places.dedup();
        for pair in places.windows(2) {
            let [(pack, offset, chunk), (next_pack, next_offset, _)] = pair else { continue };
            if pack == next_pack && offset + u64::from(chunk.length) > *next_offset {
                let pack = self.packs[*pack as usize].digest;
                return Err(InvalidIndex::Overlap { pack, offset: *next_offset });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest(byte: u8) -> String {
        Blake3::of(&[byte]).to_hex()
    }

    fn index() -> Value {
        json!({
            "schema": PACK_INDEX_SCHEMA,
            "packs": [{ "digest": Sha256::of(b"p"), "size_bytes": 1000 }, { "digest": Sha256::of(b"q"), "size_bytes": 10 }],
            "files": [
                { "path": "a/b", "size_bytes": 600, "sha256": Sha256::of(b"f"), "blake3": Blake3::of(b"f"),
                  "chunks": [[0, 0, 400, digest(1)], [0, 800, 200, digest(2)]] },
                { "path": "c", "size_bytes": 410, "sha256": Sha256::of(b"g"), "blake3": Blake3::of(b"g"),
                  "chunks": [[0, 0, 400, digest(1)], [1, 0, 10, digest(3)]] },
            ],
        })
    }

    fn parse(value: &Value) -> Result<PackIndex, InvalidIndex> {
        PackIndex::parse(value.to_string().as_bytes(), "index")
    }

    /// A file of an earlier nimctl, which must stay readable.
    #[test]
    fn the_golden_file_is_read_and_written_as_it_was() {
        const GOLDEN: &[u8] = include_bytes!("../../tests/fixtures/formats/pack-index.json");
        let index = PackIndex::parse(GOLDEN, "golden").unwrap();
        assert_eq!(index.to_json(), GOLDEN);
        assert_eq!(index.files[0].chunks[0].offset, 200);
    }

    #[test]
    fn what_is_written_is_read() {
        let read = parse(&index()).unwrap();
        assert_eq!(PackIndex::parse(&read.to_json(), "index").unwrap(), read);
        assert_eq!(read.files[1].chunks[1].chunk.length, 10);
        assert_eq!(PackIndex::chunk_list(&read.files[0]).unwrap().chunks.len(), 2);
    }

    #[test]
    fn nothing_in_it_is_trusted() {
        let huge = u64::MAX / 2 + 1;
        for (place, value, expected) in [
            ("/files/0/chunks/1/1", json!(801), "file `a/b`: chunk 1 lies outside of its pack"),
            ("/files/0/chunks/1/1", json!(u64::MAX), "file `a/b`: chunk 1 lies outside of its pack"),
            ("/files/0/chunks/1/0", json!(2), "file `a/b`: chunk 1 lies outside of its pack"),
            (
                "/files/0/chunks/0/2",
                json!(399),
                "file `a/b`: the chunks have 599 bytes, but the file has 600",
            ),
            ("/files/0/chunks/0/2", json!(0), "file `a/b`: chunk 0 has 0 bytes, which is not 1 to 262144"),
            (
                "/files/0/chunks/0/2",
                json!(u32::MAX),
                "file `a/b`: chunk 0 has 4294967295 bytes, which is not 1 to 262144",
            ),
            ("/files/1/chunks/0/1", json!(399), "chunks overlap in pack "),
            (
                "/files/0/size_bytes",
                json!(huge),
                "file `a/b`: the chunks have 600 bytes, but the file has 9223372036854775808",
            ),
            ("/packs/0/size_bytes", json!(huge), "is longer than 64 MiB"),
            ("/packs/1/digest", json!(Sha256::of(b"p")), "is listed twice"),
            ("/files/1/path", json!("A/B"), "files `a/b` and `A/B` would be one file"),
            ("/files/1/path", json!("../c"), "file `../c`: "),
            ("/files/1/path", json!("/etc/passwd"), "file `/etc/passwd`: "),
            ("/files/0/chunks/0/3", json!("00"), "is not a digest"),
            ("/schema", json!("nimctl.pack-index/2"), "index: written by a newer nimctl"),
            ("/files/0/sha256", json!(7), "index: "),
        ] {
            let mut index = index();
            *index.pointer_mut(place).unwrap() = value.clone();
            let error = parse(&index).expect_err(place).to_string();
            assert!(error.contains(expected), "{place} = {value}: {error}");
        }
    }
}
