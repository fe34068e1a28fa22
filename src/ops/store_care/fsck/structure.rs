//! Compares what the store says about its blobs with the blobs that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::blobs::{Blob, Blobs, read_one};
use super::{Finding, FsckOptions, FsckReport, StoreCareError, command_for, owners_of};
use crate::digest::{Blake3, Sha256};
use crate::passport::Passport;
use crate::profile::ProfileId;
use crate::store::{Pin, Store, Survey};
use crate::stored_format::Unreadable;
use crate::worklist::{BuildRecord, OutputFile};

const REMOVED: &str = "removed";
const MADE_AGAIN: &str = "made again";

struct Check<'a> {
    store: &'a Store,
    survey: Survey,
    read: &'a Blobs,
    repair: bool,
    findings: Vec<Finding>,
    /// Blobs that are there and not damaged; the BLAKE3 digest of those that were read.
    present: BTreeMap<Sha256, (u64, Option<Blake3>)>,
    /// Profiles whose passport was removed.
    removed: BTreeSet<ProfileId>,
}

/// Checks everything, and repairs it if that is wanted.
pub(super) fn check(
    store: &Store,
    read: &Blobs,
    repair: bool,
    report: &mut FsckReport,
) -> Result<(), StoreCareError> {
    let survey = store.survey()?;
    report.profiles = survey.passports.len();
    let mut check = Check {
        store,
        survey,
        read,
        repair,
        findings: Vec::new(),
        present: BTreeMap::new(),
        removed: BTreeSet::new(),
    };
    check.layout()?;
    check.blobs()?;
    check.unreadable()?;
    check.passports()?;
    check.index()?;
    check.records()?;
    check.leftovers()?;
    report.findings = check.findings;
    report.findings.sort_by(|a, b| (b.seriousness, &a.path).cmp(&(a.seriousness, &b.path)));
    Ok(())
}

impl Check<'_> {
    fn layout(&mut self) -> Result<(), StoreCareError> {
        if !self.store.has_layout() {
            const LAYOUT: &str = "oci-layout";
            // A process that ended early may have made no more than the folders.
            let finding = match self.survey.blobs.is_empty() && !self.store.root().join(LAYOUT).exists() {
                true => Finding::unfinished(LAYOUT, "it is missing"),
                false => Finding::wrong(LAYOUT, "it is missing, or not that of an OCI image layout"),
            };
            self.findings.push(finding.repaired(MADE_AGAIN));
            if self.repair {
                self.store.mend_layout()?;
            }
        }
        Ok(())
    }

    fn blobs(&mut self) -> Result<(), StoreCareError> {
        for (sha256, size_bytes) in &self.survey.blobs {
            let path = self.store.blob_path(sha256);
            let shown = self.store.shown(&path);
            let owners = owners_of(&self.survey, sha256);
            let command = owners.iter().find_map(|id| command_for(&self.survey, id));
            match self.read.by_name.get(sha256) {
                // It came after the others were read.
                None => {
                    self.present.insert(*sha256, (*size_bytes, None));
                }
                Some(Blob::Unreadable(problem)) => {
                    self.findings.push(Finding::wrong(shown, format!("cannot be read: {problem}")));
                }
                Some(Blob::Damaged { found }) => {
                    let problem = match owners.len() {
                        0 => format!("its digest is {found}"),
                        count => format!("its digest is {found}; {count} profiles need it"),
                    };
                    let finding = Finding::wrong(shown, problem).repaired(REMOVED).with_command(command);
                    if self.repair && !is_whole_by_now(self.store, sha256)? {
                        self.store.remove_blob(sha256)?;
                    }
                    self.findings.push(finding);
                }
                Some(Blob::Whole { blake3, chunks, is_list_right }) => {
                    self.present.insert(*sha256, (*size_bytes, Some(*blake3)));
                    if *is_list_right {
                        continue;
                    }
                    let list = format!("nimctl/chunks/{}.json", sha256.to_hex());
                    let finding = match self.store.root().join(&list).exists() {
                        true => Finding::wrong(list, "it is not the chunk list of its file"),
                        false => Finding::unfinished(list, "the chunk list of a large file is missing"),
                    };
                    self.findings.push(finding.repaired(MADE_AGAIN));
                    if self.repair {
                        self.store.put_chunk_list(sha256, chunks)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Files that can't be read: what can be made again, or says nothing that is needed, is removed.
    fn unreadable(&mut self) -> Result<(), StoreCareError> {
        let mut unreadable = std::mem::take(&mut self.survey.unreadable);
        unreadable.extend(self.store.unreadable_results()?);
        for (path, problem) in unreadable {
            let shown = self.store.shown(&path);
            let Unreadable::Damaged { path: _, problem } = problem else {
                let problem = "it was written by a newer nimctl: upgrade nimctl to check it";
                self.findings.push(Finding::wrong(shown, problem));
                continue;
            };
            let id = path.file_stem().and_then(|name| ProfileId::from_hex(name.to_str()?).ok());
            let finding = Finding::wrong(&shown, problem);
            if let Some(id) = self.store.is_pin(&path) {
                self.findings.push(finding.repaired("pinned again, without its note"));
                if self.repair {
                    self.store.remove_file(&path)?;
                    self.store.write_pin(&id, &Pin::new(None))?;
                }
                continue;
            }
            let passport_of = id.filter(|id| self.store.passport_path(id) == path);
            self.removed.extend(passport_of);
            let command = passport_of.and_then(|id| command_for(&self.survey, &id));
            self.findings.push(finding.repaired(REMOVED).with_command(command));
            if self.repair {
                self.store.remove_file(&path)?;
            }
        }
        // Without it, an older release would do: only a person may say which is the newest.
        for (path, problem) in self.store.unreadable_newest_releases()? {
            let problem = match problem {
                Unreadable::Damaged { path: _, problem } => problem,
                Unreadable::Newer(_) => "it was written by a newer nimctl: upgrade nimctl to check it".into(),
            };
            let command = "nimctl pull PLACE --allow-rollback".to_owned();
            self.findings.push(Finding::wrong(self.store.shown(&path), problem).with_command(Some(command)));
        }
        Ok(())
    }

    fn passports(&mut self) -> Result<(), StoreCareError> {
        let passports = std::mem::take(&mut self.survey.passports);
        for (id, passport) in &passports {
            let path = self.store.shown(&self.store.passport_path(id));
            let command = command_for(&self.survey, id);
            if computed_id(passport) != Some(*id) || passport.id != *id {
                let problem = "it is not the passport of the profile that its name says";
                self.findings.push(Finding::wrong(path, problem).repaired(REMOVED).with_command(command));
                self.removed.insert(*id);
                if self.repair {
                    self.store.remove_file(&self.store.passport_path(id))?;
                }
                continue;
            }
            let shipped = passport.graphs.values().flat_map(|graph| &graph.shipped().outputs);
            let said: BTreeMap<Sha256, Blake3> = shipped.map(|file| (file.sha256, file.blake3)).collect();
            for file in &passport.contents.files {
                let problem = match self.present.get(&file.sha256) {
                    Some((size_bytes, _)) if *size_bytes != file.size_bytes => "has another size",
                    Some((_, Some(found))) if said.get(&file.sha256).is_some_and(|said| said != found) => {
                        "has another BLAKE3 digest"
                    }
                    Some(_) => continue,
                    None => "is missing or damaged",
                };
                let problem = format!("{}: its file `{}` {problem}", passport.name, file.path);
                self.findings.push(Finding::wrong(&path, problem).with_command(command.clone()));
            }
        }
        for (id, pull) in
            self.survey.pulls.iter().filter(|(id, pull)| pull.is_complete && !passports.contains_key(id))
        {
            for file in pull.files.iter().filter(|file| !self.present.contains_key(&file.sha256)) {
                let problem = format!("the file `{}` of profile {id} is missing or damaged", file.path);
                let finding = Finding::wrong(format!("nimctl/pulls/{id}.json"), problem);
                self.findings.push(finding.with_command(command_for(&self.survey, id)));
            }
        }
        self.survey.passports = passports;
        for id in &self.removed {
            self.survey.passports.remove(id);
        }
        Ok(())
    }

    fn index(&mut self) -> Result<(), StoreCareError> {
        const INDEX: &str = "index.json";
        if self.survey.index.is_none() {
            let problem = "it is damaged";
            self.findings.push(Finding::wrong(INDEX, problem).repaired("made again from the passports"));
            if self.repair {
                self.store.remove_file(&self.store.root().join(INDEX))?;
                self.store.mend_index()?;
            }
            return Ok(());
        }
        if self.repair {
            self.store.mend_index()?;
        }
        let listed = self.survey.index.take().unwrap_or_default();
        let mut gone = BTreeSet::new();
        let is_present = |blob: &Sha256| self.present.contains_key(blob);
        for entry in &listed {
            let Some(id) = entry.id else {
                if let Some(problem) = &entry.problem {
                    let problem = format!("something that another program listed: {problem}");
                    self.findings.push(Finding::wrong(INDEX, problem));
                }
                continue;
            };
            let Some(passport) = self.survey.passports.get(&id) else {
                let problem = format!("it lists profile {id}, which has no passport");
                let command = command_for(&self.survey, &id);
                let finding = Finding::wrong(INDEX, problem).repaired("taken off").with_command(command);
                self.findings.push(finding);
                gone.insert(id);
                continue;
            };
            let files = &passport.contents.files;
            if !files.iter().all(|file| is_present(&file.sha256)) {
                // That it is not whole is said with its passport.
                gone.insert(id);
                continue;
            }
            let is_complete = files.iter().all(|file| entry.blobs.contains(&file.sha256));
            if entry.problem.is_some() || !is_complete || !entry.blobs.iter().all(is_present) {
                let problem = entry.problem.clone().unwrap_or_else(|| "it lacks a file".into());
                let problem = format!("profile {id}: {problem}");
                self.findings.push(Finding::wrong(INDEX, problem).repaired(MADE_AGAIN));
                gone.insert(id);
            }
        }
        let known: BTreeSet<ProfileId> = listed.iter().filter_map(|entry| entry.id).collect();
        for (id, passport) in &self.survey.passports {
            let is_complete = passport.contents.files.iter().all(|file| is_present(&file.sha256));
            if is_complete && !known.contains(id) {
                let problem = format!("it does not list profile {id}");
                self.findings.push(Finding::unfinished(INDEX, problem).repaired("listed"));
            }
        }
        if self.repair {
            self.store.unlist(&gone)?;
            for passport in self.survey.passports.values() {
                self.store.list_again(passport)?;
            }
        }
        self.survey.index = Some(listed);
        Ok(())
    }

    /// Records of jobs whose outputs are not there any more: the jobs run again.
    fn records(&mut self) -> Result<(), StoreCareError> {
        for (key, record) in &self.survey.records {
            let is_wrong = |output: &&OutputFile| match self.present.get(&output.sha256) {
                Some((size_bytes, blake3)) => {
                    *size_bytes != output.size_bytes || blake3.is_some_and(|found| found != output.blake3)
                }
                None => true,
            };
            let Some(output) = record.outputs.iter().find(is_wrong) else { continue };
            let path = format!("nimctl/builds/{key}.json");
            let problem = format!("its output `{}` is missing or damaged", output.path);
            self.findings.push(Finding::wrong(&path, problem).repaired(REMOVED));
            if self.repair {
                self.store.remove_file(&self.store.root().join(path))?;
            }
        }
        Ok(())
    }

    /// What processes left that were killed; the next ones go on from there, or remove it.
    fn leftovers(&mut self) -> Result<(), StoreCareError> {
        let store = self.store;
        for path in store.files_below("chunks") {
            let Some(sha256) = digest_in_name(&path) else { continue };
            if !self.survey.blobs.contains_key(&sha256) {
                let problem = "the chunk list of a file that is not there";
                self.findings.push(Finding::unfinished(store.shown(&path), problem).repaired(REMOVED));
                if self.repair {
                    store.remove_file(&path)?;
                }
            }
        }
        for path in store.partial_files() {
            let Some(sha256) = digest_in_name(&path) else { continue };
            if self.present.contains_key(&sha256) && !store.is_fetched(&path)? {
                let problem = "part of a file that is there by now";
                self.findings.push(Finding::unfinished(store.shown(&path), problem).repaired(REMOVED));
                if self.repair {
                    store.remove_partial(&path)?;
                }
            }
        }
        for (id, pull) in self.survey.pulls.iter().filter(|(_, pull)| !pull.is_complete) {
            if !store.is_in_use(id)? {
                let problem = format!("the pull of profile {id} ended early");
                let finding = Finding::unfinished(format!("nimctl/pulls/{id}.json"), problem);
                let command = format!("nimctl pull {} --profile {id}", pull.place);
                self.findings.push(finding.with_command(Some(command)));
            }
        }
        let unowned: Vec<u64> = self.unowned();
        if !unowned.is_empty() {
            let problem = format!(
                "{} files of {} bytes that nothing needs",
                unowned.len(),
                unowned.iter().sum::<u64>()
            );
            let finding = Finding::unfinished("blobs/sha256", problem);
            self.findings.push(finding.with_command(Some("nimctl store gc".into())));
        }
        Ok(())
    }

    /// Returns the sizes of blobs that were read and have no owner.
    fn unowned(&self) -> Vec<u64> {
        let survey = &self.survey;
        let mut owned: BTreeSet<Sha256> = survey.ids().iter().flat_map(|id| survey.blobs_of(id)).collect();
        owned.extend(survey.records.values().flat_map(BuildRecord::blobs));
        owned.extend(survey.pulls.values().flat_map(|pull| &pull.files).map(|file| file.sha256));
        owned.extend(survey.index.iter().flatten().flat_map(|listed| listed.blobs.iter().copied()));
        let is_unowned = |(sha256, _): &(&Sha256, &(u64, Option<Blake3>))| !owned.contains(sha256);
        let read = self.present.iter().filter(|(_, (_, blake3))| blake3.is_some());
        read.filter(is_unowned).map(|(_, (size_bytes, _))| *size_bytes).collect()
    }
}

/// Returns whether a blob that was damaged has been replaced since.
fn is_whole_by_now(store: &Store, sha256: &Sha256) -> Result<bool, StoreCareError> {
    let options = FsckOptions { check_only: true, parallel: 1, cancelled: &|| false, on_bytes: &|_, _| () };
    Ok(matches!(read_one(store, sha256, &options, &|_| ())?, Some(Blob::Whole { .. }) | None))
}

fn computed_id(passport: &Passport) -> Option<ProfileId> {
    let json = passport.contents.to_canonical_json().ok()?;
    ProfileId::of_tags(&passport.contents.tags(&Sha256::of(json.as_bytes()))).ok()
}

fn digest_in_name(path: &Path) -> Option<Sha256> {
    Sha256::from_hex(path.file_stem()?.to_str()?).ok()
}
