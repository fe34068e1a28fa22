//! Any bytes as a pack index. What is accepted must be what `pull` relies on: paths that stay in their folder, chunks that lie
//! inside their packs and come to their files.
//!
//! Errors are fine. Panics, overflows, and memory out of proportion are not.

#![no_main]

use std::alloc::System;
use std::collections::BTreeSet;
use std::path::{Component, Path};

use cap::Cap;
use libfuzzer_sys::fuzz_target;
use nimctl::packs::{PackIndex, Plan};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// What is needed whatever the input is.
const FIXED_BYTES: usize = 8 << 20;
/// Most live memory for a byte of input.
const BYTES_PER_BYTE: usize = 100;

fuzz_target!(|data: &[u8]| {
    let limit = MEMORY.allocated() + FIXED_BYTES + data.len() * BYTES_PER_BYTE;
    MEMORY.set_limit(limit).expect("above what is allocated");
    match PackIndex::parse(data, "index") {
        Ok(index) => use_it(&index),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    MEMORY.set_limit(usize::MAX).expect("above what is allocated");
});

fn use_it(index: &PackIndex) {
    let text = index.to_json();
    let again = PackIndex::parse(&text, "again").expect("what we write we read");
    assert_eq!(again, *index);
    assert_eq!(again.to_json(), text);
    let mut paths = BTreeSet::new();
    for file in &index.files {
        let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        assert!(Path::new(&file.path).components().all(is_plain), "{}", file.path);
        assert!(paths.insert(file.path.to_lowercase()), "{}", file.path);
        let list = PackIndex::chunk_list(file).expect("its index was accepted");
        assert_eq!(list.size_bytes, file.size_bytes);
        for placed in &file.chunks {
            let pack = &index.packs[placed.pack as usize];
            assert!(placed.end().expect("below 2^64") <= pack.size_bytes);
        }
    }
    // As an earlier release, for what is published next: all that it has is not sent again, or is in a pack that is mostly dead.
    let lists: Vec<_> = index.files.iter().filter_map(|file| PackIndex::chunk_list(file).ok()).collect();
    let plan = Plan::new(&lists.iter().collect::<Vec<_>>(), std::slice::from_ref(index));
    let _ = plan.new_bytes();
}
