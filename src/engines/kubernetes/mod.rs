//! Kubernetes, through `kubectl`: applies Jobs, asks how they are, deletes them.
//!
//! `kubectl` knows how each cluster wants to be logged in to; a client of our own would have to learn it. What a Job is, is in
//! [`job()`]; it names Secrets, and holds none.

mod job;
mod status;

use std::process::Command;

use serde_json::Value;

pub use job::{JobOf, job, job_name};

use super::{EngineError, call};
use crate::fleet::proposal::GpuNode;
use crate::fleet::{Kubernetes, Task};
use crate::process::Cancel;

const PROGRAM: &str = "kubectl";
/// A request to the API's server may take so long.
const REQUEST_TIMEOUT: &str = "--request-timeout=30s";

/// Applies the Job of a batch, which is there once however often it is applied.
///
/// # Errors
/// `kubectl` is not here; the cluster can't be reached, or refuses.
pub fn submit(kubernetes: &Kubernetes, of: JobOf<'_>, cancel: &Cancel) -> Result<(), EngineError> {
    let mut command = kubectl(kubernetes);
    command.args(["apply", "--server-side", "--field-manager=nimctl", "--filename=-", "--output=name"]);
    call(PROGRAM, command, &job(kubernetes, of).to_string(), cancel).map(drop)
}

/// Returns the tasks of some Jobs: each index is one. Of a Job that is not there, there are none.
///
/// # Errors
/// As [`submit`].
pub fn tasks(kubernetes: &Kubernetes, jobs: &[&str], cancel: &Cancel) -> Result<Vec<Task>, EngineError> {
    let mut command = kubectl(kubernetes);
    let selector = format!("--selector={} in ({})", job::JOB_LABEL, jobs.join(","));
    command.args(["get", "jobs,pods", &selector, "--output=json"]);
    Ok(status::tasks(&json_of(&call(PROGRAM, command, "", cancel)?)?))
}

/// Returns whether a task runs whose pod was told to end.
pub fn is_terminating(task: &Task) -> bool {
    task.reason == status::TERMINATING
}

/// Returns whether a task waits for something that doesn't come by itself.
pub fn never_starts(reason: &str) -> bool {
    status::is_hopeless(reason)
}

/// Deletes Jobs with their pods; those that are not there are as good.
///
/// # Errors
/// As [`submit`].
pub fn delete(kubernetes: &Kubernetes, jobs: &[&str]) -> Result<(), EngineError> {
    let mut command = kubectl(kubernetes);
    command.args(["delete", "jobs", "--ignore-not-found", "--wait=false", "--cascade=background", "--"]);
    command.args(jobs);
    // What cancels everything else doesn't cancel this.
    call(PROGRAM, command, "", &Cancel::new()).map(drop)
}

/// Returns the end of what the pods of a task printed, as far as they are still there.
pub fn log_tail(kubernetes: &Kubernetes, task: &str) -> String {
    let Some((job, index)) = task.split_once('_') else { return String::new() };
    let mut command = kubectl(kubernetes);
    let selector =
        format!("--selector={}={job},batch.kubernetes.io/job-completion-index={index}", job::JOB_LABEL);
    command.args(["logs", &selector, "--container=nimctl", "--tail=20", "--ignore-errors"]);
    call(PROGRAM, command, "", &Cancel::new()).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Returns the nodes that have GPUs, as GPU feature discovery labels them.
///
/// # Errors
/// As [`submit`].
pub fn nodes(context: Option<&str>, cancel: &Cancel) -> Result<Vec<GpuNode>, EngineError> {
    let mut command = in_context(context);
    command.args(["get", "nodes", "--output=json"]);
    let list = json_of(&call(PROGRAM, command, "", cancel)?)?;
    let nodes = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(nodes.iter().filter_map(gpu_node).collect())
}

fn gpu_node(node: &Value) -> Option<GpuNode> {
    let product = node["metadata"]["labels"]["nvidia.com/gpu.product"].as_str()?;
    let taints = node["spec"]["taints"].as_array().map_or(&[][..], Vec::as_slice);
    let of_gpu = |taint: &&Value| {
        taint["key"].as_str().is_some_and(|key| key.contains("gpu")) && taint["effect"] != "PreferNoSchedule"
    };
    Some(GpuNode {
        node: node["metadata"]["name"].as_str()?.to_owned(),
        product: product.to_owned(),
        taints: taints
            .iter()
            .filter(of_gpu)
            .filter_map(|taint| Some(taint["key"].as_str()?.to_owned()))
            .collect(),
    })
}

fn json_of(printed: &str) -> Result<Value, EngineError> {
    serde_json::from_str(printed).map_err(|_| EngineError::Unreadable {
        program: PROGRAM,
        printed: printed.trim().chars().take(200).collect(),
    })
}

#[expect(clippy::disallowed_methods, reason = "process::run_on runs it")]
fn in_context(context: Option<&str>) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg(REQUEST_TIMEOUT).args(context.map(|context| format!("--context={context}")));
    command
}

fn kubectl(kubernetes: &Kubernetes) -> Command {
    let mut command = in_context(kubernetes.context.as_deref());
    command.args(kubernetes.namespace.as_ref().map(|namespace| format!("--namespace={namespace}")));
    command
}
