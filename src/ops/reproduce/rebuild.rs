//! Builds profiles again from what they were made from, by the jobs' own machinery, in a store of their own.

use std::collections::BTreeMap;

use super::error::ReproduceError;
use super::released::ReleasedProfile;
use super::sources::{Sources, model_of};
use crate::error_kind::ErrorKind;
use crate::onnx::quantize::QUANTIZATION_VERSION;
use crate::onnx::{FileDigest, GraphDigest};
use crate::ops::assemble::{Assembled, AssembledProfile, AssembledState, assemble};
use crate::ops::error::PipelineError;
use crate::ops::event::{BuildEvent, OnEvent};
use crate::ops::resolve::{BackendHere, Backends, Resolved, SourceGraph};
use crate::ops::schedule::schedule;
use crate::ops::workspace::Workspace;
use crate::recipe::Recipe;
use crate::reproduction::{Finding, MadeFrom, Subject, Verdict};
use crate::store::Store;

/// The part of the toolchain that quantizes.
const QUANTIZATION: &str = "nimctl-quantization";

/// Why a profile is not built: the verdict, and what is in the way.
pub(super) type NotBuilt = (Verdict, Vec<Finding>);

/// Profiles that one list of jobs builds: of the same graphs in the same shapes, and no two of one name.
#[derive(Debug, Default)]
pub(super) struct Group<'a> {
    pub(super) profiles: Vec<(&'a ReleasedProfile, &'a MadeFrom)>,
}

/// Puts profiles into groups.
pub(super) fn groups<'a>(profiles: Vec<(&'a ReleasedProfile, &'a MadeFrom)>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (profile, made_from) in profiles {
        let fits = |group: &&mut Group<'_>| {
            let first = &group.profiles[0].1.contents;
            first.graphs == made_from.contents.graphs
                && first.shape_ranges == made_from.contents.shape_ranges
                && first.model == made_from.contents.model
                && group.profiles.iter().all(|(other, _)| other.name != profile.name)
        };
        match groups.iter_mut().find(fits) {
            Some(group) => group.profiles.push((profile, made_from)),
            None => groups.push(Group { profiles: vec![(profile, made_from)] }),
        }
    }
    groups
}

/// Returns what stands in the way of building a profile here as it was built; `None` if nothing does.
pub(super) fn obstacle(
    made_from: &MadeFrom,
    sources: &Sources,
    backends: &Backends,
) -> Result<Option<NotBuilt>, ReproduceError> {
    let contradictions = made_from.contradictions()?;
    if !contradictions.is_empty() {
        return Ok(Some((Verdict::Different, contradictions)));
    }
    let mut missing = Vec::new();
    for (name, digest) in &made_from.contents.graphs {
        if !sources.has(digest) {
            missing.push(no_graph(name, digest, sources));
        }
        let quantized = made_from.graphs.get(name).and_then(|graph| graph.quantized());
        if let Some(quantized) = quantized.filter(|quantized| !sources.has(quantized)) {
            missing.push(Finding {
                recorded: Some(sha256_of(quantized)),
                ..Finding::new(
                    Subject::Missing,
                    format!("{name}: quantized graph"),
                    format!(
                        "graph `{name}` was quantized on calibration samples, which a release does not have: the quantized graph ({}) \
                         is not in --graphs",
                        sha256_of(quantized)
                    ),
                )
            });
        }
    }
    let version = QUANTIZATION_VERSION.to_string();
    if let Some(recorded) = made_from.version_of(QUANTIZATION).filter(|recorded| *recorded != version) {
        missing.push(Finding {
            recorded: Some(recorded.into()),
            found: Some(version.clone()),
            ..Finding::new(
                Subject::Tool,
                QUANTIZATION,
                format!(
                    "version of {QUANTIZATION}: the release was built with {recorded}, here is {version}"
                ),
            )
        });
    }
    missing.extend(no_tools(made_from, backends)?);
    Ok((!missing.is_empty()).then_some((Verdict::NotReproduced, missing)))
}

fn no_graph(name: &str, digest: &GraphDigest, sources: &Sources) -> Finding {
    let recorded = sha256_of(digest);
    let why = match sources.why_not(digest) {
        Some(why) => why.to_owned(),
        None if sources.searched() => "no file in --graphs and no graph of --recipe has this digest".into(),
        None => "name a file or folder that has it with --graphs, or its recipe with --recipe".into(),
    };
    let size_bytes = model_of(digest).map_or(0, |file| file.size_bytes);
    let text = format!("the source of graph `{name}` is missing ({recorded}, {size_bytes} bytes): {why}");
    Finding { recorded: Some(recorded), ..Finding::new(Subject::Graph, name, text) }
}

/// Returns the digest of a graph's model file.
pub(super) fn sha256_of(graph: &GraphDigest) -> String {
    model_of(graph).map_or_else(|| "no file".into(), |file| file.sha256.to_string())
}

/// Returns what is missing or other than it was of the tools that built a profile.
fn no_tools(made_from: &MadeFrom, backends: &Backends) -> Result<Vec<Finding>, ReproduceError> {
    let backend = &made_from.contents.backend;
    let missing = |why: String| {
        vec![Finding::new(
            Subject::Missing,
            backend.name(),
            format!("backend {backend} cannot build here: {why}"),
        )]
    };
    let installed = match backends.here(backend) {
        Ok(BackendHere::Ready(builder)) => {
            if let Some(why) = builder.abilities.refusal(&made_from.contents.target) {
                return Ok(missing(format!(
                    "the profile is for {}, and it has {why}",
                    made_from.contents.target
                )));
            }
            builder.abilities.identity
        }
        Ok(BackendHere::NothingToCompile) => BTreeMap::new(),
        Ok(BackendHere::NotHere(why)) => return Ok(missing(why)),
        Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error.into()),
        Err(error) => {
            return Ok(vec![Finding::new(Subject::Missing, backend.name(), with_causes(&error))]);
        }
    };
    Ok(made_from.other_tools(&installed)?)
}

/// Returns the message of an error with its causes.
fn with_causes(error: &PipelineError) -> String {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        let text = source.to_string();
        if !message.contains(&text) {
            message.push_str(&format!(": {text}"));
        }
        cause = source.source();
    }
    message
}

/// Builds a group; returns what came of each profile, in its order.
pub(super) fn build(
    workspace: &Workspace,
    group: &Group<'_>,
    sources: &Sources,
    store: &Store,
    on_event: OnEvent<'_>,
) -> Result<Vec<Result<Box<AssembledProfile>, NotBuilt>>, ReproduceError> {
    let Some((_, first)) = group.profiles.first() else { return Ok(Vec::new()) };
    let Some(graphs) = source_graphs(&first.contents.graphs, sources)? else {
        let text = "a source graph changed while it was used: run the command again when it is complete";
        let changed = || (Verdict::NotReproduced, vec![Finding::new(Subject::Graph, "graphs", text)]);
        return Ok(group.profiles.iter().map(|_| Err(changed())).collect());
    };
    let mut recipe = Recipe::of_contents(&first.contents, "the release");
    recipe.profiles = group.profiles.iter().filter_map(|(_, made_from)| made_from.spec()).collect();
    let mut lowerings = BTreeMap::new();
    for (_, made_from) in &group.profiles {
        lowerings.extend(made_from.lowerings());
        for quantized in made_from.graphs.values().filter_map(|graph| graph.quantized()) {
            bring_quantized(quantized, sources, store)?;
        }
    }
    let mut resolved = Resolved::of_records(workspace, recipe, graphs, lowerings)?;
    let waiting = || on_event(BuildEvent::WaitingForStore);
    let lock = store.lock(waiting, &|| workspace.cancel.is_cancelled())?;
    let records = schedule(workspace, &mut resolved, store, &lock, on_event)?;
    let mut assembled: BTreeMap<String, AssembledState> = assemble(&resolved, &records, store)?
        .into_iter()
        .map(|Assembled { name, state }| (name, state))
        .collect();
    let failed = |why: String| (Verdict::NotReproduced, vec![Finding::new(Subject::Build, "build", why)]);
    let of_profile = |(profile, _): &(&ReleasedProfile, &MadeFrom)| match assembled.remove(&profile.name) {
        Some(AssembledState::Complete(found)) => Ok(found),
        Some(AssembledState::Failed(error)) => Err(failed(format!("the build failed: {}", error.message))),
        Some(AssembledState::NotBuiltHere(needs)) => Err(failed(needs)),
        Some(AssembledState::NotSelected | AssembledState::NotInStore) | None => {
            Err(failed("nothing was built".into()))
        }
    };
    Ok(group.profiles.iter().map(of_profile).collect())
}

/// Opens source graphs; `None` if one of them is no longer what it was when it was found.
pub(super) fn source_graphs(
    wanted: &BTreeMap<String, GraphDigest>,
    sources: &Sources,
) -> Result<Option<BTreeMap<String, SourceGraph>>, ReproduceError> {
    let open = |(name, digest): (&String, &GraphDigest)| {
        Ok(sources.open(digest)?.map(|graph| (name.clone(), graph)))
    };
    wanted.iter().map(open).collect()
}

/// Puts a quantized graph into the store, where lowering looks for it.
fn bring_quantized(graph: &GraphDigest, sources: &Sources, store: &Store) -> Result<(), ReproduceError> {
    if store.has_graph(graph) {
        return Ok(());
    }
    let Some(found) = sources.open(graph)? else { return Ok(()) };
    let work = store.work_folder()?;
    for (open, FileDigest { path, sha256: _, size_bytes: _ }) in found.file.open_files().zip(&graph.files) {
        let copy = work.path().join("graph");
        let copied =
            fs_err::File::create(&copy).and_then(|mut file| std::io::copy(&mut open.reader(), &mut file));
        copied.map_err(super::error::io(format!("cannot copy {}", open.path().display())))?;
        store.adopt(&copy, path)?;
    }
    Ok(())
}
