//! Which executor takes which profile.

use std::collections::{BTreeMap, BTreeSet};

use super::error::FleetFailure;
use super::{UsedFleet, describe};
use crate::error_kind::ErrorKind;
use crate::fleet::Abilities;
use crate::fleet::exchange::{NodeFacts, RemoteBackend};
use crate::ops::error::PipelineError;
use crate::ops::event::{BuildEvent, OnEvent};
use crate::ops::workspace::Workspace;
use crate::profile::ProfileSpec;

/// Where a profile's plans are built, if not on this machine.
#[derive(Clone, Debug)]
pub struct Place {
    /// The executor.
    pub executor: String,
    /// What the profile's backend can do there, or why nobody knows.
    pub backend: Result<RemoteBackend, FleetFailure>,
}

impl Place {
    /// Returns what the backend can build there, if it can.
    pub(in crate::ops) fn abilities(&self) -> Option<&Abilities> {
        match &self.backend {
            Ok(RemoteBackend::Ready(abilities)) => Some(abilities),
            Ok(RemoteBackend::NotThere(_)) | Err(_) => None,
        }
    }
}

/// Finds the executors of profiles, by the profiles' names. Those of selected ones are asked what they are, unless that is known;
/// of the others, what is known counts.
pub(in crate::ops) fn places(
    workspace: &Workspace,
    profiles: &[ProfileSpec],
    selected: &BTreeSet<String>,
    on_event: OnEvent<'_>,
) -> Result<BTreeMap<String, Place>, PipelineError> {
    let Some(used) = &workspace.fleet else { return Ok(BTreeMap::new()) };
    let offering = |spec: &ProfileSpec| {
        Some((spec.name(), used.fleet.offering(&spec.backend, &spec.target)?.0.to_owned()))
    };
    let executors: BTreeMap<String, String> = profiles.iter().filter_map(offering).collect();
    let mut needed: BTreeMap<&str, bool> = BTreeMap::new();
    for (profile, executor) in &executors {
        *needed.entry(executor).or_default() |= selected.contains(profile);
    }
    let facts = facts_of(workspace, used, &needed, on_event)?;
    let place = |spec: &ProfileSpec| {
        let executor = executors.get(&spec.name())?;
        let backend = match facts.get(executor)? {
            Ok(facts) => Ok(facts.backends.get(spec.backend.name())?.clone()),
            Err(failure) => Err(failure.clone()),
        };
        Some((spec.name(), Place { executor: executor.clone(), backend }))
    };
    Ok(profiles.iter().filter_map(place).collect())
}

/// Returns what executors are: side by side, since each may wait for a node.
fn facts_of(
    workspace: &Workspace,
    used: &UsedFleet,
    needed: &BTreeMap<&str, bool>,
    on_event: OnEvent<'_>,
) -> Result<BTreeMap<String, Result<NodeFacts, FleetFailure>>, PipelineError> {
    let data_folder = &workspace.places.data_folder;
    let of_executor = |name: &str, asks: bool| -> Result<Option<NodeFacts>, FleetFailure> {
        let Some(executor) = used.fleet.executors.get(name) else { return Ok(None) };
        let known = describe::remembered(data_folder, executor);
        if !asks || (known.is_some() && !used.refresh) {
            return Ok(known);
        }
        let title = format!("executor {name}");
        on_event(BuildEvent::JobStarted { title: title.clone() });
        let facts = used.with(name, executor, workspace, |batches| {
            describe::ask(batches, data_folder, (&title, on_event))
        });
        on_event(BuildEvent::JobEnded { title: title.clone() });
        facts.and_then(|facts| facts).map(Some)
    };
    let results = std::thread::scope(|scope| {
        let of_executor = &of_executor;
        let mut threads = Vec::new();
        for (&name, &asks) in needed {
            threads.push((name.to_owned(), scope.spawn(move || of_executor(name, asks))));
        }
        let died =
            |name: &str| FleetFailure::new(name, ErrorKind::Bug, "the thread that asked it ended early");
        let answer = |(name, thread): (String, std::thread::ScopedJoinHandle<'_, _>)| {
            let result = thread.join().unwrap_or_else(|_| Err(died(&name)));
            Some((name, result.transpose()?))
        };
        threads.into_iter().filter_map(answer).collect()
    });
    if workspace.cancel.is_cancelled() { Err(PipelineError::Cancelled) } else { Ok(results) }
}
