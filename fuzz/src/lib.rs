//! A small release, and a place that gives any document in the stead of one of its own: what a hostile registry can do.

use std::collections::BTreeMap;
use std::ops::Range;

use nimctl::chunks::Chunk;
use nimctl::digest::{Blake3, Sha256};
use nimctl::manifest::{MANIFEST_FILE, Manifest, ManifestFile, ManifestProfile, Workspace, oci_uri};
use nimctl::oci::{
    Blob, CONTENTS_TYPE, DOCUMENTS_ARTIFACT, Descriptor, EMPTY, EMPTY_TYPE, FILE_TYPE, INDEX_TYPE, ImageIndex,
    ImageManifest, MANIFEST_TYPE, PACK_INDEX_TYPE, PACK_TYPE, PASSPORT_TYPE, PROFILE_ARTIFACT, PROFILE_ID, Place,
    PlaceError, RELEASE_ARTIFACT, Sink, TITLE, Which,
};
use nimctl::packs::{IndexedFile, PACK_INDEX_SCHEMA, Pack, PackIndex, Placed};
use nimctl::passport::Passport;
use nimctl::profile::{ContentsFile, ProfileId};
use nimctl::registry::ReadSeek;

const PASSPORT: &[u8] = include_bytes!("../../tests/fixtures/formats/passport.json");
const MODEL: &[u8] = b"These bytes stand for a model, and are cut into two chunks.";

/// A release of one profile of one file, and everything that it consists of.
pub struct SmallRelease {
    /// The profile's id.
    pub id: ProfileId,
    /// The index of the release.
    pub index: Vec<u8>,
    /// The profile's manifest.
    pub manifest: Vec<u8>,
    /// The manifest that it would have if each of its files were a layer.
    pub plain_manifest: Vec<u8>,
    /// Its pack index.
    pub pack_index: Vec<u8>,
    blobs: BTreeMap<Sha256, Vec<u8>>,
    manifest_digest: Sha256,
}

impl SmallRelease {
    /// Puts it together.
    ///
    /// # Panics
    /// If the library can't write its own documents.
    #[must_use]
    pub fn new() -> Self {
        let mut passport = Passport::parse(PASSPORT, "passport.json").expect("the golden passport");
        let file = ContentsFile {
            path: "text/model.onnx".into(),
            sha256: Sha256::of(MODEL),
            size_bytes: MODEL.len() as u64,
        };
        passport.contents.files = vec![file];
        let contents_json = passport.contents.to_canonical_json().expect("canonical");
        passport.tags = passport.contents.tags(&Sha256::of(contents_json.as_bytes()));
        passport.id = ProfileId::of_tags(&passport.tags).expect("tags that were made for an id");
        let id = passport.id;

        let (first, second) = MODEL.split_at(MODEL.len() / 2);
        let placed = |offset: usize, bytes: &[u8]| Placed {
            pack: 0,
            offset: offset as u64,
            chunk: Chunk::of(bytes),
        };
        let pack_index = PackIndex {
            schema: PACK_INDEX_SCHEMA.into(),
            packs: vec![Pack { digest: Sha256::of(MODEL), size_bytes: MODEL.len() as u64 }],
            files: vec![IndexedFile {
                path: "text/model.onnx".into(),
                size_bytes: MODEL.len() as u64,
                sha256: Sha256::of(MODEL),
                blake3: Blake3::of(MODEL),
                chunks: vec![placed(0, first), placed(first.len(), second)],
            }],
        };
        let pack_index = pack_index.to_json();

        let uri = oci_uri("registry.example/models/small", &Sha256::of(b"manifest"), "text/model.onnx");
        let listed = ManifestFile { uri: Some(uri), checksum: Some(Blake3::of(MODEL).to_string()) };
        let entry = ManifestProfile {
            id: id.to_string(),
            tags: passport.tags.clone(),
            workspace: Workspace { files: BTreeMap::from([("text/model.onnx".into(), listed)]) },
        };
        let yaml = Manifest::new(&passport.contents.model, vec![entry]).expect("a manifest of one profile");
        let yaml = yaml.to_yaml().expect("a manifest is YAML").into_bytes();

        let mut blobs = BTreeMap::new();
        let mut blob = |media_type: &str, bytes: &[u8]| {
            blobs.insert(Sha256::of(bytes), bytes.to_vec());
            Descriptor::of(media_type, bytes)
        };
        let layers = vec![
            blob(PACK_INDEX_TYPE, &pack_index),
            blob(PASSPORT_TYPE, &passport.for_release()),
            blob(PACK_TYPE, MODEL),
        ];
        let config = blob(CONTENTS_TYPE, contents_json.as_bytes());
        let plain = vec![layers[1].clone(), blob(FILE_TYPE, MODEL).with(TITLE, "text/model.onnx")];
        let plain_manifest = ImageManifest::new(PROFILE_ARTIFACT, config.clone(), plain).to_json();
        let manifest = ImageManifest::new(PROFILE_ARTIFACT, config, layers).to_json();
        let documents = vec![blob(FILE_TYPE, &yaml).with(TITLE, MANIFEST_FILE)];
        let documents = ImageManifest::new(DOCUMENTS_ARTIFACT, blob(EMPTY_TYPE, EMPTY), documents).to_json();
        let kind = |mut descriptor: Descriptor, kind: &str| {
            descriptor.artifact_type = Some(kind.into());
            descriptor
        };
        let manifests = vec![
            kind(blob(MANIFEST_TYPE, &documents), DOCUMENTS_ARTIFACT),
            kind(blob(MANIFEST_TYPE, &manifest).with(PROFILE_ID, id.to_string()), PROFILE_ARTIFACT),
        ];
        let index = ImageIndex::new(Some(RELEASE_ARTIFACT), manifests).to_json();
        let manifest_digest = Sha256::of(&manifest);
        Self { id, index, manifest, plain_manifest, pack_index, blobs, manifest_digest }
    }
}

impl Default for SmallRelease {
    fn default() -> Self {
        Self::new()
    }
}

/// Which document of a release is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The index of the release.
    Index,
    /// The profile's manifest.
    Manifest,
}

/// A place that keeps a release, and gives other bytes for one of its documents.
pub struct Hostile<'a> {
    /// The release.
    pub release: &'a SmallRelease,
    /// What is replaced.
    pub replaced: Replaced,
    /// With what.
    pub bytes: &'a [u8],
}

impl Hostile<'_> {
    fn missing(&self, digest: &Sha256) -> PlaceError {
        PlaceError::Missing { place: self.name(), what: digest.to_string() }
    }
}

impl Place for Hostile<'_> {
    fn name(&self) -> String {
        "a hostile registry".into()
    }

    fn manifest(&self, which: &Which) -> Result<Option<(Vec<u8>, String)>, PlaceError> {
        let SmallRelease { index, blobs, manifest_digest, .. } = self.release;
        let instead = |own: &[u8], replaced| if self.replaced == replaced { self.bytes } else { own }.to_vec();
        Ok(match which {
            Which::Tag(_) => Some((instead(index, Replaced::Index), INDEX_TYPE.into())),
            Which::Digest(digest) => blobs.get(digest).map(|bytes| {
                let is_replaced = digest == manifest_digest;
                let bytes = if is_replaced { instead(bytes, Replaced::Manifest) } else { bytes.clone() };
                (bytes, MANIFEST_TYPE.into())
            }),
        })
    }

    fn put_manifest(&self, _: Option<&str>, _: &str, _: &[u8]) -> Result<Sha256, PlaceError> {
        Err(PlaceError::ReadOnly { place: self.name(), reason: "it only gives" })
    }

    fn has_blob(&self, digest: &Sha256) -> Result<bool, PlaceError> {
        Ok(self.release.blobs.contains_key(digest))
    }

    fn read_blob(&self, blob: &Blob, range: Range<u64>, sink: &mut Sink<'_>) -> Result<(), PlaceError> {
        let bytes = self.release.blobs.get(&blob.digest).ok_or_else(|| self.missing(&blob.digest))?;
        let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
        let part = bytes.get(at(range.start)..at(range.end)).ok_or_else(|| self.missing(&blob.digest))?;
        sink(part).map_err(|source| PlaceError::Io { place: self.name(), doing: "giving".into(), source })
    }

    fn put_blob(&self, _: &Sha256, _: &[u8]) -> Result<(), PlaceError> {
        Err(PlaceError::ReadOnly { place: self.name(), reason: "it only gives" })
    }

    fn put_large_blob(&self, _: &Blob, _: &mut dyn ReadSeek) -> Result<(), PlaceError> {
        Err(PlaceError::ReadOnly { place: self.name(), reason: "it only gives" })
    }
}
