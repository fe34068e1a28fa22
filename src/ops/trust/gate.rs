//! Whether a profile may be used: asked by everything that loads one, or says which to load. What counts is the policy as it is now,
//! and what was signed: in the release folder that the profile was named by, or as the store has kept it since the pull.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::error::NotTrusted;
use super::not_admitted::{NotAdmitted, Unsigned};
use super::release::{ReleaseVerdict, VerifyReleaseOptions, verify_release};
use crate::digest::Sha256;
use crate::manifest::{IdKind, ManifestDocument, ManifestProfile};
use crate::ops::assemble::{AssembledState, from_store};
use crate::ops::attest::{facts_of, verify_attestations};
use crate::ops::resolve::Resolved;
use crate::ops::sign::default_signature;
use crate::ops::verify_signature::Trusted;
use crate::passport::Passport;
use crate::profile::{CONTENTS_FILE, ProfileId};
use crate::release::{PASSPORT_FILE, PROFILES_FOLDER};
use crate::signing::{Bundle, Statement};
use crate::store::{SignedProfile, Store};
use crate::trust::{BuiltHere, Trust, check_order, in_words};
use crate::worklist::OutputFile;

/// Lets profiles pass that a policy accepts.
pub struct Gate<'a> {
    trust: &'a Trust,
    store: Store,
    now_s: u64,
    /// The signed passports of release folders that were accepted, with the lines of the rules.
    of_folders: BTreeMap<ProfileId, (Passport, u32)>,
}

/// Why a profile may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// The rule in this line of the policy accepts who signed it.
    ByRule(u32),
    /// It was built here, and the policy accepts that.
    BuiltHere,
}

impl<'a> Gate<'a> {
    /// Makes one for a store, which may not exist; `now_s` is the time in seconds since 1970.
    pub fn new(trust: &'a Trust, store: &Path, now_s: u64) -> Self {
        Self { trust, store: Store::look_at(store), now_s, of_folders: BTreeMap::new() }
    }

    /// Judges a release folder as `nimctl verify` does, if it has a signature beside it; its profiles may be used then.
    ///
    /// # Errors
    /// It has one, and is refused.
    pub fn judge_folder(
        &mut self,
        folder: &Path,
        threads: usize,
        is_cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), NotAdmitted> {
        let Ok(signature) = default_signature(folder) else { return Ok(()) };
        if matches!(fs_err::symlink_metadata(signature), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
        {
            return Ok(());
        }
        let verdict = verify_release(&VerifyReleaseOptions {
            release: folder,
            signature: None,
            attestations: None,
            trust: self.trust,
            allow_symlinks: false,
            now_s: self.now_s,
            threads,
            is_cancelled,
        })?;
        let ReleaseVerdict { signature, accepted, passports, findings } = verdict;
        let not_as_signed = |problem: String| NotAdmitted::Folder { folder: PathBuf::from(folder), problem };
        if let Some(difference) = signature.differences.first() {
            return Err(not_as_signed(format!("{}: {difference}", difference.path().escape_debug())));
        }
        if let Some(finding) = findings.first() {
            return Err(not_as_signed(format!("{}: {}", finding.path, finding.problem)));
        }
        let Some((model, line)) = accepted else { return Ok(()) };
        // As `nimctl verify` does: one that is not accepted is not passed over.
        let trusted = Trusted::Policy { trust: self.trust, now_s: self.now_s };
        verify_attestations(folder, None, &trusted).map_err(NotTrusted::from)?;
        self.check_order(&model.name, &model.release)?;
        self.of_folders.extend(passports.into_iter().map(|passport| (passport.id, (passport, line))));
        Ok(())
    }

    /// Judges a profile whose passport is in the store, and whose files are those that the passport names.
    ///
    /// # Errors
    /// It may not be used; a store that can't be read.
    pub fn admit(&self, passport: &Passport) -> Result<Admitted, NotAdmitted> {
        self.judged(&passport.id, format!("{} {}", passport.name, passport.id), Some(passport))
    }

    /// Judges a profile of a manifest by its id. It must be one that stands for the files: what else a manifest says of them counts for
    /// nothing.
    ///
    /// # Errors
    /// It may not be used; a store that can't be read.
    pub fn admit_listed(
        &self,
        manifest: &ManifestDocument,
        profile: &ManifestProfile,
    ) -> Result<Admitted, NotAdmitted> {
        let stands_for_files = manifest.id_kind(profile) == IdKind::Content
            && profile.workspace.files.contains_key(CONTENTS_FILE);
        let name = format!("{} {}", profile.readable_name(), profile.id);
        match ProfileId::from_hex(&profile.id) {
            Ok(id) if stands_for_files => self.judged(&id, name, None),
            Ok(_) | Err(_) => Err(self.unsigned(name, Unsigned::OfOthers)),
        }
    }

    /// Judges the profiles of a recipe that the store has, as far as they are wanted.
    ///
    /// # Errors
    /// One of them may not be used; a store that can't be read.
    pub fn admit_recipe(
        &self,
        resolved: &Resolved,
        is_wanted: &dyn Fn(&Passport) -> bool,
    ) -> Result<(), NotAdmitted> {
        // They are put together from the records of builds in this store.
        if self.trust.built_here() == BuiltHere::Accept {
            return Ok(());
        }
        for assembled in from_store(resolved, &self.store)? {
            if let AssembledState::Complete(profile) = assembled.state
                && is_wanted(&profile.passport)
            {
                // What is loaded is what the passport in the store names, which is another document than the records of builds.
                let in_store = self.store.passport(&profile.passport.id)?;
                for passport in std::iter::once(&profile.passport).chain(&in_store) {
                    self.admit(passport).map_err(|error| match error {
                        NotAdmitted::Unsigned { policy, profile, why: _ } => {
                            NotAdmitted::Unsigned { policy, profile, why: Unsigned::BuiltHere }
                        }
                        other => other,
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Judges the profiles of a recipe before they are built.
    ///
    /// # Errors
    /// They may not be used.
    pub fn admit_build(&self, recipe: &Path) -> Result<(), NotAdmitted> {
        match self.trust.built_here() {
            BuiltHere::Accept => Ok(()),
            BuiltHere::Refuse => Err(self.unsigned(recipe.display().to_string(), Unsigned::ToBeBuilt)),
        }
    }

    fn judged(
        &self,
        id: &ProfileId,
        profile: String,
        here: Option<&Passport>,
    ) -> Result<Admitted, NotAdmitted> {
        let signed = match (self.of_folders.get(id), self.store.signed(id)?) {
            (Some((passport, line)), _) => Ok((passport.clone(), *line)),
            (None, Some(kept)) => self.judge(id, &kept, &profile),
            (None, None) => Err(self.unsigned(profile.clone(), self.why_unsigned(id)?)),
        };
        let signed = signed.and_then(|(passport, line)| match here {
            Some(here) if !has_files_of(here, &passport) => {
                Err(self.kept(&profile, "its passport here names other files than the signed one".into()))
            }
            Some(_) | None => Ok(Admitted::ByRule(line)),
        });
        let is_built_here = || {
            Ok::<_, NotAdmitted>(
                self.trust.built_here() == BuiltHere::Accept && self.store.origin(id)?.is_some(),
            )
        };
        match signed {
            Err(error) if error.is_refusal() && !is_built_here()? => Err(error),
            Err(error) if error.is_refusal() => Ok(Admitted::BuiltHere),
            judged => judged,
        }
    }

    /// Judges what was kept of a signature; returns the signed passport, and the line of the rule that accepts it.
    fn judge(
        &self,
        id: &ProfileId,
        kept: &SignedProfile,
        profile: &str,
    ) -> Result<(Passport, u32), NotAdmitted> {
        let wrong = |problem: String| self.kept(profile, problem);
        let bundle = Bundle::parse(kept.signature.as_bytes()).map_err(|refusal| wrong(in_words(&refusal)))?;
        let (statement, signer) =
            self.trust.identify(&bundle, self.now_s).map_err(|error| wrong(error.to_string()))?;
        let name = format!("{PROFILES_FOLDER}/{id}/{PASSPORT_FILE}");
        if signed_digest(&statement, &name) != Some(Sha256::of(kept.passport.as_bytes())) {
            return Err(wrong(format!("it does not cover {name} as it was kept")));
        }
        let passport =
            Passport::parse(kept.passport.as_bytes(), &name).map_err(|error| wrong(error.to_string()))?;
        // The id is that of these contents: so it names the files that were signed.
        let contents = format!("{PROFILES_FOLDER}/{id}/{CONTENTS_FILE}");
        let computed = signed_digest(&statement, &contents)
            .and_then(|contents| ProfileId::of_tags(&passport.contents.tags(&contents)).ok());
        if passport.id != *id || computed != Some(*id) {
            return Err(wrong("it is the signature of another profile".into()));
        }
        let model = &passport.contents.model;
        let attestations: Vec<Bundle> =
            kept.attestations.iter().filter_map(|text| Bundle::parse(text.as_bytes()).ok()).collect();
        let facts = facts_of(&passport, &attestations, self.trust, self.now_s);
        let line = self.trust.judge(&model.name, &model.release, &signer, &[facts], self.now_s)?.line();
        self.check_order(&model.name, &model.release)?;
        Ok((passport, line))
    }

    fn check_order(&self, model: &str, release: &str) -> Result<(), NotAdmitted> {
        if let Some(newest) = self.store.newest_release(model)? {
            check_order(model, release, &newest)?;
        }
        Ok(())
    }

    /// Returns how a profile came here that has no signature.
    fn why_unsigned(&self, id: &ProfileId) -> Result<Unsigned, NotAdmitted> {
        if self.store.origin(id)?.is_some() {
            return Ok(Unsigned::BuiltHere);
        }
        let pull = self.store.pull_record(id)?;
        Ok(pull.map_or(Unsigned::NotHere, |pull| Unsigned::Pulled { place: pull.place }))
    }

    fn unsigned(&self, profile: String, why: Unsigned) -> NotAdmitted {
        NotAdmitted::Unsigned { policy: self.trust.path().into(), profile, why }
    }

    fn kept(&self, profile: &str, problem: String) -> NotAdmitted {
        NotAdmitted::Kept { policy: self.trust.path().into(), profile: profile.into(), problem }
    }
}

fn signed_digest(statement: &Statement, name: &str) -> Option<Sha256> {
    statement.resources().iter().find(|resource| resource.name == name).map(|resource| resource.digest)
}

/// Returns whether a passport names the same files as the signed one. Results of this machine and what a build took may differ.
pub(in crate::ops) fn has_files_of(here: &Passport, signed: &Passport) -> bool {
    let files = |passport: &Passport| -> BTreeSet<(String, bool, String, Sha256)> {
        let of_graph = |(name, graph): (&String, &crate::passport::GraphPassport)| {
            let record = |is_plan: bool, outputs: &[OutputFile]| {
                let file = |file: &OutputFile| (name.clone(), is_plan, file.path.clone(), file.sha256);
                outputs.iter().map(file).collect::<Vec<_>>()
            };
            let plan = graph.compilation.as_ref().map(|compilation| record(true, &compilation.outputs));
            [record(false, &graph.lowering.outputs), plan.unwrap_or_default()].concat()
        };
        passport.graphs.iter().flat_map(of_graph).collect()
    };
    here.id == signed.id && here.contents == signed.contents && files(here) == files(signed)
}
