//! `select` and `list-model-profiles`: which profile of a manifest runs on a host, and why the others don't.

use std::collections::BTreeMap;
use std::path::Path;

use super::read_manifest::{ReadManifestError, contents_path, read_manifest};
use crate::compute_capability::ComputeCapability;
use crate::device::Host;
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::manifest::{ManifestDocument, ManifestProfile, store_digest};
use crate::passport::{Passport, Status};
use crate::profile::TagSelector;
use crate::profile::{CONTENTS_FILE, Contents, ProfileId};
use crate::release::PASSPORT_FILE;
use crate::selection::{self, Answer, Facts, Lora, PinError, find_pinned};
use crate::store::{Store, StoreError};
use crate::stored_format::{Newer, Unreadable};

/// Max size of a `contents.json` or passport that is read to learn a profile's size.
const MAX_DOCUMENT_BYTES: u64 = 16 << 20;

/// The options of [`select`].
#[derive(Clone, Debug)]
pub struct SelectOptions<'a> {
    /// The manifest.
    pub manifest: &'a Path,
    /// The store with sizes and plan headers of built or fetched profiles, if there is one. A release has its own.
    pub store: Option<&'a Path>,
    /// Tags that the profile must have.
    pub selector: TagSelector,
    /// The profile that the user names, and what named it: `NIM_MANIFEST_PROFILE`, `--profile`.
    pub pin: Option<(String, &'static str)>,
    /// Whether a pinned profile is chosen even if it doesn't fit.
    pub allow_unsafe: bool,
    /// What becomes of profiles that serve LoRA adapters. They are allowed if the pin or the selector names one.
    pub lora: Lora,
}

/// The result of [`select`].
#[derive(Clone, Debug)]
pub struct SelectReport<'a> {
    /// The manifest.
    pub document: ManifestDocument,
    /// What the store, or the release, knows about its profiles, by id.
    pub facts: BTreeMap<String, Facts>,
    /// An answer for each kind of GPU.
    pub answers: Vec<Answer<'a>>,
    /// Index of the profile that the user named, and what named it.
    pub pinned: Option<(usize, &'static str)>,
    /// What became of profiles that serve LoRA adapters.
    pub lora: Lora,
    allow_unsafe: bool,
}

/// Why no profile was selected.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The manifest can't be read.
    #[error(transparent)]
    Manifest(#[from] ReadManifestError),
    /// A newer nimctl wrote a file in the store.
    #[error(transparent)]
    Newer(#[from] Newer),
    /// The name that the user gave matches no profile, or several.
    #[error("{pinned_by}: {source}")]
    Pin {
        /// What named it.
        pinned_by: &'static str,
        /// Why it names no profile.
        source: PinError,
    },
    /// The profile that the user named doesn't run here.
    #[error("profile {id} ({name}), requested by {pinned_by}, does not run on this host: {}", .reasons.join("; "))]
    PinnedDoesNotFit {
        /// Its id.
        id: String,
        /// Its readable name.
        name: String,
        /// What named it.
        pinned_by: &'static str,
        /// Why, for each kind of GPU.
        reasons: Vec<String>,
    },
    /// No profile fits any GPU.
    #[error("no profile fits {}:\n  {}", .hosts.join(" or "), .reasons.join("\n  "))]
    NoProfileFits {
        /// The kinds of GPU.
        hosts: Vec<String>,
        /// Why each profile doesn't fit.
        reasons: Vec<String>,
    },
}

impl SelectError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Manifest(error) => error.kind(),
            Self::Newer(_) | Self::Pin { .. } => ErrorKind::Input,
            Self::PinnedDoesNotFit { .. } | Self::NoProfileFits { .. } => ErrorKind::NoProfile,
        }
    }

    /// Returns what the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::PinnedDoesNotFit { .. } => Some(
                "name another profile, leave it out to have one chosen, or set NIM_MANIFEST_ALLOW_UNSAFE=1"
                    .into(),
            ),
            Self::Pin { .. } => Some("`nimctl list-model-profiles` lists ids and names".into()),
            Self::Manifest(_) | Self::Newer(_) | Self::NoProfileFits { .. } => None,
        }
    }
}

impl SelectReport<'_> {
    /// Returns the profiles, in the order of the manifest.
    pub fn profiles(&self) -> &[ManifestProfile] {
        &self.document.manifest().profiles
    }

    /// Returns the index of the profile to run on one kind of GPU.
    pub fn chosen(&self, answer: &Answer<'_>) -> Option<usize> {
        match self.pinned {
            None => answer.chosen(),
            Some((place, _)) => {
                let fits = answer.fitting.iter().any(|(fitting, _, _)| *fitting == place);
                (fits || self.allow_unsafe).then_some(place)
            }
        }
    }

    /// Returns why a profile doesn't fit one kind of GPU; `None` if it fits.
    pub fn why_not(&self, answer: &Answer<'_>, place: usize) -> Option<String> {
        let short = answer.short_of_memory.iter().find(|(other, _)| *other == place);
        let rejected = answer.rejected.iter().find(|(other, _)| *other == place);
        short
            .map(|(_, message)| message.clone())
            .or_else(|| rejected.map(|(_, rejection)| rejection.to_string()))
    }

    /// Fails unless a profile is chosen for at least one kind of GPU.
    ///
    /// # Errors
    /// The reasons for the profile that the user named, or for every profile.
    pub fn check(&self) -> Result<(), SelectError> {
        if self.answers.iter().any(|answer| self.chosen(answer).is_some()) {
            return Ok(());
        }
        let shown =
            |place: usize| (self.profiles()[place].id.clone(), self.profiles()[place].readable_name());
        if let Some((place, pinned_by)) = self.pinned {
            let (id, name) = shown(place);
            let reason = |answer: &Answer<'_>| {
                Some(format!("{}: {}", answer.group.name(), self.why_not(answer, place)?))
            };
            let reasons = self.answers.iter().filter_map(reason).collect();
            return Err(SelectError::PinnedDoesNotFit { id, name, pinned_by, reasons });
        }
        let mut reasons = Vec::new();
        for answer in &self.answers {
            for place in 0..self.profiles().len() {
                let (id, name) = shown(place);
                let why = self.why_not(answer, place).unwrap_or_default();
                let of_kind =
                    if self.answers.len() > 1 { format!("{}: ", answer.group.name()) } else { String::new() };
                reasons.push(format!("{of_kind}{id} ({name}): {why}"));
            }
        }
        if self.profiles().is_empty() {
            reasons.push("the manifest has no profiles".into());
        }
        let hosts = self.answers.iter().map(|answer| answer.group.name()).collect();
        Err(SelectError::NoProfileFits { hosts, reasons })
    }
}

/// Checks a manifest's profiles against a host.
///
/// # Errors
/// A manifest that can't be read; a pin that names no profile or several.
pub fn select<'a>(options: &SelectOptions<'_>, host: &'a Host) -> Result<SelectReport<'a>, SelectError> {
    let document = read_manifest(options.manifest)?;
    let profiles = &document.manifest().profiles;
    let pinned = match &options.pin {
        None => None,
        Some((pin, pinned_by)) => {
            let place =
                find_pinned(profiles, pin).map_err(|source| SelectError::Pin { pinned_by, source })?;
            Some((place, *pinned_by))
        }
    };
    let store = options.store.filter(|root| root.is_dir()).map(Store::look_at);
    let mut facts = BTreeMap::new();
    for profile in profiles {
        if let Some(known) = facts_of(options.manifest, profile, store.as_ref())? {
            facts.insert(profile.id.clone(), known);
        }
    }
    let lora = match options.lora {
        Lora::Excluded if pinned.is_some() || options.selector.names("feat_lora") => Lora::Allowed,
        lora => lora,
    };
    let answers = selection::select(profiles, &facts, &options.selector, lora, host);
    Ok(SelectReport { facts, answers, pinned, lora, allow_unsafe: options.allow_unsafe, document })
}

/// Returns what the store, or the release that the manifest is of, knows about a profile that names its contents; `None` if the
/// contents are missing or damaged. Their digest is checked: a changed size must not decide.
fn facts_of(
    manifest: &Path,
    profile: &ManifestProfile,
    store: Option<&Store>,
) -> Result<Option<Facts>, Newer> {
    let Some(path) = contents_path(manifest, profile, store) else { return Ok(None) };
    let Some(contents) = contents(&path, profile)? else { return Ok(None) };
    let of_store = store.map(|store| passport_of_store(profile, store)).transpose()?.flatten();
    let passport = match of_store {
        Some(passport) => Some(passport),
        None => passport_of_release(&path.with_file_name(PASSPORT_FILE), profile)?,
    };
    let capabilities = contents.target.compute_capabilities();
    let from_target = (!capabilities.is_empty()).then_some(capabilities);
    Ok(Some(Facts {
        files_size_bytes: Some(
            contents.files.iter().fold(0, |sum, file| file.size_bytes.saturating_add(sum)),
        ),
        plan_capabilities: passport.as_ref().and_then(plan_capabilities).or(from_target),
        validated: passport.as_ref().and_then(validated),
    }))
}

/// Returns a profile's contents, if they exist, have the digest that its tags or its uri name, and are not too large.
fn contents(path: &Path, profile: &ManifestProfile) -> Result<Option<Contents>, Newer> {
    let uri = profile.workspace.files.get(CONTENTS_FILE).and_then(|file| file.uri.as_deref());
    let wanted = uri.and_then(store_digest).map(|sha256| sha256.to_hex());
    let wanted = wanted.or_else(|| profile.tags.get("content").cloned());
    let Some(json) = read_sensible(path).filter(|json| wanted == Some(Sha256::of(json).to_hex())) else {
        return Ok(None);
    };
    whole(Contents::parse(&json, &path.display().to_string()))
}

/// Returns a profile's passport in the store, if it exists and is not too large.
fn passport_of_store(profile: &ManifestProfile, store: &Store) -> Result<Option<Passport>, Newer> {
    let Ok(id) = ProfileId::from_hex(&profile.id) else { return Ok(None) };
    if !is_sensible(&store.passport_path(&id)) {
        return Ok(None);
    }
    match store.passport(&id) {
        Ok(passport) => Ok(passport),
        Err(StoreError::Newer(newer)) => Err(newer),
        Err(_) => Ok(None),
    }
}

/// Returns a profile's passport beside its contents, as a release has it.
fn passport_of_release(path: &Path, profile: &ManifestProfile) -> Result<Option<Passport>, Newer> {
    let Some(json) = read_sensible(path) else { return Ok(None) };
    let passport = whole(Passport::parse(&json, &path.display().to_string()))?;
    Ok(passport.filter(|passport| passport.id.to_string() == profile.id))
}

/// Returns what was read; `None` if it is damaged.
fn whole<T>(read: Result<T, Unreadable>) -> Result<Option<T>, Newer> {
    match read {
        Ok(document) => Ok(Some(document)),
        Err(Unreadable::Damaged { path: _, problem: _ }) => Ok(None),
        Err(Unreadable::Newer(newer)) => Err(newer),
    }
}

fn read_sensible(path: &Path) -> Option<Vec<u8>> {
    is_sensible(path).then(|| fs_err::read(path).ok())?
}

fn is_sensible(path: &Path) -> bool {
    fs_err::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_DOCUMENT_BYTES)
}

/// Returns the compute capabilities that all plans of a profile have code for.
fn plan_capabilities(passport: &Passport) -> Option<Vec<ComputeCapability>> {
    let mut plans = passport
        .graphs
        .values()
        .filter_map(|graph| graph.compilation.as_ref()?.plan.as_ref())
        .map(|plan| plan.compute_capabilities.clone());
    let first = plans.next()?;
    Some(plans.fold(first, |all, plan| all.into_iter().filter(|one| plan.contains(one)).collect()))
}

/// Returns whether a profile passed validation. Only a run of the profile itself, in its own precision, proves a pass; any failure
/// counts.
fn validated(passport: &Passport) -> Option<bool> {
    match &passport.validation {
        Status::Executed(validation) | Status::Static(validation) if !validation.passed => Some(false),
        Status::Executed(validation) if validation.is_in_own_precision() => Some(true),
        Status::Executed(_) | Status::Static(_) | Status::Skipped(_) => None,
    }
}
