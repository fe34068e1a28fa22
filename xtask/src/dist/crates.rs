//! Which crates are linked into the executables of the tar, by cargo's own account.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xshell::cmd;

use super::binaries::TARGET;
use crate::project::{Project, read};
use crate::set_up::TENSORRT_FLAVOURS;

/// The packages whose executables are packed.
pub(super) const ROOTS: [&str; 3] = ["nimctl", "nimctl-backend-onnxruntime", "nimctl-backend-tensorrt"];

/// The crates of some executables, ours among them, without those that only build scripts, macros and tests use.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Linked {
    /// What cargo knows of each, by its id.
    pub(super) packages: BTreeMap<String, Value>,
    /// The ids of those that each uses.
    pub(super) uses: BTreeMap<String, BTreeSet<String>>,
}

/// Returns what is linked in, whichever flavour a worker is of.
pub(super) fn linked(project: &Project) -> Result<Linked> {
    let mut all = Linked::default();
    for flavour in TENSORRT_FLAVOURS {
        let metadata = read(cmd!(
            project.shell,
            "cargo metadata --format-version 1 --locked --filter-platform {TARGET}
             --features nimctl-backend-tensorrt/{flavour}"
        ))?;
        let metadata: Value = serde_json::from_str(&metadata).context("cargo's metadata is not JSON")?;
        let Linked { packages, uses } = linked_in(&metadata)?;
        all.packages.extend(packages);
        for (id, used) in uses {
            all.uses.entry(id).or_default().extend(used);
        }
    }
    Ok(all)
}

fn linked_in(metadata: &Value) -> Result<Linked> {
    let by_id = |values: &Value| -> BTreeMap<String, Value> {
        list(values).iter().map(|value| (text(&value["id"]), value.clone())).collect()
    };
    let (packages, nodes) = (by_id(&metadata["packages"]), by_id(&metadata["resolve"]["nodes"]));
    let is_macro = |package: &Value| {
        list(&package["targets"]).iter().any(|target| list(&target["kind"]).contains(&"proc-macro".into()))
    };
    let is_root = |package: &&Value| ROOTS.contains(&text(&package["name"]).as_str());
    let mut to_do: Vec<String> =
        packages.values().filter(is_root).map(|package| text(&package["id"])).collect();
    ensure!(to_do.len() == ROOTS.len(), "cargo's metadata has {} of the packages {ROOTS:?}", to_do.len());
    let mut linked = Linked::default();
    while let Some(id) = to_do.pop() {
        let package = packages.get(&id).with_context(|| format!("cargo's metadata has no package {id}"))?;
        if is_macro(package) || linked.packages.contains_key(&id) {
            continue;
        }
        let node = nodes.get(&id).with_context(|| format!("cargo's metadata resolves no {id}"))?;
        let is_normal =
            |dependency: &&Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        let used = list(&node["deps"]).iter().filter(is_normal).map(|dependency| text(&dependency["pkg"]));
        let is_linked = |id: &String| packages.get(id).is_none_or(|package| !is_macro(package));
        let used: BTreeSet<String> = used.filter(is_linked).collect();
        to_do.extend(used.iter().cloned());
        linked.packages.insert(id.clone(), package.clone());
        linked.uses.insert(id, used);
    }
    Ok(linked)
}

/// Returns the items of an array; none of anything else.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Returns a string; an empty one of anything else.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace whose `nimctl` uses `a`, which uses `b`; a macro, a build dependency and a test's dependency beside.
    pub(crate) fn metadata() -> Value {
        let package = |name: &str, kind: &str, source: Option<&str>| {
            json!({ "id": format!("{name} 1.0.0"), "name": name, "version": "1.0.0", "source": source,
                    "license": "MIT/Apache-2.0", "targets": [{ "kind": [kind] }] })
        };
        let node = |name: &str, used: &[(&str, Option<&str>)]| {
            let deps: Vec<Value> = used
                .iter()
                .map(
                    |(name, kind)| json!({ "pkg": format!("{name} 1.0.0"), "dep_kinds": [{ "kind": kind }] }),
                )
                .collect();
            json!({ "id": format!("{name} 1.0.0"), "deps": deps })
        };
        let others = ["a", "b", "c", "d"].map(|name| package(name, "lib", Some("registry")));
        let ours = ROOTS.map(|name| package(name, "bin", None));
        let mut packages = [&others[..], &ours[..]].concat();
        packages.push(package("m", "proc-macro", Some("registry")));
        let used = [("a", None), ("m", None), ("c", Some("build")), ("d", Some("dev"))];
        let mut nodes = vec![node("nimctl", &used), node("a", &[("b", None)])];
        nodes.extend(["b", "c", "d", "m", ROOTS[1], ROOTS[2]].map(|name| node(name, &[])));
        json!({ "packages": packages, "resolve": { "nodes": nodes } })
    }

    /// Returns what is linked of it.
    pub(crate) fn of_metadata() -> Linked {
        linked_in(&metadata()).unwrap()
    }

    #[test]
    fn macros_and_what_builds_and_tests_are_not_linked() {
        let linked = of_metadata();
        let names: Vec<String> = linked.packages.values().map(|package| text(&package["name"])).collect();
        assert_eq!(names, ["a", "b", "nimctl", "nimctl-backend-onnxruntime", "nimctl-backend-tensorrt"]);
        assert_eq!(linked.uses["nimctl 1.0.0"], BTreeSet::from(["a 1.0.0".to_owned()]));
    }

    #[test]
    fn a_package_that_is_missing_is_an_error() {
        let mut metadata = metadata();
        metadata["packages"].as_array_mut().unwrap().retain(|package| package["name"] != ROOTS[1]);
        let error = linked_in(&metadata).unwrap_err().to_string();
        assert!(error.contains("has 2 of the packages"), "{error}");
    }
}
