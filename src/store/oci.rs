//! The part of the store that OCI clients read: one image manifest a profile, listed in `index.json`.
//!
//! The manifest's config is the profile's `contents.json`; its layers are the profile's files, each with its path as
//! title. Names and media types are the OCI image specification's, version 1.1.

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
const TITLE: &str = "org.opencontainers.image.title";

/// Makes a folder an OCI image layout, unless it is one; the index is for [`mend_index`].
pub(super) fn write_layout(root: &Path) -> io::Result<()> {
    if !root.join("oci-layout").exists() {
        atomic_file::write(&root.join("oci-layout"), LAYOUT.as_bytes())?;
    }
    Ok(())
}

/// Lists the profiles of all passports if there is no index, or a damaged one.
pub(super) fn mend_index(store: &Store) -> Result<(), StoreError> {
    let path = store.root.join("index.json");
    if store.bytes(&path)?.as_deref().is_some_and(|bytes| read_index(bytes).is_some()) {
        return Ok(());
    }
    let index = empty_index().to_string();
    atomic_file::write(&path, index.as_bytes()).map_err(|source| store.unwritable(source))?;
    for Passport { id, contents, .. } in store.passports()? {
        // A profile is listed with what it is made of; without that, the build that makes it lists it.
        let Ok(json) = contents.to_canonical_json() else { continue };
        let file = |file: &ContentsFile| (file.path.clone(), file.sha256, file.size_bytes);
        let config = Sha256::of(json.as_bytes());
        if contents.files.iter().all(|file| store.has_blob(&file.sha256, file.size_bytes))
            && store.get(&config).is_ok()
        {
            add(store, &id, (config, json.len() as u64), contents.files.iter().map(file))?;
        }
    }
    Ok(())
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
    if let Some(version) = index["schemaVersion"].as_u64().filter(|version| *version > INDEX_VERSION) {
        let (found, known) = (format!("OCI index {version}"), format!("OCI index {INDEX_VERSION}"));
        return Err(Newer::new(path.display(), &found, &known).into());
    }
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
