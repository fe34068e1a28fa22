//! Any bytes as a trust policy, which then judges a signature and releases.
//!
//! Errors are fine, and have words. Panics, overflows, and memory out of proportion are not; nor is a policy that accepts what none of
//! its rules is about.

#![no_main]

use std::alloc::System;
use std::io;
use std::sync::LazyLock;

use cap::Cap;
use libfuzzer_sys::fuzz_target;
use nimctl::passport::Passport;
use nimctl::signing::{Bundle, Statement};
use nimctl::trust::{ProfileFacts, Rule, Trust, Version, check_order};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// What is needed whatever the input is.
const FIXED_BYTES: usize = 16 << 20;
/// Most live memory for a byte of input: a rule may name a file of certificates in a few of them.
const BYTES_PER_BYTE: usize = 10_000;
/// 2026-01-01, in seconds since 1970.
const NOW_S: u64 = 1_767_225_600;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../tests/fixtures/", $name))
    };
}

static SIGNATURES: LazyLock<[Bundle; 2]> = LazyLock::new(|| {
    [fixture!("signing/p256.sig"), fixture!("signing/certificate.sig")]
        .map(|text| Bundle::parse(text.as_bytes()).expect("a signature"))
});
static FACTS: LazyLock<ProfileFacts> = LazyLock::new(|| {
    let text = fixture!("formats/passport.json").as_bytes();
    ProfileFacts::of(&Passport::parse(text, "passport.json").expect("the golden passport"))
});

/// The files that a policy can name.
fn read(name: &str) -> io::Result<String> {
    let text = match name {
        "p256.pub" => fixture!("signing/p256.pub"),
        "other.pub" => fixture!("signing/other.pub"),
        "root.pem" => fixture!("signing/root.pem"),
        "middle.pem" => fixture!("signing/middle.pem"),
        "p256.key" => fixture!("signing/p256.key"),
        _ => return Err(io::ErrorKind::NotFound.into()),
    };
    Ok(text.into())
}

/// Judges both signatures for some releases, of models that are in the text or not.
fn judge(trust: &Trust, text: &str) {
    let releases = ["1.0.0", "2.0.0-rc.1", "nightly", text.get(..8).unwrap_or("0")];
    for signature in SIGNATURES.iter() {
        let (_, signer): (Statement, _) = match trust.identify(signature, NOW_S) {
            Ok(identified) => identified,
            Err(unknown) => {
                assert!(!unknown.to_string().is_empty() && !unknown.hint().is_empty());
                continue;
            }
        };
        for model in ["golden", "m", ""] {
            for release in releases {
                for facts in [&[][..], std::slice::from_ref(&*FACTS)] {
                    match trust.judge(model, release, &signer, facts, NOW_S) {
                        Ok(rule) => assert!(trust.rules().iter().any(|known| known.line() == rule.line())),
                        Err(refused) => {
                            assert!(!refused.to_string().is_empty() && !refused.hint().is_empty());
                        }
                    }
                }
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    LazyLock::force(&SIGNATURES);
    LazyLock::force(&FACTS);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let limit = MEMORY.allocated() + FIXED_BYTES + data.len() * BYTES_PER_BYTE;
    MEMORY.set_limit(limit).expect("above what is allocated");
    match Trust::parse(text, "trust.yaml", &read) {
        Ok(trust) => {
            assert!(!trust.rules().is_empty());
            assert!(trust.rules().iter().map(Rule::describe).all(|words| !words.is_empty()));
            let _ = trust.built_here();
            judge(&trust, text);
        }
        Err(error) => assert!(error.to_string().contains("trust.yaml")),
    }
    // Two releases: one is the newest, or the other, or they can't be compared.
    if let Some((release, newest)) = text.split_once('\n') {
        let there = check_order("m", release, newest);
        let back = check_order("m", newest, release);
        assert!(!(there == Ok(true) && back == Ok(true)), "each is later than the other");
        assert_eq!(there == Ok(false), back == Ok(false), "equal is equal in both directions");
        if let (Some(release), Some(newest)) = (Version::parse(release), Version::parse(newest)) {
            assert_eq!(there == Ok(true), release > newest);
        }
    }
    MEMORY.set_limit(usize::MAX).expect("above what is allocated");
});
