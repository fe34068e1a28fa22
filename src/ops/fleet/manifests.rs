//! `fleet manifests`: the Jobs of Kubernetes that wait to be applied.

use serde_json::Value;

use super::UsedFleet;
use super::error::FleetFailure;
use super::site::{Site, with_own_exchanges};
use crate::engines::kubernetes::{JobOf, job};
use crate::exchange::Look;
use crate::fleet::{Apply, Engine, Executor, Fleet};
use crate::ops::workspace::Workspace;

/// The batch of an example.
const EXAMPLE: &str = "example";

/// A Job, and whose requests it answers.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingJob {
    /// The executor.
    pub executor: String,
    /// The machine and the store that asked.
    pub owner: String,
    /// How many of its requests have no result.
    pub waiting: usize,
    /// The Job.
    pub job: Value,
}

/// Returns the Jobs of all batches of a fleet that have requests without a result.
///
/// # Errors
/// An exchange can't be reached.
pub fn waiting_jobs(workspace: &Workspace, used: &UsedFleet) -> Result<Vec<WaitingJob>, FleetFailure> {
    let mut found = Vec::new();
    for (name, executor) in with_own_exchanges(used) {
        if matches!(executor.engine, Engine::Slurm(_)) {
            continue;
        }
        let batches = Site::with(name, executor, used, workspace, |site| {
            let exchange = site.exchange();
            let batches = exchange.batches()?;
            let mut with_counts = Vec::new();
            for (name, batch) in batches {
                let ids: Vec<&str> = batch.requests.iter().map(String::as_str).collect();
                let looks = exchange.look(&ids)?;
                let waiting = looks.iter().filter(|look| matches!(look, Ok(Look::Waiting))).count();
                with_counts.push((name, batch, waiting));
            }
            Ok(with_counts)
        })?;
        for (batch_name, batch, waiting) in batches.map_err(FleetFailure::of_exchange(name))? {
            // Another fleet may use the same repository.
            let Some(Engine::Kubernetes(keys)) =
                used.fleet.executors.get(&batch.executor).map(|executor| &executor.engine)
            else {
                continue;
            };
            if waiting > 0 && keys.apply == Apply::ByHand {
                let of =
                    JobOf { executor: &batch.executor, batch: &batch_name, requests: batch.requests.len() };
                let job = job(keys, of);
                found.push(WaitingJob { executor: batch.executor, owner: batch.owner, waiting, job });
            }
        }
    }
    Ok(found)
}

/// Returns the Job of each executor as it would be with a request for each of its pods; no exchange is asked.
pub fn example_jobs(fleet: &Fleet) -> Vec<Value> {
    let of_executor = |(name, executor): (&str, &Executor)| match &executor.engine {
        Engine::Slurm(_) => None,
        Engine::Kubernetes(keys) => {
            Some(job(keys, JobOf { executor: name, batch: EXAMPLE, requests: keys.nodes as usize }))
        }
    };
    fleet.executors.iter().filter_map(of_executor).collect()
}
