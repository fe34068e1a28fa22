//! Bills of materials: that they are of the release, valid, and the same bytes every time; and what is no release.

use std::collections::BTreeMap;
use std::process::Command;

use nimctl::backend::Tool;
use nimctl::digest::Sha256;
use nimctl::passport::Passport;
use nimctl::profile::ToolIdentity;
use nimctl::sbom::{PinnedTool, ReleaseToList, of_release};
use serde_json::Value;

use crate::distribution::published;
use crate::home::Home;

const VALIDATOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/validate_cyclonedx.py");

/// Returns what CycloneDX's own validator, of PyPI, says of files in a home.
#[track_caller]
fn validate(home: &Home, files: &[&str]) -> Vec<String> {
    let mut command = Command::new("python3");
    command.arg(VALIDATOR).args(files).current_dir(home.folder());
    if let Some(packages) = std::env::var_os("NIMCTL_TEST_CYCLONEDX") {
        command.env("PYTHONPATH", packages);
    }
    let output = command.output().expect("python3 is there");
    assert!(
        output.status.success(),
        "no cyclonedx: set NIMCTL_TEST_CYCLONEDX to the folder that pip installed cyclonedx-python-lib[json-validation] into \
         (`--target`), or leave the test out by its name\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// A home with a release folder.
fn released() -> Home {
    let home = published();
    home.set_up(&["pull", "oci:layout", "--all", "-o", "release"]).exits(0);
    home
}

/// Returns every component below one, itself first.
fn all<'a>(component: &'a Value, found: &mut Vec<&'a Value>) {
    found.push(component);
    for part in component["components"].as_array().into_iter().flatten() {
        all(part, found);
    }
}

#[test]
fn a_release_and_where_it_was_published_have_one_bill() {
    let home = released();
    let bill = home.set_up(&["sbom", "release"]).exits(0).stdout.clone();
    for again in [&["sbom", "release"][..], &["sbom", "oci:layout"], &["sbom", "layout", "--output", "json"]]
    {
        assert_eq!(home.set_up(again).exits(0).stdout, bill, "{again:?}");
    }
    home.run(&["sbom", "release", "-o", "bill.json"]).exits(0);
    home.run(&["sbom", "oci:layout:1.0.0", "-o", "bill.json", "--output", "json"]).exits(0);
    assert_eq!(home.read("bill.json"), bill);
    insta::assert_snapshot!(home.transcript());

    // Every file of a profile is listed with its digest, and nothing else is.
    let bill: Value = serde_json::from_str(&bill).unwrap();
    let manifest = home.read("release/model_manifest.yaml");
    let mut listed = Vec::new();
    for profile in bill["components"].as_array().unwrap() {
        let Some(id) = profile["bom-ref"].as_str().unwrap().strip_prefix("profile:") else { continue };
        assert!(manifest.contains(id));
        let mut found = Vec::new();
        all(profile, &mut found);
        for file in &found[1..] {
            let path = format!("profiles/{id}/{}", file["name"].as_str().unwrap());
            let bytes = fs_err::read(home.path("release").join(&path)).unwrap();
            assert_eq!(file["hashes"][0]["content"], Sha256::of(&bytes).to_hex(), "{path}");
            listed.push(path);
        }
    }
    let sums = home.read("release/SHA256SUMS");
    let shipped: Vec<&str> =
        sums.lines().filter_map(|line| line.split_once("  ")).map(|(_, path)| path).collect();
    let shipped =
        shipped.into_iter().filter(|path| path.starts_with("profiles/") && !path.ends_with("passport.json"));
    listed.sort();
    assert_eq!(listed, shipped.collect::<Vec<_>>());
}

#[test]
fn what_is_no_release_has_no_bill() {
    let home = released();
    fs_err::create_dir(home.path("empty")).unwrap();
    home.run(&["sbom", "empty"]).exits(1);
    home.run(&["sbom", "nothing"]).exits(1);
    home.run(&["sbom", "./nothing"]).exits(1);
    home.run(&["sbom", "oci:layout:2.0.0"]).exits(1);
    home.run(&["sbom", "release/model_manifest.yaml"]).exits(1);
    // Nothing listens there; how often that is tried depends on the machine.
    let unreachable = ["sbom", "127.0.0.1:1/m:1.0.0", "--time-limit", "1", "-o", "bill.json"];
    home.set_up(&unreachable).exits(5).has(&["127.0.0.1:1"]);
    let folder = fs_err::read_dir(home.path("release/profiles")).unwrap().next().unwrap().unwrap().path();
    let path = folder.join("passport.json");
    let whole = fs_err::read_to_string(&path).unwrap();
    fs_err::write(&path, &whole[..whole.len() / 2]).unwrap();
    home.run(&["sbom", "release", "-o", "bill.json"]).exits(1);
    let passport: Value = serde_json::from_str(&whole).unwrap();
    let mut other = passport.clone();
    other["contents"]["files"][0]["sha256"] = Sha256::of(b"other").to_string().into();
    fs_err::write(&path, other.to_string()).unwrap();
    home.run(&["sbom", "release", "-o", "bill.json"]).exits(3);
    fs_err::remove_file(&path).unwrap();
    home.run(&["sbom", "release", "-o", "bill.json"]).exits(1);
    assert!(!home.path("bill.json").exists());
    let transcript = home.transcript();
    insta::assert_snapshot!(transcript.replace(&*folder.file_name().unwrap().to_string_lossy(), "<id>"));
}

fn bill_of(passport: &Passport, pinned: &[PinnedTool]) -> String {
    let (model, passports) = (&passport.contents.model, std::slice::from_ref(passport));
    of_release(&ReleaseToList { model, passports, is_complete: false, pinned }).to_json()
}

#[test]
fn bills_are_valid_with_cyclonedx() {
    let home = released();
    home.set_up(&["sbom", "release", "-o", "scripted.json"]).exits(0);
    let golden = include_str!("../fixtures/formats/passport.json");
    let mut passport = Passport::parse(golden.as_bytes(), "golden").unwrap();
    let bill = bill_of(&passport, &[]);
    home.write("golden.json", &bill);
    // With a compiler, whose terms have no SPDX identifier, and its package.
    let libraries = BTreeMap::from([("libtensorrt_rtx.so.1".to_owned(), Sha256::of(b"library"))]);
    let version = "1.7.1.116".to_owned();
    let pinned = PinnedTool {
        tool: Tool::TensorrtRtx,
        package: "tensorrt-rtx-cu12-libs".into(),
        version: version.clone(),
        libraries: libraries.clone(),
    };
    passport.contents.toolchain.insert("tensorrt-rtx".into(), ToolIdentity { version, libraries });
    let compiled = bill_of(&passport, &[pinned]);
    assert!(compiled.contains(r#""purl": "pkg:pypi/tensorrt-rtx-cu12-libs@1.7.1.116""#), "{compiled}");
    home.write("compiled.json", compiled);
    // It would say so if one were not.
    home.write("wrong.json", bill.replace("\"machine-learning-model\"", "\"model\""));
    let said = validate(&home, &["scripted.json", "golden.json", "compiled.json", "wrong.json"]);
    assert_eq!(said[..3], ["valid"; 3]);
    assert!(said[3].starts_with("not valid"), "{said:?}");
    insta::assert_snapshot!(bill);
}
