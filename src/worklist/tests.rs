//! What goes into a key, and what a changed field says.

use super::*;
use crate::backend::Backend;
use crate::backend::facts_of;
use crate::compute_capability::ComputeCapability;
use crate::mixed_precision::MixedPrecision;
use crate::onnx::{FileDigest, LoweringOptions, Precision};

fn digest(bytes: &[u8]) -> GraphDigest {
    GraphDigest {
        files: vec![FileDigest {
            path: "model.onnx".into(),
            sha256: Sha256::of(bytes),
            size_bytes: bytes.len() as u64,
        }],
    }
}

fn spec(backend: &str, target: Target) -> ProfileSpec {
    let lowering = LoweringOptions::new(Precision::Fp16, facts_of(backend).fp32_inside);
    ProfileSpec {
        quantization: None,
        backend: Backend::new(backend).unwrap(),
        target,
        lowering,
        mixed_precision: MixedPrecision::default(),
        workspace_mib: None,
        line: 1,
    }
}

fn gpu(name: &str, capability: ComputeCapability) -> Target {
    Target::Gpu { name: name.into(), compute_capability: capability }
}

fn resolve(specs: &[ProfileSpec], version: &str) -> Vec<Job> {
    let graphs = BTreeMap::from([("vision".to_owned(), digest(b"v")), ("text".to_owned(), digest(b"t"))]);
    let tool = |version: &str| ToolIdentity { version: version.into(), libraries: BTreeMap::new() };
    let of_profile = |spec: &ProfileSpec| {
        let name = spec.backend.name();
        (spec.name(), BTreeMap::from([(name.to_owned(), tool(version))]))
    };
    let toolchains = specs.iter().map(of_profile).collect();
    let ranges = BTreeMap::new();
    let lowerings = BTreeMap::new();
    let inputs = Inputs {
        model: "m",
        graphs: &graphs,
        shape_ranges: &ranges,
        lowerings: &lowerings,
        toolchains: &toolchains,
    };
    jobs(&specs.iter().collect::<Vec<_>>(), &inputs).unwrap()
}

const ADA: ComputeCapability = ComputeCapability::new(8, 9);
const HOPPER: ComputeCapability = ComputeCapability::new(9, 0);

#[test]
fn profiles_share_lowerings_and_plans() {
    let specs = [
        spec("tensorrt-rtx", gpu("l40s", ADA)),
        spec("tensorrt-rtx", gpu("l4", ADA)),
        spec("onnxruntime", Target::Generic),
    ];
    let jobs = resolve(&specs, "1");
    let titles: Vec<String> = jobs.iter().map(Job::title).collect();
    assert_eq!(
        titles,
        [
            "text: lower to fp16 (RMS normalization, softmax in fp32)",
            "vision: lower to fp16 (RMS normalization, softmax in fp32)",
            "text: lower to fp16",
            "vision: lower to fp16",
            "text: tensorrt-rtx for 8.9, fp16",
            "vision: tensorrt-rtx for 8.9, fp16"
        ]
    );
    assert_eq!(jobs[0].users.len(), 2);
    assert_eq!(
        jobs[4].users.iter().map(|user| user.profile.as_str()).collect::<Vec<_>>(),
        ["tensorrt-rtx-l40s-fp16", "tensorrt-rtx-l4-fp16"]
    );
    assert_eq!(jobs[4].input, Some(jobs[0].key));
}

#[test]
fn plans_tuned_on_a_gpu_are_not_shared() {
    let jobs = resolve(
        &[spec("tensorrt", gpu("h100-sxm", HOPPER)), spec("tensorrt", gpu("h100-pcie", HOPPER))],
        "1",
    );
    assert_eq!(jobs.iter().filter(|job| job.input.is_some()).count(), 4);
}

#[test]
fn a_changed_key_says_what_changed() {
    let specs = [spec("tensorrt-rtx", gpu("l4", ADA))];
    let (old, new) = (resolve(&specs, "1.6"), resolve(&specs, "1.7"));
    assert!(matches!(state(&new[0], None, None, None), JobState::MustRun(JobReason::New)));
    let JobState::MustRun(JobReason::Changed(changes)) = state(&new[2], None, None, Some(&old[2].document))
    else {
        panic!("expected a change");
    };
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(changes, ["toolchain.tensorrt-rtx.version changed from 1.6 to 1.7"]);
    assert_eq!(old[0].key, new[0].key, "lowering does not depend on the compiler");
}

/// If this changes, every user's store is built anew: bump the document's schema and say so in the changelog.
#[test]
fn golden_key() {
    let jobs = resolve(&[spec("tensorrt-rtx", gpu("l4", ADA))], "1.7.1.116");
    insta::assert_snapshot!(jobs[2].key, @"sha256:7f232e6d1ec7b8bf5f20fa42a502b24e7e6cf0ab9e527757afef550e8ee9fac6");
}
