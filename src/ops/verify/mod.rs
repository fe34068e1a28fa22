//! `verify`: recomputes every digest and id in a release folder, or a tar of one, and compares them with the recorded ones.

mod folder;
mod tar_file;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::pull::hostile;
use crate::digest::{Blake3, Sha256};
use crate::error_kind::ErrorKind;
use crate::manifest::{MANIFEST_FILE, Manifest, ManifestError, ManifestProfile, file_path, store_digest};
use crate::passport::{NotOfItsId, PASSPORT_SCHEMA, Passport};
use crate::profile::{CONTENTS_FILE, CONTENTS_SCHEMA, Contents};
use crate::release::{PASSPORT_FILE, PROFILES_FOLDER, SAMPLES_FILE, SUMS_FILE, Sums};
use crate::stored_format::{Newer, Unreadable};

/// Files with these names are read into memory, up to `MAX_TEXT_BYTES` each.
const TEXTS: [&str; 4] = [MANIFEST_FILE, CONTENTS_FILE, PASSPORT_FILE, SUMS_FILE];
const MAX_TEXT_BYTES: u64 = 256 * 1024 * 1024;
/// What is wrong with a file that the list of digests, which is UTF-8, can't name.
const NOT_UTF_8: &str = "its name is not UTF-8: it was not read";

/// One problem in a release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Finding {
    /// The file, in the release.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The result of [`verify`].
#[derive(Clone, Debug)]
pub struct VerifyReport {
    /// Number of files that were read.
    pub files: usize,
    /// Their bytes.
    pub size_bytes: u64,
    /// The ids of the manifest's profiles.
    pub profiles: Vec<String>,
    /// Those of them whose files are elsewhere, as the manifest says, and were not read.
    pub elsewhere: Vec<String>,
    /// Every problem, by path; empty if there is none.
    pub findings: Vec<Finding>,
}

/// A file of a release, as found.
struct Found {
    sha256: Sha256,
    blake3: Blake3,
    size_bytes: u64,
    text: Option<Vec<u8>>,
}

/// Verifies a release.
///
/// # Errors
/// A path that can't be read, or is neither a folder nor a tar. Problems in the release are in the report.
pub fn verify(path: &Path) -> io::Result<VerifyReport> {
    let mut findings = Vec::new();
    let files = if fs_err::metadata(path)?.is_dir() {
        folder::files(path, &mut findings)?
    } else {
        tar_file::files(path, &mut findings)?
    };
    let mut check = Check { files: &files, findings };
    check.sums();
    let (profiles, elsewhere) = check.manifest();
    let mut findings = check.findings;
    findings.sort();
    findings.dedup();
    let size_bytes = files.values().map(|file| file.size_bytes).sum();
    Ok(VerifyReport { files: files.len(), size_bytes, profiles, elsewhere, findings })
}

struct Check<'a> {
    files: &'a BTreeMap<String, Found>,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn found(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.findings.push(Finding { path: path.into(), problem: problem.into() });
    }

    fn text(&mut self, path: &str) -> Option<String> {
        let problem = match self.files.get(path).map(|file| file.text.clone()) {
            None => "it is missing".to_owned(),
            Some(None) => format!("larger than {MAX_TEXT_BYTES} bytes"),
            Some(Some(bytes)) => match String::from_utf8(bytes) {
                Ok(text) => return Some(text),
                Err(error) => format!("not UTF-8: {error}"),
            },
        };
        self.found(path, problem);
        None
    }

    /// Checks every file against `SHA256SUMS`, in both directions.
    fn sums(&mut self) {
        let Some(text) = self.text(SUMS_FILE) else { return };
        let sums = match Sums::parse(&text) {
            Ok(sums) => sums,
            Err(problem) => return self.found(SUMS_FILE, problem),
        };
        for (path, expected) in &sums.0 {
            match self.files.get(path).map(|file| file.sha256) {
                None => self.found(path, format!("{SUMS_FILE} lists it, but it is missing")),
                Some(found) if found != *expected => {
                    self.found(path, format!("{SUMS_FILE} lists {expected}, but the file has {found}"));
                }
                Some(_) => {}
            }
        }
        let unlisted = self.files.keys().filter(|path| *path != SUMS_FILE && !sums.0.contains_key(*path));
        for path in unlisted.cloned().collect::<Vec<_>>() {
            self.found(path, format!("{SUMS_FILE} does not list it"));
        }
    }

    /// Checks the manifest, and every profile by its id, so that nobody has to trust `SHA256SUMS`.
    fn manifest(&mut self) -> (Vec<String>, Vec<String>) {
        let Some(text) = self.text(MANIFEST_FILE) else { return Default::default() };
        let manifest = match Manifest::parse(&text, MANIFEST_FILE) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.found(MANIFEST_FILE, error.to_string());
                return Default::default();
            }
        };
        let (mut expected, mut elsewhere) = (Vec::new(), Vec::new());
        for profile in &manifest.profiles {
            match profile.computed_id() {
                Ok(id) if id.to_string() == profile.id => {}
                Ok(id) => {
                    self.found(MANIFEST_FILE, format!("profile {}: its tags give the id {id}", profile.id));
                }
                Err(error) => self.found(MANIFEST_FILE, error.to_string()),
            }
            let folder = format!("{PROFILES_FOLDER}/{}", profile.id);
            if is_elsewhere(profile) && !self.files.keys().any(|path| path.starts_with(&format!("{folder}/")))
            {
                elsewhere.push(profile.id.clone());
                continue;
            }
            for (path, file) in &profile.workspace.files {
                let path = format!("{folder}/{path}");
                self.uri(&path, file.uri.as_deref());
                match (self.files.get(&path).map(|found| found.blake3.to_string()), &file.checksum) {
                    (None, _) => self.found(&path, format!("{MANIFEST_FILE} lists it, but it is missing")),
                    (Some(_), None) => self.found(MANIFEST_FILE, format!("no checksum for {path}")),
                    (Some(found), Some(checksum)) if found != *checksum => {
                        self.found(
                            &path,
                            format!("{MANIFEST_FILE} lists {checksum}, but the file has {found}"),
                        );
                    }
                    (Some(_), Some(_)) => {}
                }
                expected.push(path);
            }
            let content = profile.tags.get("content").cloned();
            self.contents(&folder, content.as_deref());
            self.passport(&folder, &profile.id);
            expected.extend([PASSPORT_FILE, SAMPLES_FILE].map(|name| format!("{folder}/{name}")));
        }
        let strangers = self
            .files
            .keys()
            .filter(|path| path.starts_with(&format!("{PROFILES_FOLDER}/")) && !expected.contains(path));
        for path in strangers.cloned().collect::<Vec<_>>() {
            self.found(path, "it belongs to no profile in the manifest");
        }
        (manifest.profiles.into_iter().map(|profile| profile.id).collect(), elsewhere)
    }

    /// Checks that the manifest's uri for a file leads to it: `file:` and its path or, in releases of before, `store:` and its digest.
    fn uri(&mut self, path: &str, uri: Option<&str>) {
        let Some(uri) = uri else { return self.found(MANIFEST_FILE, format!("no uri for {path}")) };
        let is_path = file_path(uri).is_some_and(|found| found == Path::new(path));
        let is_digest = store_digest(uri)
            .is_some_and(|sha256| self.files.get(path).is_none_or(|file| file.sha256 == sha256));
        if !is_path && !is_digest {
            self.found(MANIFEST_FILE, format!("the uri {uri} does not lead to {path}"));
        }
    }

    /// Checks `contents.json` against the tag `content`, and the files against `contents.json`.
    fn contents(&mut self, folder: &str, content: Option<&str>) {
        let path = format!("{folder}/{CONTENTS_FILE}");
        let Some(text) = self.text(&path) else { return };
        let sha256 = Sha256::of(text.as_bytes()).to_hex();
        if content != Some(sha256.as_str()) {
            self.found(&path, format!("its SHA-256 is {sha256}, but the tag `content` has another"));
        }
        let contents = match Contents::parse(text.as_bytes(), &path) {
            Ok(contents) => contents,
            Err(error) => return self.unreadable(error, CONTENTS_SCHEMA),
        };
        for file in &contents.files {
            let path = format!("{folder}/{}", file.path);
            let found = self.files.get(&path).map(|found| (found.sha256, found.size_bytes));
            if found != Some((file.sha256, file.size_bytes)) {
                self.found(&path, format!("it differs from the file that {CONTENTS_FILE} lists"));
            }
        }
    }

    fn passport(&mut self, folder: &str, id: &str) {
        let path = format!("{folder}/{PASSPORT_FILE}");
        let Some(text) = self.text(&path) else { return };
        match Passport::parse(text.as_bytes(), &path) {
            Ok(passport) if passport.id.to_string() == id => {
                if let Err(NotOfItsId { problem, .. }) = check_passport(&passport) {
                    self.found(&path, format!("it was changed: {problem}"));
                }
            }
            Ok(passport) => self.found(&path, format!("it is the passport of profile {}", passport.id)),
            Err(error) => self.unreadable(error, PASSPORT_SCHEMA),
        }
    }

    fn unreadable(&mut self, error: Unreadable, schema: &str) {
        match error {
            Unreadable::Newer(Newer { path, schema }) => self.found(path, schema.to_string()),
            Unreadable::Damaged { path, problem } => self.found(path, format!("not {schema}: {problem}")),
        }
    }
}

/// Returns whether the manifest says that all files of a profile are at a server: they were not pulled.
pub(super) fn is_elsewhere(profile: &ManifestProfile) -> bool {
    let is_remote = |uri: &str| {
        ["oci://", "https://", "http://", "s3://", "hf://", "ngc://"]
            .iter()
            .any(|scheme| uri.starts_with(scheme))
    };
    let mut files = profile.workspace.files.values();
    files.len() > 0 && files.all(|file| file.uri.as_deref().is_some_and(is_remote))
}

/// A release folder that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadReleaseError {
    /// A file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A passport.
    #[error(transparent)]
    Passport(#[from] Unreadable),
    /// A passport that says something else than the id of its profile.
    #[error(transparent)]
    Changed(#[from] NotOfItsId),
}

impl ReadReleaseError {
    /// Returns what kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Changed(_) => ErrorKind::Refused,
            Self::Io(_) | Self::Manifest(_) | Self::Passport(_) => ErrorKind::Input,
        }
    }
}

/// Checks that a passport is that of the profile whose id it has, and about its files.
fn check_passport(passport: &Passport) -> Result<(), NotOfItsId> {
    passport.check_identity()?;
    hostile::check_passport(passport).map_err(|problem| NotOfItsId { id: passport.id, problem })
}

/// Reads the passports of a release folder, in the order of its manifest, to compare a new release with it.
///
/// # Errors
/// A folder that is not a release; a passport that is not that of its profile.
pub fn passports(folder: &Path) -> Result<Vec<Passport>, ReadReleaseError> {
    let path = folder.join(MANIFEST_FILE);
    let text = fs_err::read_to_string(&path)?;
    let manifest = Manifest::parse(&text, &path.display().to_string())?;
    let of = |id: &String| {
        let path = folder.join(PROFILES_FOLDER).join(id).join(PASSPORT_FILE);
        let passport = Passport::parse(&fs_err::read(&path)?, &path.display().to_string())?;
        check_passport(&passport)?;
        Ok(passport)
    };
    manifest.profiles.iter().map(|profile| of(&profile.id)).collect()
}
