//! `pull`: brings profiles of a release into the store. Nothing is used that was not verified: each chunk when it arrives, each file
//! as a whole, and the profile by its id.

mod attested;
mod error;
mod fetch;
mod folder;
mod follower;
mod from_manifest;
pub(super) mod hostile;
mod model_store;
mod partial;
mod signed;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use attested::Attestations;
pub use error::{FileError, PullError};
pub use from_manifest::{Connect, FromManifest, Outcome};
pub use model_store::{check_model_store, copy_to_model_store};
pub(in crate::ops) use signed::covers;
pub use signed::{Accepted, AcceptedByPolicy, Given, NotSigned};

use crate::digest::{Blake3, Sha256};
use crate::manifest::{MANIFEST_FILE, Manifest};
use crate::oci::{
    CONTENTS_TYPE, DOCUMENTS_ARTIFACT, Descriptor, FILE_TYPE, ImageIndex, ImageManifest, PACK_INDEX_TYPE,
    PASSPORT_TYPE, PROFILE_ARTIFACT, PROFILE_ID, Place, Which, fetch_small,
};
use crate::packs::{IndexedFile, MAX_INDEX_BYTES, PackIndex};
use crate::passport::Passport;
use crate::profile::{Contents, ContentsFile, ProfileId};
use crate::release::NOTES_FILE;
use crate::report::REPORT_FILE;
use crate::store::{InUse, Store};
use crate::worklist::OutputFile;

/// The documents of a release.
const DOCUMENTS: [&str; 3] = [MANIFEST_FILE, NOTES_FILE, REPORT_FILE];
/// A release's documents and a profile's `contents.json` are at most this long.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// A release at a place.
pub struct RemoteRelease<'a> {
    place: &'a dyn Place,
    which: Which,
    /// The digest of its index.
    pub digest: Sha256,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its documents, by file name; the manifest is among them.
    pub documents: BTreeMap<String, Vec<u8>>,
    profiles: BTreeMap<String, Descriptor>,
}

/// How to pull.
#[derive(Clone, Copy)]
pub struct PullOptions<'a> {
    /// Parts of files that are fetched at the same time.
    pub parallel: usize,
    /// Asked between parts.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
    /// Gets the bytes of the profile that are there so far, and all that it has.
    pub on_bytes: &'a (dyn Fn(u64, u64) + Sync),
}

/// What was done for a profile.
#[derive(Clone, Debug, Default)]
pub struct Pulled {
    /// Bytes of its files.
    pub files_bytes: u64,
    /// Bytes that came from the place.
    pub fetched_bytes: u64,
    /// Bytes of files that were here as a whole.
    pub here_bytes: u64,
    /// Bytes of chunks that other files here have.
    pub reused_bytes: u64,
    /// Its passport.
    pub passport: Option<Box<Passport>>,
    /// The digest of its manifest at the place.
    pub digest: Option<Sha256>,
    /// Keeps its files in the store as long as they are needed.
    pub in_use: Option<Arc<InUse>>,
}

impl<'a> RemoteRelease<'a> {
    /// Reads what a release is: its index and documents.
    ///
    /// # Errors
    /// A place that can't be read; nothing there, or something else than a release.
    pub fn open(place: &'a dyn Place, which: &Which) -> Result<Self, PullError> {
        let Some((bytes, _)) = place.manifest(which)? else {
            let which = match which {
                Which::Tag(tag) if tag.is_empty() => "release".into(),
                Which::Tag(tag) => format!("release with the tag {tag}"),
                Which::Digest(digest) => digest.to_string(),
            };
            return Err(PullError::NoRelease { place: place.name(), which });
        };
        let name = || format!("{} {which}", place.name());
        let index = ImageIndex::parse(&bytes, &name())?;
        let mut profiles = BTreeMap::new();
        let mut documents = BTreeMap::new();
        for mut descriptor in index.manifests {
            // Copies by other tools may lose what the index says of its manifests; the manifests say it too.
            let known = descriptor.artifact_type.clone().zip(descriptor.annotations.get(PROFILE_ID).cloned());
            if let Some((PROFILE_ARTIFACT, id)) = known.as_ref().map(|(kind, id)| (kind.as_str(), id)) {
                profiles.insert(id.clone(), descriptor);
                continue;
            }
            let manifest = manifest_of(place, descriptor.digest)?;
            match manifest.artifact_type.as_deref() {
                Some(DOCUMENTS_ARTIFACT) => {
                    for layer in manifest.layers.iter().filter(|layer| layer.media_type == FILE_TYPE) {
                        // A title becomes the name of a file; others are something that a later version adds.
                        let Some(title) = layer.title().filter(|title| DOCUMENTS.contains(title)) else {
                            continue;
                        };
                        documents.insert(title.to_owned(), fetch_small(place, layer, MAX_TEXT_BYTES)?);
                    }
                }
                Some(PROFILE_ARTIFACT) => {
                    let contents = fetch_small(place, &manifest.config, MAX_TEXT_BYTES)?;
                    if let Some(id) = id_of(&contents) {
                        descriptor.artifact_type = Some(PROFILE_ARTIFACT.into());
                        profiles.insert(id.to_string(), descriptor);
                    }
                }
                // Something that a later version adds.
                Some(_) | None => {}
            }
        }
        if documents.is_empty() {
            let found = index.artifact_type.unwrap_or_else(|| "an image".into());
            return Err(PullError::NotARelease { name: name(), found });
        }
        let wrong = |problem: String| PullError::BadRelease { name: name(), problem };
        let text = documents.get(MANIFEST_FILE).ok_or_else(|| wrong(format!("it has no {MANIFEST_FILE}")))?;
        let text = std::str::from_utf8(text).map_err(|error| wrong(format!("{MANIFEST_FILE}: {error}")))?;
        let manifest = Manifest::parse(text, MANIFEST_FILE).map_err(|error| wrong(error.to_string()))?;
        let which = which.clone();
        Ok(Self { place, which, digest: Sha256::of(&bytes), manifest, documents, profiles })
    }

    /// Returns the digest of a profile's manifest at the place.
    pub fn profile_digest(&self, id: &str) -> Option<Sha256> {
        self.profiles.get(id).map(|descriptor| descriptor.digest)
    }

    /// Returns a profile's `contents.json`, which gives the id, and its passport.
    fn descriptions(&self, id: &str) -> Result<(Vec<u8>, Vec<u8>), PullError> {
        let Some(descriptor) = self.profiles.get(id) else {
            return Err(PullError::NoProfile { place: self.place.name(), id: id.into() });
        };
        let manifest = manifest_of(self.place, descriptor.digest)?;
        let Profile { contents_json, .. } = profile(self.place, id, &manifest)?;
        let passport = match manifest.layer(PASSPORT_TYPE) {
            Some(layer) => fetch_small(self.place, layer, MAX_TEXT_BYTES)?,
            None => Vec::new(),
        };
        Ok((contents_json.into_bytes(), passport))
    }

    /// Reads a profile's passport, and nothing of its files.
    ///
    /// # Errors
    /// No such profile; a place that can't be read, or has the passport of another profile.
    pub fn passport(&self, id: &str) -> Result<Passport, PullError> {
        let (contents_json, passport) = self.descriptions(id)?;
        let wrong = |problem: String| PullError::BadProfile { id: id.into(), problem };
        let passport =
            Passport::parse_released(&passport, "passport.json").map_err(|error| wrong(error.to_string()))?;
        // The contents were found to be those of the id.
        let contents = passport.contents.to_canonical_json().map_err(|error| wrong(error.to_string()))?;
        if passport.id.to_string() != id || contents.as_bytes() != contents_json {
            return Err(wrong("its passport is that of another profile".into()));
        }
        Ok(passport)
    }

    /// Returns where the release is, as `nimctl pull` takes it.
    fn source(&self) -> String {
        let (mut name, which) = (self.place.name(), &self.which);
        // It is to be found from any folder.
        for kind in ["oci:", "oci-archive:"] {
            if let Some(Ok(path)) = name.strip_prefix(kind).map(std::path::absolute) {
                name = format!("{kind}{}", path.display());
            }
        }
        match which {
            Which::Tag(tag) if tag.is_empty() => name,
            Which::Tag(tag) if name.contains("://") => format!("{name}#{tag}"),
            Which::Tag(tag) => format!("{name}:{tag}"),
            Which::Digest(digest) => format!("{name}@{digest}"),
        }
    }

    /// Brings a profile into the store. It is in there as a whole, with its passport, or not at all; what was fetched when this is
    /// interrupted or killed is not fetched again.
    ///
    /// # Errors
    /// No such profile; a place that can't be read, or gives bytes that are not the profile's; a store that can't be written;
    /// cancelled.
    pub fn pull(&self, id: &str, store: &Store, options: &PullOptions<'_>) -> Result<Pulled, PullError> {
        let Some(descriptor) = self.profiles.get(id) else {
            return Err(PullError::NoProfile { place: self.place.name(), id: id.into() });
        };
        pull_profile(self.place, (id, descriptor.digest), &self.source(), store, options)
    }
}

/// Brings a profile into the store whose manifest has this digest; `source` is where `nimctl pull` finds it again.
fn pull_profile(
    place: &dyn Place,
    (id, digest): (&str, Sha256),
    source: &str,
    store: &Store,
    options: &PullOptions<'_>,
) -> Result<Pulled, PullError> {
    let manifest = manifest_of(place, digest)?;
    let Profile { id, contents, contents_json } = profile(place, id, &manifest)?;
    let wrong = |problem: String| PullError::BadProfile { id: id.to_string(), problem };
    let passport = match manifest.layer(PASSPORT_TYPE) {
        None => return Err(wrong("it has no passport".into())),
        Some(layer) => {
            let bytes = fetch_small(place, layer, MAX_TEXT_BYTES)?;
            Passport::parse_released(&bytes, "passport.json").map_err(|error| wrong(error.to_string()))?
        }
    };
    if passport.id != id || passport.contents != contents {
        return Err(wrong("its passport is that of another profile".into()));
    }
    hostile::check_passport(&passport).map_err(wrong)?;
    // Before anything is looked for: what is here of its files stays from now on.
    let in_use = store.begin_pull(&id, source, &contents.files)?;
    let mut pulled = Pulled {
        in_use: Some(Arc::new(in_use)),
        files_bytes: contents.files.iter().map(|file| file.size_bytes).sum(),
        digest: Some(digest),
        ..Pulled::default()
    };
    let files = match manifest.layer(PACK_INDEX_TYPE) {
        Some(layer) => {
            let bytes = fetch_small(place, layer, MAX_INDEX_BYTES)?;
            let index = PackIndex::parse(&bytes, "the pack index")?;
            check_files(&index, &contents, &manifest).map_err(wrong)?;
            fetch::packed(place, store, &index, &mut pulled, options)?
        }
        None => {
            let layers = layers_of(&contents, &manifest).map_err(wrong)?;
            fetch::plain(place, store, &layers, &mut pulled, options)?
        }
    };
    let known = store.passport(&id)?;
    let passport = known.unwrap_or(passport);
    store.put_profile(&passport, &contents_json, &files)?;
    store.end_pull(&id)?;
    pulled.passport = Some(Box::new(passport));
    Ok(pulled)
}

/// Reads `contents.json`, and checks that it gives the id.
fn profile(place: &dyn Place, id: &str, manifest: &ImageManifest) -> Result<Profile, PullError> {
    let wrong = |problem: String| PullError::BadProfile { id: id.into(), problem };
    if manifest.config.media_type != CONTENTS_TYPE {
        return Err(wrong(format!(
            "its config is `{}`, not {CONTENTS_TYPE}",
            manifest.config.media_type.escape_debug()
        )));
    }
    let bytes = fetch_small(place, &manifest.config, MAX_TEXT_BYTES)?;
    let contents = Contents::parse(&bytes, "contents.json").map_err(|error| wrong(error.to_string()))?;
    let tags = contents.tags(&Sha256::of(&bytes));
    let computed = ProfileId::of_tags(&tags).map_err(|error| wrong(error.to_string()))?;
    if computed.to_string() != id {
        return Err(wrong(format!("its contents are those of profile {computed}")));
    }
    hostile::check_contents(&contents).map_err(wrong)?;
    let contents_json = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    Ok(Profile { id: computed, contents, contents_json })
}
/// A profile that was found to be the one of its id.
struct Profile {
    id: ProfileId,
    contents: Contents,
    contents_json: String,
}

/// Returns the id that a `contents.json` gives.
fn id_of(contents_json: &[u8]) -> Option<ProfileId> {
    let contents = Contents::parse(contents_json, "contents.json").ok()?;
    ProfileId::of_tags(&contents.tags(&Sha256::of(contents_json))).ok()
}

fn manifest_of(place: &dyn Place, digest: Sha256) -> Result<ImageManifest, PullError> {
    let Some((bytes, _)) = place.manifest(&Which::Digest(digest))? else {
        return Err(PullError::NoRelease { place: place.name(), which: digest.to_string() });
    };
    Ok(ImageManifest::parse(&bytes, &format!("{} {digest}", place.name()))?)
}

/// Checks that an index is that of the contents, and that its packs are those of the manifest.
fn check_files(index: &PackIndex, contents: &Contents, manifest: &ImageManifest) -> Result<(), String> {
    let indexed = index.files.iter().map(|file| (&file.path, file.sha256, file.size_bytes));
    let listed = contents.files.iter().map(|file| (&file.path, file.sha256, file.size_bytes));
    if !indexed.eq(listed) {
        return Err("its pack index lists other files than its contents.json".into());
    }
    for pack in &index.packs {
        let is_it = |layer: &Descriptor| layer.digest == pack.digest && layer.size == pack.size_bytes;
        if !manifest.layers.iter().any(is_it) {
            return Err(format!("its pack index needs {}, which is none of its layers", pack.digest));
        }
    }
    Ok(())
}

/// Returns the layer of each file, for a profile whose layers are its files.
fn layers_of(contents: &Contents, manifest: &ImageManifest) -> Result<Vec<IndexedFile>, String> {
    let layer = |file: &ContentsFile| {
        let is_it =
            |layer: &&Descriptor| layer.title() == Some(file.path.as_str()) && layer.digest == file.sha256;
        match manifest.layers.iter().find(is_it) {
            Some(found) if found.size == file.size_bytes => Ok(IndexedFile {
                path: file.path.clone(),
                size_bytes: file.size_bytes,
                sha256: file.sha256,
                // Not told: it is computed from what arrives, which the other digest verifies.
                blake3: Blake3::from_bytes([0; 32]),
                chunks: Vec::new(),
            }),
            _ => Err(format!("it has no layer for its file `{}`", file.path.escape_debug())),
        }
    };
    contents.files.iter().map(layer).collect()
}

/// Returns what the store lists for a file.
fn output(file: &IndexedFile, blake3: Blake3) -> OutputFile {
    OutputFile { path: file.path.clone(), sha256: file.sha256, blake3, size_bytes: file.size_bytes }
}
