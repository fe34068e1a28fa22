//! The same signatures as PyPI's `model-signing` sees them. `cargo xtask test` installs it, and names the folder in
//! `NIMCTL_TEST_MODEL_SIGNING`.

use std::process::Command;

use crate::home::Home;
use crate::signing::signing_home;

/// Runs `model_signing` in a home; returns whether it succeeded, and what it printed.
fn model_signing(home: &Home, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new("python3");
    command.args(["-m", "model_signing"]).args(arguments).current_dir(home.folder());
    if let Some(packages) = std::env::var_os("NIMCTL_TEST_MODEL_SIGNING") {
        command.env("PYTHONPATH", packages);
    }
    let output = command.output().expect("python3 is there");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(
        text.contains("succeeded") || text.contains("failed with error"),
        "no model_signing: set NIMCTL_TEST_MODEL_SIGNING to the folder that pip installed model-signing and pyOpenSSL into \
         (`--target`), or leave the test out by its name\n{text}"
    );
    (output.status.success(), text)
}

/// Each program verifies what it is given, and refuses the same changes.
#[track_caller]
fn both(home: &Home, path: &str, ours: &[&str], theirs: &[&str], is_good: bool) {
    let printed = home.set_up(&[&["verify", path][..], ours].concat());
    printed.exits(if is_good { 0 } else { 3 });
    let [method, options @ ..] = theirs else { panic!("a method") };
    let (succeeded, text) = model_signing(home, &[&["verify", method, path][..], options].concat());
    assert_eq!(succeeded, is_good, "{theirs:?}: {text}");
}

const CHANGES: [&str; 6] = ["a byte", "added", "removed", "renamed", "swapped", "a link"];

fn change(home: &Home, what: &str) {
    let rename = |from: &str, to: &str| {
        let model = home.path("model");
        fs_err::rename(model.join(from), model.join(to)).unwrap();
    };
    match what {
        "a byte" => home.write("model/weights/0.bin", [7; 64]),
        "added" => home.write("model/more", "x"),
        "removed" => fs_err::remove_file(home.path("model/config.json")).unwrap(),
        "renamed" => rename("config.json", "konfig.json"),
        "swapped" => {
            rename("weights/0.bin", "x");
            rename("weights/1.bin", "weights/0.bin");
            rename("x", "weights/1.bin");
        }
        "a link" => {
            rename("config.json", "../config.json");
            fs_err::os::unix::fs::symlink("../config.json", home.path("model/config.json")).unwrap();
        }
        other => panic!("no such change: {other}"),
    }
}

#[test]
fn a_key_here_and_there_with_model_signing() {
    for name in ["p256", "p384", "p521"] {
        let (key, public) = (format!("{name}.key"), format!("{name}.pub"));
        let home = signing_home();
        home.set_up(&["sign", "model", "--key", &key, "--signature", "ours"]).exits(0);
        let sign = ["sign", "key", "model", "--private_key", &key, "--signature", "theirs"];
        assert!(model_signing(&home, &sign).0);
        for signature in ["ours", "theirs"] {
            let ours = ["--key", &public, "--signature", signature];
            let theirs = ["key", "--public_key", &public, "--signature", signature];
            both(&home, "model", &ours, &theirs, true);
            both(
                &home,
                "model",
                &["--key", "other.pub", "--signature", signature],
                &["key", "--public_key", "other.pub", "--signature", signature],
                false,
            );
        }
    }
}

#[test]
fn the_same_changes_are_refused_with_a_key_with_model_signing() {
    for what in CHANGES {
        let home = signing_home();
        home.set_up(&["sign", "model", "--key", "p256.key", "--signature", "ours"]).exits(0);
        change(&home, what);
        for signature in ["ours", "p256.sig"] {
            let ours = ["--key", "p256.pub", "--signature", signature];
            let theirs = ["key", "--public_key", "p256.pub", "--signature", signature];
            both(&home, "model", &ours, &theirs, false);
        }
    }
}

#[test]
fn the_same_changes_are_refused_with_a_certificate_with_model_signing() {
    let sign = ["sign", "model", "--key", "leaf.key", "--certificate", "leaf.pem", "--chain", "middle.pem"];
    for what in CHANGES {
        let home = signing_home();
        home.set_up(&[&sign[..], &["--signature", "ours"]].concat()).exits(0);
        change(&home, what);
        for signature in ["ours", "certificate.sig"] {
            let ours = ["--certificate-chain", "root.pem", "--signature", signature];
            let theirs = ["certificate", "--certificate_chain", "root.pem", "--signature", signature];
            both(&home, "model", &ours, &theirs, false);
        }
    }
}

#[test]
fn certificates_files_and_ignored_paths_with_model_signing() {
    let home = signing_home();
    let certificate = ["--certificate", "leaf.pem", "--chain", "middle.pem", "--signature", "certificate"];
    home.set_up(&[&["sign", "model", "--key", "leaf.key"], &certificate[..]].concat()).exits(0);
    for signature in ["certificate", "certificate.sig"] {
        for (root, is_good) in [("root.pem", true), ("rsa-root.pem", false), ("other-root.pem", false)] {
            let ours = ["--certificate-chain", root, "--signature", signature];
            let theirs = ["certificate", "--certificate_chain", root, "--signature", signature];
            both(&home, "model", &ours, &theirs, is_good);
        }
    }
    let key = |signature| {
        (
            ["--key", "p256.pub", "--signature", signature],
            ["key", "--public_key", "p256.pub", "--signature", signature],
        )
    };
    home.set_up(&["sign", "model/config.json", "--key", "p256.key", "--signature", "file"]).exits(0);
    for signature in ["file", "file.sig"] {
        let (ours, theirs) = key(signature);
        both(&home, "model/config.json", &ours, &theirs, true);
        both(&home, "p256.pub", &ours, &theirs, false);
    }
    // The signature in the folder, and a folder that is left out.
    let inside = "model/model.sig";
    home.set_up(&["sign", "model", "--key", "p256.key", "--signature", inside, "--ignore", "model/weights"])
        .exits(0);
    let (ours, theirs) = key(inside);
    home.write("model/weights/0.bin", "changed");
    home.write("model/.git/config", "added");
    both(&home, "model", &ours, &theirs, true);
    home.write("model/added", "x");
    both(&home, "model", &ours, &theirs, false);
    let unsigned = [&ours[..], &["--ignore-unsigned-files"]].concat();
    both(&home, "model", &unsigned, &[&theirs[..], &["--ignore_unsigned_files"]].concat(), true);
}

#[test]
fn links_with_model_signing() {
    let home = signing_home();
    fs_err::os::unix::fs::symlink("config.json", home.path("model/link")).unwrap();
    home.set_up(&["sign", "model", "--key", "p256.key", "--allow-symlinks", "--signature", "ours"]).exits(0);
    let sign =
        ["sign", "key", "model", "--private_key", "p256.key", "--signature", "theirs", "--allow_symlinks"];
    assert!(model_signing(&home, &sign).0);
    for signature in ["ours", "theirs"] {
        let ours = ["--key", "p256.pub", "--signature", signature, "--allow-symlinks"];
        let theirs = ["key", "--public_key", "p256.pub", "--signature", signature, "--allow_symlinks"];
        both(&home, "model", &ours, &theirs, true);
        both(&home, "model", &ours[..4], &theirs[..5], false);
    }
}
