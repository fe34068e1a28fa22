//! Releases as OCI artifacts: the documents that describe them, and the places that keep them.
//!
//! ```text
//! index                     a release: its tag
//! ├─ manifest               the release's documents: model_manifest.yaml, report.html, release-notes.md, one layer each
//! └─ manifest               a profile; its config is contents.json
//!    ├─ layer               the pack index: which chunk of which file lies where
//!    ├─ layer               passport.json
//!    └─ layer …             the packs (crate::packs)
//! ```
//!
//! With the layout `files` a profile's layers are its files, each with its path as title, as `oras` and `skopeo` users expect; a
//! profile in a [`crate::store::Store`] looks like that too. Media types, annotations and documents are those of the OCI image
//! specification 1.1.
//!
//! A [`Place`] keeps blobs and manifests: a registry, a folder in the OCI image layout, a tar of one, or a web server of one.

mod archive;
mod document;
mod layout;
mod place;
mod reference;
mod registry;
mod web;

pub use archive::{Archive, pack_archive};
pub use document::{Descriptor, ImageIndex, ImageManifest, InvalidDocument};
pub use layout::Layout;
pub(crate) use place::SinkWriter;
pub use place::{Blob, MAX_DOCUMENT_BYTES, Place, PlaceError, Sink, Which, fetch_small};
pub use reference::{InvalidReference, PlaceReference};
pub use registry::RegistryPlace;
pub use web::WebPlace;

/// A manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// An index of manifests.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// What a config is where there is nothing to say.
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The bytes of an empty config.
pub const EMPTY: &[u8] = b"{}";
/// The artifact type of a release.
pub const RELEASE_ARTIFACT: &str = "application/vnd.nimctl.release.v1";
/// The artifact type of a release's documents.
pub const DOCUMENTS_ARTIFACT: &str = "application/vnd.nimctl.release-documents.v1";
/// The artifact type of a profile.
pub const PROFILE_ARTIFACT: &str = "application/vnd.nimctl.profile.v1";
/// A profile's `contents.json`.
pub const CONTENTS_TYPE: &str = "application/vnd.nimctl.contents.v1+json";
/// A profile's passport.
pub const PASSPORT_TYPE: &str = "application/vnd.nimctl.passport.v1+json";
/// A pack index.
pub const PACK_INDEX_TYPE: &str = "application/vnd.nimctl.pack-index.v1+json";
/// A pack.
pub const PACK_TYPE: &str = "application/vnd.nimctl.pack.v1";
/// A signature of a release, and the type of the artifact that holds it.
pub const SIGNATURE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The annotation for what a bundle holds, as others write it.
pub const BUNDLE_CONTENT: &str = "dev.sigstore.bundle.content";
/// The annotation for the type of the statement in a bundle, as others write it.
pub const BUNDLE_PREDICATE: &str = "dev.sigstore.bundle.predicateType";
/// The annotation for what an attestation is: `provenance`, `validation` or `benchmark`.
pub const ATTESTATION_KIND: &str = "org.nimctl.attestation.kind";
/// Any other file.
pub const FILE_TYPE: &str = "application/octet-stream";
/// The annotation for a path.
pub const TITLE: &str = "org.opencontainers.image.title";
/// The annotation for a tag, in the index of a layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation for a profile's id.
pub const PROFILE_ID: &str = "org.nimctl.profile.id";
/// The annotation for a profile's readable name.
pub const PROFILE_NAME: &str = "org.nimctl.profile.name";
