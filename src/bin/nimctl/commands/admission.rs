//! The trust policy in place, for commands that use profiles of the store: each is judged before it is loaded.

use std::path::{Path, PathBuf};

use nimctl::error_kind::ErrorKind;
use nimctl::manifest::{MANIFEST_FILE, ManifestDocument};
use nimctl::ops::pull::{Given, RemoteRelease};
use nimctl::ops::trust::{Admitted, Gate};
use nimctl::ops::verify::passports;
use nimctl::ops::verify_signature::Trusted;
use nimctl::passport::Passport;
use nimctl::store::Store;
use nimctl::trust::Trust;
use nimctl::worker::host::Cancel;

use super::sign::{now_s, threads};
use super::verify_trust::{policy, rule};
use crate::cli::{Global, TrustArgument};
use crate::environment;
use crate::exit::Failure;
use crate::output::Output;

/// A policy, and the store whose profiles it judges.
pub(super) struct Admission {
    trust: Trust,
    says: &'static str,
    store: PathBuf,
}

impl Admission {
    /// Returns the policy in place; `None` if there is none.
    pub(super) fn in_place(argument: &TrustArgument, global: &Global) -> Result<Option<Self>, Failure> {
        let TrustArgument { trust } = argument;
        let Some((path, says)) = environment::trust_policy(trust.as_deref()) else { return Ok(None) };
        Ok(Some(Self { trust: policy(&path)?, says, store: environment::store_folder(global)? }))
    }

    /// Returns what judges profiles. Of what the user named, release folders that are signed are judged now.
    pub(super) fn gate<'p>(
        &self,
        named: impl IntoIterator<Item = &'p Path>,
        cancel: &Cancel,
    ) -> Result<Gate<'_>, Failure> {
        let mut gate = Gate::new(&self.trust, &self.store, now_s());
        for path in named {
            let folder = match path.is_dir() {
                true => Some(path),
                false if path.file_name().is_some_and(|name| name == MANIFEST_FILE) => path.parent(),
                false => None,
            };
            let here = |folder: &'p Path| if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            if let Some(folder) = folder.map(here) {
                gate.judge_folder(folder, threads(), &|| cancel.is_cancelled())?;
            }
        }
        Ok(gate)
    }

    /// Judges profiles of a manifest by their ids.
    pub(super) fn check_listed(
        &self,
        gate: &Gate<'_>,
        manifest: &ManifestDocument,
        ids: &[String],
        output: &Output,
    ) -> Result<(), Failure> {
        let listed = manifest.manifest().profiles.iter().filter(|profile| ids.contains(&profile.id));
        let judged =
            listed.map(|profile| Ok((profile.readable_name(), gate.admit_listed(manifest, profile)?)));
        self.say(judged.collect::<Result<_, Failure>>()?, output);
        Ok(())
    }

    /// Judges profiles of the store.
    pub(super) fn check(
        &self,
        gate: &Gate<'_>,
        profiles: &[Passport],
        output: &Output,
    ) -> Result<(), Failure> {
        let judged = profiles.iter().map(|passport| Ok((passport.name.clone(), gate.admit(passport)?)));
        self.say(judged.collect::<Result<_, Failure>>()?, output);
        Ok(())
    }

    /// Judges a release folder whose plans are run, which must be signed.
    pub(super) fn check_release_folder(&self, folder: &Path, cancel: &Cancel) -> Result<(), Failure> {
        let gate = self.gate([folder], cancel)?;
        let passports = passports(folder).map_err(|error| {
            let error = anyhow::Error::from(error);
            Failure::new(
                ErrorKind::Input,
                error.context(format!("cannot read the release {}", folder.display())),
            )
            .hint(Some(
                "a folder into which some profiles were pulled is no signed release: name the place".into(),
            ))
        })?;
        for passport in &passports {
            gate.admit(passport)?;
        }
        Ok(())
    }

    /// Judges every profile of a release at a place, whose plans are run.
    pub(super) fn check_remote(&self, release: &RemoteRelease<'_>) -> Result<(), Failure> {
        let trusted = Trusted::Policy { trust: &self.trust, now_s: now_s() };
        let ids: Vec<String> = release.manifest.profiles.iter().map(|profile| profile.id.clone()).collect();
        let accepted = release.check_signature(&trusted, Given::default(), &ids)?;
        Ok(release.check_order(&accepted, &Store::look_at(&self.store))?)
    }

    fn say(&self, judged: Vec<(String, Admitted)>, output: &Output) {
        for (profile, admitted) in judged {
            let by = match admitted {
                Admitted::ByRule(line) => rule(&self.trust, line, self.says),
                Admitted::BuiltHere => format!("`built_here` of {} ({})", self.trust.path(), self.says),
            };
            output.talk(&format!("{profile}: accepted by {by}"));
        }
    }
}
