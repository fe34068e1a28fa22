//! Profiles of ours: verified by their contents, which their ids stand for, and kept in the store.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::super::fetch;
use super::super::{MAX_TEXT_BYTES, hostile, pull_profile};
use super::reader::{Reader, which};
use super::{Fetched, FileError, FromManifest, PullError, PullOptions, Pulled, error};
use crate::digest::{Blake3, Sha256};
use crate::manifest::ManifestProfile;
use crate::oci::{Blob, Place, PlaceError, RegistryPlace, Sink, Which};
use crate::packs::IndexedFile;
use crate::passport::Passport;
use crate::profile::{CONTENTS_FILE, Contents, ContentsFile, ProfileId};
use crate::registry::{ReadSeek, Reference, RegistryError};
use crate::release::PASSPORT_FILE;
use crate::store::Store;
use crate::uri::Location;

impl<'a> FromManifest<'a> {
    /// Brings a profile into the store.
    pub(super) fn pull_ours(
        &self,
        profile: &ManifestProfile,
        store: &Store,
        options: &PullOptions<'_>,
    ) -> Result<(Pulled, Fetched), PullError> {
        let bad = |problem: String| PullError::BadProfile { id: profile.id.clone(), problem };
        if let Some(reference) = self.artifact(profile)? {
            return self.pull_artifact(profile, &reference, store, options);
        }
        let json = self.contents(profile, store)?;
        let of_contents = |source| error(profile, CONTENTS_FILE, source);
        let contents =
            Contents::parse(json.as_bytes(), CONTENTS_FILE).map_err(|error| bad(error.to_string()))?;
        let id = ProfileId::of_tags(&contents.tags(&Sha256::of(json.as_bytes())))
            .map_err(|error| bad(error.to_string()))?;
        if id.to_string() != profile.id {
            return Err(bad(format!("its contents are those of profile {id}")));
        }
        hostile::check_contents(&contents).map_err(bad)?;
        let is_listed =
            |path: &str| path == CONTENTS_FILE || contents.files.iter().any(|file| file.path == path);
        if let Some(stranger) = profile.workspace.files.keys().find(|path| !is_listed(path)) {
            let problem = format!("{CONTENTS_FILE} does not list it");
            return Err(error(profile, stranger, FileError::Other(problem)));
        }
        // Before anything is looked for: what is here of its files stays from now on.
        let described = ContentsFile {
            path: CONTENTS_FILE.into(),
            sha256: Sha256::of(json.as_bytes()),
            size_bytes: json.len() as u64,
        };
        // Without a passport, the record of the pull is what owns them.
        let owned: Vec<ContentsFile> = contents.files.iter().cloned().chain([described]).collect();
        let in_use = store.begin_pull(&id, &self.source(), &owned)?;
        let mut readers = BTreeMap::new();
        let mut files = Vec::new();
        for file in &contents.files {
            let of_file = |source| error(profile, &file.path, source);
            let entry = profile.workspace.files.get(&file.path);
            let uri =
                entry.and_then(|entry| entry.uri.as_deref()).ok_or_else(|| of_file(FileError::NoUri))?;
            let is_here = store.has_blob(&file.sha256, file.size_bytes);
            if !is_here {
                let reader = Reader::open(self, uri).map_err(of_file)?.verified(Some(file.size_bytes));
                readers.insert(file.sha256, (file.path.clone(), reader));
            }
            files.push(IndexedFile {
                path: file.path.clone(),
                size_bytes: file.size_bytes,
                sha256: file.sha256,
                // Not told: it is computed from what arrives, which the other digest verifies.
                blake3: Blake3::from_bytes([0; 32]),
                chunks: Vec::new(),
            });
        }
        let mut pulled = Pulled {
            in_use: Some(Arc::new(in_use)),
            files_bytes: files.iter().map(|file| file.size_bytes).sum(),
            ..Pulled::default()
        };
        let place = Readers { manifest: self, id: &profile.id, readers };
        let outputs = fetch::plain(&place, store, &files, &mut pulled, options)?;
        for output in &outputs {
            let wanted = profile.workspace.files.get(&output.path).and_then(|file| file.checksum.as_deref());
            let found = output.blake3.to_string();
            if let Some(expected) = wanted.filter(|wanted| wanted.starts_with("blake3:") && **wanted != found)
            {
                let problem = format!(
                    "the manifest says {expected}, and {CONTENTS_FILE} names a file that has {found}"
                );
                return Err(error(profile, &output.path, FileError::Other(problem)));
            }
        }
        let found = self.passport(profile, &id, &contents)?;
        let known = store.passport(&id)?;
        let passport = known.or(found);
        match &passport {
            Some(passport) => _ = store.put_profile(passport, &json, &outputs)?,
            None => {
                _ = store
                    .put(json.as_bytes())
                    .map_err(|error| of_contents(FileError::Other(error.to_string())))?
            }
        }
        store.end_pull(&id)?;
        pulled.passport = passport.clone().map(Box::new);
        Ok((pulled, Fetched::InStore(Box::new((contents, json, passport)))))
    }

    /// Returns the artifact in which all files of a profile are, if they are in one of a registry.
    fn artifact(&self, profile: &ManifestProfile) -> Result<Option<Reference>, PullError> {
        let mut found: Option<Reference> = None;
        for (path, file) in &profile.workspace.files {
            let uri = file.uri.as_deref().ok_or_else(|| error(profile, path, FileError::NoUri))?;
            let Location::Registry(reference, _) =
                self.sources.locate(uri).map_err(|source| error(profile, path, source))?
            else {
                continue;
            };
            match &found {
                Some(other) if *other != *reference => {
                    let problem = format!("it is in {reference}, and other files of the profile in {other}");
                    return Err(error(profile, path, FileError::Other(problem)));
                }
                _ => found = Some(*reference),
            }
        }
        Ok(found)
    }

    fn pull_artifact(
        &self,
        profile: &ManifestProfile,
        reference: &Reference,
        store: &Store,
        options: &PullOptions<'_>,
    ) -> Result<(Pulled, Fetched), PullError> {
        let place = RegistryPlace::new((self.connect)(), reference.repository.clone());
        let digest = match which(reference) {
            Which::Digest(digest) => digest,
            tag @ Which::Tag(_) => {
                let missing =
                    || PullError::NoRelease { place: place.name(), which: reference.tag_or_digest() };
                Sha256::of(&place.manifest(&tag)?.ok_or_else(missing)?.0)
            }
        };
        let pulled = pull_profile(&place, (&profile.id, digest), &self.source(), store, options)?;
        let bad = |problem: String| PullError::BadProfile { id: profile.id.clone(), problem };
        let passport = pulled.passport.as_deref().cloned().ok_or_else(|| bad("it has no passport".into()))?;
        let json = passport.contents.to_canonical_json().map_err(|error| bad(error.to_string()))?;
        let fetched = Fetched::InStore(Box::new((passport.contents.clone(), json, Some(passport))));
        Ok((pulled, fetched))
    }

    /// Returns a profile's `contents.json`, which its tag names.
    fn contents(&self, profile: &ManifestProfile, store: &Store) -> Result<String, PullError> {
        let of_contents = |source| error(profile, CONTENTS_FILE, source);
        let tag = profile.tags.get("content").map(String::as_str).unwrap_or_default();
        let expected = Sha256::from_hex(tag).map_err(|_| {
            of_contents(FileError::Other(format!("the tag `content` is no digest: `{}`", tag.escape_debug())))
        })?;
        let bytes = match store.get(&expected) {
            Ok(bytes) => bytes,
            Err(_) => {
                let uri = profile.workspace.files.get(CONTENTS_FILE).and_then(|file| file.uri.as_deref());
                let uri = uri.ok_or_else(|| of_contents(FileError::NoUri))?;
                let bytes = Reader::open(self, uri)
                    .and_then(|reader| reader.verified(None).all(self, MAX_TEXT_BYTES))
                    .map_err(of_contents)?;
                let found = Sha256::of(&bytes);
                if found != expected {
                    let (expected, found) = (expected.to_string(), found.to_string());
                    return Err(of_contents(FileError::Checksum {
                        uri: crate::uri::shown(uri),
                        expected,
                        found,
                    }));
                }
                bytes
            }
        };
        String::from_utf8(bytes).map_err(|error| of_contents(FileError::Other(error.to_string())))
    }

    /// Returns the passport that stands beside `contents.json`, if there is one of this profile.
    fn passport(
        &self,
        profile: &ManifestProfile,
        id: &ProfileId,
        contents: &Contents,
    ) -> Result<Option<Passport>, PullError> {
        let uri = profile.workspace.files.get(CONTENTS_FILE).and_then(|file| file.uri.as_deref());
        let Some(folder) = uri.and_then(|uri| uri.strip_suffix(CONTENTS_FILE)) else { return Ok(None) };
        let beside = format!("{folder}{PASSPORT_FILE}");
        let bytes = match Reader::open(self, &beside).and_then(|reader| reader.all(self, MAX_TEXT_BYTES)) {
            Ok(bytes) => bytes,
            // Object stores refuse what is not there if one may not list the bucket.
            Err(FileError::Server(RegistryError::NotFound { .. } | RegistryError::Forbidden { .. })) => {
                return Ok(None);
            }
            Err(FileError::Io(problem)) if problem.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(error(profile, PASSPORT_FILE, source)),
        };
        let passport = Passport::parse_released(&bytes, PASSPORT_FILE).ok();
        let is_its = |passport: &Passport| {
            passport.id == *id && passport.contents == *contents && hostile::check_passport(passport).is_ok()
        };
        Ok(passport.filter(is_its))
    }
}

/// The files of a profile as blobs of a place.
struct Readers<'r, 'a> {
    manifest: &'r FromManifest<'a>,
    id: &'r str,
    readers: BTreeMap<Sha256, (String, Reader<'a>)>,
}

impl Place for Readers<'_, '_> {
    fn name(&self) -> String {
        format!("profile {}", self.id)
    }

    fn read_blob(&self, blob: &Blob, range: Range<u64>, sink: &mut Sink<'_>) -> Result<(), PlaceError> {
        let Some((path, reader)) = self.readers.get(&blob.digest) else {
            return Err(PlaceError::Missing { place: self.name(), what: format!("blob {}", blob.digest) });
        };
        let network = |source: FileError| {
            let (kind, hint) = (source.kind(), source.hint());
            let error = PullError::File { id: self.id.into(), path: path.clone(), source };
            PlaceError::Network { source: Box::new(error), kind, hint }
        };
        reader.read(self.manifest, range.start, &mut |_| (), sink).map_err(network)
    }

    fn manifest(&self, _: &Which) -> Result<Option<(Vec<u8>, String)>, PlaceError> {
        Ok(None)
    }

    fn put_manifest(&self, _: Option<&str>, _: &str, _: &[u8]) -> Result<Sha256, PlaceError> {
        Err(self.read_only())
    }

    fn has_blob(&self, digest: &Sha256) -> Result<bool, PlaceError> {
        Ok(self.readers.contains_key(digest))
    }

    fn put_blob(&self, _: &Sha256, _: &[u8]) -> Result<(), PlaceError> {
        Err(self.read_only())
    }

    fn put_large_blob(&self, _: &Blob, _: &mut dyn ReadSeek) -> Result<(), PlaceError> {
        Err(self.read_only())
    }
}

impl Readers<'_, '_> {
    fn read_only(&self) -> PlaceError {
        PlaceError::ReadOnly { place: self.name(), reason: "it is where a manifest says" }
    }
}
