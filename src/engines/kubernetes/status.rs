//! How the pods of a Job are, from what `kubectl get jobs,pods -o json` prints.

use serde_json::Value;

use super::job::JOB_LABEL;
use crate::fleet::{Task, TaskState};

/// The label that says which index of a Job a pod has.
const INDEX_LABEL: &str = "batch.kubernetes.io/job-completion-index";
/// The container that is ours: others may have been added to the pod.
const CONTAINER: &str = "nimctl";
/// A pod that was evicted so often will be again.
const EVICTIONS: usize = 5;
/// How a pod failed that was evicted.
const EVICTED: &str = "EVICTED";
/// Why a container can't start without somebody's help.
const HOPELESS: [&str; 5] = [
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
];

/// Why a pod runs that was told to end: its node may be gone.
pub(super) const TERMINATING: &str = "Terminating";

/// Returns the tasks of the Jobs in a list: one for each index.
pub(super) fn tasks(list: &Value) -> Vec<Task> {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let of_kind = |kind: &'static str| items.iter().filter(move |item| item["kind"] == kind);
    let mut tasks = Vec::new();
    for job in of_kind("Job") {
        let Some(name) = job["metadata"]["name"].as_str() else { continue };
        let completions = job["spec"]["completions"].as_u64().unwrap_or(1);
        let completed = Indexes::parse(job["status"]["completedIndexes"].as_str().unwrap_or_default());
        let failed = Indexes::parse(job["status"]["failedIndexes"].as_str().unwrap_or_default());
        let ended = condition(job, "Failed");
        let is_suspended = job["spec"]["suspend"] == true;
        let pods: Vec<&Value> =
            of_kind("Pod").filter(|pod| pod["metadata"]["labels"][JOB_LABEL] == name).collect();
        for index in 0..completions {
            let of_index = |pod: &&&Value| {
                let labels = &pod["metadata"]["labels"][INDEX_LABEL];
                let annotation = &pod["metadata"]["annotations"][INDEX_LABEL];
                labels.as_str().or(annotation.as_str()).and_then(|text| text.parse::<u64>().ok())
                    == Some(index)
            };
            // Times of the API sort as text.
            let created =
                |pod: &&&Value| pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
            let newest = pods.iter().filter(of_index).max_by_key(created).copied();
            let node = newest.and_then(|pod| pod["spec"]["nodeName"].as_str()).unwrap_or_default().to_owned();
            let is_evicted = |pod: &&&Value| how_it_failed(pod).is_some_and(|(word, _)| word == EVICTED);
            let evictions = pods.iter().filter(of_index).filter(is_evicted).count();
            let (state, reason) = if completed.has(index) {
                (TaskState::Over("COMPLETED".into()), String::new())
            } else if failed.has(index) || ended.is_some() {
                let (word, why) = newest.and_then(how_it_failed).unwrap_or(("FAILED", String::new()));
                (TaskState::Over(word.into()), ended.clone().unwrap_or(why))
            } else if evictions >= EVICTIONS {
                (TaskState::Over(EVICTED.into()), format!("{evictions} times"))
            } else if is_suspended {
                (TaskState::Waiting, "the Job is suspended".into())
            } else {
                let none =
                    || (TaskState::Waiting, format!("no pod yet; `kubectl describe job {name}` says why"));
                newest.map_or_else(none, state_of)
            };
            tasks.push(Task { id: format!("{name}_{index}"), state, reason, node });
        }
    }
    tasks
}

/// Returns whether a reason is one that doesn't go away by itself.
pub(super) fn is_hopeless(reason: &str) -> bool {
    HOPELESS.iter().any(|word| reason.starts_with(word))
}

/// Returns how a pod of an index is that is neither done nor given up.
fn state_of(pod: &Value) -> (TaskState, String) {
    let container = container(pod);
    match pod["status"]["phase"].as_str().unwrap_or_default() {
        // Another container may keep a pod alive whose work is over.
        "Running" => match &container["terminated"] {
            Value::Object(_) if container["terminated"]["exitCode"] != 0 => {
                let (word, why) = how_it_failed(pod).unwrap_or(("FAILED", String::new()));
                (TaskState::Over(word.into()), why)
            }
            _ if pod["metadata"]["deletionTimestamp"].is_string() => (TaskState::Running, TERMINATING.into()),
            _ => (TaskState::Running, String::new()),
        },
        // The Job counts it a moment later.
        "Succeeded" => (TaskState::Running, String::new()),
        "Failed" => {
            let (word, why) = how_it_failed(pod).unwrap_or(("FAILED", String::new()));
            let why = if why.is_empty() { word.to_owned() } else { why };
            (TaskState::Waiting, format!("a pod ended without a result ({why}), and is started again"))
        }
        _ => {
            let waiting = &container["waiting"];
            let scheduled = condition_of(pod, "PodScheduled").filter(|found| found["status"] == "False");
            let reason = match (waiting["reason"].as_str(), scheduled) {
                (Some(reason), _) => with_message(reason, &waiting["message"]),
                (None, Some(found)) => {
                    with_message(found["reason"].as_str().unwrap_or("Pending"), &found["message"])
                }
                (None, None) => "Pending".into(),
            };
            (TaskState::Waiting, reason)
        }
    }
}

/// Returns the state of our container.
fn container(pod: &Value) -> &Value {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let ours = statuses.and_then(|all| all.iter().find(|status| status["name"] == CONTAINER));
    ours.map_or(&Value::Null, |status| &status["state"])
}

fn with_message(reason: &str, message: &Value) -> String {
    match message.as_str() {
        Some(message) if !message.is_empty() => format!("{reason}: {message}"),
        _ => reason.into(),
    }
}

/// Returns how a pod failed: in the word that stands for it, and in Kubernetes's own.
fn how_it_failed(pod: &Value) -> Option<(&'static str, String)> {
    let (status, terminated) = (&pod["status"], &container(pod)["terminated"]);
    let of_container = || {
        let reason = with_message(terminated["reason"].as_str().unwrap_or("Error"), &terminated["message"]);
        format!("{reason}, exit code {}", terminated["exitCode"])
    };
    let of_pod = || with_message(status["reason"].as_str().unwrap_or("Failed"), &status["message"]);
    match (status["reason"].as_str(), terminated["reason"].as_str()) {
        (_, Some("OOMKilled")) => Some(("OUT_OF_MEMORY", of_container())),
        (Some("DeadlineExceeded"), _) => Some(("TIMEOUT", of_pod())),
        _ if condition(pod, "DisruptionTarget").is_some() => {
            Some((EVICTED, condition(pod, "DisruptionTarget").unwrap_or_default()))
        }
        (Some(_), _) => Some(("FAILED", of_pod())),
        (None, Some(_)) => Some(("FAILED", of_container())),
        (None, None) => None,
    }
}

fn condition_of<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Returns what a condition that holds says.
fn condition(object: &Value, kind: &str) -> Option<String> {
    let found = condition_of(object, kind).filter(|found| found["status"] == "True")?;
    Some(with_message(found["reason"].as_str().unwrap_or(kind), &found["message"]))
}

/// Indexes of a Job as its status has them: `0-3,7`.
struct Indexes(Vec<(u64, u64)>);

impl Indexes {
    fn parse(text: &str) -> Self {
        let span = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        };
        Self(text.split(',').filter_map(span).collect())
    }

    fn has(&self, index: u64) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&index))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(index: u64, created: &str, status: Value) -> Value {
        json!({
            "kind": "Pod",
            "metadata": {
                "labels": { JOB_LABEL: "j", INDEX_LABEL: index.to_string() }, "creationTimestamp": created,
            },
            "spec": { "nodeName": "n1" },
            "status": status,
        })
    }

    fn states(job: Value, pods: Vec<Value>) -> Vec<(TaskState, String)> {
        let mut items = vec![job];
        items.extend(pods);
        tasks(&json!({ "items": items })).into_iter().map(|task| (task.state, task.reason)).collect()
    }

    fn job(status: Value) -> Value {
        json!({ "kind": "Job", "metadata": { "name": "j" }, "spec": { "completions": 4 }, "status": status })
    }

    #[test]
    fn each_index_is_as_its_newest_pod_until_the_job_counts_it() {
        let unschedulable = json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes" }] });
        let oom = json!({ "phase": "Failed", "containerStatuses": [
            { "name": "a-sidecar", "state": { "running": {} } },
            { "name": "nimctl", "state": { "terminated": { "reason": "OOMKilled", "exitCode": 137 } } }] });
        let found = states(
            job(json!({ "completedIndexes": "0", "failedIndexes": "3" })),
            vec![
                pod(0, "2026-01-01T00:00:00Z", json!({ "phase": "Succeeded" })),
                pod(1, "2026-01-01T00:00:00Z", oom.clone()),
                pod(1, "2026-01-01T00:00:09Z", json!({ "phase": "Running" })),
                pod(2, "2026-01-01T00:00:00Z", unschedulable),
                pod(3, "2026-01-01T00:00:00Z", oom),
            ],
        );
        let over = |word: &str| TaskState::Over(word.into());
        assert_eq!(
            found,
            [
                (over("COMPLETED"), String::new()),
                (TaskState::Running, String::new()),
                (TaskState::Waiting, "Unschedulable: 0/3 nodes".into()),
                (over("OUT_OF_MEMORY"), "OOMKilled, exit code 137".into()),
            ]
        );
    }

    #[test]
    fn what_waits_for_somebody_says_so() {
        let pulled = json!({ "phase": "Pending", "containerStatuses": [
            { "name": "nimctl", "state": { "waiting": { "reason": "ImagePullBackOff", "message": "not found" } } }] });
        let found = states(job(json!({})), vec![pod(0, "a", pulled)]);
        assert_eq!(found[0], (TaskState::Waiting, "ImagePullBackOff: not found".into()));
        assert!(is_hopeless(&found[0].1));
        assert_eq!(found[1], (TaskState::Waiting, "no pod yet; `kubectl describe job j` says why".into()));
        let late = json!({ "conditions": [
            { "type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long" }] });
        assert_eq!(states(job(late), vec![])[0].0, TaskState::Over("FAILED".into()));
    }

    #[test]
    fn what_keeps_a_pod_alive_or_ends_it_again_and_again_is_seen() {
        let kept_alive = json!({ "phase": "Running", "containerStatuses": [
            { "name": "a-sidecar", "state": { "running": {} } },
            { "name": "nimctl", "state": { "terminated": { "reason": "Error", "exitCode": 1 } } }] });
        let found = states(job(json!({})), vec![pod(0, "a", kept_alive)]);
        assert_eq!(found[0], (TaskState::Over("FAILED".into()), "Error, exit code 1".into()));
        let mut terminating = pod(0, "a", json!({ "phase": "Running" }));
        terminating["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(states(job(json!({})), vec![terminating])[0], (TaskState::Running, TERMINATING.into()));
        let evicted = json!({ "phase": "Failed", "conditions": [
            { "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": "disk" }] });
        let pods = |count| (0..count).map(|_| pod(0, "a", evicted.clone())).collect();
        let waits = "a pod ended without a result (TerminationByKubelet: disk), and is started again";
        assert_eq!(states(job(json!({})), pods(4))[0], (TaskState::Waiting, waits.into()));
        assert_eq!(states(job(json!({})), pods(5))[0].0, TaskState::Over("EVICTED".into()));
    }
}
