//! What is published: the profiles of a release folder, or what the store has of a recipe.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::PublishError;
use crate::attestation::Kind;
use crate::digest::{Blake3, Sha256};
use crate::manifest::{MANIFEST_FILE, Manifest, ManifestProfile, file_uri};
use crate::ops::assemble::{self, Assembled, AssembledProfile, AssembledState};
use crate::ops::attest::Unverified;
use crate::ops::pull::covers;
use crate::ops::report::sort_out;
use crate::ops::resolve::Resolved;
use crate::ops::workspace::Workspace;
use crate::passport::Passport;
use crate::profile::{CONTENTS_FILE, Contents, ModelRelease, ProfileId};
use crate::release::{NOTES_FILE, Notes, PASSPORT_FILE, PROFILES_FOLDER, notes};
use crate::report::{REPORT_FILE, Report};
use crate::signing::{Bundle, Statement};
use crate::store::{InUse, Store};
use crate::trust::in_words;

/// What is published.
#[derive(Clone, Debug)]
pub struct Shipment {
    /// The model and its release.
    pub model: ModelRelease,
    /// The manifest, notes and report, by file name.
    pub documents: Vec<(String, Vec<u8>)>,
    /// Keeps files in the store as long as they are needed.
    pub in_use: Arc<InUse>,
    /// The profiles, in the order of the manifest.
    pub profiles: Vec<ShippedProfile>,
    /// The signature of the release, a Sigstore bundle.
    pub signature: Option<Vec<u8>>,
    /// What is attested of its profiles, by their ids.
    pub attestations: BTreeMap<ProfileId, Vec<ShippedAttestation>>,
    /// The release folder, if it is one that is published.
    pub folder: Option<PathBuf>,
}

/// An attestation that is published with a profile.
#[derive(Clone, Debug)]
pub struct ShippedAttestation {
    /// What it is; `None` for a statement of others.
    pub kind: Option<Kind>,
    /// The type of its predicate.
    pub predicate_type: String,
    /// The text of the bundle.
    pub bundle: Vec<u8>,
}

/// A profile that is published.
#[derive(Clone, Debug)]
pub struct ShippedProfile {
    /// Its id.
    pub id: ProfileId,
    /// Its readable name.
    pub name: String,
    /// The exact bytes of its `contents.json`.
    pub contents_json: Vec<u8>,
    /// The bytes of its passport.
    pub passport: Vec<u8>,
    /// Its other files.
    pub files: Vec<ShippedFile>,
}

/// A file that is published.
#[derive(Clone, Debug)]
pub struct ShippedFile {
    /// Its path in the profile.
    pub path: String,
    /// Where it is.
    pub place: PathBuf,
    /// What it must be.
    pub sha256: Sha256,
    /// Its other digest, if it is known.
    pub blake3: Option<Blake3>,
    /// Its size.
    pub size_bytes: u64,
}

impl Shipment {
    /// Returns the shipment of a release folder.
    ///
    /// # Errors
    /// A folder that is not a release, or one whose documents contradict each other.
    pub fn of_release(folder: &Path) -> Result<Self, PublishError> {
        let passports = crate::ops::verify::passports(folder)
            .map_err(|source| PublishError::NoRelease { path: folder.into(), source })?;
        let manifest = read(&folder.join(MANIFEST_FILE))?;
        let entries = entries(&manifest, &folder.join(MANIFEST_FILE))?;
        let mut profiles = Vec::new();
        for passport in &passports {
            let root = folder.join(PROFILES_FOLDER).join(passport.id.to_string());
            profiles.push(of_folder(&root, passport, entries.get(&passport.id.to_string()))?);
        }
        let first = passports.into_iter().next().map(|passport| passport.contents.model);
        let model = first.ok_or_else(|| PublishError::Damaged {
            path: folder.join(MANIFEST_FILE),
            problem: "it lists no profile".into(),
        })?;
        let mut documents = vec![(MANIFEST_FILE.to_owned(), manifest)];
        for name in [NOTES_FILE, REPORT_FILE] {
            let path = folder.join(name);
            if path.is_file() {
                documents.push((name.into(), read(&path)?));
            }
        }
        Ok(Self {
            model,
            documents,
            in_use: Arc::default(),
            profiles,
            signature: None,
            attestations: BTreeMap::new(),
            folder: Some(folder.into()),
        })
    }

    /// Checks that a signature is one of exactly what is published, as `pull` compares them. Who made it is not asked.
    ///
    /// # Errors
    /// The first file that differs; something else than a signature of a model.
    pub fn check_signature(&self, bundle: &[u8]) -> Result<(), String> {
        let bundle = Bundle::parse(bundle).map_err(|refusal| in_words(&refusal))?;
        let statement: Statement = bundle.unverified().map_err(|error| in_words(&error))?;
        covers(&statement, &self.digests())
    }

    /// Returns the digest of each published file, by its path in a release folder.
    fn digests(&self) -> BTreeMap<String, Sha256> {
        let documents = self.documents.iter();
        let mut digests: BTreeMap<String, Sha256> =
            documents.map(|(name, bytes)| (name.clone(), Sha256::of(bytes))).collect();
        for ShippedProfile { id, name: _, contents_json, passport, files } in &self.profiles {
            let folder = format!("{PROFILES_FOLDER}/{id}");
            digests.extend(files.iter().map(|file| (format!("{folder}/{}", file.path), file.sha256)));
            digests.insert(format!("{folder}/{CONTENTS_FILE}"), Sha256::of(contents_json));
            digests.insert(format!("{folder}/{PASSPORT_FILE}"), Sha256::of(passport));
        }
        digests
    }

    /// Adds attestations; `path` is only named in errors.
    ///
    /// # Errors
    /// One that is not about a profile of this release.
    pub fn attest(&mut self, path: &Path, all: Vec<Unverified>) -> Result<(), PublishError> {
        for Unverified { bundle, says, line } in all {
            let is_about =
                |profile: &&ShippedProfile| says.is_about(&profile.id, &Sha256::of(&profile.contents_json));
            let Some(profile) = self.profiles.iter().find(is_about) else {
                let problem = format!(
                    "line {line} is about something else than the profiles of this release: attest it again with `nimctl attest`"
                );
                return Err(PublishError::Damaged { path: path.into(), problem });
            };
            self.attestations.entry(profile.id).or_default().push(ShippedAttestation {
                kind: says.kind(),
                predicate_type: says.predicate_type().to_owned(),
                bundle: bundle.to_json_line().into_bytes(),
            });
        }
        Ok(())
    }

    /// Returns the shipment of what the store has of a recipe.
    ///
    /// # Errors
    /// A store without any profile of it, or that can't be read.
    pub fn of_recipe(workspace: &Workspace, resolved: &Resolved) -> Result<Self, PublishError> {
        let store = Store::look_at(&workspace.store);
        let (assembled, in_use) = assemble::from_store_in_use(resolved, &store)?;
        let model = resolved.recipe().model.clone();
        let complete: Vec<AssembledProfile> = assembled
            .iter()
            .filter_map(|Assembled { name: _, state }| match state {
                AssembledState::Complete(profile) => Some((**profile).clone()),
                AssembledState::Failed(_)
                | AssembledState::NotBuiltHere(_)
                | AssembledState::NotSelected
                | AssembledState::NotInStore => None,
            })
            .collect();
        if complete.is_empty() {
            return Err(PublishError::NothingBuilt { path: resolved.file().path.display().to_string() });
        }
        let documents = documents(&model, &complete, assembled, &store)?;
        let mut profiles: Vec<ShippedProfile> = Vec::new();
        for profile in complete {
            // Two names may have one id.
            if profiles.iter().all(|known| known.id != profile.passport.id) {
                profiles.push(of_store(profile, &store));
            }
        }
        Ok(Self {
            model,
            documents,
            in_use: Arc::new(in_use),
            profiles,
            signature: None,
            attestations: BTreeMap::new(),
            folder: None,
        })
    }
}

fn documents(
    model: &ModelRelease,
    complete: &[AssembledProfile],
    assembled: Vec<Assembled>,
    store: &Store,
) -> Result<Vec<(String, Vec<u8>)>, PublishError> {
    let document = |what, problem: String| PublishError::Document { what, problem };
    let mut entries: Vec<ManifestProfile> = Vec::new();
    for AssembledProfile { entry, .. } in complete {
        if entries.iter().any(|known| known.id == entry.id) {
            continue;
        }
        let mut entry = entry.clone();
        for (path, file) in &mut entry.workspace.files {
            file.uri = Some(file_uri(&format!("{PROFILES_FOLDER}/{}/{path}", entry.id)));
        }
        entries.push(entry);
    }
    let manifest = Manifest::new(model, entries)
        .and_then(|manifest| manifest.to_yaml())
        .map_err(|error| document("the manifest", error.to_string()))?;
    let (passports, not_built) = sort_out(assembled, store)?;
    let notes = notes(&Notes {
        model,
        profiles: &passports,
        not_built: &not_built,
        baseline: None,
        comparisons: &[],
    });
    let report = Report::new(model, &passports, &not_built, &[])
        .to_html()
        .map_err(|error| document("the report", error.to_string()))?;
    Ok(vec![
        (MANIFEST_FILE.into(), manifest.into_bytes()),
        (NOTES_FILE.into(), notes.into_bytes()),
        (REPORT_FILE.into(), report.into_bytes()),
    ])
}

fn of_store(profile: AssembledProfile, store: &Store) -> ShippedProfile {
    let AssembledProfile { passport, contents_json, files, entry: _ } = profile;
    let file = |file: crate::worklist::OutputFile| ShippedFile {
        place: store.blob_path(&file.sha256),
        path: file.path,
        sha256: file.sha256,
        blake3: Some(file.blake3),
        size_bytes: file.size_bytes,
    };
    ShippedProfile {
        id: passport.id,
        name: passport.name.clone(),
        contents_json: contents_json.into_bytes(),
        passport: passport.for_release(),
        files: files.into_iter().map(file).collect(),
    }
}

fn of_folder(
    root: &Path,
    passport: &Passport,
    entry: Option<&ManifestProfile>,
) -> Result<ShippedProfile, PublishError> {
    let path = root.join(CONTENTS_FILE);
    let contents_json = read(&path)?;
    let damaged = |problem: String| PublishError::Damaged { path: path.clone(), problem };
    let contents = Contents::parse(&contents_json, &path.display().to_string())
        .map_err(|error| damaged(error.to_string()))?;
    let id = ProfileId::of_tags(&contents.tags(&Sha256::of(&contents_json)))
        .map_err(|error| damaged(error.to_string()))?;
    if id != passport.id {
        return Err(damaged(format!("it is that of profile {id}, not of {}", passport.id)));
    }
    let checksum = |path: &str| entry?.workspace.files.get(path)?.checksum.as_deref()?.parse().ok();
    let files = contents
        .files
        .iter()
        .map(|file| ShippedFile {
            path: file.path.clone(),
            place: root.join(&file.path),
            sha256: file.sha256,
            blake3: checksum(&file.path),
            size_bytes: file.size_bytes,
        })
        .collect();
    Ok(ShippedProfile {
        id,
        name: passport.name.clone(),
        contents_json,
        passport: read(&root.join(PASSPORT_FILE))?,
        files,
    })
}

/// Returns the manifest's profiles by id.
fn entries(manifest: &[u8], path: &Path) -> Result<BTreeMap<String, ManifestProfile>, PublishError> {
    let damaged = |problem: String| PublishError::Damaged { path: path.into(), problem };
    let text = std::str::from_utf8(manifest).map_err(|error| damaged(error.to_string()))?;
    let manifest =
        Manifest::parse(text, &path.display().to_string()).map_err(|error| damaged(error.to_string()))?;
    Ok(manifest.profiles.into_iter().map(|profile| (profile.id.clone(), profile)).collect())
}

fn read(path: &Path) -> Result<Vec<u8>, PublishError> {
    fs_err::read(path).map_err(|source| PublishError::Read { path: path.into(), source })
}
