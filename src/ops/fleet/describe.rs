//! What the nodes of an executor are: build keys need it, so it must be known without a node at hand.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nimctl_backend_kit::atomic_file;
use serde::{Deserialize, Serialize};

use super::batches::{Asked, Batches, Happening};
use super::error::FleetFailure;
use crate::canonical;
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::exchange::new_name;
use crate::fleet::Executor;
use crate::fleet::exchange::{NodeFacts, Outcome, REQUEST_SCHEMA, RemoteRequest, RemoteResult, What};
use crate::ops::error::JobError;
use crate::ops::event::{BuildEvent, OnEvent};
use crate::stored_format;

/// The schema of what is remembered.
const SCHEMA: &str = "nimctl.executor/1";
/// How long it is believed. A node with something else refuses to build.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What is remembered of an executor.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    schema: String,
    facts: NodeFacts,
}

/// Returns what is remembered of an executor's nodes, unless it is too old.
pub(super) fn remembered(data_folder: &Path, executor: &Executor) -> Option<NodeFacts> {
    let path = path(data_folder, executor)?;
    let metadata = fs_err::metadata(&path).ok()?;
    #[expect(clippy::disallowed_methods, reason = "what is remembered has a lifetime")]
    let age = SystemTime::now().duration_since(metadata.modified().ok()?).unwrap_or_default();
    if age > LIFETIME {
        return None;
    }
    let bytes = fs_err::read(&path).ok()?;
    let Remembered { schema: _, facts } = stored_format::from_json(&bytes, SCHEMA, path.display()).ok()?;
    Some(facts)
}

/// Asks a node of an executor what it is, and remembers it; `on_event` is told how far that is, under a title.
pub(super) fn ask(
    batches: &Batches<'_>,
    data_folder: &Path,
    (title, on_event): (&str, OnEvent<'_>),
) -> Result<NodeFacts, FleetFailure> {
    let Batches { name, executor, .. } = batches;
    let exchange = batches.exchange();
    let backends = executor.offers.backends.clone();
    let request = RemoteRequest { schema: REQUEST_SCHEMA.into(), what: What::Describe { backends } };
    // Each question is a new one: an old answer is what is being replaced.
    let staged = exchange.stage().map_err(FleetFailure::of_exchange(name))?;
    let id = format!("describe-{}", new_name());
    let put = || exchange.put(&id, &staged, &request).map_err(FleetFailure::of_exchange(name));
    let mut result = None;
    batches.run(vec![Asked { id: id.clone(), put: Box::new(put) }], &mut |_, happening| match happening {
        Happening::Waits(reason) => on_event(BuildEvent::JobWaits {
            title: title.into(),
            executor: (*name).into(),
            reason: reason.into(),
        }),
        Happening::On(node) => on_event(BuildEvent::JobOnNode {
            title: title.into(),
            executor: (*name).into(),
            node: node.into(),
        }),
        Happening::Again(why) => on_event(BuildEvent::JobStage { title: title.into(), stage: why }),
        Happening::Told(_) => {}
        Happening::Done(done) => result = Some(done),
    });
    let _ = exchange.remove(&id);
    let failed = |message: &str| FleetFailure::new(name, ErrorKind::Unavailable, message);
    let RemoteResult { schema: _, node: _, outcome } =
        result.unwrap_or_else(|| Err(failed("it gave no answer")))?;
    match outcome {
        Outcome::Described(facts) => {
            let remember = Remembered { schema: SCHEMA.into(), facts: facts.clone() };
            let write = |path: PathBuf| {
                fs_err::create_dir_all(path.parent().unwrap_or(data_folder))?;
                atomic_file::write(&path, &serde_json::to_vec_pretty(&remember)?)
            };
            if let Some(path) = path(data_folder, executor) {
                write(path).map_err(|error| {
                    let error = JobError::new(ErrorKind::Input, error);
                    FleetFailure::new(
                        name,
                        error.kind,
                        format!("cannot save the description of its nodes: {}", error.message),
                    )
                })?;
            }
            Ok(facts)
        }
        Outcome::Failed { kind, message } => Err(FleetFailure::new(name, kind.into(), message)),
        Outcome::Reported(problem) => Err(failed(&problem.message)),
        Outcome::Built { .. } => Err(failed("the node answered a different request")),
    }
}

/// Returns where it is remembered: a changed executor, or another nimctl, is asked anew.
fn path(data_folder: &Path, executor: &Executor) -> Option<PathBuf> {
    let document = canonical::to_string(&(executor, env!("CARGO_PKG_VERSION"))).ok()?;
    let digest = Sha256::of(document.as_bytes()).to_hex();
    Some(data_folder.join("fleet").join(format!("{digest}.json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_descriptions_are_read_and_written_as_they_were() {
        const GOLDEN: &[u8] = include_bytes!("../../../tests/fixtures/formats/executor.json");
        let remembered: Remembered = stored_format::from_json(GOLDEN, SCHEMA, "e").unwrap();
        assert_eq!(remembered.facts.backends.len(), 2);
        let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(value(&serde_json::to_vec(&remembered).unwrap()), value(GOLDEN));
    }
}
