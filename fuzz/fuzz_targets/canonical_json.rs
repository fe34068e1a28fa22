//! Any bytes as JSON: what has a canonical text is its own canonical text, and means the same.
//!
//! Errors are fine. Panics and overflows are not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nimctl::canonical;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    let Ok(text) = canonical::to_string(&value) else { return };
    let again: Value = serde_json::from_str(&text).expect("canonical JSON is JSON");
    assert_eq!(again, value);
    assert_eq!(canonical::to_string(&again).expect("it has a canonical text"), text);
    assert_eq!(canonical::digest(&again).expect("as above"), canonical::digest(&value).expect("as above"));
});
