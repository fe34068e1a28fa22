//! The Job of a batch: one pod for each request, by its index.

use serde_json::{Map, Value, json};

use crate::fleet::{Kubernetes, Toleration};

/// The label that says which Job a pod is of.
pub(super) const JOB_LABEL: &str = "nimctl.org/job";
/// The label that says which executor it is.
const EXECUTOR_LABEL: &str = "nimctl.org/executor";
/// The longest value of a label is 63 characters, and a name takes the index and a suffix for each pod.
const MAX_EXECUTOR_BYTES: usize = 30;
/// How often Kubernetes starts a pod again that failed by itself; one that was evicted doesn't count.
const RETRIES: u32 = 2;
/// How long a Job is kept that nobody deleted.
const KEPT_S: u32 = 24 * 60 * 60;
/// The folder of a pod's own for copies of graphs and plans.
const SCRATCH: &str = "/scratch";
/// Where the credentials for the exchange are.
const CREDENTIALS: &str = "/etc/nimctl/registry";

/// What a Job works on.
#[derive(Clone, Copy, Debug)]
pub struct JobOf<'a> {
    /// The executor.
    pub executor: &'a str,
    /// The batch.
    pub batch: &'a str,
    /// How many requests it has.
    pub requests: usize,
}

/// Returns the name of a batch's Job.
pub fn job_name(executor: &str, batch: &str) -> String {
    let executor = executor.get(..MAX_EXECUTOR_BYTES).unwrap_or(executor);
    format!("nimctl-{executor}-{batch}")
}

/// Returns the Job of a batch.
pub fn job(kubernetes: &Kubernetes, of: JobOf<'_>) -> Value {
    let Kubernetes {
        context: _,
        namespace,
        image,
        exchange,
        plain_http,
        registry_secret,
        image_pull_secret,
        node_selector,
        tolerations,
        resources,
        cpus,
        memory_mib,
        time,
        max_wait: _,
        nodes,
        environment,
        apply: _,
    } = kubernetes;
    let JobOf { executor, batch, requests } = of;
    let name = job_name(executor, batch);
    let labels = json!({
        "app.kubernetes.io/name": "nimctl",
        "app.kubernetes.io/managed-by": "nimctl",
        JOB_LABEL: name,
        EXECUTOR_LABEL: executor.get(..63).unwrap_or(executor).trim_end_matches('-'),
    });
    let mut command = vec!["nimctl", "work", "--exchange", exchange, "--batch", batch];
    if *plain_http {
        command.push("--plain-http");
    }
    let mut variables = vec![
        json!({ "name": "NIMCTL_NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }),
        json!({ "name": "TMPDIR", "value": SCRATCH }),
    ];
    let mut mounts = vec![json!({ "name": "scratch", "mountPath": SCRATCH })];
    let mut volumes = vec![json!({ "name": "scratch", "emptyDir": {} })];
    if let Some(secret) = registry_secret {
        variables.push(json!({ "name": "DOCKER_CONFIG", "value": CREDENTIALS }));
        mounts.push(json!({ "name": "registry", "mountPath": CREDENTIALS, "readOnly": true }));
        let items = [json!({ "key": ".dockerconfigjson", "path": "config.json" })];
        volumes.push(json!({ "name": "registry", "secret": { "secretName": secret, "items": items } }));
    }
    variables.extend(environment.iter().map(|(name, value)| json!({ "name": name, "value": value })));
    let (mut limits, mut wanted) = (Map::new(), Map::new());
    for (resource, count) in resources {
        // Of extended resources, what is asked for is the limit.
        limits.insert(resource.clone(), json!(count.to_string()));
    }
    if let Some(count) = cpus {
        wanted.insert("cpu".into(), json!(count.to_string()));
    }
    if let Some(size) = memory_mib {
        limits.insert("memory".into(), json!(format!("{size}Mi")));
        wanted.insert("memory".into(), json!(format!("{size}Mi")));
    }
    let mut container = json!({
        "name": "nimctl",
        "image": image,
        "command": command,
        "env": variables,
        "resources": { "limits": limits, "requests": wanted },
        "securityContext": { "allowPrivilegeEscalation": false },
        "volumeMounts": mounts,
    });
    if let Some(resources) = container["resources"].as_object_mut() {
        resources.retain(|_, value| value.as_object().is_some_and(|map| !map.is_empty()));
    }
    let mut pod = json!({
        "restartPolicy": "Never",
        // It speaks to the registry, and to no API of the cluster.
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "containers": [container],
        "volumes": volumes,
    });
    if !node_selector.is_empty() {
        pod["nodeSelector"] = json!(node_selector);
    }
    if !tolerations.is_empty() {
        pod["tolerations"] = json!(tolerations.iter().map(Toleration::document).collect::<Vec<_>>());
    }
    if let Some(secret) = image_pull_secret {
        pod["imagePullSecrets"] = json!([{ "name": secret }]);
    }
    if let Some(time) = time {
        pod["activeDeadlineSeconds"] = json!(time.duration().as_secs());
    }
    let mut metadata = json!({ "name": name, "labels": labels });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "completionMode": "Indexed",
            "completions": requests,
            "parallelism": requests.min(*nodes as usize),
            "backoffLimitPerIndex": RETRIES,
            "podFailurePolicy": {
                "rules": [{ "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] }],
            },
            "ttlSecondsAfterFinished": KEPT_S,
            "template": { "metadata": { "labels": labels }, "spec": pod },
        },
    })
}

impl Toleration {
    fn document(&self) -> Value {
        // Its fields are those of the API.
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_what_the_executor_says_and_no_secret() {
        let kubernetes: Kubernetes = serde_json::from_value(json!({
            "image": "registry.example/nimctl:1",
            "namespace": "builds",
            "exchange": "oci://registry.example/scratch",
            "registry_secret": "scratch",
            "node_selector": { "nvidia.com/gpu.product": "NVIDIA-L4" },
            "tolerations": [{ "key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule" }],
            "time": "01:00:00",
            "memory_mib": 8000,
            "nodes": 2,
            "environment": { "NIMCTL_TENSORRT_LIB": "/opt/tensorrt" },
        }))
        .unwrap();
        let job = job(&kubernetes, JobOf { executor: "ada", batch: "k3x", requests: 5 });
        assert_eq!(job["metadata"]["name"], "nimctl-ada-k3x");
        let spec = &job["spec"];
        assert_eq!((&spec["completions"], &spec["parallelism"]), (&json!(5), &json!(2)));
        let pod = &spec["template"]["spec"];
        assert_eq!(pod["activeDeadlineSeconds"], 3600);
        assert_eq!(pod["nodeSelector"], json!({ "nvidia.com/gpu.product": "NVIDIA-L4" }));
        assert_eq!(
            pod["tolerations"],
            json!([{ "key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule" }])
        );
        let container = &pod["containers"][0];
        assert_eq!(
            container["command"],
            json!(["nimctl", "work", "--exchange", "oci://registry.example/scratch", "--batch", "k3x"])
        );
        assert_eq!(container["resources"]["limits"], json!({ "nvidia.com/gpu": "1", "memory": "8000Mi" }));
        assert_eq!(pod["volumes"][1]["secret"]["secretName"], "scratch");
    }

    #[test]
    fn names_fit_whatever_the_executor_is_called() {
        let name = job_name(&"a".repeat(80), "0123456789ab");
        assert!(name.len() <= 50, "{name}");
    }
}
