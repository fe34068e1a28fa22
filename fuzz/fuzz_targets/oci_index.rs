//! Any bytes as the index of a release that a registry gives for a tag: read, written again, and opened as a release.
//!
//! Errors are fine. Panics, overflows, and memory out of proportion are not.

#![no_main]

use std::alloc::System;
use std::sync::LazyLock;

use cap::Cap;
use libfuzzer_sys::fuzz_target;
use nimctl::oci::{ImageIndex, Which};
use nimctl::ops::pull::RemoteRelease;
use nimctl_fuzz::{Hostile, Replaced, SmallRelease};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);
static RELEASE: LazyLock<SmallRelease> = LazyLock::new(SmallRelease::new);

/// What is needed whatever the input is.
const FIXED_BYTES: usize = 16 << 20;
/// Most live memory for a byte of input.
const BYTES_PER_BYTE: usize = 1000;

fuzz_target!(|data: &[u8]| {
    LazyLock::force(&RELEASE);
    let limit = MEMORY.allocated() + FIXED_BYTES + data.len() * BYTES_PER_BYTE;
    MEMORY.set_limit(limit).expect("above what is allocated");
    match ImageIndex::parse(data, "index") {
        Ok(index) => {
            let text = index.to_json();
            let again = ImageIndex::parse(&text, "again").expect("what we write we read");
            assert_eq!(again, index);
            assert_eq!(again.to_json(), text);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let place = Hostile { release: &RELEASE, replaced: Replaced::Index, bytes: data };
    match RemoteRelease::open(&place, &Which::Tag("1".into())) {
        Ok(release) => {
            for profile in &release.manifest.profiles {
                let _ = release.profile_digest(&profile.id);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    MEMORY.set_limit(usize::MAX).expect("above what is allocated");
});
