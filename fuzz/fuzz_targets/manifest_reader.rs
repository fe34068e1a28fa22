//! Any bytes as a manifest: read, judged, compared, converted, merged, held against a host, and written. What was
//! written must be the same manifest again, and the same text when it is written once more.
//!
//! Errors are fine. Panics, overflows of the stack, and memory out of proportion are not.

#![no_main]

use std::alloc::System;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use cap::Cap;
use libfuzzer_sys::fuzz_target;
use nimctl::device::Host;
use nimctl::manifest::{ManifestDocument, convert, diff, import, merge};
use nimctl::manifest_lint::lint;
use nimctl::profile::TagSelector;
use nimctl::selection::{Lora, find_pinned, select};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// What is needed whatever the input is: compiled patterns, the texts of messages, what the limits on aliases allow.
const FIXED_BYTES: usize = 64 << 20;
/// Most live memory for a byte of input. A node takes two bytes at least, and 72 here; there are the tree, what is known
/// of it, and copies of both.
const BYTES_PER_BYTE: usize = 1000;

static HOST: LazyLock<Host> =
    LazyLock::new(|| Host::stated(["l4:2", "a100-sxm/1g.10gb"]).expect("known GPUs"));

/// A backtrace takes more memory than an input is allowed; without any, the process would hang in the panic.
static PANICS_ARE_TOLD: LazyLock<()> = LazyLock::new(|| {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        MEMORY.set_limit(usize::MAX).expect("above what is allocated");
        hook(panic);
    }));
});

fuzz_target!(|data: &[u8]| {
    LazyLock::force(&HOST);
    LazyLock::force(&PANICS_ARE_TOLD);
    let allowed = FIXED_BYTES + data.len() * BYTES_PER_BYTE;
    MEMORY.set_limit(MEMORY.allocated() + allowed).expect("above what is allocated");
    if let Err(error) = import(data, "p.yaml", &BTreeMap::new()) {
        assert!(!error.to_string().is_empty());
    }
    match ManifestDocument::parse(data, "m.yaml") {
        Ok(document) => use_it(&document),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    MEMORY.set_limit(usize::MAX).expect("above what is allocated");
});

fn use_it(document: &ManifestDocument) {
    let text = document.to_yaml();
    let again = ManifestDocument::parse(text.as_bytes(), "again.yaml").expect("what we write we read");
    assert_eq!(again.tree(), document.tree(), "{text}");
    assert_eq!(again.to_yaml(), text);
    assert_eq!(again.manifest(), document.manifest());
    lint(document, std::path::Path::new("/nowhere"));
    let manifest = document.manifest();
    assert!(diff(manifest, manifest).is_empty());
    let converted = convert(document, "m.yaml").expect("what is read can be converted");
    assert_eq!(converted.manifest().profiles, manifest.profiles);
    // Equal tags are the one thing that a manifest may have and a merged one may not.
    let _ = merge(&[("a".into(), document.clone()), ("b".into(), converted)]);
    let answers = select(&manifest.profiles, &BTreeMap::new(), &TagSelector::default(), Lora::Excluded, &HOST);
    for answer in &answers {
        let count = answer.fitting.len() + answer.short_of_memory.len() + answer.rejected.len();
        assert_eq!(count, manifest.profiles.len());
        answer.rejected.iter().for_each(|(_, rejection)| assert!(!rejection.to_string().is_empty()));
    }
    for (place, profile) in manifest.profiles.iter().enumerate() {
        let _ = find_pinned(&manifest.profiles, &profile.readable_name());
        if !profile.id.trim().trim_matches(['"', '\'']).contains(char::is_whitespace)
            && profile.id == profile.id.trim().trim_matches(['"', '\''])
        {
            assert_eq!(find_pinned(&manifest.profiles, &profile.id), Ok(place));
        }
    }
}
