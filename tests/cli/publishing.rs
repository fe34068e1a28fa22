//! What `publish` and `bundle` refuse to write over or to send, what they say of signatures, and places that are not there.

use serde_json::Value;

use crate::home::Home;
use crate::trust::{policy, release_home};

/// A home with a release that is signed and attested by `p256.key`.
fn attested_home() -> Home {
    let home = release_home();
    home.set_up(&["attest", "release", "--key", "keys/p256.key"]).exits(0);
    home.set_up(&["sign", "release", "--key", "keys/p256.key"]).exits(0);
    home
}

#[test]
fn an_archive_replaces_an_archive_and_nothing_else() {
    let home = release_home();
    home.write("k7", "a private key");
    // A tar without a layout, as that of a release folder.
    home.write("release.tar", [0_u8; 1024]);
    let recipe = home.read("r.yaml");
    let refused = |arguments: &[&str], file: &str| {
        let expected = format!("{file} is there, and is not an archive in the OCI image layout");
        home.set_up(arguments).exits(1).has(&[&expected]);
    };
    refused(&["publish", "release", "--to", "r.yaml"], "r.yaml");
    refused(&["publish", "release", "--to", "oci-archive:k7:1.0"], "k7");
    refused(&["publish", "release", "--to", "release.tar"], "release.tar");
    refused(&["bundle", "release", "-o", "k7"], "k7");
    refused(&["mirror", "oci:layout:1.0.0", "oci-archive:k7"], "k7");
    // Before hours of building.
    refused(&["release", "r.yaml", "-o", "out", "--no-bench", "--publish-to", "k7"], "k7");
    assert!(!home.path("out").exists());
    assert_eq!((home.read("r.yaml"), home.read("k7")), (recipe, "a private key".to_owned()));
    assert_eq!(fs_err::read(home.path("release.tar")).unwrap(), [0_u8; 1024]);
    home.set_up(&["bundle", "release", "-o", "a.tar"]).exits(0);
    home.set_up(&["bundle", "release", "-o", "a.tar"]).exits(0);
    home.set_up(&["publish", "release", "--to", "a.tar"]).exits(0);
    home.set_up(&["pull", "a.tar", "--all", "--store", "t"]).exits(0);
    let left: Vec<String> = home.names().into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_signature_of_what_was_edited_later_is_not_published() {
    let home = attested_home();
    let notes = home.read("release/release-notes.md");
    home.write("release/release-notes.md", format!("{notes}\nedited\n"));
    home.set_up(&["publish", "release", "--to", "oci:place"]).exits(3).has(&[
        "release.sig is not the signature of release as it is now",
        "release-notes.md is sha256:",
        "sign it again with `nimctl sign release`",
    ]);
    // One that is named, too.
    fs_err::rename(home.path("release.sig"), home.path("named.sig")).unwrap();
    let with_named = ["publish", "release", "--to", "oci:place", "--signature", "named.sig"];
    home.set_up(&with_named).exits(3).has(&[
        "named.sig is not the signature of release as it is now",
        "release-notes.md is sha256:",
        "`nimctl sign release --signature named.sig`",
    ]);
    assert!(!home.path("place").exists());
    // As it was signed, it is only the place that does not fit.
    home.write("release/release-notes.md", notes);
    home.set_up(&with_named).exits(1).has(&["oci:place keeps no signatures: only registries do"]);
}

#[test]
fn what_a_place_does_not_keep_is_told() {
    let home = attested_home();
    let publish = ["publish", "release", "--to", "oci-archive:ar.tar"];
    home.set_up(&publish).exits(0).has(&[
        "release.sig is not published: oci-archive:ar.tar keeps no signatures",
        "release.attestations.jsonl is not published: oci-archive:ar.tar keeps no attestations",
        "no signature and no attestations: only registries keep them",
    ]);
    for arguments in [&publish[..], &["bundle", "release", "-o", "br.tar"]] {
        let view: Value = home.set_up(&[arguments, &["--output", "json"]].concat()).exits(0).json();
        assert_eq!((view["signature"].as_str(), view["attestations"].as_u64()), (Some("not_kept"), Some(0)));
    }
    let named = [&publish[..], &["--attestations", "release.attestations.jsonl"]].concat();
    home.set_up(&named).exits(1).has(&["oci-archive:ar.tar keeps no attestations: only registries do"]);
}

#[test]
fn a_damaged_release_folder_is_not_to_be_built_again() {
    let home = release_home();
    let files = walkdir::WalkDir::new(home.path("release/profiles")).into_iter().map(Result::unwrap);
    let files = files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    let largest = files.max_by_key(|path| fs_err::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs_err::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // A new file, lest the store has it under another name.
    fs_err::remove_file(&largest).unwrap();
    fs_err::write(&largest, bytes).unwrap();
    let printed = home.set_up(&["publish", "release", "--to", "oci:place"]);
    printed.exits(3).has(&["`nimctl verify release` lists every problem; make the release again"]);
    assert!(!printed.stderr.contains("nimctl build"), "{printed}");
}

#[test]
fn a_mistyped_folder_is_told_as_such() {
    let home = Home::new();
    for command in ["sbom", "explain", "reproduce", "pull"] {
        for place in ["dist/nosuch", "nosuch", "./dist/nosuch"] {
            let printed = home.set_up(&[command, place]);
            printed.exits(1).has(&[&format!("error: there is no folder or file {place}")]);
            assert!(!printed.stderr.contains("to be made"), "{printed}");
        }
    }
    home.write("r.yaml", crate::distribution::RECIPE);
    home.set_up(&["publish", "r.yaml", "--to", "./dist/new"])
        .exits(1)
        .has(&["there is no folder or file ./dist/new", "write oci:FOLDER or oci-archive:FILE"]);
}

#[test]
fn what_signs_nothing_here_is_named_rightly() {
    let home = release_home();
    home.set_up(&["pull", "oci:layout", "--all", "--attestations", "nosuch"])
        .exits(1)
        .has(&["nothing says who must have signed the attestations in nosuch"]);
    home.set_up(&["pull", "oci:layout", "--all", "--signature", "nosuch"])
        .exits(1)
        .has(&["nothing says whose signature nosuch must be"]);
    policy(&home, "- models: [m]\n  keys: [p256.pub]\n");
    // It has no --signature.
    home.set_up(&["reproduce", "oci:layout", "--run", "--trust", "keys/trust.yaml"]).exits(3).has(&[
        "oci:layout keeps no signatures",
        "name the release in a registry",
        "`nimctl pull --signature FILE`",
    ]);
}
