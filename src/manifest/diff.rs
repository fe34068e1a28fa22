//! What changed from one manifest to another.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Manifest, ManifestFile, ManifestProfile};

/// Tags that depend on the build: a profile that differs only in these is the same profile, rebuilt.
const TAGS_OF_A_BUILD: [&str; 2] = ["content", "trt_version"];

/// The differences between two manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ManifestDiff {
    /// Ids and names of profiles that only the new one has.
    pub added: Vec<(String, String)>,
    /// Ids and names of profiles that only the old one has.
    pub removed: Vec<(String, String)>,
    /// Profiles that both have, and that differ.
    pub changed: Vec<Changed>,
    /// Number of profiles that are equal in both.
    pub unchanged: usize,
}

/// A profile that both manifests have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Its readable name in the new manifest.
    pub name: String,
    /// Its id in the old manifest.
    pub old_id: String,
    /// Its id in the new manifest.
    pub new_id: String,
    /// Tags that differ, by key.
    pub tags: BTreeMap<String, TagChange>,
    /// Files that differ, by path.
    pub files: BTreeMap<String, FileChange>,
}

/// How a tag differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TagChange {
    /// The value in the old manifest, if it has the tag.
    pub old: Option<String>,
    /// The value in the new manifest, if it has the tag.
    pub new: Option<String>,
}

/// How a file differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileChange {
    /// Only the new manifest has it.
    Added,
    /// Only the old manifest has it.
    Removed,
    /// Its bytes differ: by checksum, or by uri if a checksum is missing.
    Bytes,
    /// The same bytes at another uri.
    Moved,
}

impl Changed {
    /// Returns whether bytes of the profile changed, not only tags or uris.
    pub fn changes_bytes(&self) -> bool {
        self.files.values().any(|change| *change != FileChange::Moved)
    }
}

impl ManifestDiff {
    /// Returns whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Compares two manifests. Profiles are matched by id, then by the tags that say what a profile is for.
pub fn diff(old: &Manifest, new: &Manifest) -> ManifestDiff {
    let mut result = ManifestDiff::default();
    let new_by_id: BTreeMap<&str, &ManifestProfile> =
        new.profiles.iter().map(|profile| (profile.id.as_str(), profile)).collect();
    let mut matched: BTreeSet<&str> = BTreeSet::new();
    let mut pairs = Vec::new();
    let mut left = Vec::new();
    for profile in &old.profiles {
        match new_by_id.get(profile.id.as_str()) {
            Some(same) => {
                matched.insert(&same.id);
                pairs.push((profile, *same));
            }
            None => left.push(profile),
        }
    }
    let mut new_by_purpose: BTreeMap<Vec<(&str, &str)>, &ManifestProfile> = BTreeMap::new();
    for profile in new.profiles.iter().filter(|profile| !matched.contains(profile.id.as_str())) {
        new_by_purpose.insert(purpose(profile), profile);
    }
    for profile in left {
        match new_by_purpose.remove(&purpose(profile)) {
            Some(rebuilt) => {
                matched.insert(&rebuilt.id);
                pairs.push((profile, rebuilt));
            }
            None => result.removed.push((profile.id.clone(), profile.readable_name())),
        }
    }
    for (old, new) in pairs {
        let changed = compare(old, new);
        if changed.tags.is_empty() && changed.files.is_empty() && old.id == new.id {
            result.unchanged += 1;
        } else {
            result.changed.push(changed);
        }
    }
    let added = new.profiles.iter().filter(|profile| !matched.contains(profile.id.as_str()));
    result.added = added.map(|profile| (profile.id.clone(), profile.readable_name())).collect();
    result
}

fn purpose(profile: &ManifestProfile) -> Vec<(&str, &str)> {
    let tags = profile.tags.iter().filter(|(key, _)| !TAGS_OF_A_BUILD.contains(&key.as_str()));
    tags.map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

fn compare(old: &ManifestProfile, new: &ManifestProfile) -> Changed {
    let keys: BTreeSet<&String> = old.tags.keys().chain(new.tags.keys()).collect();
    let tag = |key: &String| {
        let change = TagChange { old: old.tags.get(key).cloned(), new: new.tags.get(key).cloned() };
        (change.old != change.new).then(|| (key.clone(), change))
    };
    let (old_files, new_files) = (&old.workspace.files, &new.workspace.files);
    let paths: BTreeSet<&String> = old_files.keys().chain(new_files.keys()).collect();
    let file = |path: &String| {
        let change = match (old_files.get(path), new_files.get(path)) {
            (None, _) => FileChange::Added,
            (_, None) => FileChange::Removed,
            (Some(old), Some(new)) => file_change(old, new)?,
        };
        Some((path.clone(), change))
    };
    Changed {
        name: new.readable_name(),
        old_id: old.id.clone(),
        new_id: new.id.clone(),
        tags: keys.into_iter().filter_map(tag).collect(),
        files: paths.into_iter().filter_map(file).collect(),
    }
}

fn file_change(old: &ManifestFile, new: &ManifestFile) -> Option<FileChange> {
    let moved = old.uri != new.uri;
    match (&old.checksum, &new.checksum) {
        (Some(a), Some(b)) if a != b => Some(FileChange::Bytes),
        (Some(_), Some(_)) => moved.then_some(FileChange::Moved),
        // Without both checksums, only the uri can show a change.
        _ => moved.then_some(FileChange::Bytes),
    }
}
