//! A release folder, judged by a policy: first the signature, then every file, then what its signed documents say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::NotTrusted;
use crate::digest::Sha256;
use crate::manifest::{MANIFEST_FILE, Manifest};
use crate::ops::attest::{bundles_beside, facts_of};
use crate::ops::verify::{Finding, verify};
use crate::ops::verify_signature::{SignatureReport, Trusted, VerifyOptions, verify_signature};
use crate::passport::Passport;
use crate::profile::ModelRelease;
use crate::release::{PASSPORT_FILE, PROFILES_FOLDER};
use crate::signing::Statement;
use crate::trust::{ProfileFacts, Trust};

/// What to verify, and how.
pub struct VerifyReleaseOptions<'a> {
    /// The folder of the release.
    pub release: &'a Path,
    /// The signature; without it, the one beside the folder.
    pub signature: Option<&'a Path>,
    /// The attestations of its profiles; without it, those beside the folder, if there are some.
    pub attestations: Option<&'a Path>,
    /// The policy.
    pub trust: &'a Trust,
    /// Whether symbolic links to files are followed, if they were for the signature.
    pub allow_symlinks: bool,
    /// The time, in seconds since 1970.
    pub now_s: u64,
    /// How many threads read files at most.
    pub threads: usize,
    /// Whether to give up.
    pub is_cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// What was found of a release whose signer the policy knows.
#[derive(Clone, Debug)]
pub struct ReleaseVerdict {
    /// The signature, and where the folder differs from what was signed.
    pub signature: SignatureReport,
    /// The model and release as signed, and the line of the rule that accepts them; `None` if the folder differs from what was signed.
    pub accepted: Option<(ModelRelease, u32)>,
    /// The signed passports of its profiles.
    pub passports: Vec<Passport>,
    /// What is wrong with the release although it is as signed.
    pub findings: Vec<Finding>,
}

/// Verifies a release folder by a policy. Model and release are those of its signed documents: what the folder is called says nothing.
///
/// # Errors
/// A signature that is not accepted, files that are not signed or say nothing, a release that no rule accepts.
pub fn verify_release(options: &VerifyReleaseOptions<'_>) -> Result<ReleaseVerdict, NotTrusted> {
    let VerifyReleaseOptions {
        release,
        signature,
        attestations,
        trust,
        allow_symlinks,
        now_s,
        threads,
        is_cancelled,
    } = options;
    if fs_err::metadata(release).map_err(NotTrusted::Io)?.is_file() {
        return Err(NotTrusted::NotAFolder { path: release.to_path_buf() });
    }
    let report = verify_signature(&VerifyOptions {
        model: release,
        signature: *signature,
        trusted: &Trusted::Policy { trust, now_s: *now_s },
        ignore: &[],
        ignore_unsigned: false,
        allow_symlinks: *allow_symlinks,
        threads: *threads,
        is_cancelled,
    })?;
    if !report.differences.is_empty() {
        let (passports, findings) = (Vec::new(), Vec::new());
        return Ok(ReleaseVerdict { signature: report, accepted: None, passports, findings });
    }
    let folder: PathBuf = release.to_path_buf();
    let documents = SignedDocuments {
        statement: &report.statement,
        read: &|name| fs_err::read(folder.join(name)).map_err(NotTrusted::Io),
    };
    let manifest = documents.manifest()?;
    let ids: Vec<String> = manifest.profiles.iter().map(|profile| profile.id.clone()).collect();
    let (model, passports) = signed_passports(&documents, &manifest, &ids)?;
    let bundles = bundles_beside(release, *attestations)?;
    let facts: Vec<ProfileFacts> =
        passports.iter().map(|passport| facts_of(passport, &bundles, trust, *now_s)).collect();
    let Some(identified) = &report.identified else {
        return Err(NotTrusted::NotSigned { name: MANIFEST_FILE.into() });
    };
    let rule = trust.judge(&model.name, &model.release, identified, &facts, *now_s)?;
    let line = rule.line();
    let findings = verify(release).map_err(NotTrusted::Io)?.findings;
    Ok(ReleaseVerdict { signature: report, accepted: Some((model, line)), passports, findings })
}

/// The small files of a release, of which only signed bytes are used.
pub(in crate::ops) struct SignedDocuments<'a> {
    /// What is signed.
    pub(in crate::ops) statement: &'a Statement,
    /// Reads a file by its path in the release.
    pub(in crate::ops) read: &'a dyn Fn(&str) -> Result<Vec<u8>, NotTrusted>,
}

impl SignedDocuments<'_> {
    /// Reads a file whose bytes are signed.
    fn get(&self, name: &str) -> Result<Vec<u8>, NotTrusted> {
        let signed = self.statement.resources().iter().find(|resource| resource.name == name);
        let signed = signed.ok_or_else(|| NotTrusted::NotSigned { name: name.into() })?;
        let bytes = (self.read)(name)?;
        if Sha256::of(&bytes) != signed.digest {
            return Err(NotTrusted::Changed { name: name.into() });
        }
        Ok(bytes)
    }

    /// Reads the manifest.
    pub(in crate::ops) fn manifest(&self) -> Result<Manifest, NotTrusted> {
        let bytes = self.get(MANIFEST_FILE)?;
        let wrong = |problem: String| NotTrusted::Document { name: MANIFEST_FILE.into(), problem };
        let text = std::str::from_utf8(&bytes).map_err(|error| wrong(error.to_string()))?;
        Manifest::parse(text, MANIFEST_FILE).map_err(|error| wrong(error.to_string()))
    }
}

/// Returns the model and release that the signed documents name, and the passports of these profiles.
pub(in crate::ops) fn signed_passports(
    documents: &SignedDocuments<'_>,
    manifest: &Manifest,
    ids: &[String],
) -> Result<(ModelRelease, Vec<Passport>), NotTrusted> {
    let of_manifest = manifest.model.clone().zip(manifest.release.clone());
    let mut model = of_manifest.map(|(name, release)| ModelRelease { name, release });
    let mut passports = BTreeMap::new();
    for id in ids {
        let name = format!("{PROFILES_FOLDER}/{id}/{PASSPORT_FILE}");
        let bytes = documents.get(&name)?;
        let wrong = |problem: String| NotTrusted::Document { name: name.clone(), problem };
        let passport = Passport::parse(&bytes, &name).map_err(|error| wrong(error.to_string()))?;
        if passport.id.to_string() != *id {
            return Err(wrong(format!("it is the passport of profile {}", passport.id)));
        }
        let found = &passport.contents.model;
        match &model {
            None => model = Some(found.clone()),
            Some(expected) if expected == found => {}
            Some(expected) => {
                let said = |model: &ModelRelease| format!("{} {}", model.name, model.release);
                return Err(NotTrusted::Contradiction { name, found: said(found), expected: said(expected) });
            }
        }
        passports.insert(id.clone(), passport);
    }
    let model = model.ok_or_else(|| NotTrusted::Document {
        name: MANIFEST_FILE.into(),
        problem: "it names no model and no release, and has no profile".into(),
    })?;
    Ok((model, passports.into_values().collect()))
}
