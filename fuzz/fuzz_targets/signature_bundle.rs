//! Any bytes as a signature that lies beside a model, and as each part of one: the signed statement, a key, certificates.
//!
//! Errors are fine. Panics, overflows, and memory out of proportion are not; what is written is read again.

#![no_main]

use std::alloc::System;
use std::sync::LazyLock;

use cap::Cap;
use libfuzzer_sys::fuzz_target;
use nimctl::signing::{Bundle, Certificate, PrivateKey, PublicKey, Statement};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// What is needed whatever the input is.
const FIXED_BYTES: usize = 16 << 20;
/// Most live memory for a byte of input.
const BYTES_PER_BYTE: usize = 1000;
/// 2026-01-01, in seconds since 1970.
const NOW_S: u64 = 1_767_225_600;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../tests/fixtures/signing/", $name))
    };
}

static KEY: LazyLock<PublicKey> = LazyLock::new(|| PublicKey::from_pem(fixture!("p256.pub")).expect("a key"));
static ROOTS: LazyLock<Vec<Certificate>> =
    LazyLock::new(|| Certificate::all_from_pem(fixture!("root.pem")).expect("a root"));

fuzz_target!(|data: &[u8]| {
    LazyLock::force(&KEY);
    LazyLock::force(&ROOTS);
    let limit = MEMORY.allocated() + FIXED_BYTES + data.len() * BYTES_PER_BYTE;
    MEMORY.set_limit(limit).expect("above what is allocated");
    match Bundle::parse(data) {
        Ok(bundle) => {
            let text = bundle.to_json();
            assert_eq!(Bundle::parse(&text).expect("what we write we read").to_json(), text);
            let _ = bundle.verify_with_key::<Statement>(&KEY).map_err(|error| (error.to_string(), error.hint()));
            let _ = bundle.verify_with_certificates::<Statement>(&ROOTS, NOW_S).map_err(|error| error.to_string());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match Statement::parse(data) {
        Ok(statement) => {
            let again = Statement::parse(&statement.to_payload()).expect("what we write we read");
            assert_eq!(again, statement);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = PublicKey::from_pem(text).map(|key| {
            assert_eq!(PublicKey::from_pem(&key.to_pem()).expect("what we write we read"), key);
        });
        // Without a password: deriving a key from one takes as long as the file says.
        let _ = PrivateKey::from_pem(text, None).map(|key| key.public_key());
        let _ = Certificate::all_from_pem(text).map(|all| all.iter().map(Certificate::subject).count());
    }
    let _ = Certificate::from_der(data).map(|certificate| {
        let _ = (certificate.subject(), certificate.issuer(), certificate.check_for_signing(NOW_S));
    });
    MEMORY.set_limit(usize::MAX).expect("above what is allocated");
});
