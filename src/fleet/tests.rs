use std::collections::BTreeMap;

use super::*;

const FILE: &str = "\
schema: nimctl.fleet/1
executors:
  hopper:
    slurm: { partition: h100, gres: 'gpu:h100:1', time: '00:30:00', shared: /scratch/nimctl, nodes: 2 }
    offers: { gpus: [h100-sxm], backends: [tensorrt] }
  ada:
    slurm:
      shared: /scratch/nimctl
      max_wait: 2-01:00:00
      environment: { NIMCTL_TENSORRT_RTX_LIB: /opt/rtx/lib }
    offers:
      gpus: [l4, l40s]
      backends: [tensorrt-rtx, tensorrt]
  any:
    slurm: { shared: /scratch/nimctl }
    offers: { backends: [tensorrt-rtx] }
";

fn backend(name: &str) -> Backend {
    Backend::new(name).unwrap()
}

fn gpu_target(name: &str) -> Target {
    let compute_capability = gpu::find(name).unwrap().compute_capability;
    Target::Gpu { name: name.into(), compute_capability }
}

#[test]
fn executors_are_in_the_order_of_the_file() {
    let fleet = Fleet::parse(FILE, "fleet.yaml").unwrap();
    let names: Vec<&str> = fleet.executors.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["hopper", "ada", "any"]);
    let Engine::Slurm(hopper) = &fleet.executors.get("hopper").unwrap().engine else { panic!("{fleet:?}") };
    assert_eq!((hopper.time.unwrap().to_string(), hopper.nodes), ("00:30:00".to_owned(), 2));
    assert_eq!(hopper.max_wait.duration().as_secs(), 24 * 60 * 60);
    let Engine::Slurm(ada) = &fleet.executors.get("ada").unwrap().engine else { panic!("{fleet:?}") };
    assert_eq!((ada.max_wait.to_string(), ada.nodes), ("2-01:00:00".to_owned(), 1));
    assert!(fleet.executors.get("lovelace").is_none());
}

#[test]
fn the_first_that_offers_backend_and_gpu_gets_a_profile() {
    #[track_caller]
    fn check(backend: &str, target: &Target, expected: Option<&str>) {
        let fleet = Fleet::parse(FILE, "fleet.yaml").unwrap();
        let backend = super::tests::backend(backend);
        let found = fleet.executors.iter().find(|(_, executor)| executor.offers.fits(&backend, target));
        assert_eq!(found.map(|(name, _)| name), expected, "{backend} {target:?}");
    }
    check("tensorrt", &gpu_target("h100-sxm"), Some("hopper"));
    check("tensorrt", &gpu_target("l4"), Some("ada"));
    check("tensorrt", &gpu_target("a100-sxm-80gb"), None);
    check("tensorrt-rtx", &gpu_target("a100-sxm-80gb"), Some("any"));
    let capabilities = |all: &[(u8, u8)]| {
        Target::ComputeCapabilities(
            all.iter().map(|&(major, minor)| ComputeCapability::new(major, minor)).collect(),
        )
    };
    check("tensorrt-rtx", &capabilities(&[(8, 0), (8, 9)]), Some("ada"));
    check("tensorrt-rtx", &capabilities(&[(12, 0)]), Some("any"));
    check("tensorrt", &capabilities(&[(9, 0)]), Some("hopper"));
    check("fake", &gpu_target("h100-sxm"), None);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    #[track_caller]
    fn check(from: &str, to: &str, expected: &str) {
        let text = FILE.replacen(from, to, 1);
        assert_ne!(text, FILE);
        let error = Fleet::parse(&text, "fleet.yaml").unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    check("fleet/1", "fleet/2", "fleet.yaml: written by a newer nimctl");
    check("nimctl.fleet/1", "nimctl.recipe/1", "fleet.yaml: its schema is `nimctl.recipe/1`");
    check("partition:", "partitoin:", "fleet.yaml:4:14: unknown field `partitoin`");
    check("[h100-sxm]", "[h100-smx]", "fleet.yaml:5:22: executor `hopper`: unknown GPU `h100-smx`");
    check(
        "[tensorrt]",
        "[onnxruntime]",
        "fleet.yaml:5:44: executor `hopper`: the profiles of `onnxruntime` are the graphs",
    );
    check("[tensorrt]", "[]", "fleet.yaml:5:33: executor `hopper`: name the backends");
    check("'00:30:00'", "30", "fleet.yaml:4:");
    check("2-01:00:00", "1:99:00", "fleet.yaml:9:17: `1:99:00` is not a valid time: write HH:MM:SS");
    check(
        "shared: /scratch/nimctl, nodes: 2",
        "shared: scratch",
        "fleet.yaml:4:69: executor `hopper`: `scratch` is not an absolute path",
    );
    check("nodes: 2", "nodes: 0", "fleet.yaml:4:94: executor `hopper`: at least one node");
    check(
        "NIMCTL_TENSORRT_RTX_LIB:",
        "'A=B':",
        "fleet.yaml:10:7: executor `ada`: `A=B` is not a valid variable name",
    );
    check("  ada:", "  Ada:", "fleet.yaml:6:3: executor `Ada`: a name has lower-case letters");
    check("  ada:", "  hopper:", "fleet.yaml:6:3: ");
    check("offers: { backends", "offer: { backends", "fleet.yaml:");
}

const PODS: &str = "\
schema: nimctl.fleet/1
executors:
  ada:
    kubernetes:
      image: registry.example/nimctl:1
      exchange: oci://registry.example/scratch
      nodes: 2
      tolerations: [{ key: nvidia.com/gpu, operator: Exists }]
    offers: { gpus: [l4], backends: [tensorrt-rtx] }
";

#[test]
fn what_is_wrong_with_kubernetes_is_told_with_its_place() {
    #[track_caller]
    fn check(from: &str, to: &str, expected: &str) {
        let text = PODS.replacen(from, to, 1);
        assert_ne!(text, PODS);
        let error = Fleet::parse(&text, "fleet.yaml").unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let fleet = Fleet::parse(PODS, "fleet.yaml").unwrap();
    let Engine::Kubernetes(ada) = &fleet.executors.get("ada").unwrap().engine else { panic!("{fleet:?}") };
    assert_eq!(ada.resources, BTreeMap::from([("nvidia.com/gpu".to_owned(), 1)]));
    assert_eq!((ada.apply, ada.repository()), (Apply::Kubectl, "registry.example/scratch"));
    check("kubernetes:", "kubernets:", "fleet.yaml:4:5: unknown field `kubernets`");
    check(
        "oci://registry.example/scratch",
        "registry.example/scratch",
        "fleet.yaml:6:7: executor `ada`: `registry.example/scratch` is not a repository: write oci://",
    );
    check("oci://registry.example/scratch", "oci://registry.example", "fleet.yaml:6:7: executor `ada`: ");
    check("nodes: 2", "nodes: 0", "fleet.yaml:7:7: executor `ada`: at least one pod");
    check("nodes: 2", "namespace: Builds", "fleet.yaml:7:7: executor `ada`: a name has lower-case letters");
    check(
        "nodes: 2",
        "registry_secret: a b",
        "fleet.yaml:7:7: executor `ada`: it is not the name of a Secret",
    );
    check("nodes: 2", "apply: never", "fleet.yaml:7:14: unknown variant `never`");
    check(
        "nodes: 2",
        "environment: { '1': x }",
        "fleet.yaml:7:7: executor `ada`: `1` is not a valid variable name",
    );
    check(
        "nodes: 2",
        "environment: { TMPDIR: x }",
        "fleet.yaml:7:7: executor `ada`: `TMPDIR` is set by nimctl",
    );
    check("  ada:", "  -ada:", "fleet.yaml:3:3: executor `-ada`: a name has lower-case letters");
    check("operator: Exists", "operator: exists", "fleet.yaml:8:");
    check("offers:", "slurm: { shared: /scratch }\n    offers:", "fleet.yaml:");
    let none = PODS
        .replace("    kubernetes:", "    x:")
        .replace("x:\n      image", "offers: { backends: [fake] }\n  other:\n    x:\n      image");
    let error = Fleet::parse(&none, "fleet.yaml").unwrap_err().to_string();
    assert!(error.contains("an executor needs `slurm` or `kubernetes`"), "{error}");
    let both = PODS.replace("    offers:", "    slurm: { shared: /scratch }\n    offers:");
    let error = Fleet::parse(&both, "fleet.yaml").unwrap_err().to_string();
    assert!(error.contains("an executor has `slurm` or `kubernetes`, not both"), "{error}");
}

#[test]
fn times_are_those_of_slurm() {
    for (text, seconds) in [("00:30:00", 1800), ("1-00:00:01", 86_401), ("100:00:00", 360_000)] {
        assert_eq!(TimeLimit::parse(text).unwrap().duration().as_secs(), seconds);
    }
    for text in ["30", "30:00", "1-12", "00:00:00", "0:60:00", "a:b:c", ""] {
        assert!(TimeLimit::parse(text).is_err(), "{text}");
    }
}
