//! What is refused when a signature is verified: each with its reason and exit code 3.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nimctl::digest::Sha256;
use nimctl::signing::{Bundle, Certificate, PrivateKey, Resource, Statement};
use serde_json::{Value, json};

use crate::home::Home;
use crate::signing::{signed_home, signing_home};

const VERIFY: [&str; 4] = ["verify", "model", "--key", "p256.pub"];

/// Signs the model, does something to it, and verifies it.
#[track_caller]
fn refused(change: impl Fn(&Home), expected: &str) {
    let home = signed_home();
    home.set_up(&VERIFY).exits(0);
    change(&home);
    home.set_up(&VERIFY).exits(3).has(&[expected]);
    // The same, of what `model_signing` signed.
    let theirs = [&VERIFY[..], &["--signature", "p256.sig"]].concat();
    home.set_up(&theirs).exits(3).has(&[expected]);
}

fn rename(home: &Home, from: &str, to: &str) {
    fs_err::rename(home.path(from), home.path(to)).unwrap();
}

#[test]
fn a_byte_that_changed() {
    let changed = "weights/0.bin: its bytes are not those that were signed";
    refused(
        |home| {
            let mut bytes = fs_err::read(home.path("model/weights/0.bin")).unwrap();
            bytes[40] ^= 1;
            home.write("model/weights/0.bin", bytes);
        },
        changed,
    );
    refused(|home| home.write("model/weights/0.bin", []), changed);
}

#[test]
fn a_file_that_was_added() {
    refused(|home| home.write("model/weights/2.bin", "x"), "weights/2.bin: was not signed");
    refused(|home| home.write("model/new/.x", ""), "new/.x: was not signed");
    let lines = |home: &Home| home.write("model/x\nmodel: 4 files signed, 159 B: all as signed", "");
    refused(lines, "\"x\\nmodel: 4 files signed");
    // A copy has no new bytes, and is one file more.
    let copy = |home: &Home| {
        fs_err::copy(home.path("model/config.json"), home.path("model/config-2.json")).unwrap();
    };
    refused(copy, "config-2.json: was not signed");
}

#[test]
fn a_file_that_was_removed() {
    let remove = |home: &Home| fs_err::remove_file(home.path("model/config.json")).unwrap();
    refused(remove, "config.json: was signed, and is missing");
    let remove = |home: &Home| fs_err::remove_dir_all(home.path("model/weights")).unwrap();
    refused(remove, "weights/1.bin: was signed, and is missing");
}

#[test]
fn a_file_that_was_renamed() {
    refused(
        |home| rename(home, "model/config.json", "model/konfig.json"),
        "config.json: was renamed to konfig.json",
    );
    refused(|home| rename(home, "model/weights", "model/w"), "weights/0.bin: was renamed to w/0.bin");
}

#[test]
fn two_files_that_were_swapped() {
    refused(
        |home| {
            rename(home, "model/weights/0.bin", "model/weights/x");
            rename(home, "model/weights/1.bin", "model/weights/0.bin");
            rename(home, "model/weights/x", "model/weights/1.bin");
        },
        "weights/0.bin: was swapped with weights/1.bin",
    );
}

#[test]
fn a_link_in_the_place_of_a_file() {
    let replace = |home: &Home| {
        rename(home, "model/config.json", "config.json");
        fs_err::os::unix::fs::symlink("../config.json", home.path("model/config.json")).unwrap();
    };
    refused(replace, "config.json: a symbolic link is in the place of the signed file");
    let replace = |home: &Home| {
        rename(home, "model/weights", "weights");
        fs_err::os::unix::fs::symlink("../weights", home.path("model/weights")).unwrap();
    };
    refused(replace, "weights: is a symbolic link to a folder");
    let replace = |home: &Home| {
        rename(home, "model", "moved");
        fs_err::os::unix::fs::symlink("moved", home.path("model")).unwrap();
    };
    refused(replace, "the model model is a symbolic link");
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_read() {
    let replace = |home: &Home| {
        let path = home.path("model/config.json");
        fs_err::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    refused(replace, "config.json: is neither a file nor a folder");
}

/// Nothing is wrong with the model.
#[test]
fn signatures_that_are_not_accepted() {
    let home = signing_home();
    home.run(&VERIFY).exits(3);
    home.set_up(&["sign", "model", "--key", "other.key"]).exits(0);
    home.run(&VERIFY).exits(3);
    home.set_up(&["sign", "model/weights", "--key", "p256.key", "--signature", "model.sig"]).exits(0);
    home.run(&VERIFY).exits(3);
    let bundle = fs_err::File::create(home.path("model.sig")).unwrap();
    bundle.set_len(100_000_000).unwrap();
    home.run(&VERIFY).exits(3);
    home.write("model.sig", "{");
    home.run(&VERIFY).exits(3);
    let bundle: Value = serde_json::from_str(&home.read("p256.sig")).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut bundle = bundle.clone();
        change(&mut bundle);
        home.write("model.sig", bundle.to_string());
        home.run(&VERIFY).exits(3);
    };
    with(&|bundle| bundle["dsseEnvelope"]["payloadType"] = json!("application/json"));
    with(&|bundle| bundle["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.1"));
    with(&|bundle| bundle["verificationMaterial"] = json!({ "certificate": { "rawBytes": "AAAA" } }));
    with(&|bundle| bundle["dsseEnvelope"]["signatures"] = json!([]));
    home.write("model.sig", home.read("p256.sig").replacen('{', "{\"mediaType\": \"x\",", 1));
    home.run(&VERIFY).exits(3);
    home.run(&["verify", "model", "--certificate-chain", "root.pem", "--signature", "p256.sig"]).exits(3);
    home.run(&["verify", "model", "--key", "p256.pub", "--signature", "certificate.sig"]).exits(3);
    insta::assert_snapshot!(home.transcript());
}

/// Returns a bundle whose signature is right, over any payload.
fn bundle_over(home: &Home, payload: &str) -> String {
    let key = PrivateKey::from_pem(&home.read("p256.key"), None).unwrap();
    let kind = "application/vnd.in-toto+json";
    let signed = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "publicKey": { "hint": key.public_key().hint().to_hex() } },
        "dsseEnvelope": {
            "payload": STANDARD.encode(payload),
            "payloadType": kind,
            "signatures": [{ "sig": STANDARD.encode(key.sign(signed.as_bytes())) }],
        },
    })
    .to_string()
}

/// The right key signed them, and they are not what a signature of a model says.
#[test]
fn statements_that_are_not_accepted() {
    let home = signed_home();
    let bundle: Value = serde_json::from_str(&home.read("model.sig")).unwrap();
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let payload = String::from_utf8(payload).unwrap();
    home.write("model.sig", bundle_over(&home, &payload));
    home.set_up(&VERIFY).exits(0);
    for (from, to, expected) in [
        ("\"subject\"", "\"subject\": [], \"subject\"", "the name \"subject\" appears twice"),
        ("https://model_signing/signature/v1.0", "https://slsa.dev/provenance/v1", "slsa.dev/provenance"),
        (
            "https://model_signing/signature/v1.0",
            "https://model_signing/Digests/v0.1",
            "sign the model again",
        ),
        ("\"config.json\"", "\"../config.json\"", "can't be part of a model"),
        ("\"config.json\"", "\"/config.json\"", "it is absolute"),
        ("\"config.json\"", "\"weights/0.bin\"", "is signed twice"),
        ("\".git\"", "\"..\"", "can't be part of a model"),
        ("\"sha256\": \"", "\"sha256\": \"00", "contradicts itself"),
        ("\"method\": \"files\"", "\"method\": \"shards\"", "by method `shards`"),
    ] {
        let changed = payload.replacen(from, to, 1);
        assert_ne!(changed, payload, "{from}");
        home.write("model.sig", bundle_over(&home, &changed));
        home.set_up(&VERIFY).exits(3).has(&["the signature model.sig is refused", expected]);
    }
}

/// `sign` refuses such certificates; whoever wants to do harm has another program.
#[test]
fn certificates_that_are_not_accepted() {
    let home = signing_home();
    let read = |name: &str| Certificate::all_from_pem(&home.read(name)).unwrap();
    let resources = ["config.json", "weights/0.bin", "weights/1.bin", "weights-notes.txt"].map(|name| {
        let bytes = fs_err::read(home.path("model").join(name)).unwrap();
        Resource { name: name.into(), digest: Sha256::of(&bytes) }
    });
    let statement = Statement::new("model".into(), false, [].into(), resources.to_vec()).unwrap();
    let sign = |leaf: &str| {
        let key = PrivateKey::from_pem(&home.read("leaf.key"), None).unwrap();
        let certificates = [read(leaf), read("middle.pem")].concat();
        home.write("model.sig", Bundle::sign(&statement, &key, Some(certificates)).to_json());
    };
    let verify = ["verify", "model", "--certificate-chain", "root.pem"];
    sign("leaf.pem");
    home.run(&verify).exits(0);
    home.run(&["verify", "model", "--certificate-chain", "other-root.pem"]).exits(3);
    home.run(&["verify", "model", "--certificate-chain", "rsa-root.pem"]).exits(3);
    home.run(&["verify", "model", "--certificate-chain", "middle.pem"]).exits(1);
    home.run(&["verify", "model", "--certificate-chain", "p256.pub"]).exits(1);
    for leaf in ["leaf-expired.pem", "leaf-not-yet.pem", "leaf-wrong-usage.pem", "leaf-web-server.pem"] {
        sign(leaf);
        home.run(&verify).exits(3);
    }
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn keys_that_cannot_verify() {
    let home = signed_home();
    for key in ["p256.key", "rsa.pub", "ed25519.pub", "root.pem", "p256.sig", "absent.pub"] {
        home.run(&["verify", "model", "--key", key]).exits(1);
    }
    home.run(&["verify", "absent", "--key", "p256.pub"]).exits(1);
    insta::assert_snapshot!(home.transcript());
}
