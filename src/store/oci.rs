//! The part of the store that OCI clients read: one image manifest a profile, listed in `index.json`.
//!
//! The manifest's config is the profile's `contents.json`; its layers are the profile's files, each with its path as
//! title. Names and media types are the OCI image specification's, version 1.1.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::{Store, StoreError};
use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::passport::Passport;
use crate::profile::{ContentsFile, ProfileId};
use crate::stored_format::Newer;
use crate::worklist::OutputFile;

const LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";
/// The version of `index.json` and of image manifests.
const INDEX_VERSION: u64 = 2;
const ARTIFACT_TYPE: &str = "application/vnd.nimctl.profile.v1";
const CONTENTS_TYPE: &str = "application/vnd.nimctl.contents.v1+json";
const FILE_TYPE: &str = "application/octet-stream";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Indexes may list indexes, so deep.
const MAX_DEPTH: usize = 4;
const TITLE: &str = "org.opencontainers.image.title";

/// Makes a folder an OCI image layout, unless it is one; the index is for [`mend_index`].
pub(super) fn write_layout(root: &Path) -> io::Result<()> {
    if !root.join("oci-layout").exists() {
        atomic_file::write(&root.join("oci-layout"), LAYOUT.as_bytes())?;
    }
    Ok(())
}

/// Returns whether the file that makes a folder an OCI image layout is right.
pub(super) fn has_layout(root: &Path) -> bool {
    let found = fs_err::read(root.join("oci-layout")).unwrap_or_default();
    let expected: Value = serde_json::from_str(LAYOUT).unwrap_or_default();
    serde_json::from_slice::<Value>(&found).is_ok_and(|found| found == expected)
}

/// Lists every profile that has a passport and is not listed; all of them if there is no index, or a damaged one. A passport is
/// written before its profile is listed, and a process may be killed between the two.
pub(super) fn mend_index(store: &Store) -> Result<(), StoreError> {
    let path = store.root.join("index.json");
    let index = match store.bytes(&path)?.and_then(|bytes| read_index(&bytes)) {
        Some(index) => index,
        None => {
            let index = empty_index();
            atomic_file::write(&path, index.to_string().as_bytes())
                .map_err(|source| store.unwritable(source))?;
            index
        }
    };
    let listed: BTreeSet<String> = entries(&index).filter_map(name_of).collect();
    let with_passport = store.ids_in("passports")?;
    for id in with_passport.into_iter().filter(|id| !listed.contains(&id.to_string())) {
        if let Ok(Some(passport)) = store.passport(&id) {
            add_complete(store, &passport)?;
        }
    }
    Ok(())
}

/// Lists a profile that has a passport, if all of its files are there; without them, the build or pull that brings them lists it.
pub(super) fn add_complete(
    store: &Store,
    Passport { id, contents, .. }: &Passport,
) -> Result<bool, StoreError> {
    let Ok(json) = contents.to_canonical_json() else { return Ok(false) };
    if !contents.files.iter().all(|file| store.has_blob(&file.sha256, file.size_bytes)) {
        return Ok(false);
    }
    let file = |file: &ContentsFile| (file.path.clone(), file.sha256, file.size_bytes);
    let config = store.put(json.as_bytes())?;
    add(store, id, (config, json.len() as u64), contents.files.iter().map(file))?;
    Ok(true)
}

/// An entry of the index.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// The profile; `None` for something that another program listed.
    pub(crate) id: Option<ProfileId>,
    /// Its manifest, and every blob that the manifest needs.
    pub(crate) blobs: BTreeSet<Sha256>,
    /// What is wrong with it: a manifest that is missing or damaged.
    pub(crate) problem: Option<String>,
}

/// Returns what the index lists: nothing if it is absent, `None` if it is damaged.
///
/// # Errors
/// A store that can't be read, an index of a newer version.
pub(super) fn listed(store: &Store) -> Result<Option<Vec<Listed>>, StoreError> {
    let path = store.root.join("index.json");
    let Some(bytes) = store.bytes(&path)? else { return Ok(Some(Vec::new())) };
    let Some(index) = read_index(&bytes) else { return Ok(None) };
    refuse_newer(&path, &index)?;
    let listed = entries(&index).map(|entry| {
        let id = name_of(entry).and_then(|name| ProfileId::from_hex(&name).ok());
        let (mut blobs, mut problem) = (BTreeSet::new(), None);
        collect(store, entry, &mut blobs, &mut problem, MAX_DEPTH);
        Listed { id, blobs, problem }
    });
    Ok(Some(listed.collect()))
}

/// Collects what a descriptor leads to.
fn collect(
    store: &Store,
    descriptor: &Value,
    blobs: &mut BTreeSet<Sha256>,
    problem: &mut Option<String>,
    depth: usize,
) {
    let Some(digest) = descriptor["digest"].as_str().and_then(|digest| digest.parse::<Sha256>().ok()) else {
        problem.get_or_insert_with(|| "it has no digest".into());
        return;
    };
    let is_document = descriptor["mediaType"].as_str().is_some_and(|kind| {
        kind.starts_with("application/vnd.oci.image.")
            && (kind.contains(".manifest.") || kind.contains(".index."))
    });
    if !blobs.insert(digest) || !is_document || depth == 0 {
        return;
    }
    let document = store.get(&digest).map_err(|error| error.to_string()).and_then(|bytes| {
        serde_json::from_slice::<Value>(&bytes).map_err(|error| format!("{digest}: {error}"))
    });
    match document {
        Err(found) => {
            problem.get_or_insert(found);
        }
        Ok(document) => {
            let list = |name: &str| document[name].as_array().cloned().unwrap_or_default();
            let config = document.get("config").cloned();
            for below in config.into_iter().chain(list("layers")).chain(list("manifests")) {
                collect(store, &below, blobs, problem, depth - 1);
            }
        }
    }
}

/// Takes profiles off the index.
///
/// # Errors
/// A store that can't be written, an index of a newer version.
pub(super) fn remove(store: &Store, ids: &BTreeSet<ProfileId>) -> Result<(), StoreError> {
    let path = store.root.join("index.json");
    let Some(mut index) = store.bytes(&path)?.and_then(|bytes| read_index(&bytes)) else { return Ok(()) };
    refuse_newer(&path, &index)?;
    let names: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
    let Some(known) = index.get_mut("manifests").and_then(Value::as_array_mut) else { return Ok(()) };
    let before = known.len();
    known.retain(|entry| name_of(entry).is_none_or(|name| !names.contains(&name)));
    if known.len() == before {
        return Ok(());
    }
    atomic_file::write(&path, index.to_string().as_bytes()).map_err(|source| store.unwritable(source))
}

fn entries(index: &Value) -> impl Iterator<Item = &Value> {
    index["manifests"].as_array().into_iter().flatten()
}

fn name_of(entry: &Value) -> Option<String> {
    entry["annotations"][REF_NAME].as_str().map(str::to_owned)
}

fn refuse_newer(path: &Path, index: &Value) -> Result<(), StoreError> {
    match index["schemaVersion"].as_u64().filter(|version| *version > INDEX_VERSION) {
        Some(version) => {
            let (found, known) = (format!("OCI index {version}"), format!("OCI index {INDEX_VERSION}"));
            Err(Newer::new(path.display(), &found, &known).into())
        }
        None => Ok(()),
    }
}

/// Reads the bytes of an index; `None` if they are none.
fn read_index(index: &[u8]) -> Option<Value> {
    let index: Value = serde_json::from_slice(index).ok()?;
    // What a newer version has is for `list` to refuse.
    let is_newer = index["schemaVersion"].as_u64().is_some_and(|version| version > INDEX_VERSION);
    (is_newer || index["manifests"].is_array()).then_some(index)
}

/// Writes a profile's OCI manifest and lists it in the index under the profile's id.
pub(super) fn add_profile(
    store: &Store,
    id: &ProfileId,
    config: Sha256,
    config_size_bytes: u64,
    files: &[OutputFile],
) -> Result<(), StoreError> {
    let files = files.iter().map(|file| (file.path.clone(), file.sha256, file.size_bytes));
    add(store, id, (config, config_size_bytes), files)
}

/// Does so for files given by path, digest and size in bytes.
fn add(
    store: &Store,
    id: &ProfileId,
    (config, config_size_bytes): (Sha256, u64),
    files: impl Iterator<Item = (String, Sha256, u64)>,
) -> Result<(), StoreError> {
    let layer = |(path, digest, size_bytes): (String, Sha256, u64)| json!({ "mediaType": FILE_TYPE, "digest": digest, "size": size_bytes, "annotations": { TITLE: path } });
    let layers: Vec<Value> = files.map(layer).collect();
    let manifest = json!({
        "schemaVersion": INDEX_VERSION,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": { "mediaType": CONTENTS_TYPE, "digest": config, "size": config_size_bytes },
        "layers": layers,
    })
    .to_string();
    let digest = store.put(manifest.as_bytes())?;
    let descriptor = json!({
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "digest": digest,
        "size": manifest.len(),
        "annotations": { REF_NAME: id.to_string() },
    });
    list(store, id, descriptor)
}

fn list(store: &Store, id: &ProfileId, descriptor: Value) -> Result<(), StoreError> {
    let path = store.root.join("index.json");
    let known = store.bytes(&path)?.and_then(|bytes| read_index(&bytes));
    let mut index: Value = known.unwrap_or_else(empty_index);
    refuse_newer(&path, &index)?;
    let Some(known) = index.get_mut("manifests").and_then(Value::as_array_mut) else {
        unreachable!("an index has a list, or is newer");
    };
    if known.contains(&descriptor) {
        return Ok(());
    }
    let name = |entry: &Value| entry["annotations"][REF_NAME].as_str().unwrap_or_default().to_owned();
    known.retain(|entry| name(entry) != id.to_string());
    known.push(descriptor);
    known.sort_by_key(name);
    atomic_file::write(&path, index.to_string().as_bytes()).map_err(|source| store.unwritable(source))
}

fn empty_index() -> Value {
    json!({ "schemaVersion": INDEX_VERSION, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [] })
}
