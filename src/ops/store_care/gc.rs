//! `store gc`: removes what nobody needs, and profiles beyond the limits that the user gives.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::usage;
use super::{StoreCareError, StoredProfile, list};
use crate::digest::Sha256;
use crate::profile::ProfileId;
use crate::store::{PARTIAL_DAYS, Store, Survey, Unneeded};

const DAY: Duration = Duration::from_secs(86_400);

/// What to remove.
#[derive(Clone, Copy, Debug, Default)]
pub struct GcOptions {
    /// Say what would be removed, and remove nothing.
    pub dry_run: bool,
    /// Of each name, the newest profiles that stay; `None` for all.
    pub keep_last: Option<usize>,
    /// The store may take so many bytes: the oldest profiles go until it does.
    pub max_size_bytes: Option<u64>,
}

/// A kind of what is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovalKind {
    /// A profile: its passport and what belongs to it, less its files.
    Profile,
    /// A blob.
    Blob,
    /// The record of a job.
    Record,
    /// A chunk list, or something else about a blob or profile that is gone.
    Description,
    /// A file that was being fetched.
    Partial,
}

impl RemovalKind {
    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Blob => "blob",
            Self::Record => "record",
            Self::Description => "description",
            Self::Partial => "partial",
        }
    }
}

/// Something that is removed.
#[derive(Clone, Debug)]
pub struct Removal {
    /// What it is.
    pub kind: RemovalKind,
    /// Its id and name, or its path in the store.
    pub what: String,
    /// Bytes that this frees.
    pub size_bytes: u64,
    /// Why it can go.
    pub why: String,
}

/// A profile that a limit would have removed, and why it stays.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its id.
    pub id: ProfileId,
    /// Its readable name.
    pub name: String,
    /// What keeps it.
    pub why: &'static str,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default)]
pub struct GcReport {
    /// Everything, profiles first.
    pub removed: Vec<Removal>,
    /// Profiles beyond a limit that stay.
    pub kept: Vec<Kept>,
    /// Bytes that the store took before.
    pub before_bytes: u64,
    /// Bytes that it takes now, or would.
    pub after_bytes: u64,
    /// Whether it takes more than it may, since nothing else can go.
    pub is_too_large: bool,
}

impl GcReport {
    /// Returns how many bytes were freed, or would be.
    pub fn freed_bytes(&self) -> u64 {
        self.removed.iter().map(|removal| removal.size_bytes).sum()
    }
}

/// Removes what nobody needs. `waiting` is called once if a build runs, which comes first; `cancelled` is asked meanwhile.
///
/// # Errors
/// A store that can't be written; a file of it that can't be read and could say what is needed; cancelled.
pub fn gc(
    store: &Store,
    options: &GcOptions,
    waiting: impl FnOnce(),
    cancelled: &dyn Fn() -> bool,
) -> Result<GcReport, StoreCareError> {
    if options.dry_run {
        return Ok(decide(store, options)?.0);
    }
    let mut report = store.collect(waiting, cancelled, || decide(store, options))?;
    // The index is shorter too, and others may have added something.
    report.after_bytes = usage::usage(store)?.total_bytes();
    report.is_too_large = options.max_size_bytes.is_some_and(|max| report.after_bytes > max);
    Ok(report)
}

/// Decides what goes.
fn decide(store: &Store, options: &GcOptions) -> Result<(GcReport, Unneeded), StoreCareError> {
    let survey = store.survey()?;
    survey.refuse_unreadable()?;
    let before = usage::of(store, &survey);
    let mut report = GcReport { before_bytes: before.total_bytes(), ..GcReport::default() };
    let mut deciding = Deciding { store, survey: &survey, profiles: list(store)?, going: BTreeMap::new() };

    deciding.beyond_number(options, &mut report)?;
    deciding.beyond_size(options, &mut report)?;
    let (mut unneeded, removed) = deciding.unneeded()?;
    unneeded.profiles = deciding.going.keys().copied().collect();
    report.removed = removed;
    report.after_bytes = report.before_bytes.saturating_sub(report.freed_bytes());
    report.is_too_large = options.max_size_bytes.is_some_and(|max| report.after_bytes > max);
    Ok((report, unneeded))
}

struct Deciding<'a> {
    store: &'a Store,
    survey: &'a Survey,
    profiles: Vec<StoredProfile>,
    /// The profiles that go, and why.
    going: BTreeMap<ProfileId, String>,
}

impl Deciding<'_> {
    /// Lets go what is not among the newest of its name.
    fn beyond_number(&mut self, options: &GcOptions, report: &mut GcReport) -> Result<(), StoreCareError> {
        let Some(keep) = options.keep_last else { return Ok(()) };
        let mut seen: BTreeMap<(Option<String>, String), usize> = BTreeMap::new();
        // They are sorted: the newest of a name first.
        for profile in &self.profiles {
            let name = (profile.model.as_ref().map(|model| model.name.clone()), profile.name.clone());
            let newer = seen.entry(name).or_default();
            *newer += 1;
            if *newer <= keep {
                continue;
            }
            match self.protection(profile)? {
                Some(why) => report.kept.push(Kept { id: profile.id, name: profile.name.clone(), why }),
                None => {
                    self.going.insert(profile.id, format!("--keep-last {keep}: newer ones have its name"));
                }
            }
        }
        Ok(())
    }

    /// Lets the oldest go until the rest fits.
    fn beyond_size(&mut self, options: &GcOptions, report: &mut GcReport) -> Result<(), StoreCareError> {
        let Some(max) = options.max_size_bytes else { return Ok(()) };
        let mut by_age: Vec<StoredProfile> = self.profiles.clone();
        by_age.sort_by_key(|profile| (profile.came_at, profile.id));
        for profile in by_age {
            let freed: u64 = self.unneeded()?.1.iter().map(|removal| removal.size_bytes).sum();
            if report.before_bytes.saturating_sub(freed) <= max {
                break;
            }
            if self.going.contains_key(&profile.id) {
                continue;
            }
            match self.protection(&profile)? {
                Some(why) => {
                    if report.kept.iter().all(|kept| kept.id != profile.id) {
                        report.kept.push(Kept { id: profile.id, name: profile.name.clone(), why });
                    }
                }
                None => {
                    self.going
                        .insert(profile.id, "--max-size: the store takes more, and it is the oldest".into());
                }
            }
        }
        Ok(())
    }

    /// Returns what keeps a profile beyond all limits.
    fn protection(&self, profile: &StoredProfile) -> Result<Option<&'static str>, StoreCareError> {
        Ok(match profile {
            _ if profile.pin.is_some() => Some("it is pinned"),
            _ if profile.is_last_build => Some("it is its recipe's last build"),
            _ if self.store.is_in_use(&profile.id)? => Some("a running process uses it"),
            _ => None,
        })
    }

    /// Returns everything that nobody needs once the profiles are gone that go.
    fn unneeded(&self) -> Result<(Unneeded, Vec<Removal>), StoreCareError> {
        let Self { store, survey, profiles: _, going } = self;
        let mut unneeded = Unneeded::default();
        let mut removed = Vec::new();
        let staying: BTreeSet<ProfileId> =
            survey.ids().into_iter().filter(|id| !going.contains_key(id)).collect();

        for (id, why) in going {
            let name = survey.passports.get(id).map(|passport| passport.name.clone()).unwrap_or_default();
            let size_bytes = store.described_bytes(id);
            removed.push(Removal {
                kind: RemovalKind::Profile,
                what: format!("{name} {id}").trim_start().into(),
                size_bytes,
                why: why.clone(),
            });
        }
        for path in store.descriptions() {
            let is_of = |id: &ProfileId| survey.passports.contains_key(id) || staying.contains(id);
            let Some(id) = id_of(&path).filter(|id| !is_of(id)) else { continue };
            if going.contains_key(&id) {
                continue;
            }
            removed.push(removal(store, RemovalKind::Description, &path, "its profile is gone"));
            unneeded.files.push(path);
        }

        let mut needed_keys: BTreeSet<String> = survey.last.values().cloned().collect();
        staying.iter().for_each(|id| needed_keys.extend(survey.keys_of(id)));
        let mut needed: BTreeSet<Sha256> = staying.iter().flat_map(|id| survey.blobs_of(id)).collect();
        for (key, record) in &survey.records {
            if needed_keys.contains(key) {
                needed.extend(record.blobs());
            } else {
                let path = store.root().join("nimctl/builds").join(format!("{key}.json"));
                let why = "neither a profile nor the last build of a recipe needs it";
                removed.push(removal(store, RemovalKind::Record, &path, why));
                unneeded.files.push(path);
            }
        }
        let of_others = survey.index.iter().flatten().filter(|listed| listed.id.is_none());
        needed.extend(of_others.flat_map(|listed| listed.blobs.iter().copied()));

        let mut fetching = BTreeSet::new();
        for (id, pull) in &survey.pulls {
            let path = store.root().join("nimctl/pulls").join(format!("{id}.json"));
            let goes_on = store.is_in_use(id)? || (!pull.is_complete && is_young(&path));
            if goes_on && !going.contains_key(id) {
                fetching.extend(pull.files.iter().map(|file| file.sha256));
            } else if !staying.contains(id) && !going.contains_key(id) {
                let why = match pull.is_complete {
                    true => "its profile is gone".to_owned(),
                    false => format!("the pull ended early more than {PARTIAL_DAYS} days ago"),
                };
                removed.push(removal(store, RemovalKind::Description, &path, &why));
                unneeded.files.push(path);
            }
        }
        needed.extend(&fetching);
        for path in store.partial_files() {
            let sha256 = path.file_stem().and_then(|name| Sha256::from_hex(name.to_str()?).ok());
            let is_wanted = sha256.is_some_and(|sha256| fetching.contains(&sha256));
            if is_wanted || is_young(&path) || store.is_fetched(&path)? {
                continue;
            }
            let why = format!("nobody has gone on with it for {PARTIAL_DAYS} days");
            removed.push(removal(store, RemovalKind::Partial, &path, &why));
            unneeded.partials.push(path);
        }

        let mut owners: BTreeMap<Sha256, &ProfileId> = BTreeMap::new();
        for id in going.keys() {
            owners.extend(survey.blobs_of(id).into_iter().map(|sha256| (sha256, id)));
        }
        for (sha256, size_bytes) in &survey.blobs {
            if needed.contains(sha256) {
                continue;
            }
            let owner = owners.get(sha256);
            let why = owner.map_or("nothing needs it".into(), |id| format!("only profile {id} needed it"));
            let path = store.blob_path(sha256);
            removed.push(Removal {
                kind: RemovalKind::Blob,
                what: store.shown(&path),
                size_bytes: *size_bytes,
                why,
            });
            unneeded.blobs.push(path);
        }
        for path in store.files_below("chunks") {
            let sha256 = path.file_stem().and_then(|name| Sha256::from_hex(name.to_str()?).ok());
            let stays =
                sha256.is_some_and(|sha256| needed.contains(&sha256) && survey.blobs.contains_key(&sha256));
            if !stays {
                removed.push(removal(store, RemovalKind::Description, &path, "its file is gone"));
                unneeded.files.push(path);
            }
        }
        Ok((unneeded, removed))
    }
}

fn removal(store: &Store, kind: RemovalKind, path: &Path, why: &str) -> Removal {
    Removal { kind, what: store.shown(path), size_bytes: crate::store::taken_bytes(path), why: why.into() }
}

fn id_of(path: &Path) -> Option<ProfileId> {
    ProfileId::from_hex(path.file_stem()?.to_str()?).ok()
}

/// Returns whether what a pull left is to be kept for the next one.
fn is_young(path: &Path) -> bool {
    #[expect(clippy::disallowed_methods, reason = "what a pull left is kept for some days")]
    let now = SystemTime::now();
    let modified = fs_err::metadata(path).and_then(|metadata| metadata.modified());
    // A file from the future is young.
    modified.is_ok_and(|modified| {
        now.duration_since(modified).map_or(true, |age| age < DAY * u32::try_from(PARTIAL_DAYS).unwrap_or(1))
    })
}
