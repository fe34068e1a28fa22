//! Packs: how chunks travel. A blob for each chunk would be thousands of requests, a blob for each file would repeat what files
//! share; so new chunks are gathered into packs of at most 64 MiB, which are ordinary blobs, and an index says in which pack each
//! chunk of each file lies.
//!
//! A pack is the bytes of its chunks, one after the other, and nothing else. An index is a JSON document
//! (`nimctl.pack-index/1`), one a profile:
//!
//! ```json
//! {"schema": "nimctl.pack-index/1",
//!  "packs": [{"digest": "sha256:…", "size_bytes": 67092111}],
//!  "files": [{"path": "vision/model.plan", "size_bytes": 614204228, "sha256": "sha256:…", "blake3": "blake3:…",
//!             "chunks": [[0, 0, 71230, "<hex digits of the chunk's BLAKE3>"]]}]}
//! ```
//!
//! A chunk is the number of its pack, its offset there, its length and its digest. Whoever reads an index trusts nothing in it: see
//! [`PackIndex::parse`].

mod index;
mod plan;

pub use index::{IndexedFile, InvalidIndex, MAX_INDEX_BYTES, PACK_INDEX_SCHEMA, Pack, PackIndex, Placed};
pub use plan::{NewPack, Plan};

/// Packs are at most this long.
pub const MAX_PACK_BYTES: u64 = 64 << 20;
