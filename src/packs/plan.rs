//! Which chunks are sent, in which packs, and which are in packs that are there.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{IndexedFile, PACK_INDEX_SCHEMA, Pack, PackIndex, Placed};
use crate::chunks::{Chunk, ChunkList};
use crate::digest::{Blake3, Sha256};

/// A pack whose chunks are used by less than this share of its bytes is not referred to: what is used of it is sent again, so
/// that registries can forget the rest.
const LEAST_USED_SHARE: f64 = 0.5;

/// Where a chunk will be.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In a pack that is there.
    Known(Pack, u64),
    /// In a new pack, by its number.
    New(usize, u64),
}

/// A pack to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewPack {
    /// Its pieces, in their order: the number of the file, the offset there, and the chunk.
    pub pieces: Vec<(usize, u64, Chunk)>,
    /// Its size.
    pub size_bytes: u64,
}

/// What to send for some files.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The packs to make.
    pub packs: Vec<NewPack>,
    places: BTreeMap<Chunk, Place>,
}

impl Plan {
    /// Decides for these files; `known` are the indexes of an earlier release at the same place. Files, and so the same chunks,
    /// in the same order give the same packs.
    pub fn new(files: &[&ChunkList], known: &[PackIndex]) -> Self {
        let needed: BTreeSet<Chunk> = files.iter().flat_map(|file| file.chunks.iter().copied()).collect();
        let known = known_places(&needed, known);
        let mut plan = Self { packs: Vec::new(), places: BTreeMap::new() };
        for (number, file) in files.iter().enumerate() {
            for (offset, chunk) in file.placed() {
                if plan.places.contains_key(&chunk) {
                    continue;
                }
                let place = known.get(&chunk).copied().unwrap_or_else(|| plan.add(number, offset, chunk));
                plan.places.insert(chunk, place);
            }
        }
        plan
    }

    /// Puts a chunk into the last pack, or the first of the next one.
    fn add(&mut self, file: usize, offset: u64, chunk: Chunk) -> Place {
        let length = u64::from(chunk.length);
        let is_full = |pack: &NewPack| pack.size_bytes + length > super::MAX_PACK_BYTES;
        if self.packs.last().is_none_or(is_full) {
            self.packs.push(NewPack::default());
        }
        let number = self.packs.len() - 1;
        let pack = &mut self.packs[number];
        let place = Place::New(number, pack.size_bytes);
        pack.pieces.push((file, offset, chunk));
        pack.size_bytes += length;
        place
    }

    /// Returns the bytes that are sent.
    pub fn new_bytes(&self) -> u64 {
        self.packs.iter().map(|pack| pack.size_bytes).sum()
    }

    /// Returns the index of some of the files, given the packs that were made. A file is its path, digests and chunks.
    ///
    /// # Panics
    /// A file that the plan was not made for, or fewer packs than it has.
    pub fn index<'a>(
        &self,
        files: impl IntoIterator<Item = (&'a str, Sha256, Blake3, &'a ChunkList)>,
        made: &[Pack],
    ) -> PackIndex {
        let mut packs: Vec<Pack> = Vec::new();
        let mut numbers: BTreeMap<Pack, u32> = BTreeMap::new();
        let mut place = |chunk: Chunk| {
            let (pack, offset) = match self.places[&chunk] {
                Place::Known(pack, offset) => (pack, offset),
                Place::New(number, offset) => (made[number], offset),
            };
            let number = *numbers.entry(pack).or_insert_with(|| {
                packs.push(pack);
                packs.len() as u32 - 1
            });
            Placed { pack: number, offset, chunk }
        };
        let mut indexed: Vec<IndexedFile> = files
            .into_iter()
            .map(|(path, sha256, blake3, list)| IndexedFile {
                path: path.into(),
                size_bytes: list.size_bytes,
                sha256,
                blake3,
                chunks: list.chunks.iter().map(|chunk| place(*chunk)).collect(),
            })
            .collect();
        indexed.sort_by(|one, other| one.path.cmp(&other.path));
        PackIndex { schema: PACK_INDEX_SCHEMA.into(), packs, files: indexed }
    }
}

/// Returns where needed chunks lie in packs that are there, and used well enough.
fn known_places(needed: &BTreeSet<Chunk>, indexes: &[PackIndex]) -> BTreeMap<Chunk, Place> {
    let placed = || {
        indexes.iter().flat_map(|index| {
            let chunks = index.files.iter().flat_map(|file| &file.chunks);
            chunks.filter_map(|placed| {
                Some((placed.chunk, *index.packs.get(placed.pack as usize)?, placed.offset))
            })
        })
    };
    let mut used_bytes: BTreeMap<Pack, u64> = BTreeMap::new();
    let mut counted = BTreeSet::new();
    for (chunk, pack, _) in placed() {
        if needed.contains(&chunk) && counted.insert((chunk, pack)) {
            *used_bytes.entry(pack).or_default() += u64::from(chunk.length);
        }
    }
    let is_used = |pack: &Pack| {
        used_bytes.get(pack).is_some_and(|used| *used as f64 >= LEAST_USED_SHARE * pack.size_bytes as f64)
    };
    let mut places = BTreeMap::new();
    for (chunk, pack, offset) in placed() {
        if needed.contains(&chunk) && is_used(&pack) {
            places.entry(chunk).or_insert(Place::Known(pack, offset));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[(u8, u32)]) -> ChunkList {
        let chunks: Vec<Chunk> =
            names.iter().map(|&(name, length)| Chunk { blake3: Blake3::of(&[name]), length }).collect();
        ChunkList::new(names.iter().map(|&(_, length)| u64::from(length)).sum(), chunks).unwrap()
    }

    fn made(plan: &Plan) -> Vec<Pack> {
        let pack = |(number, pack): (usize, &NewPack)| Pack {
            digest: Sha256::of(&[number as u8]),
            size_bytes: pack.size_bytes,
        };
        plan.packs.iter().enumerate().map(pack).collect()
    }

    fn index(plan: &Plan, path: &str, list: &ChunkList, packs: &[Pack]) -> PackIndex {
        let index = plan.index([(path, Sha256::of(b"f"), Blake3::of(b"f"), list)], packs);
        PackIndex::parse(&index.to_json(), "index").unwrap()
    }

    #[test]
    fn a_chunk_is_sent_once() {
        let (one, two) = (list(&[(1, 100), (2, 50), (1, 100)]), list(&[(2, 50), (3, 10)]));
        let plan = Plan::new(&[&one, &two], &[]);
        assert_eq!(plan.new_bytes(), 160);
        assert_eq!(plan.packs.len(), 1);
        let packs = made(&plan);
        let index = index(&plan, "two", &two, &packs);
        let offsets: Vec<u64> = index.files[0].chunks.iter().map(|placed| placed.offset).collect();
        assert_eq!(offsets, [100, 150]);
        // The next release has one chunk more.
        let next = list(&[(1, 100), (2, 50), (3, 10), (4, 7)]);
        let all = plan.index(
            [
                ("x", Sha256::of(b"f"), Blake3::of(b"f"), &one),
                ("y", Sha256::of(b"f"), Blake3::of(b"f"), &two),
            ],
            &packs,
        );
        let again = Plan::new(&[&next], &[all]);
        assert_eq!(again.new_bytes(), 7);
        let indexed =
            super::tests::index(&again, "next", &next, &[Pack { digest: Sha256::of(b"new"), size_bytes: 7 }]);
        assert_eq!(indexed.packs.len(), 2);
    }

    #[test]
    fn a_pack_that_is_mostly_dead_is_not_kept_alive() {
        let before = list(&[(1, 100), (2, 40), (3, 60)]);
        let plan = Plan::new(&[&before], &[]);
        let known = index(&plan, "before", &before, &made(&plan));
        let sent = |names: &[(u8, u32)]| Plan::new(&[&list(names)], std::slice::from_ref(&known)).new_bytes();
        assert_eq!(sent(&[(1, 100)]), 0);
        assert_eq!(sent(&[(2, 40), (3, 60)]), 0);
        assert_eq!(sent(&[(2, 40), (9, 5)]), 45);
        assert_eq!(sent(&[(9, 5)]), 5);
    }

    #[test]
    fn packs_are_filled_up_to_their_limit() {
        let chunks: Vec<Chunk> = (0_u32..300)
            .map(|number| Chunk { blake3: Blake3::of(&number.to_le_bytes()), length: 1 << 18 })
            .collect();
        let file = ChunkList::new(300 << 18, chunks).unwrap();
        let plan = Plan::new(&[&file], &[]);
        let sizes: Vec<u64> = plan.packs.iter().map(|pack| pack.size_bytes).collect();
        assert_eq!(sizes, [64 << 20, 44 << 18]);
        index(&plan, "big", &file, &made(&plan));
    }
}
