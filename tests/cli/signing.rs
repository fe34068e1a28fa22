//! `sign`, and `verify` with a key or certificates. Keys, certificates and signatures of `model_signing` are in
//! `tests/fixtures/signing`.

use std::path::{Path, PathBuf};

use crate::home::Home;

/// Where keys, certificates and a model are.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signing")
}

/// A home with everything of the fixtures.
pub(crate) fn signing_home() -> Home {
    let home = Home::new();
    for entry in walkdir::WalkDir::new(fixtures()) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let name = entry.path().strip_prefix(fixtures()).unwrap().to_str().unwrap();
            home.write(name, fs_err::read(entry.path()).unwrap());
        }
    }
    home
}

/// A home in which the model is signed.
pub(crate) fn signed_home() -> Home {
    let home = signing_home();
    home.set_up(&["sign", "model", "--key", "p256.key"]).exits(0);
    home
}

/// Signs and verifies a folder and a file, with keys and certificates.
#[test]
fn what_is_signed_is_verified() {
    let home = signing_home();
    home.run(&["sign", "model", "--key", "p256.key"]).exits(0);
    home.run(&["verify", "model", "--key", "p256.pub"]).exits(0);
    home.run(&["sign", "model/config.json", "--key", "p384.key", "--signature", "s/file.sig"]).exits(0);
    home.run(&["verify", "model/config.json", "--key", "p384.pub", "--signature", "s/file.sig"]).exits(0);
    let certificates = ["--certificate", "leaf.pem", "--chain", "middle.pem"];
    home.run(&[&["sign", "model", "--key", "leaf.key"], &certificates[..]].concat()).exits(0);
    home.run(&["verify", "model", "--certificate-chain", "root.pem"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn results_as_json() {
    let home = signing_home();
    home.run(&["sign", "model", "--key", "p521.key", "--output", "json"]).exits(0);
    home.run(&["verify", "model", "--key", "p521.pub", "--output", "json"]).exits(0);
    home.write("model/config.json", "{}");
    home.write("model/more", "");
    home.run(&["verify", "model", "--key", "p521.pub", "--output", "json"]).exits(3);
    let view = home.run(&["verify", "model", "--key", "p256.pub", "--output", "json"]).exits(3).json();
    assert_eq!((&view["schema"], &view["exit_code"]), (&"nimctl.error/1".into(), &3.into()));
    let chain = ["--certificate-chain", "root.pem", "--signature", "certificate.sig"];
    let view = home.run(&[&["verify", "model", "--output", "json"], &chain[..]].concat()).exits(3).json();
    assert_eq!(view["signed_by"]["certificate"]["subject"], "CN=Test signer");
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn what_model_signing_wrote_is_verified() {
    let home = signing_home();
    for name in ["p256", "p384", "p521"] {
        let (key, signature) = (format!("{name}.pub"), format!("{name}.sig"));
        home.run(&["verify", "model", "--key", &key, "--signature", &signature])
            .exits(0)
            .has(&["4 files signed, 159 B: all as signed"]);
    }
    home.run(&["verify", "model/config.json", "--key", "p256.pub", "--signature", "file.sig"]).exits(0);
    home.run(&["verify", "model", "--key", "p256.pub", "--signature", "ignored.sig"]).exits(0);
    let certificate = ["verify", "model", "--signature", "certificate.sig", "--certificate-chain"];
    home.run(&[&certificate[..], &["root.pem"]].concat()).exits(0);
    home.run(&[&certificate[..], &["other-root.pem"]].concat()).exits(3);
    // A folder may have another name, and be elsewhere.
    fs_err::create_dir(home.path("elsewhere")).unwrap();
    fs_err::rename(home.path("model"), home.path("elsewhere/renamed")).unwrap();
    let moved = ["verify", "elsewhere/renamed", "--key", "p256.pub", "--signature", "p256.sig"];
    home.run(&moved).exits(0);
    home.run(&["verify", "elsewhere/renamed/", "--key", "p256.pub", "--signature", "p256.sig"]).exits(0);
}

#[test]
fn the_same_key_and_files_give_the_same_signature() {
    let home = signed_home();
    let first = home.read("model.sig");
    for key in ["p256-sec1.key", "p256-encrypted.key"] {
        fs_err::remove_file(home.path("model.sig")).unwrap();
        let arguments = ["sign", "model", "--key", key, "--password-env", "PASSWORD"];
        home.run_with(&[("PASSWORD", "correct horse")], &arguments).exits(0);
        assert_eq!(home.read("model.sig"), first);
    }
    // Also from within, and over an older one.
    let mut command = home.command(&["sign", ".", "--key", "../p256.key"]);
    home.output(command.current_dir(home.path("model"))).exits(0).has(&["model.sig"]);
    assert_eq!(home.read("model.sig"), first);
    let left: Vec<String> = home.names().into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn files_that_are_left_out() {
    let home = signing_home();
    let verify = |options: &[&str]| {
        home.set_up(
            &[&["verify", "model", "--key", "p256.pub", "--signature", "model/model.sig"], options].concat(),
        )
    };
    home.write("model/.gitignore", "x");
    home.write("model/notes/a", "x");
    let sign =
        ["sign", "model", "--key", "p256.key", "--signature", "model/model.sig", "--ignore", "model/notes"];
    home.set_up(&sign).exits(0).has(&["signed model: 4 files"]);
    verify(&[]).exits(0);
    // What is ignored may change; what only begins like it may not.
    home.write("model/.gitignore", "y");
    home.write("model/.git/config", "y");
    home.write("model/notes/b", "y");
    verify(&[]).exits(0);
    home.write("model/notes-2", "y");
    verify(&[]).exits(3).has(&["notes-2: was not signed"]);
    verify(&["--ignore", "model/notes-2"]).exits(0);
    verify(&["--ignore", "elsewhere"]).exits(1).has(&["elsewhere is not in the model model"]);
    verify(&["--ignore-unsigned-files"]).exits(0);
    home.write("model/config.json", "changed");
    verify(&["--ignore-unsigned-files"])
        .exits(3)
        .has(&["config.json: its bytes are not those that were signed"]);
    verify(&["--ignore-unsigned-files", "--ignore", "model/config.json"])
        .exits(3)
        .has(&["config.json: was signed, and can't be ignored"]);
}

#[test]
fn links_are_followed_where_both_sides_say_so() {
    let home = signing_home();
    let link = |target: &str, name: &str| fs_err::os::unix::fs::symlink(target, home.path(name)).unwrap();
    link("config.json", "model/link");
    home.run(&["sign", "model", "--key", "p256.key"]).exits(1);
    home.run(&["sign", "model", "--key", "p256.key", "--allow-symlinks"]).exits(0);
    home.run(&["verify", "model", "--key", "p256.pub"]).exits(3);
    home.run(&["verify", "model", "--key", "p256.pub", "--allow-symlinks"]).exits(0);
    // The bytes count, and not where the link leads.
    fs_err::remove_file(home.path("model/link")).unwrap();
    link("weights/0.bin", "model/link");
    home.run(&["verify", "model", "--key", "p256.pub", "--allow-symlinks"]).exits(3);
    fs_err::remove_file(home.path("model/link")).unwrap();
    link("weights", "model/link");
    home.run(&["sign", "model", "--key", "p256.key", "--allow-symlinks"]).exits(1);
    link("model", "model-link");
    home.run(&["sign", "model-link", "--key", "p256.key"]).exits(1);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn the_key_comes_from_a_descriptor_or_a_variable() {
    let home = signed_home();
    let (first, key) = (home.read("model.sig"), home.read("p256.key"));
    fs_err::remove_file(home.path("model.sig")).unwrap();
    home.printed(&home.command(&["sign", "model", "--key-env", "KEY"]).env("KEY", &key).output().unwrap())
        .exits(0);
    assert_eq!(home.read("model.sig"), first);
    fs_err::remove_file(home.path("model.sig")).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, key.as_bytes()).unwrap();
    drop(writer);
    let mut command = home.command(&["sign", "model", "--key-fd", "0"]);
    home.printed(&command.stdin(reader).output().unwrap()).exits(0);
    assert_eq!(home.read("model.sig"), first);
}

#[test]
fn what_cannot_be_signed() {
    let home = signing_home();
    fs_err::create_dir(home.path("empty")).unwrap();
    home.write("of-control/a\nb", "x");
    home.run(&["sign", "absent", "--key", "p256.key"]).exits(1);
    home.run(&["sign", "empty", "--key", "p256.key"]).exits(1);
    home.run(&["sign", "of-control", "--key", "p256.key"]).exits(1);
    home.run(&["sign", "model", "--key", "p256.key", "--ignore", "p256.key"]).exits(1);
    home.run(&["sign", "p256.pub", "--key", "p256.key", "--signature", "p256.pub"]).exits(1);
    home.run(&["sign", "model", "--key", "p256.key", "--signature", "model"]).exits(1);
    home.run(&["sign", "model", "--key", "absent.key"]).exits(1);
    for key in [
        "rsa.key",
        "ed25519.key",
        "secp256k1.key",
        "p256.pub",
        "p256-encrypted.key",
        "p256-old-encryption.key",
    ] {
        home.run(&["sign", "model", "--key", key]).exits(1);
    }
    let certificate = |key: &str, file: &str| {
        home.run(&["sign", "model", "--key", key, "--certificate", file]).exits(1);
    };
    certificate("other.key", "leaf.pem");
    certificate("leaf.key", "leaf-expired.pem");
    certificate("leaf.key", "leaf-not-yet.pem");
    certificate("leaf.key", "leaf-wrong-usage.pem");
    certificate("leaf.key", "p256.pub");
    assert!(!home.path("model.sig").exists());
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn wrong_command_lines() {
    let home = signing_home();
    home.run(&["sign", "model"]).exits(2);
    home.run(&["sign", "model", "--key", "a", "--key-env", "A"]).exits(2);
    home.run(&["sign", "model", "--key", "a", "--chain", "middle.pem"]).exits(2);
    home.run(&["verify", "model", "--signature", "model.sig"]).exits(2);
    home.run(&["verify", "model", "--key", "p256.pub", "--certificate-chain", "root.pem"]).exits(2);
    insta::assert_snapshot!(home.transcript());
}
