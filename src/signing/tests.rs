//! Bundles, keys and certificates against what PyPI's `model-signing` wrote: `tests/fixtures/signing`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::digest::Sha256;

/// 2026-01-01, in seconds since 1970.
const NOW_S: u64 = 1_767_225_600;
const DAY_S: u64 = 86_400;

fn bytes(name: &str) -> Vec<u8> {
    fs_err::read(format!("{}/tests/fixtures/signing/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn text(name: &str) -> String {
    String::from_utf8(bytes(name)).unwrap()
}

fn public(name: &str) -> PublicKey {
    PublicKey::from_pem(&text(name)).unwrap()
}

fn private(name: &str) -> PrivateKey {
    PrivateKey::from_pem(&text(name), Some(b"correct horse")).unwrap()
}

fn certificate(name: &str) -> Certificate {
    Certificate::all_from_pem(&text(name)).unwrap().remove(0)
}

/// Returns the files of the model, read here.
fn model() -> Vec<Resource> {
    ["config.json", "weights/0.bin", "weights/1.bin", "weights-notes.txt"]
        .map(|name| Resource { name: name.into(), digest: Sha256::of(&bytes(&format!("model/{name}"))) })
        .to_vec()
}

fn statement() -> Statement {
    Statement::new("model".into(), false, [".git".to_owned()].into(), model()).unwrap()
}

#[test]
fn what_model_signing_signed_with_a_key_is_verified() {
    for name in ["p256", "p384", "p521"] {
        let bundle = Bundle::parse(&bytes(&format!("{name}.sig"))).unwrap();
        let key = public(&format!("{name}.pub"));
        let (statement, signer) = bundle.verify_with_key::<Statement>(&key).unwrap();
        assert_eq!(statement.model(), "model");
        // Also the order.
        assert_eq!(statement.resources(), model());
        assert_eq!(signer, Signer::Key(key));
    }
    let (file, _) =
        Bundle::parse(&bytes("file.sig")).unwrap().verify_with_key::<Statement>(&public("p256.pub")).unwrap();
    assert_eq!((file.model(), file.resources().len()), ("config.json", 1));
    assert_eq!(file.resources()[0].name, MODEL_ITSELF);
    let (rest, _) = Bundle::parse(&bytes("ignored.sig"))
        .unwrap()
        .verify_with_key::<Statement>(&public("p256.pub"))
        .unwrap();
    assert_eq!(rest.resources().len(), 2);
    assert!(rest.ignore_paths().contains(&"weights".to_owned()));
}

#[test]
fn what_is_signed_here_is_the_same_each_time_and_verified() {
    for name in ["p256", "p256-sec1", "p256-encrypted", "p384", "p521"] {
        let key = private(&format!("{name}.key"));
        let bundle = Bundle::sign(&statement(), &key, None).to_json();
        assert_eq!(bundle, Bundle::sign(&statement(), &key, None).to_json());
        let (read, _) =
            Bundle::parse(&bundle).unwrap().verify_with_key::<Statement>(&key.public_key()).unwrap();
        assert_eq!(read, statement());
        // A key is named by the same digest as by others.
        let theirs: Value = serde_json::from_slice(&bytes(&format!("{}.sig", &name[..4]))).unwrap();
        let ours: Value = serde_json::from_slice(&bundle).unwrap();
        assert_eq!(ours["verificationMaterial"], theirs["verificationMaterial"]);
        assert_eq!(key.public_key(), public(&format!("{}.pub", &name[..4])));
    }
}

/// The example of RFC 6979, A.2.5: P-256, SHA-256, the message "sample".
#[test]
fn signatures_are_those_of_rfc_6979() {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let der = [
        hex("302502010104 20".replace(' ', "").as_str()),
        hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"),
    ]
    .concat();
    // SEC1 with the curve's name: SEQUENCE, version, key, [0] prime256v1.
    let named = [&[0x30, 0x31], &der[2..], &hex("a00a06082a8648ce3d030107")].concat();
    let pem = format!(
        "-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n",
        STANDARD
            .encode(named)
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line))
            .collect::<Vec<_>>()
            .join("\n")
    );
    let signature = PrivateKey::from_pem(&pem, None).unwrap().sign(b"sample");
    let expected = [
        hex("3046022100"),
        hex("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"),
        hex("022100"),
        hex("f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"),
    ]
    .concat();
    assert_eq!(signature, expected);
}

#[test]
fn private_keys_of_other_kinds_are_refused_by_name() {
    let check = |name: &str, password: Option<&[u8]>, expected: &str| {
        let Err(error) = PrivateKey::from_pem(&text(name), password) else { panic!("{name} was taken") };
        assert!(error.to_string().contains(expected), "{name}: {error}");
        // Nothing of the key is in a message.
        for line in text(name).lines().filter(|line| !line.is_empty() && !line.starts_with("-----")) {
            assert!(!format!("{error} {error:?}").contains(line), "{name}: {error}");
        }
    };
    check("rsa.key", None, "RSA keys are not supported");
    check("ed25519.key", None, "Ed25519 keys are not supported");
    check("secp256k1.key", None, "secp256k1");
    check("p256-encrypted.key", None, "no password was given");
    check("p256-encrypted.key", Some(b"wrong"), "the password is wrong");
    check("p256-old-encryption.key", Some(b"correct horse"), "before PKCS#8");
    check("p256.pub", None, "found `PUBLIC KEY`");
    check("leaf.pem", None, "found `CERTIFICATE`");
    check("p256.sig", None, "found no PEM");
    let damaged = text("p256.key").replacen("MIGH", "MIGI", 1);
    assert!(matches!(PrivateKey::from_pem(&damaged, None), Err(KeyError::Damaged(_))));
}

#[test]
fn another_key_and_changed_bytes_are_refused() {
    let bundle = Bundle::parse(&bytes("p256.sig")).unwrap();
    let error = bundle.verify_with_key::<Statement>(&public("other.pub")).unwrap_err();
    assert!(matches!(error, Refusal::OtherKey { .. }), "{error}");
    // The name of the key is no part of what is signed.
    let renamed = changed(|bundle| {
        bundle["verificationMaterial"]["publicKey"]["hint"] = json!(public("other.pub").hint().to_hex());
    });
    let error =
        Bundle::parse(&renamed).unwrap().verify_with_key::<Statement>(&public("other.pub")).unwrap_err();
    assert_eq!(error, Refusal::WrongSignature { curve: Curve::P256 });
    let unnamed = changed(|bundle| bundle["verificationMaterial"]["publicKey"] = json!({}));
    Bundle::parse(&unnamed).unwrap().verify_with_key::<Statement>(&public("p256.pub")).unwrap();
    let error =
        Bundle::parse(&unnamed).unwrap().verify_with_key::<Statement>(&public("p384.pub")).unwrap_err();
    assert_eq!(error, Refusal::WrongSignature { curve: Curve::P384 });
    let payload = changed(|bundle| {
        let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
        let payload = String::from_utf8(payload).unwrap().replace("config.json", "konfig.json");
        bundle["dsseEnvelope"]["payload"] = json!(STANDARD.encode(payload));
    });
    let error =
        Bundle::parse(&payload).unwrap().verify_with_key::<Statement>(&public("p256.pub")).unwrap_err();
    assert_eq!(error, Refusal::WrongSignature { curve: Curve::P256 });
}

/// Returns `p256.sig`, changed.
fn changed(change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut bundle: Value = serde_json::from_slice(&bytes("p256.sig")).unwrap();
    change(&mut bundle);
    serde_json::to_vec(&bundle).unwrap()
}

#[test]
fn bundles_are_read_strictly() {
    let refused = |bundle: &[u8], expected: &str| {
        let error = Bundle::parse(bundle).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(b"", "not a Sigstore bundle");
    refused(&vec![b' '; 33 << 20], "the limit is 33554432");
    refused(&changed(|bundle| bundle["mediaType"] = json!("application/json")), "`application/json`");
    refused(
        &changed(|bundle| bundle["dsseEnvelope"]["payloadType"] = json!("application/x")),
        "expected `application/vnd.in-toto+json`",
    );
    refused(&changed(|bundle| bundle["dsseEnvelope"]["signatures"] = json!([])), "no signature");
    refused(&changed(|bundle| bundle["dsseEnvelope"]["payload"] = json!("*")), "the payload is not Base64");
    refused(&changed(|bundle| bundle["verificationMaterial"] = json!({})), "neither a key nor certificates");
    refused(
        &changed(|bundle| bundle["verificationMaterial"] = json!({ "certificate": { "rawBytes": "" } })),
        "keyless",
    );
    let chain = |certificates: Value| json!({ "x509CertificateChain": { "certificates": certificates } });
    refused(&changed(|bundle| bundle["verificationMaterial"] = chain(json!([]))), "0 certificates");
    refused(
        &changed(|bundle| bundle["verificationMaterial"] = chain(json!([{ "rawBytes": "AAAA" }]))),
        "certificate 1 in it: not an X.509 certificate",
    );
    let twice = text("p256.sig").replacen('{', "{\"mediaType\":\"x\",", 1);
    refused(twice.as_bytes(), "\"mediaType\" appears twice");
}

/// A bit of each fifth byte: what is accepted nevertheless says the same.
#[test]
fn a_changed_bundle_is_refused_or_says_the_same() {
    let bundle = bytes("p256.sig");
    let key = public("p256.pub");
    let (statement, _) = Bundle::parse(&bundle).unwrap().verify_with_key::<Statement>(&key).unwrap();
    let mut refused = 0;
    for at in (0..bundle.len()).step_by(5) {
        let mut changed = bundle.clone();
        changed[at] ^= 1 << (at % 7);
        match Bundle::parse(&changed).and_then(|bundle| bundle.verify_with_key::<Statement>(&key)) {
            Ok((other, _)) => assert_eq!(other, statement, "byte {at}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > bundle.len() / 6, "{refused}");
}

#[test]
fn of_several_signatures_the_first_decides() {
    let second = json!({ "sig": "AAAA", "keyid": "" });
    let added = changed(|bundle| {
        bundle["dsseEnvelope"]["signatures"].as_array_mut().unwrap().push(second.clone());
    });
    Bundle::parse(&added).unwrap().verify_with_key::<Statement>(&public("p256.pub")).unwrap();
    let before = changed(|bundle| {
        bundle["dsseEnvelope"]["signatures"].as_array_mut().unwrap().insert(0, second.clone());
    });
    let error =
        Bundle::parse(&before).unwrap().verify_with_key::<Statement>(&public("p256.pub")).unwrap_err();
    assert_eq!(error, Refusal::WrongSignature { curve: Curve::P256 });
}

#[test]
fn what_model_signing_signed_with_a_certificate_is_verified() {
    let bundle = Bundle::parse(&bytes("certificate.sig")).unwrap();
    let (statement, signer) =
        bundle.verify_with_certificates::<Statement>(&[certificate("root.pem")], NOW_S).unwrap();
    assert_eq!(statement.resources(), model());
    assert_eq!(
        signer,
        Signer::Certificate {
            subject: "CN=Test signer".into(),
            fingerprint: certificate("leaf.pem").fingerprint(),
            root: "CN=Test root".into()
        }
    );
    assert_eq!(
        bundle.verify_with_key::<Statement>(&public("p256.pub")).unwrap_err(),
        Refusal::HasCertificates
    );
    let with_key = Bundle::parse(&bytes("p256.sig")).unwrap();
    let error =
        with_key.verify_with_certificates::<Statement>(&[certificate("root.pem")], NOW_S).unwrap_err();
    assert_eq!(error, Refusal::HasKey);
}

/// Signs with the key of `leaf.key` and these certificates, and verifies with those trusted.
fn verdict(certificates: &[&str], trusted: &[&str], now_s: u64) -> Result<Signer, Refusal> {
    let read = |names: &[&str]| -> Vec<Certificate> { names.iter().map(|name| certificate(name)).collect() };
    let bundle = Bundle::sign(&statement(), &private("leaf.key"), Some(read(certificates))).to_json();
    let bundle = Bundle::parse(&bundle).unwrap();
    bundle.verify_with_certificates::<Statement>(&read(trusted), now_s).map(|(_, signer)| signer)
}

#[test]
fn chains_lead_to_a_trusted_root() {
    let good: [(&[&str], &[&str]); 6] = [
        (&["leaf.pem", "middle.pem"], &["root.pem"]),
        // The middle on one side, on the other, or on both; a root that nobody needs.
        (&["leaf.pem"], &["root.pem", "middle.pem"]),
        (&["leaf.pem", "middle.pem", "root.pem"], &["middle.pem", "root.pem", "rsa-root.pem"]),
        (&["leaf-code-signing.pem", "middle.pem"], &["root.pem"]),
        (&["leaf-rsa-root.pem"], &["rsa-root.pem"]),
        // Another root of the same name does not stand in the way.
        (&["leaf.pem", "middle.pem"], &["other-root.pem", "root.pem"]),
    ];
    for (certificates, trusted) in good {
        verdict(certificates, trusted, NOW_S).unwrap_or_else(|error| panic!("{certificates:?}: {error}"));
    }
    // Between the two times, with both ends.
    let at = |now_s| verdict(&["leaf-expired.pem", "middle.pem"], &["root.pem"], now_s);
    let (start_s, end_s) = (1_577_836_800, 1_609_459_200);
    at(start_s).unwrap();
    at(end_s).unwrap();
    assert!(matches!(at(start_s - 1), Err(Refusal::Chain(ChainError::NotYetValid { .. }))));
    assert!(matches!(at(end_s + 1), Err(Refusal::Chain(ChainError::Expired { .. }))));
    assert!(matches!(at(end_s + DAY_S), Err(Refusal::Chain(ChainError::Expired { .. }))));
}

#[test]
fn chains_are_refused_for_what_is_wrong_with_them() {
    let root: &[&str] = &["root.pem"];
    let cases: [(&[&str], &[&str], &str); 16] = [
        (
            &["leaf-expired.pem", "middle.pem"],
            root,
            "`CN=Test signer\\, expired` expired on 2021-01-01T00:00:00Z",
        ),
        (&["leaf-not-yet.pem", "middle.pem"], root, "is not valid before 2119-01-01T00:00:00Z"),
        (&["leaf-wrong-usage.pem", "middle.pem"], root, "digitalSignature"),
        (&["leaf-no-usage.pem", "middle.pem"], root, "no key usage"),
        (&["leaf-web-server.pem", "middle.pem"], root, "does not include codeSigning"),
        (&["leaf.pem"], root, "no trusted root, and no certificate in the signature, is its issuer"),
        (&["leaf.pem", "middle.pem"], &["rsa-root.pem"], "does not lead to a trusted root"),
        (&["leaf.pem", "middle.pem"], &["other-root.pem"], "a signature in the chain is wrong"),
        (&["leaf.pem", "middle.pem"], &["middle.pem"], "none of the trusted certificates is a root"),
        (&["leaf-of-leaf.pem", "leaf.pem", "middle.pem"], root, "CA:FALSE"),
        (
            &["leaf-too-deep.pem", "too-deep.pem", "middle.pem"],
            root,
            "longer than a certificate in it allows",
        ),
        (
            &["leaf-no-cert-sign.pem", "no-cert-sign.pem"],
            root,
            "`CN=Test authority for lists` is not for this use",
        ),
        (&["leaf-middle-expired.pem", "middle-expired.pem"], root, "`CN=Test old middle` expired on 2021"),
        (&["leaf-root-expired.pem"], &["root-expired.pem"], "`CN=Test old root` expired on 2021"),
        (&["leaf-rsa-key.pem", "middle.pem"], root, "RSA keys are not supported"),
        (&["middle.pem"], root, "digitalSignature"),
    ];
    for (certificates, trusted, expected) in cases {
        let Err(Refusal::Chain(error)) = verdict(certificates, trusted, NOW_S) else {
            panic!("{certificates:?} was taken")
        };
        assert!(error.to_string().contains(expected), "{certificates:?}: {error}");
    }
}

#[test]
fn the_certificate_has_to_be_that_of_the_key() {
    let certificates = vec![certificate("leaf.pem"), certificate("middle.pem")];
    let bundle = Bundle::sign(&statement(), &private("other.key"), Some(certificates));
    let error = bundle.verify_with_certificates::<Statement>(&[certificate("root.pem")], NOW_S).unwrap_err();
    assert_eq!(error, Refusal::WrongSignature { curve: Curve::P256 });
}
