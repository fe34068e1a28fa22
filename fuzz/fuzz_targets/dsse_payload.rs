//! Any bytes as what was signed: the payload of an envelope with a right signature of a key that is trusted. `signature_bundle` can't
//! make such signatures, so it gets this far with the seeds alone.
//!
//! Errors are fine. Panics, overflows, and memory out of proportion are not; nor is a statement that the signature does not cover.

#![no_main]

use std::alloc::System;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cap::Cap;
use libfuzzer_sys::fuzz_target;
use nimctl::attestation::Attestation;
use nimctl::signing::{Bundle, Payload as _, PrivateKey, PublicKey, Statement, compare, shown};
use nimctl::trust::Trust;
use serde_json::json;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// What is needed whatever the input is.
const FIXED_BYTES: usize = 16 << 20;
/// Most live memory for a byte of input.
const BYTES_PER_BYTE: usize = 1000;
/// 2026-01-01, in seconds since 1970.
const NOW_S: u64 = 1_767_225_600;
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const POLICY: &str = "schema: nimctl.trust/1\nrules:\n- models: ['*']\n  keys: [p256.pub]\n";

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../tests/fixtures/signing/", $name))
    };
}

/// Keys that were made for tests, and protect nothing.
static KEY: LazyLock<PrivateKey> =
    LazyLock::new(|| PrivateKey::from_pem(fixture!("p256.key"), None).expect("a key"));
static OTHER: LazyLock<PublicKey> =
    LazyLock::new(|| PublicKey::from_pem(fixture!("other.pub")).expect("a key"));
static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    Trust::parse(POLICY, "trust.yaml", &|_| Ok(fixture!("p256.pub").into())).expect("a policy")
});

/// Returns a bundle with a signature over these bytes.
fn signed(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    let signature = STANDARD.encode(KEY.sign(&bytes));
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "publicKey": { "hint": "" }, "tlogEntries": [] },
        "dsseEnvelope": {
            "payload": STANDARD.encode(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{ "sig": signature, "keyid": "" }],
        },
    });
    bundle.to_string().into_bytes()
}

fuzz_target!(|data: &[u8]| {
    LazyLock::force(&KEY);
    LazyLock::force(&OTHER);
    LazyLock::force(&TRUST);
    let limit = MEMORY.allocated() + FIXED_BYTES + data.len() * BYTES_PER_BYTE;
    MEMORY.set_limit(limit).expect("above what is allocated");
    let expected = Statement::parse(data);
    let attestation = Attestation::parse(data);
    match Bundle::parse(&signed(data)) {
        Ok(bundle) => {
            assert!(bundle.verify_with_key::<Statement>(&OTHER).is_err(), "nobody signed with the other key");
            let verified = bundle.verify_with_key::<Statement>(&KEY.public_key());
            let identified = TRUST.identify::<Statement>(&bundle, NOW_S);
            assert_eq!(verified.is_ok(), expected.is_ok());
            assert_eq!(identified.is_ok(), expected.is_ok());
            let attested = bundle.verify_with_key::<Attestation>(&KEY.public_key());
            assert_eq!(attested.is_ok(), attestation.is_ok());
            if let Ok((attested, _)) = attested {
                let again = Attestation::parse(&attested.to_payload()).expect("what we write we read");
                assert_eq!(again.kind(), attested.kind());
                assert_eq!(again.subjects, attested.subjects);
            }
            if let (Ok((statement, _)), Ok(expected)) = (verified, expected) {
                assert_eq!(statement, expected);
                assert!(statement.resources().iter().all(|resource| !resource.name.is_empty()));
                let _ = (statement.digest(), shown(statement.model()));
                // Nothing of it is here.
                let differences = compare(statement.resources(), &BTreeMap::new(), |_| false);
                assert_eq!(differences.len(), statement.resources().len());
            }
        }
        // An empty payload is none.
        Err(error) => assert!(!error.to_string().is_empty() && expected.is_err()),
    }
    MEMORY.set_limit(usize::MAX).expect("above what is allocated");
});
