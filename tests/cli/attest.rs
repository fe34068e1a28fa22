//! `nimctl attest`, what `verify` makes of it, and `explain`.

use std::process::Command;

use nimctl::attestation::{Attestation, Says};
use nimctl::digest::Sha256;
use nimctl::passport::Passport;
use nimctl::signing::{Bundle, InvalidStatement, Payload, PrivateKey};
use serde_json::Value;

use crate::home::Home;
use crate::trust::release_home;

const FILE: &str = "release.attestations.jsonl";
const VERIFY: &[&str] = &["verify", "release", "--key", "keys/p256.pub"];

/// A home with a release that is signed and attested by `p256.key`.
fn attested() -> Home {
    let home = release_home();
    home.set_up(&["attest", "release", "--key", "keys/p256.key"]).exits(0);
    home.set_up(&["sign", "release", "--key", "keys/p256.key"]).exits(0);
    home
}

#[test]
fn a_release_is_attested_and_explained() {
    let home = attested();
    let first = home.read(FILE);
    assert_eq!(first.lines().count(), 2);
    home.set_up(&["attest", "release", "--key", "keys/p256.key"]).exits(0);
    assert_eq!(home.read(FILE), first, "the same key and release give the same bytes");
    home.run(VERIFY).exits(0).has(&["2 attestations of 2 profiles: all accepted"]);
    let verified: Value = home.set_up(&[VERIFY, &["--output", "json"]].concat()).exits(0).json();
    assert_eq!(verified["attestations"][0]["kind"], "provenance");
    home.run(&["explain", "release", "--only", "onnx-fp16", "--key", "keys/p256.pub"]).exits(0);
    home.run(&["explain", "release", "--only", "onnx-fp16", "--baseline", "release"]).exits(0);
    home.set_up(&["explain", "release", "--only", "onnx-bf16"])
        .exits(1)
        .has(&["--only onnx-bf16 selects none"]);
    home.set_up(&["explain", &"0".repeat(64)]).exits(1).has(&["the store has no profile 000"]);
    home.set_up(&["explain", "oci:nowhere"]).exits(1);
    insta::assert_snapshot!(home.transcript_with_digests());
}

#[test]
fn a_profile_of_the_store_is_explained() {
    let home = release_home();
    let id = fs_err::read_dir(home.path("release/profiles")).unwrap().next().unwrap().unwrap().file_name();
    let id = id.to_str().unwrap();
    home.set_up(&["explain", id])
        .exits(0)
        .has(&["built on    this machine", "it is in this store, and came with no signature"]);
    let view: Value = home.set_up(&["explain", id, "--output", "json"]).exits(0).json();
    assert_eq!(view["profiles"][0]["passport"]["id"], id);
}

#[test]
fn attestations_that_are_not_of_the_release_are_refused() {
    let home = attested();
    let good = home.read(FILE);
    let refused = |expected: &str| {
        home.run(VERIFY).exits(3).has(&[FILE, expected]);
    };
    // Of another key.
    home.set_up(&["attest", "release", "--key", "keys/other.key"]).exits(0);
    refused("line 1: the attestation is not accepted: it was made with another key");
    // Moved to another profile: the statement of the first, signed for the first.
    let statements: Vec<Value> = good.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let payload = |number: usize| statements[number]["dsseEnvelope"]["payload"].clone();
    let mut moved = statements.clone();
    moved[0]["dsseEnvelope"]["payload"] = payload(1);
    home.write(FILE, format!("{}\n{}\n", moved[0], moved[1]));
    refused("line 1: the attestation is not accepted: the signature does not match");
    // What is no attestation.
    home.write(FILE, good.replacen("application/vnd.in-toto+json", "text/plain", 1));
    refused("line 1: what is signed is of type `text/plain`");
    home.write(FILE, good.replacen("{", "{\"mediaType\":\"x\",", 1));
    refused("appears twice");
    home.write(FILE, format!("{good}not JSON\n"));
    refused("line 3: it is not a Sigstore bundle");
    // A signature of the whole release is none of a profile.
    let whole: Value = serde_json::from_str(&home.read("release.sig")).unwrap();
    home.write(FILE, format!("{whole}\n"));
    refused("line 1: the attestation is about release, and not about a profile of release");
    home.set_up(&["publish", "release", "--to", "oci:place", "--attestations", FILE])
        .exits(1)
        .has(&["keeps no signatures"]);
    home.write(FILE, good);
    home.set_up(VERIFY).exits(0);
}

#[test]
fn what_can_not_be_attested_is_told() {
    let home = release_home();
    let key = ["--key", "keys/p256.key"];
    home.run(&["attest", "keys", "--key", "keys/p256.key"]).exits(1).has(&["cannot read the release keys"]);
    home.run(&[&["attest", "release", "--builder-id", "the build machine"], &key[..]].concat())
        .exits(1)
        .has(&["`the build machine` does not name a builder"]);
    home.run(&["attest", "release"]).exits(2);
    home.run(&[&["attest", "release", "--certificate", "keys/leaf.pem"], &key[..]].concat())
        .exits(1)
        .has(&["is not that of the key"]);
    home.run(&["attest", "release", "--key", "keys/p256.pub"]).exits(1);
    assert!(!home.path(FILE).exists());
    insta::assert_snapshot!(home.transcript());
}

/// Signs a statement as somebody who is trusted would, and writes it as the only one.
fn write_signed(home: &Home, statement: &Attestation) {
    let key = PrivateKey::from_pem(&home.read("keys/p256.key"), None).unwrap();
    home.write(FILE, Bundle::sign(statement, &key, None).to_json_line());
}

/// What is rightly signed can still be about something else.
#[test]
fn a_statement_about_other_files_is_refused() {
    let home = attested();
    let line = home.read(FILE).lines().next().unwrap().to_owned();
    let statement: Attestation = Bundle::parse(line.as_bytes()).unwrap().unverified().unwrap();
    write_signed(&home, &statement);
    home.set_up(VERIFY).exits(0).has(&["1 attestation of 1 profile"]);
    // The path of a profile, and other contents.
    let mut of_other_contents = statement.clone();
    of_other_contents.subjects[0].digest = Sha256::of(b"other contents");
    write_signed(&home, &of_other_contents);
    let digest = of_other_contents.subjects[0].digest.to_string();
    home.run(VERIFY)
        .exits(3)
        .has(&[&format!("line 1: the attestation is about {digest}, and not about onnx-")]);
    // The statement of one profile, about the files of the other.
    let other = home.read(FILE);
    home.set_up(&["attest", "release", "--key", "keys/p256.key"]).exits(0);
    let second = home.read(FILE).lines().nth(1).unwrap().to_owned();
    assert_ne!(other, second);
    let second: Attestation = Bundle::parse(second.as_bytes()).unwrap().unverified().unwrap();
    write_signed(&home, &Attestation { subjects: second.subjects, says: statement.says.clone() });
    home.run(VERIFY).exits(3).has(&["and not about onnx-"]);
    // Another provenance than the passport has.
    let Says::Provenance(mut provenance) = statement.says.clone() else {
        panic!("the first is the provenance")
    };
    provenance.graphs.values_mut().next().unwrap().lower.workspace_mib = Some(1);
    write_signed(&home, &Attestation { says: Says::Provenance(provenance), ..statement.clone() });
    home.run(VERIFY).exits(3).has(&["line 1: the attestation says another provenance of onnx-"]);
}

/// A signature that lies where one of the release would, and is of something else.
#[test]
fn a_stale_signature_is_not_published() {
    let home = release_home();
    home.set_up(&["sign", "keys", "--key", "keys/p256.key", "--signature", "release.sig"]).exits(0);
    home.set_up(&["publish", "release", "--to", "oci:place"]).exits(3).has(&[
        "release.sig is not the signature of release as it is now",
        "sign it again with `nimctl sign release`",
    ]);
    assert!(!home.path("place").exists());
    // A new release does not take its place beside it.
    for (folder, file) in [("new", "new.sig"), ("next", "next.attestations.jsonl")] {
        home.write(file, "old");
        home.set_up(&["release", "r.yaml", "-o", folder, "--no-bench"]).exits(1).has(&[file]);
        assert!(!home.path(folder).exists());
    }
}

/// What a signer of something else signs.
struct Raw(Vec<u8>);

impl Payload for Raw {
    fn to_payload(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn parse(payload: &[u8]) -> Result<Self, InvalidStatement> {
        Ok(Self(payload.to_vec()))
    }
}

/// Provenance, validation and benchmark, read by the packages of in-toto and by no code of ours.
#[test]
fn statements_are_valid_with_in_toto() {
    let home = release_home();
    let golden = include_str!("../fixtures/formats/passport.json");
    let passport = Passport::parse(golden.as_bytes(), "golden").unwrap();
    let key = PrivateKey::from_pem(&home.read("keys/p256.key"), None).unwrap();
    let all = Attestation::all_of(&passport, "https://ci.example.com/nightly").unwrap();
    let lines: Vec<String> = all.iter().map(|says| Bundle::sign(says, &key, None).to_json_line()).collect();
    home.write("golden.jsonl", lines.join("\n"));
    let validate = |key: &str| {
        let mut command = Command::new("python3");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/validate_in_toto.py");
        command.args([script, key, "golden.jsonl"]).current_dir(home.folder());
        if let Some(packages) = std::env::var_os("NIMCTL_TEST_IN_TOTO") {
            command.env("PYTHONPATH", packages);
        }
        home.output(&mut command)
    };
    let said = validate("keys/p256.pub");
    assert_eq!(
        said.code,
        Some(0),
        "no in-toto: set NIMCTL_TEST_IN_TOTO to the folder that pip installed in-toto-attestation and securesystemslib[crypto] \
         into (`--target`), or leave the test out by its name\n{said}"
    );
    let types: Vec<&str> = said.stdout.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let test_result = "https://in-toto.io/attestation/test-result/v0.1";
    assert_eq!(types, ["https://slsa.dev/provenance/v1", test_result, test_result]);
    // It would say so if the signature were another one.
    validate("keys/other.pub").exits(1);
    // Or if the predicate had a field that its specification does not have.
    let changed = String::from_utf8(all[1].to_payload()).unwrap().replacen("\"result\"", "\"verdict\"", 1);
    let bundle = Bundle::sign(&Raw(changed.into_bytes()), &key, None).to_json_line();
    home.write("golden.jsonl", bundle);
    validate("keys/p256.pub").exits(1);
}

/// Changes the passport of the first profile, and what `SHA256SUMS` says of it.
fn change_a_passport(home: &Home, change: impl FnOnce(&mut Value)) -> String {
    let folder =
        fs_err::read_dir(home.path("release/profiles")).unwrap().next().unwrap().unwrap().file_name();
    let path = format!("profiles/{}/passport.json", folder.to_str().unwrap());
    let before = home.read(&format!("release/{path}"));
    let mut passport = serde_json::from_str(&before).unwrap();
    change(&mut passport);
    let after = passport.to_string();
    let digest = |text: &str| Sha256::of(text.as_bytes()).to_hex();
    let sums = home.read("release/SHA256SUMS").replace(&digest(&before), &digest(&after));
    home.write(&format!("release/{path}"), after);
    home.write("release/SHA256SUMS", sums);
    path
}

#[test]
fn a_passport_that_was_changed_is_neither_verified_nor_attested() {
    for (change, why) in [
        (
            (|passport| passport["contents"]["graphs"]["vision"]["files"][0]["size_bytes"] = 1.into())
                as fn(&mut Value),
            "its contents are those of profile",
        ),
        (
            |passport| {
                passport["graphs"]["vision"]["lowering"]["outputs"][0]["sha256"] =
                    format!("sha256:{}", "0".repeat(64)).into();
            },
            "its passport has another file",
        ),
    ] {
        let home = release_home();
        let path = change_a_passport(&home, change);
        home.set_up(&["verify", "release"]).exits(3).has(&[&path, "it was changed", why]);
        home.set_up(&["attest", "release", "--key", "keys/p256.key"]).exits(3).has(&[why]);
        home.set_up(&["explain", "release"]).exits(3).has(&[why]);
        home.set_up(&["publish", "release", "--to", "oci:place"]).exits(3).has(&[why]);
        assert!(!home.path(FILE).exists());
    }
}

#[test]
fn attestations_that_cannot_be_read_are_told_with_the_rest() {
    let home = release_home();
    home.set_up(&["attest", "release", "--key", "keys/p256.key"]).exits(0);
    let whole = home.read(FILE);
    home.set_up(&["sign", "release", "--key", "keys/p256.key"]).exits(0);
    home.write(FILE, &whole[..whole.len() - 100]);
    home.set_up(VERIFY).exits(3).has(&["line 2: it is not a Sigstore bundle", "hint: get the file again"]);
    home.set_up(&["explain", "release"]).exits(0).has(&["made from", "refused", "line 2"]);
    home.write(FILE, "\n");
    home.set_up(VERIFY).exits(3).has(&["has no attestation in it"]);
    home.set_up(&["explain", "release"]).exits(0).has(&["has no attestation in it"]);
    home.write("release.sig", "{}");
    home.set_up(&["explain", "release"])
        .exits(0)
        .has(&["release.sig is refused: it is not a Sigstore bundle"]);
}
