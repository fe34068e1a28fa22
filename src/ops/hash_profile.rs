//! `hash-profile`: the ids of profiles, from a manifest, a recipe that was built, a profile's folder, or tags alone.
//!
//! A manifest's or folder's ids are computed anew from what is there, and compared with what is written.

use std::io;
use std::path::{Path, PathBuf};

use super::assemble::{self, Assembled, AssembledProfile, AssembledState};
use super::error::PipelineError;
use super::read_manifest::{ReadManifestError, contents_path, read_manifest};
use super::resolve::{RecipeFile, Resolved};
use super::workspace::Workspace;
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::manifest::{IdKind, MANIFEST_FILE, ManifestProfile};
use crate::profile::{CONTENTS_FILE, CONTENTS_SCHEMA, Contents, InvalidTag, ProfileId, Tags, hashed_text};
use crate::store::Store;
use crate::stored_format::{Newer, Unreadable};

/// Which rule an id is computed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// NIM's rule over tags that include `content`: the id names the bytes.
    Content,
    /// NIM's bare rule, for manifests that others wrote.
    NimTags,
}

/// One profile's id.
#[derive(Clone, Debug)]
pub struct HashedProfile {
    /// The id that the rule gives.
    pub id: ProfileId,
    /// The id that is written, where one is.
    pub written: Option<String>,
    /// Whether the written id was made by a rule that isn't public, so that it can't be compared.
    pub is_opaque: bool,
    /// Its tags.
    pub tags: Tags,
    /// The text that the id is the BLAKE3 of.
    pub hashed_text: String,
    /// The exact text of `contents.json`, where it is at hand.
    pub contents_json: Option<String>,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// A file can't be read.
    #[error("cannot read the profile")]
    Read {
        /// Why; names the path.
        source: io::Error,
    },
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ReadManifestError),
    /// Tags that have no id.
    #[error(transparent)]
    Tag(#[from] InvalidTag),
    /// A folder without what makes it a profile.
    #[error("{path} is not a profile folder: {CONTENTS_FILE} is missing")]
    NotAProfile {
        /// The folder.
        path: String,
    },
    /// `contents.json` is of a newer nimctl.
    #[error(transparent)]
    Newer(#[from] Newer),
    /// `contents.json` isn't what it should be.
    #[error("{path} is not the canonical JSON of `{CONTENTS_SCHEMA}`: {problem}")]
    Contents {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A file of the folder differs from what `contents.json` says.
    #[error("{path} does not match {CONTENTS_FILE}: expected {expected}, found {found}")]
    FileDiffers {
        /// The file.
        path: String,
        /// The digest listed.
        expected: Sha256,
        /// The digest found.
        found: Sha256,
    },
    /// A profile of a recipe that is not in the store.
    #[error("profile {name} is not built for the current recipe, and its id depends on the built files")]
    NotBuilt {
        /// The profile.
        name: String,
        /// The recipe.
        recipe: PathBuf,
    },
    /// The recipe, its sources or its backends.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A profile without the tag `content`, under the scheme that needs it.
    #[error(
        "profile {id} has no tag `content`, so its id does not cover its files; for manifests written by other tools, use --scheme nim-tags"
    )]
    NoContent {
        /// The profile.
        id: String,
    },
}

impl HashError {
    /// Returns what to do, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotBuilt { recipe, .. } => Some(format!("run `nimctl build {}` first", recipe.display())),
            Self::Pipeline(source) => source.hint(),
            _ => None,
        }
    }

    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::FileDiffers { .. } => ErrorKind::Refused,
            Self::Pipeline(source) => source.kind(),
            Self::Read { .. }
            | Self::Manifest(_)
            | Self::Tag(_)
            | Self::NotAProfile { .. }
            | Self::NotBuilt { .. }
            | Self::Newer(_)
            | Self::Contents { .. }
            | Self::NoContent { .. } => ErrorKind::Input,
        }
    }
}

/// Hashes tags alone.
///
/// # Errors
/// Tags with the rule's separators in them.
pub fn of_tags(tags: Tags) -> Result<HashedProfile, HashError> {
    Ok(HashedProfile {
        id: ProfileId::of_tags(&tags)?,
        written: None,
        is_opaque: false,
        hashed_text: hashed_text(&tags)?,
        tags,
        contents_json: None,
    })
}

/// Hashes every profile of a manifest. `store` is where `contents.json` may be found, to be shown.
///
/// # Errors
/// A manifest that can't be read; a profile without `content` under [`Scheme::Content`].
pub fn of_manifest(
    path: &Path,
    scheme: Scheme,
    store: Option<&Path>,
) -> Result<Vec<HashedProfile>, HashError> {
    let document = read_manifest(path)?;
    let hashed = |profile: &ManifestProfile| {
        let is_opaque = document.id_kind(profile) == IdKind::Opaque;
        let contents_json = contents_path(path, profile, store.map(Store::look_at).as_ref())
            .and_then(|path| fs_err::read_to_string(path).ok());
        let hashed = of_manifest_profile(profile.clone(), scheme)?;
        Ok(HashedProfile { is_opaque, contents_json, ..hashed })
    };
    document.manifest().profiles.iter().map(hashed).collect()
}

fn of_manifest_profile(profile: ManifestProfile, scheme: Scheme) -> Result<HashedProfile, HashError> {
    if scheme == Scheme::Content && !profile.tags.contains_key("content") {
        return Err(HashError::NoContent { id: profile.id });
    }
    Ok(HashedProfile { written: Some(profile.id), ..of_tags(profile.tags)? })
}

/// Hashes one profile's folder: `contents.json`, and the files it lists. The tags follow from `contents.json`.
///
/// # Errors
/// A file that is missing or differs from what `contents.json` lists.
pub fn of_folder(folder: &Path) -> Result<HashedProfile, HashError> {
    let path = folder.join(CONTENTS_FILE);
    let json = match fs_err::read_to_string(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(HashError::NotAProfile { path: folder.display().to_string() });
        }
        Err(source) => return Err(HashError::Read { source }),
    };
    let problem = |problem: String| HashError::Contents { path: path.display().to_string(), problem };
    let contents =
        Contents::parse(json.as_bytes(), &path.display().to_string()).map_err(|error| match error {
            Unreadable::Newer(newer) => newer.into(),
            Unreadable::Damaged { path: _, problem: why } => problem(why),
        })?;
    let canonical = contents.to_canonical_json().map_err(|error| problem(error.to_string()))?;
    if canonical != json {
        return Err(problem("it is not in canonical form (RFC 8785)".into()));
    }
    for file in &contents.files {
        let inside =
            Path::new(&file.path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !inside {
            return Err(problem(format!("it lists `{}`, which is not a path inside the profile", file.path)));
        }
        let path = folder.join(&file.path);
        let (found, size_bytes) = Sha256::of_file(&path).map_err(|source| HashError::Read { source })?;
        if found != file.sha256 {
            return Err(HashError::FileDiffers {
                path: path.display().to_string(),
                expected: file.sha256,
                found,
            });
        }
        if size_bytes != file.size_bytes {
            let listed = file.size_bytes;
            return Err(problem(format!(
                "it lists `{}` with {listed} bytes, but the file has {size_bytes}",
                file.path
            )));
        }
    }
    let tags = contents.tags(&Sha256::of(json.as_bytes()));
    Ok(HashedProfile { contents_json: Some(json), ..of_tags(tags)? })
}

/// Hashes the profiles of a recipe that the store has. Their ids follow from the built bytes: a profile that can be built
/// here must be built as the recipe is now.
///
/// # Errors
/// A profile that is not built; a store that can't be read.
pub fn of_recipe(workspace: &Workspace, resolved: &Resolved) -> Result<Vec<HashedProfile>, HashError> {
    let mut profiles = Vec::new();
    for Assembled { name, state } in assemble::from_store(resolved, &Store::look_at(&workspace.store))? {
        match state {
            AssembledState::Complete(profile) => {
                let AssembledProfile { passport, contents_json, files: _, entry: _ } = *profile;
                let hashed = of_tags(passport.tags)?;
                profiles.push(HashedProfile { contents_json: Some(contents_json), ..hashed });
            }
            AssembledState::NotBuiltHere(_) | AssembledState::NotSelected => {}
            AssembledState::NotInStore | AssembledState::Failed(_) => {
                return Err(HashError::NotBuilt { name, recipe: resolved.file().path.clone() });
            }
        }
    }
    Ok(profiles)
}

/// What a path names.
#[derive(Debug)]
pub enum Named {
    /// A profile's folder.
    Folder,
    /// A manifest.
    Manifest,
    /// A recipe.
    Recipe(Box<RecipeFile>),
}

/// Tells manifests from recipes: by the file's name, else by what it says. A recipe says `schema`; a manifest says
/// `schema_version`, or, in the form of 2024, nothing of the kind, and has profiles with `tags`.
///
/// # Errors
/// A recipe that can't be read or is wrong.
pub fn named(path: &Path) -> Result<Named, HashError> {
    if path.is_dir() {
        return Ok(Named::Folder);
    }
    if path.file_name().is_some_and(|name| name == MANIFEST_FILE) {
        return Ok(Named::Manifest);
    }
    let text = crate::files::text::read(path);
    let says = |text: &str, key: &str| text.lines().any(|line| line.starts_with(key));
    let has_tags =
        |text: &str| text.lines().any(|line| line.trim_start().starts_with("tags:") && line.starts_with(' '));
    match text {
        Ok(text) if says(&text, "schema_version:") || !says(&text, "schema:") && has_tags(&text) => {
            Ok(Named::Manifest)
        }
        Ok(text) => Ok(Named::Recipe(Box::new(RecipeFile::of_text(path, &text)?))),
        Err(source) => Err(PipelineError::ReadRecipe { source }.into()),
    }
}
