//! From finished jobs to profiles: contents, ids, passports, and the manifest.

use std::collections::BTreeMap;

use super::jobs::Finished;
use super::select::selected;
use super::{BuildError, BuildOptions, BuildReport, JobError, JobLine, Mode, Outcome, ProfileLine};
use crate::benchmark::BenchStatus;
use crate::digest::{Blake3, Sha256};
use crate::files::atomic_file;
use crate::manifest::{Manifest, ManifestFile, ManifestProfile, Workspace, store_uri};
use crate::onnx::{GraphDigest, LOWERING_VERSION, LoweringOptions, Precision};
use crate::passport::{GraphPassport, Origins, PASSPORT_SCHEMA, Passport, Status};
use crate::profile::{
    Backend, CONTENTS_FILE, CONTENTS_SCHEMA, Contents, ContentsFile, ProfileId, ProfileSpec, Tags,
    ToolIdentity,
};
use crate::recipe::Recipe;
use crate::store::Store;
use crate::worklist::{BuildRecord, Inputs, JobState, OutputFile, jobs as resolve_jobs};

/// Why a profile that was just built is neither validated nor benchmarked.
const NOT_RUN: &str = "the profile was built, but not run";

/// What profiles are put together from.
pub(super) struct Parts<'a> {
    pub recipe: &'a Recipe,
    pub digests: &'a BTreeMap<String, GraphDigest>,
    pub toolchains: &'a BTreeMap<Backend, BTreeMap<String, ToolIdentity>>,
    /// How a profile's graph is lowered, by profile and graph, where that is not what the recipe alone says.
    pub lowerings: &'a BTreeMap<(String, String), LoweringOptions>,
    pub elsewhere: Vec<(&'a ProfileSpec, String)>,
    pub lines: Vec<JobLine>,
    pub finished: Finished,
    pub store: &'a Store,
    pub options: &'a BuildOptions,
}

/// Puts every profile together that can be, and writes the manifest if nothing failed.
pub(super) fn assemble(parts: &Parts<'_>) -> Result<BuildReport, BuildError> {
    let Parts {
        recipe,
        digests: _,
        toolchains: _,
        lowerings: _,
        elsewhere,
        lines,
        finished: _,
        store: _,
        options,
    } = parts;
    let mut profiles = Vec::new();
    let mut entries = Vec::new();
    let selected = selected(recipe, options.only.as_ref())?;
    for spec in &recipe.profiles {
        // A build keeps in the manifest what the store has; who only reads the store wants what was selected.
        if options.mode == Mode::FromStore && !selected.iter().any(|other| other.name() == spec.name()) {
            profiles.push(ProfileLine { name: spec.name(), outcome: Outcome::NotSelected });
            continue;
        }
        let outcome = match elsewhere.iter().find(|(other, _)| other.name() == spec.name()) {
            Some((_, needs)) => Outcome::NotBuiltHere(needs.clone()),
            None => match records_of(spec, parts)? {
                Records::Complete(records) => {
                    let (entry, outcome) = put_together(spec, &records, parts)?;
                    entries.push(entry);
                    outcome
                }
                Records::Failed(error) => Outcome::Failed(error),
                Records::Absent if options.mode == Mode::FromStore => Outcome::Planned,
                Records::Absent => Outcome::NotSelected,
            },
        };
        profiles.push(ProfileLine { name: spec.name(), outcome });
    }
    let mut report = BuildReport {
        model: (recipe.model.name.clone(), recipe.model.release.clone()),
        jobs: lines.clone(),
        profiles,
        manifest: None,
        manifest_changed: false,
        dropped: Vec::new(),
    };
    if report.failure().is_none() && options.mode == Mode::Build {
        let manifest = Manifest::new(&recipe.model, entries)?;
        report.dropped = dropped(&manifest, options);
        // A part of the profiles is no reason to forget the others.
        if options.only.is_none() || report.dropped.is_empty() {
            report.manifest_changed = write_manifest(&manifest, options)?;
            report.manifest = Some(options.manifest.clone());
        }
    }
    Ok(report)
}

/// Returns the profiles of the manifest on disk that the new one no longer has, by id: those whose tags, less what a
/// rebuild changes, are gone.
fn dropped(new: &Manifest, options: &BuildOptions) -> Vec<String> {
    let place = |profile: &ManifestProfile| {
        let mut tags = profile.tags.clone();
        tags.retain(|key, _| !matches!(key.as_str(), "content" | "trt_version" | "batch_size"));
        tags
    };
    let text = fs_err::read_to_string(&options.manifest).unwrap_or_default();
    let Ok(old) = Manifest::parse(&text, "") else { return Vec::new() };
    let kept: Vec<Tags> = new.profiles.iter().map(place).collect();
    old.profiles
        .into_iter()
        .filter(|profile| !kept.contains(&place(profile)))
        .map(|profile| profile.id)
        .collect()
}

/// The records of one profile's jobs, by graph: its lowering and, with a plan, its compilation.
type GraphRecords = BTreeMap<String, GraphPassport>;

enum Records {
    Complete(GraphRecords),
    Failed(JobError),
    Absent,
}

/// Finds the records of a profile: of this build's jobs, or, for a profile that was not selected, of earlier builds.
fn records_of(spec: &ProfileSpec, parts: &Parts<'_>) -> Result<Records, BuildError> {
    let Parts {
        recipe,
        digests,
        toolchains,
        lowerings: mixed,
        elsewhere: _,
        lines: _,
        finished,
        store,
        options: _,
    } = parts;
    if !spec.backend.ships_onnx() && !toolchains.contains_key(&spec.backend) {
        return Ok(Records::Absent);
    }
    let shape_ranges = recipe.shape_ranges();
    let inputs = Inputs {
        model: &recipe.model.name,
        graphs: digests,
        shape_ranges: &shape_ranges,
        lowerings: mixed,
        toolchains,
    };
    let mut lowerings = BTreeMap::new();
    let mut compilations = BTreeMap::new();
    for job in resolve_jobs(&[spec], &inputs)? {
        let record = match finished.get(&job.key) {
            Some(Ok(record)) => record.clone(),
            Some(Err(error)) => return Ok(Records::Failed(error.clone())),
            None => match store.job_state(&job)? {
                JobState::UpToDate(record) => *record,
                JobState::MustRun(_) => return Ok(Records::Absent),
            },
        };
        // Two graphs of one model may have the same bytes, and share a job.
        let records = if job.input.is_none() { &mut lowerings } else { &mut compilations };
        records.extend(job.users.into_iter().map(|user| (user.graph, record.clone())));
    }
    let graphs = lowerings.into_iter().map(|(graph, lowering)| {
        let compilation = compilations.remove(&graph);
        (graph, GraphPassport { lowering, compilation })
    });
    Ok(Records::Complete(graphs.collect()))
}

fn put_together(
    spec: &ProfileSpec,
    graphs: &GraphRecords,
    parts: &Parts<'_>,
) -> Result<(ManifestProfile, Outcome), BuildError> {
    let Parts { recipe, digests, toolchains, lowerings: _, elsewhere: _, lines, finished: _, store, options } =
        parts;
    let mut files: Vec<OutputFile> = graphs
        .iter()
        .flat_map(|(graph, GraphPassport { lowering, compilation })| {
            let record = compilation.as_ref().unwrap_or(lowering);
            record
                .outputs
                .iter()
                .map(move |output| OutputFile { path: format!("{graph}/{}", output.path), ..output.clone() })
        })
        .collect();
    // By path, not by graph: `text-2/…` comes before `text/…`.
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let contents = Contents {
        schema: CONTENTS_SCHEMA.into(),
        model: recipe.model.clone(),
        graphs: (*digests).clone(),
        backend: spec.backend.clone(),
        toolchain: toolchain_of(spec, toolchains),
        target: spec.target.clone(),
        precision: spec.precision(),
        shape_ranges: recipe.shape_ranges(),
        files: files
            .iter()
            .map(|file| ContentsFile {
                path: file.path.clone(),
                sha256: file.sha256,
                size_bytes: file.size_bytes,
            })
            .collect(),
    };
    let json = contents.to_canonical_json()?;
    let tags = contents.tags(&Sha256::of(json.as_bytes()));
    let id = ProfileId::of_tags(&tags).map_err(crate::manifest::ManifestError::from)?;
    // Equal ids are equal bytes: what was found of them holds.
    let (validation, bench, made_of) = match store.passport(&id)? {
        Some(known) => (known.validation, known.bench, known.made_of),
        None => {
            let skipped = || NOT_RUN.to_owned();
            (Status::Skipped(skipped()), BenchStatus::Skipped(skipped()), Origins::default())
        }
    };
    let passport = Passport {
        schema: PASSPORT_SCHEMA.into(),
        id,
        name: spec.name(),
        tags: tags.clone(),
        contents,
        graphs: graphs.clone(),
        validation,
        bench,
        made_of,
    };
    let passport = match options.mode {
        Mode::FromStore => store.passport_path(&id),
        Mode::Build | Mode::DryRun => {
            // A recipe that can't be resolved was read a moment ago: then its id alone is no way to it.
            if let Ok(recipe) = fs_err::canonicalize(&options.recipe) {
                store.put_origin(&id, &recipe)?;
            }
            store.put_profile(&passport, &json, &files)?
        }
    };

    let mut manifest_files: BTreeMap<String, ManifestFile> = files
        .iter()
        .map(|file| {
            let uri = Some(store_uri(&file.sha256));
            (file.path.clone(), ManifestFile { uri, checksum: Some(file.blake3.to_string()) })
        })
        .collect();
    manifest_files.insert(
        CONTENTS_FILE.into(),
        ManifestFile {
            uri: Some(store_uri(&Sha256::of(json.as_bytes()))),
            checksum: Some(Blake3::of(json.as_bytes()).to_string()),
        },
    );
    let records = || {
        graphs
            .values()
            .flat_map(|graph: &GraphPassport| std::iter::once(&graph.lowering).chain(&graph.compilation))
    };
    let ran = |record: &BuildRecord| {
        lines.iter().any(|line| line.reason.is_some() && line.key == record.key.to_string())
    };
    let outcome = Outcome::Built {
        id,
        tags: tags.clone(),
        size_bytes: files.iter().map(|file| file.size_bytes).sum::<u64>() + json.len() as u64,
        total_ms: records().map(|record| record.timings.total_ms).sum(),
        ran_now: records().any(ran),
        passport,
        contents_json: json.clone(),
    };
    Ok((
        ManifestProfile { id: id.to_string(), tags, workspace: Workspace { files: manifest_files } },
        outcome,
    ))
}

/// Returns what built a profile: the backend's libraries, and our own lowering where it took part.
fn toolchain_of(
    spec: &ProfileSpec,
    toolchains: &BTreeMap<Backend, BTreeMap<String, ToolIdentity>>,
) -> BTreeMap<String, ToolIdentity> {
    let mut tools = toolchains.get(&spec.backend).cloned().unwrap_or_default();
    if spec.precision() != Precision::Fp32 {
        let lowering = ToolIdentity { version: LOWERING_VERSION.to_string(), libraries: BTreeMap::new() };
        tools.insert("nimctl-lowering".into(), lowering);
    }
    tools
}

/// Writes the manifest if its bytes differ from the file's; returns whether they did.
fn write_manifest(manifest: &Manifest, options: &BuildOptions) -> Result<bool, BuildError> {
    let text = manifest.to_yaml()?;
    if fs_err::read(&options.manifest).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(false);
    }
    atomic_file::write(&options.manifest, text.as_bytes()).map_err(|source| BuildError::Io {
        doing: format!("writing the manifest {}", options.manifest.display()),
        source,
    })?;
    Ok(true)
}
