//! Any bytes as a `contents.json`, as `nimctl hash-profile` and `nimctl verify` read that of a stranger.
//!
//! Errors are fine. Panics and overflows are not, and what has a canonical text is read again from it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nimctl::digest::Sha256;
use nimctl::profile::{Contents, ProfileId};

fuzz_target!(|data: &[u8]| {
    let contents = match Contents::parse(data, "contents.json") {
        Ok(contents) => contents,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let tags = contents.tags(&Sha256::of(data));
    let _ = ProfileId::of_tags(&tags);
    let Ok(text) = contents.to_canonical_json() else { return };
    let again = Contents::parse(text.as_bytes(), "again").expect("what we write we read");
    assert_eq!(again, contents);
    assert_eq!(again.to_canonical_json().expect("as above"), text);
});
