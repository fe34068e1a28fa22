//! Runs plans whose bytes differ, for compilers that give another plan each time: what counts then is what they compute.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{ReproduceError, io};
use super::rebuild::source_graphs;
use super::sources::Sources;
use crate::backend::Builds;
use crate::ops::assemble::AssembledProfile;
use crate::ops::validate::run_beside_sources;
use crate::ops::workspace::Workspace;
use crate::passport::{GraphPassport, Passport, Status};
use crate::reproduction::{Finding, MadeFrom, ProfileReproduction, Subject, Verdict};
use crate::store::Store;
use crate::validation::Validation;

/// Returns whether a profile is different in the bytes of plans alone, of a compiler that may give another plan each time.
pub(super) fn may_be_tuned(made_from: &MadeFrom, result: &ProfileReproduction) -> bool {
    let compiler_may = match made_from.contents.backend.facts().builds {
        Builds::OnTheDevice | Builds::AsItsWorkerSays => true,
        Builds::AheadOfTime(_) | Builds::Nothing => false,
    };
    let are_files = result.findings.iter().all(|finding| finding.subject == Subject::File);
    let are_pairs = result.files.iter().all(|file| file.recorded.is_some() && file.rebuilt.is_some());
    result.verdict == Verdict::Different && compiler_may && are_files && are_pairs
}

/// Says that such plans could be run.
pub(super) fn could_be_run(made_from: &MadeFrom, result: &mut ProfileReproduction) {
    let backend = &made_from.contents.backend;
    let text = format!(
        "{backend} may give other plans of the same request: --run compares what they compute, on a host that can run them"
    );
    result.findings.push(Finding::new(Subject::Missing, "--run", text));
}

/// Runs the released and the rebuilt plans beside the source graphs. If both pass the gates, the profile is equivalent.
pub(super) fn compare_outputs(
    workspace: &Workspace,
    (made_from, released): (&MadeFrom, &Path),
    rebuilt: &AssembledProfile,
    (sources, store): (&Sources, &Store),
    result: &mut ProfileReproduction,
) -> Result<(), ReproduceError> {
    let forms = [as_released(made_from, released, rebuilt, store)?, rebuilt.passport.clone()];
    let Some(graphs) = source_graphs(&made_from.contents.graphs, sources)? else { return Ok(()) };
    let statuses = run_beside_sources(workspace, &forms, graphs)?;
    let mut compared = Vec::new();
    for (which, status) in ["released", "rebuilt"].into_iter().zip(&statuses) {
        match passed(status) {
            Ok(Validation { ran_on, gates, .. }) => compared.push(format!(
                "the {which} plan passed all {} gates beside the FP32 graph, in min, opt and max shapes on seeded inputs ({ran_on})",
                gates.len()
            )),
            Err(why) => {
                let text = format!("what the plans compute could not be compared: the {which} one {why}");
                result.findings.push(Finding::new(Subject::File, "outputs", text));
                return Ok(());
            }
        }
    }
    for file in result.files.iter_mut().filter(|file| file.verdict == Verdict::Different) {
        (file.verdict, file.compared) = (Verdict::Equivalent, compared.clone());
    }
    result.verdict = Verdict::Equivalent;
    result.findings.clear();
    Ok(())
}

fn passed(status: &Status) -> Result<&Validation, String> {
    match status {
        Status::Skipped(why) => Err(format!("cannot be run here: {why}")),
        Status::Static(_) => Err("was not run: its lowered graph was, in its place".into()),
        Status::Executed(validation) => {
            let gate = validation.gates.iter().find(|gate| !gate.passed);
            match (&validation.failure, gate) {
                (Some(failure), _) => Err(format!("failed: {failure}")),
                (None, Some(gate)) => Err(format!("failed the gate {} of {}", gate.gate, gate.subject)),
                (None, None) if validation.passed => Ok(validation),
                (None, None) => Err("was not compared in anything".into()),
            }
        }
    }
}

/// Puts the released plans into the store, and returns a passport that has them.
fn as_released(
    made_from: &MadeFrom,
    released: &Path,
    rebuilt: &AssembledProfile,
    store: &Store,
) -> Result<Passport, ReproduceError> {
    let mut graphs: BTreeMap<String, GraphPassport> = rebuilt.passport.graphs.clone();
    for (name, graph) in &mut graphs {
        let (Some(compilation), Some(recorded)) = (&mut graph.compilation, made_from.graphs.get(name)) else {
            continue;
        };
        compilation.outputs.clone_from(&recorded.compiled);
        for output in &recorded.compiled {
            let work = store.work_folder()?;
            let copy = work.path().join("plan");
            fs_err::copy(released.join(name).join(&output.path), &copy).map_err(io("cannot copy a plan"))?;
            store.adopt(&copy, &output.path)?;
        }
    }
    Ok(Passport {
        id: made_from.id,
        contents: made_from.contents.clone(),
        graphs,
        ..rebuilt.passport.clone()
    })
}
