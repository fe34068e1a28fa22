//! The bill of materials beside a tar, in CycloneDX 1.6: the executables, and every crate and library that is linked into them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use super::crates::{Linked, ROOTS, text};
use crate::project::read;

/// A file and its SHA-256 in hex.
pub(super) struct Hashed {
    pub(super) path: String,
    pub(super) sha256: String,
}

/// What is linked in beside crates.
pub(super) struct Beside {
    pub(super) title: String,
    /// An SPDX expression.
    pub(super) licence: String,
}

/// What a bill is of.
pub(super) struct Shipped<'a> {
    /// The name of the tar without its ending.
    pub(super) title: &'a str,
    /// The version of nimctl.
    pub(super) version: &'a str,
    /// The SHA-256 of the tar in hex.
    pub(super) tar: &'a str,
    /// The executables in it.
    pub(super) executables: &'a [Hashed],
    /// The crates.
    pub(super) linked: &'a Linked,
    /// The digests of crates that `Cargo.lock` has, by `name version`.
    pub(super) checksums: &'a BTreeMap<String, String>,
    /// The rest.
    pub(super) beside: &'a [Beside],
}

/// Returns the SHA-256 of a file in hex.
pub(super) fn sha256(shell: &Shell, path: &std::path::Path) -> Result<String> {
    let sum = read(cmd!(shell, "sha256sum --binary {path}"))?;
    sum.split_whitespace().next().map(str::to_owned).context("sha256sum printed nothing")
}

/// Returns the digests of crates that the text of a `Cargo.lock` has, by `name version`.
pub(super) fn checksums(lock: &str) -> BTreeMap<String, String> {
    let value = |line: &str, name: &str| {
        Some(line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"')?.to_owned())
    };
    let checksum = |package: &str| {
        let find = |name: &str| package.lines().find_map(|line| value(line, name));
        Some((format!("{} {}", find("name")?, find("version")?), find("checksum")?))
    };
    lock.split("[[package]]").filter_map(checksum).collect()
}

/// Returns the bill. It has no time, and its serial number follows from the tar: the same tar gives the same bytes.
pub(super) fn bill(shipped: &Shipped<'_>) -> Result<String> {
    let Shipped { title, version, tar, executables, linked, checksums, beside } = shipped;
    let licences = |expression: &str| json!([{ "expression": expression.replace('/', " OR ") }]);
    let hashes = |sha256: &str| json!([{ "alg": "SHA-256", "content": sha256 }]);
    let mut components = BTreeMap::new();
    let mut references = BTreeMap::new();
    for (id, package) in &linked.packages {
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let is_ours = package["source"].is_null();
        let reference = format!("{}{name}@{version}", if is_ours { "crate:" } else { "pkg:cargo/" });
        let kind = if ROOTS.contains(&name.as_str()) { "application" } else { "library" };
        let mut component = json!({ "type": kind, "bom-ref": reference, "name": name, "version": version });
        if let Some(sha256) = checksums.get(&format!("{name} {version}")) {
            component["hashes"] = hashes(sha256);
        }
        if let Value::String(licence) = &package["license"] {
            component["licenses"] = licences(licence);
        }
        if !is_ours {
            component["purl"] = reference.clone().into();
        }
        components.insert(reference.clone(), component);
        references.insert(id, reference);
    }
    let root = format!("dist:{title}");
    let is_root = |package: &Value| ROOTS.contains(&text(&package["name"]).as_str());
    let mut needs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::from([(root.as_str(), BTreeSet::new())]);
    for (id, used) in &linked.uses {
        let reference = &references[id];
        needs
            .insert(reference, used.iter().filter_map(|id| references.get(id)).map(String::as_str).collect());
        if is_root(&linked.packages[id]) {
            needs.entry(&root).or_default().insert(reference);
        }
    }
    let beside: Vec<(String, Value)> = beside
        .iter()
        .map(|Beside { title, licence }| {
            let reference = format!("linked:{title}");
            let component = json!({ "type": "library", "bom-ref": reference, "name": title, "licenses": licences(licence) });
            (reference, component)
        })
        .collect();
    for (reference, component) in &beside {
        components.insert(reference.clone(), component.clone());
        needs.insert(reference, BTreeSet::new());
        needs.entry(&root).or_default().insert(reference);
    }
    let files: Vec<Value> = executables
        .iter()
        .map(|Hashed { path, sha256 }| {
            json!({ "type": "file", "bom-ref": format!("{root}/{path}"), "name": path, "hashes": hashes(sha256) })
        })
        .collect();
    let dependencies: Vec<Value> =
        needs.iter().map(|(reference, needed)| json!({ "ref": reference, "dependsOn": needed })).collect();
    let bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial_number(tar).context("the digest of the tar is too short")?,
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "nimctl",
                "version": version,
                "description": format!("{title}.tar.gz"),
                "hashes": hashes(tar),
                "licenses": licences("MIT OR Apache-2.0"),
                "components": files,
            },
        },
        "components": components.into_values().collect::<Vec<_>>(),
        "dependencies": dependencies,
    });
    Ok(format!("{bill:#}\n"))
}

/// Returns a UUID of version 8, which is for values that follow from something.
fn serial_number(sha256: &str) -> Option<String> {
    let part = |from: usize, to: usize| sha256.get(from..to);
    Some(format!(
        "urn:uuid:{}-{}-8{}-8{}-{}",
        part(0, 8)?,
        part(8, 12)?,
        part(13, 16)?,
        part(17, 20)?,
        part(20, 32)?
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::dist::crates::tests::of_metadata;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"r\"\nchecksum = \"0a\"\n\n\
                        [[package]]\nname = \"nimctl\"\nversion = \"1.0.0\"\ndependencies = [\n \"a\",\n]\n";

    fn example() -> String {
        let digest = "0123456789abcdef".repeat(4);
        let lock = LOCK.replace("0a", &digest);
        bill(&Shipped {
            title: "nimctl-1.0.0-x86_64-linux-gnu",
            version: "1.0.0",
            tar: &digest,
            executables: &[Hashed { path: "bin/nimctl".into(), sha256: digest.clone() }],
            linked: &of_metadata(),
            checksums: &checksums(&lock),
            beside: &[Beside { title: "std".into(), licence: "MIT OR Apache-2.0".into() }],
        })
        .unwrap()
    }

    #[test]
    fn checksums_are_those_of_crates_from_elsewhere() {
        assert_eq!(checksums(LOCK), BTreeMap::from([("a 1.0.0".into(), "0a".into())]));
    }

    #[test]
    fn a_bill_has_every_crate_with_its_licence_and_digest_and_who_uses_it() {
        let bill: Value = serde_json::from_str(&example()).unwrap();
        assert_eq!(bill["serialNumber"], "urn:uuid:01234567-89ab-8def-8123-456789abcdef");
        let components = bill["components"].as_array().unwrap();
        let names: Vec<&str> = components.iter().filter_map(|one| one["bom-ref"].as_str()).collect();
        let expected = [
            "crate:nimctl-backend-onnxruntime@1.0.0",
            "crate:nimctl-backend-tensorrt@1.0.0",
            "crate:nimctl@1.0.0",
            "linked:std",
            "pkg:cargo/a@1.0.0",
            "pkg:cargo/b@1.0.0",
        ];
        assert_eq!(names, expected);
        assert_eq!(components[4]["hashes"][0]["content"], "0123456789abcdef".repeat(4));
        assert_eq!(components[4]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let of = |reference: &str| {
            let dependencies = bill["dependencies"].as_array().unwrap();
            dependencies.iter().find(|one| one["ref"] == reference).unwrap()["dependsOn"].clone()
        };
        assert_eq!(of("crate:nimctl@1.0.0"), json!(["pkg:cargo/a@1.0.0"]));
        assert_eq!(of("pkg:cargo/a@1.0.0"), json!(["pkg:cargo/b@1.0.0"]));
        assert_eq!(of("dist:nimctl-1.0.0-x86_64-linux-gnu").as_array().unwrap().len(), 4);
    }

    #[test]
    fn a_bill_is_valid_with_cyclonedx() {
        let folder = Shell::new().unwrap().create_temp_dir().unwrap();
        let shell = Shell::new().unwrap();
        let file = folder.path().join("bill.json");
        shell.write_file(&file, example()).unwrap();
        let validator = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/validate_cyclonedx.py");
        let packages = shell.var("NIMCTL_TEST_CYCLONEDX").unwrap_or_default();
        let said = cmd!(shell, "python3 {validator} {file}").env("PYTHONPATH", packages).read().unwrap();
        assert_eq!(said, "valid");
    }
}
