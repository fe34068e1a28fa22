//! Which nodes stay in FP32 because the recipe asked for calibration or search: found once for each graph and way of
//! lowering, and remembered in the store.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::backends::set_library;
use super::sources::SourceGraph;
use super::{BuildError, BuildEvent, BuildOptions, Mode};
use crate::canonical;
use crate::digest::Sha256;
use crate::mixed_precision::MixedPrecisionReport;
use crate::onnx::{GraphDigest, LOWERING_VERSION, LoweringOptions};
use crate::ops::mixed_precision::{Runner, find};
use crate::ops::samples::{Subject, describe};
use crate::profile::{Backend, ProfileSpec};
use crate::recipe::Recipe;
use crate::store::Store;
use crate::toolchain::{Tool, locate};
use crate::worker::discover;
use crate::worker::host::BackendCommand;

/// The schema of the key.
const KEY_SCHEMA: &str = "nimctl.mixed-precision/1";

/// What was found.
#[derive(Debug, Default)]
pub(super) struct MixedLowerings {
    /// How a profile's graph is lowered, by profile and graph.
    pub lowerings: BTreeMap<(String, String), LoweringOptions>,
    /// What was found, by graph and by the options that came of it.
    reports: BTreeMap<(String, LoweringOptions), MixedPrecisionReport>,
}

impl MixedLowerings {
    /// Returns what led to these options.
    pub(super) fn report(&self, graph: &str, options: &LoweringOptions) -> Option<&MixedPrecisionReport> {
        self.reports.get(&(graph.to_owned(), options.clone()))
    }
}

/// Everything that decides what is found. Numbers that are not whole are texts.
#[derive(Serialize)]
struct Key<'a> {
    schema: &'static str,
    graph: &'a GraphDigest,
    lowering: &'a LoweringOptions,
    lowering_version: u32,
    asked: String,
    samples: BTreeMap<String, String>,
    runtime: String,
}

/// Finds the nodes to keep for every profile that asks for it: from the store, or, for the profiles that are built here,
/// by running their graphs.
pub(super) fn resolve(
    recipe: &Recipe,
    here: &[&ProfileSpec],
    graphs: &BTreeMap<String, SourceGraph>,
    store: &Store,
    options: &BuildOptions,
    on_event: &(dyn Fn(BuildEvent) + Sync),
) -> Result<MixedLowerings, BuildError> {
    let mut found = MixedLowerings::default();
    let asking: Vec<&ProfileSpec> =
        recipe.profiles.iter().filter(|spec| !spec.mixed_precision.is_empty()).collect();
    if asking.is_empty() {
        return Ok(found);
    }
    let (command, runtime) = runtime(options)?;
    for spec in asking {
        let built_here = here.iter().any(|other| other.name() == spec.name());
        for (name, graph) in graphs {
            let failed = |source| BuildError::MixedPrecision { graph: name.clone(), source };
            let subject = Subject {
                file: &graph.file,
                samples: &recipe.graphs[name].samples,
                sample_folder: options.recipe.parent().unwrap_or(Path::new("")),
                shapes: &recipe.graphs[name].shapes,
            };
            let key = canonical::digest(&Key {
                schema: KEY_SCHEMA,
                graph: &graph.digest,
                lowering: &spec.lowering,
                lowering_version: LOWERING_VERSION,
                asked: format!("{:?}", spec.mixed_precision),
                samples: describe(&subject).map_err(|source| failed(source.into()))?,
                runtime: runtime.clone(),
            })?;
            let report = match store.mixed_precision(&key)? {
                Some(report) => report,
                None if built_here && options.mode == Mode::Build => {
                    let report = search(spec, name, &subject, &key, &command, store, options, on_event)?;
                    store.put_mixed_precision(&key, &report)?;
                    report
                }
                None => {
                    if built_here && options.mode == Mode::DryRun {
                        let message = format!(
                            "{}, graph `{name}`: which nodes stay in FP32 is found when it is built; the jobs below \
                             are without them",
                            spec.name()
                        );
                        on_event(BuildEvent::Warning { message });
                    }
                    continue;
                }
            };
            let mut lowering = spec.lowering.clone();
            lowering.keep_nodes.extend(report.kept.iter().map(|kept| kept.node.clone()));
            found.lowerings.insert((spec.name(), name.clone()), lowering.clone());
            found.reports.insert((name.clone(), lowering), report);
        }
    }
    Ok(found)
}

#[expect(clippy::too_many_arguments, reason = "one caller, and nothing here belongs together")]
fn search(
    spec: &ProfileSpec,
    graph: &str,
    subject: &Subject<'_>,
    key: &Sha256,
    command: &BackendCommand,
    store: &Store,
    options: &BuildOptions,
    on_event: &(dyn Fn(BuildEvent) + Sync),
) -> Result<MixedPrecisionReport, BuildError> {
    let title = format!("{graph}: nodes that {} needs in FP32", spec.precision());
    on_event(BuildEvent::JobStarted { title: title.clone() });
    let work = store.work_folder()?;
    let runner = Runner {
        command: command.clone(),
        work_folder: work.path().into(),
        journal: store.mixed_precision_journal(key),
        timeout: options.job_timeout,
        cancel: options.cancel.clone(),
    };
    let found = find(subject, &spec.lowering, spec.mixed_precision, &runner, &|progress| {
        let stage = format!(
            "graph {} of at most {}: {} kept, least cosine {:.5}",
            progress.evaluations, progress.most, progress.kept, progress.row_cosine
        );
        on_event(BuildEvent::JobStage { title: title.clone(), stage });
    });
    let report = found.map_err(|source| {
        if options.cancel.is_cancelled() {
            return BuildError::Cancelled;
        }
        BuildError::MixedPrecision { graph: graph.to_owned(), source }
    })?;
    on_event(BuildEvent::MixedPrecision { title, report: Box::new(report.clone()) });
    Ok(report)
}

/// Returns the worker, and what identifies the library that it loads.
pub(in crate::ops) fn runtime(options: &BuildOptions) -> Result<(BackendCommand, String), BuildError> {
    let backend = Backend::ONNXRUNTIME;
    let worker = |source| BuildError::Worker { backend: backend.into(), source };
    let mut command = BackendCommand::new(discover::find(backend, &options.search_path).map_err(worker)?);
    let located = locate(Tool::OnnxRuntime, &options.places)
        .map_err(|source| BuildError::Toolchain { backend: backend.into(), source })?;
    set_library(&mut command, &located);
    let libraries: Vec<String> =
        located.files.iter().map(|file| format!("{} {}", file.name, file.sha256)).collect();
    Ok((command, libraries.join(", ")))
}
