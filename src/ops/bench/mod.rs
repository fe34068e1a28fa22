//! `bench`: how fast the store's profiles of a recipe are on this machine.
//!
//! Every case (a graph, a batch, a number of streams) is measured in rounds, each in a fresh worker process. Where there are
//! several profiles, a round measures each of them before the next round begins, in alternating order: drift on the
//! machine affects all of them alike, so that they can be compared.

mod error;
mod gpu;
mod key;
mod rounds;
mod warnings;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use error::BenchError;
use rounds::Subject;

use super::assemble::{self, Assembled, AssembledState};
use super::report::{NO_PASSPORT, NOT_IN_STORE};
use super::resolve::Resolved;
use super::runners::{Runners, Way};
use super::samples::{self, BatchAxes, SeededInput, Shapes};
use super::validate;
use super::workspace::Workspace;
use crate::benchmark::{
    BENCH_SCHEMA, BenchDocument, BenchStatus, BenchedProfile, Benchmark, Compared, Settings,
};
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::passport::Passport;
use crate::samples::Sample;
use crate::store::Store;
use crate::worker::npy::{Tensor, archive};
use crate::worker::protocol::Execution;

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// First dimensions of inputs; min and opt of the recipe's shapes if empty.
    pub batches: Vec<u64>,
    /// Numbers of concurrent callers.
    pub streams: Vec<u32>,
    /// Rounds, times and threads.
    pub settings: Settings,
    /// The number of the GPU; the first that fits a profile if absent.
    pub gpu: Option<u32>,
    /// Only these two profiles, of which the first is the baseline.
    pub compare: Option<(String, String)>,
    /// NVML, if it is not where the loader looks.
    pub nvml_library: Option<PathBuf>,
    /// Whether what the store has of the same profile, measured in the same way, is taken over.
    pub take_over: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct BenchReport {
    /// Every profile of the recipe.
    pub document: BenchDocument,
    /// How the two profiles that were to be compared do.
    pub compared: Compared,
    /// The inputs without samples in the recipe, and what they were run on.
    pub seeded: Vec<SeededInput>,
}

impl BenchReport {
    /// Returns what a failure means for the exit code; nothing if all that can be measured here was.
    pub fn failure(&self) -> Option<ErrorKind> {
        let failed = |profile: &BenchedProfile| match &profile.bench {
            BenchStatus::Measured(benchmark) => benchmark.cases.iter().any(|case| case.failure.is_some()),
            BenchStatus::Failed(_) => true,
            BenchStatus::Skipped(_) => false,
        };
        let profiles = &self.document.profiles;
        if profiles.iter().any(failed) {
            Some(ErrorKind::Refused)
        } else if profiles.iter().all(|profile| matches!(profile.bench, BenchStatus::Skipped(_))) {
            Some(ErrorKind::Unavailable)
        } else {
            None
        }
    }
}

/// Something that happens while measuring.
#[derive(Clone, Debug)]
pub enum BenchEvent {
    /// A round begins.
    Round {
        /// The profile, graph, batch and streams.
        title: String,
        /// Which round it is, from 1.
        round: usize,
        /// Of how many.
        rounds: usize,
    },
    /// A profile was measured in an earlier run; nothing has changed.
    TakenOver {
        /// The profile.
        name: String,
    },
}

/// Measures what the store has of a recipe's profiles and this machine can run; results go into their passports, and
/// every sample into the store.
///
/// # Errors
/// What makes measuring impossible as a whole. What is wrong with one profile is in its status.
pub fn bench(
    workspace: &Workspace,
    resolved: &Resolved,
    options: &BenchOptions,
    on_event: &dyn Fn(BenchEvent),
) -> Result<BenchReport, BenchError> {
    let BenchOptions { batches, streams: _, settings: _, gpu: _, compare, nvml_library: _, take_over: _ } =
        options;
    samples::named_files::check(resolved.recipe(), resolved.file().folder())?;
    let (assembled, _in_use) = assemble::from_store_in_use(resolved, &Store::look_at(&workspace.store))?;
    let wanted = wanted(options);
    let mut runners = Runners::new(&resolved.backends, &wanted).with_fleet(workspace);
    runners.check().map_err(|reason| BenchError::Provider { reason })?;
    // The work folder is in the store.
    let store = Store::open(&workspace.store)?;
    let folder = store.work_folder()?;
    let machine = crate::machine::look();

    let mut cases = Vec::new();
    for graph in resolved.graphs.keys() {
        let subject = resolved.subject(graph);
        for shapes in shapes_of(&subject, batches)
            .map_err(|reason| BenchError::Batch { graph: graph.clone(), reason })?
        {
            let place = folder.path().join(format!("{graph}-{shapes:?}"));
            let failed = |source| BenchError::Samples { graph: graph.clone(), source };
            let inputs = samples::write(&subject, shapes, &place).map_err(failed)?;
            let batch = batch_of(&subject.batch_axes(), &inputs);
            cases.push(rounds::Inputs { graph: graph.clone(), batch, files: inputs });
        }
    }

    let digests = key::digests(&cases)
        .map_err(|source| BenchError::Io { doing: "reading the inputs".into(), source })?;

    let mut document = BenchDocument {
        schema: BENCH_SCHEMA.into(),
        model: resolved.recipe().model.clone(),
        profiles: Vec::new(),
    };
    let mut subjects = Vec::new();
    for Assembled { name, state } in assembled {
        if let Some((a, b)) = compare
            && name != *a
            && name != *b
        {
            continue;
        }
        let status = match state {
            AssembledState::NotSelected => continue,
            AssembledState::Complete(profile) => match store.passport(&profile.passport.id)? {
                None => BenchStatus::Skipped(NO_PASSPORT.into()),
                Some(passport) => match runners.for_profile(&passport) {
                    Err(reason) => BenchStatus::Skipped(reason.to_string()),
                    Ok(way) => {
                        let id = passport.id;
                        let key =
                            key::key(&id, &way, &digests, &options.streams, &options.settings, &machine);
                        if let Some(known) = known(options, &passport, key, &store) {
                            validate::check_files(&passport, &store)?;
                            on_event(BenchEvent::TakenOver { name: name.clone() });
                            document.profiles.push(BenchedProfile {
                                profile_id: Some(id.to_string()),
                                name,
                                bench: BenchStatus::Measured(known),
                            });
                            continue;
                        }
                        subjects.push(subject(&name, passport, way, key, &store)?);
                        BenchStatus::Skipped("measuring".into())
                    }
                },
            },
            AssembledState::NotBuiltHere(needs) => BenchStatus::Skipped(needs),
            AssembledState::Failed(error) => BenchStatus::Skipped(error.message),
            AssembledState::NotInStore => BenchStatus::Skipped(NOT_IN_STORE.into()),
        };
        document.profiles.push(BenchedProfile { profile_id: None, name, bench: status });
    }
    if let Some((a, b)) = compare {
        for wanted in [a, b] {
            if !document.profiles.iter().any(|profile| profile.name == *wanted) {
                let known = resolved.recipe().profiles.iter().map(|spec| spec.name()).collect();
                return Err(BenchError::NoSuchProfile { name: wanted.clone(), known });
            }
        }
    }

    rounds::measure(workspace, &mut subjects, &cases, options, folder.path(), on_event)?;

    for subject in subjects {
        let Subject { name, passport, way: _, key, cases, samples, models: _, machine: elsewhere, unwatched } =
            subject;
        let mut benchmark = Benchmark {
            machine: elsewhere.unwrap_or_else(|| machine.clone()),
            settings: options.settings.clone(),
            cases,
            warnings: Vec::new(),
        };
        benchmark.warnings = warnings::warnings(&benchmark, unwatched.as_deref());
        let status = BenchStatus::Measured(benchmark);
        let samples = archive::write(&samples)
            .map_err(|source| BenchError::Io { doing: "packing samples".into(), source })?;
        store.change_passport(&passport, Some(&samples), |passport| {
            passport.bench = status.clone();
            passport.made_of.bench_key = key;
            passport.made_of.samples = Some(Sha256::of(&samples));
        })?;
        for profile in document.profiles.iter_mut().filter(|profile| profile.name == name) {
            profile.profile_id = Some(passport.id.to_string());
            profile.bench = status.clone();
        }
    }
    let compared =
        compare.as_ref().map_or_else(Compared::default, |(a, b)| Compared::of_two(&document, a, b));
    Ok(BenchReport { document, compared, seeded: resolved.seeded_inputs() })
}

/// Returns what is asked of every worker.
fn wanted(options: &BenchOptions) -> Execution {
    let Settings {
        rounds: _,
        warm_up_ms: _,
        window_ms: _,
        budget_ms: _,
        threads,
        provider,
        graph_optimization,
        cuda_graph,
    } = &options.settings;
    Execution {
        provider: *provider,
        device: options.gpu,
        threads: *threads,
        graph_optimization: *graph_optimization,
        cuda_graph: Some(*cuda_graph).filter(|asked| *asked),
        runtime_cache: None,
    }
}

/// Returns what was measured before of the same thing in the same way, if it was and is whole. What failed is tried again.
fn known(
    options: &BenchOptions,
    passport: &Passport,
    key: Option<Sha256>,
    store: &Store,
) -> Option<Benchmark> {
    let BenchStatus::Measured(benchmark) = &passport.bench else { return None };
    let is_same = options.take_over && key.is_some() && passport.made_of.bench_key == key;
    let is_whole = || benchmark.cases.iter().all(|case| case.failure.is_none());
    let samples = || Sha256::of_file(&store.samples_path(&passport.id)).ok().map(|(digest, _)| digest);
    let has_samples = || passport.made_of.samples.is_some() && passport.made_of.samples == samples();
    (is_same && is_whole() && has_samples()).then(|| benchmark.clone())
}

fn subject(
    name: &str,
    passport: Passport,
    way: Way,
    key: Option<Sha256>,
    store: &Store,
) -> Result<Subject, BenchError> {
    let mut models = BTreeMap::new();
    for (graph, record) in &passport.graphs {
        let folder = store.work_folder()?;
        let shipped = record.shipped();
        store.lay_out(&shipped.outputs, folder.path())?;
        if let Some(first) = shipped.outputs.first() {
            models.insert(graph.clone(), (folder.path().join(&first.path), folder));
        }
    }
    Ok(Subject {
        name: name.to_owned(),
        passport,
        way,
        key,
        models,
        cases: Vec::new(),
        samples: BTreeMap::new(),
        machine: None,
        unwatched: None,
    })
}

/// Returns the shapes to measure in: those of the batches requested, else min and opt.
fn shapes_of(subject: &samples::Subject<'_>, batches: &[u64]) -> Result<Vec<Shapes>, String> {
    let ranges: Vec<_> = subject.shapes.values().collect();
    let from_files = subject.samples.values().any(Sample::has_its_own_shape);
    // Files keep their own shape, and so does a graph without ranges.
    if ranges.is_empty() || from_files {
        return Ok(vec![Shapes::Opt]);
    }
    let axes = subject.batch_axes();
    let of = |input: &String, which: Shapes| {
        let (range, axis) = (subject.shapes.get(input)?, axes.axis(input)?);
        which.of(range, Some(axis)).get(axis).copied()
    };
    if axes.is_empty() {
        return Ok(vec![Shapes::Opt]);
    }
    if batches.is_empty() {
        let rows = |which: Shapes| subject.shapes.keys().filter_map(|input| of(input, which)).max();
        let mut shapes = vec![Shapes::OptAlone, Shapes::Opt];
        if rows(Shapes::OptAlone) == rows(Shapes::Opt) {
            shapes.pop();
        }
        return Ok(shapes);
    }
    batches
        .iter()
        .map(|&batch| {
            let batch = i64::try_from(batch).map_err(|_| format!("batch {batch} is too large"))?;
            let outside = subject.shapes.iter().find(|(input, _)| {
                let ends = (of(input, Shapes::Min), of(input, Shapes::Max));
                matches!(ends, (Some(min), Some(max)) if !(min..=max).contains(&batch))
            });
            match outside {
                Some((input, range)) => Err(format!(
                    "batch {batch} is outside the shape range of input `{input}`, {:?} to {:?}",
                    range.min, range.max
                )),
                None => Ok(Shapes::Batch(batch)),
            }
        })
        .collect()
}

/// Returns the number of rows of inputs: the largest batch, or 1 if none has one.
fn batch_of(axes: &BatchAxes, inputs: &BTreeMap<String, PathBuf>) -> u64 {
    let rows = |(input, path): (&String, &PathBuf)| {
        let axis = axes.axis(input)?;
        Tensor::read(path).ok()?.shape().get(axis).map(|&length| length as u64)
    };
    inputs.iter().filter_map(rows).max().unwrap_or(1)
}
