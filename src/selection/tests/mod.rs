//! Tests of selection: each rule by itself; `properties` are of every manifest and host.

mod properties;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::device::{Device, GpuProcess, Origin, ProcessKind};
use crate::profile::Tags;

const GIB: u64 = 1 << 30;

/// Makes profiles from strings of `key=value` pairs; the id is the string.
fn profiles(texts: &[&str]) -> Vec<ManifestProfile> {
    let tags = |text: &str| -> Tags {
        let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.into(), value.into())).collect()
    };
    let profile =
        |text: &&str| ManifestProfile { id: text.replace('/', "_"), tags: tags(text), ..Default::default() };
    texts.iter().map(profile).collect()
}

fn verdict_of(text: &str, facts: &Facts, host: &Host) -> String {
    let profiles = profiles(&[text]);
    let facts = BTreeMap::from([(profiles[0].id.clone(), facts.clone())]);
    let answers = select(&profiles, &facts, &TagSelector::default(), Lora::Excluded, host);
    let answer = &answers[0];
    match (answer.fitting.first(), answer.short_of_memory.first(), answer.rejected.first()) {
        (Some((_, rank, _)), _, _) => format!("{rank:?}"),
        (_, Some((_, message)), _) => format!("short: {message}"),
        (_, _, Some((_, rejection))) => rejection.to_string(),
        _ => unreachable!(),
    }
}

#[track_caller]
fn check(tags: &str, device: &str, expected: &str) {
    let host = Host::stated([device]).unwrap();
    assert_eq!(verdict_of(tags, &Facts::default(), &host), expected, "{tags} on {device}");
}

#[test]
fn products() {
    check("gpu=l4", "l4", "Product");
    check("gpu=L40S", "l40s", "Product");
    check("gpu=H100", "h100-nvl", "Product");
    check("gpu=l4", "t4", "built for l4, but this GPU is t4");
    check("gpu=RTX4090 gpu_device=2684:10de", "rtx-4090", "PciId");
    check("gpu_device=2684:10DE", "rtx-4090", "PciId");
    check("gpu_device=26b9:10de", "l4", "built for PCI id 26b9:10de (l40s), but this GPU is l4");
    check("gpu_device=20b2:10de", "a100-sxm", "PciId");
    check("gpu_device=20b0:10de", "a100-sxm", "Product");
    // The PCI id is an L40's; the name counts.
    check("gpu=L40S gpu_device=26b5:10de", "l40s", "Product");
    check("gpu=L40S gpu_device=26b5:10de", "l40", "built for L40S, but this GPU is l40");
}

/// The driver may say a family's name only, or that the GPU is a virtual one.
#[test]
fn names_that_are_no_products() {
    let host = |name: &str| Host::new(Origin::Nvml, vec![Device::new(0, name)]);
    let of = |tags: &str, name: &str| verdict_of(tags, &Facts::default(), &host(name));
    assert_eq!(of("gpu=H100", "NVIDIA H100"), "Product");
    assert_eq!(of("gpu=orin", "Orin (nvgpu)"), "Product");
    assert_eq!(of("gpu=h100-nvl", "NVIDIA H100"), "built for h100-nvl, but this GPU is h100-sxm-94gb");
    let mut vgpu = host("NVIDIA L40S-24Q");
    vgpu.devices[0].pci_id = Some("26b9:10de".into());
    let on_vgpu = |tags: &str| verdict_of(tags, &Facts::default(), &vgpu);
    // All of an L40S: what was tuned on one runs.
    let mut whole = host("NVIDIA L40S-48Q");
    whole.devices[0].pci_id = Some("26b9:10de".into());
    assert_eq!(verdict_of("gpu=l40s backend=tensorrt", &Facts::default(), &whole), "Product");
    assert_eq!(verdict_of("gpu_device=26b9 backend=tensorrt", &Facts::default(), &whole), "PciId");
    assert_eq!(
        verdict_of("gpu=l40 backend=tensorrt", &Facts::default(), &whole),
        "built for l40, but this GPU is a vGPU, NVIDIA L40S-48Q"
    );
    // A pattern for the product's names holds for what is one of the product or a part of it, whatever its own name is.
    let pattern = "product_name_regex=^NVIDIA-L40S(-SHARED)?$";
    assert_eq!(on_vgpu(&format!("gpu=l40s backend=tensorrt-rtx {pattern}")), "Product");
    assert_eq!(
        on_vgpu(&format!("gpu=l40s backend=tensorrt {pattern}")),
        "built for l40s, but this GPU is a vGPU, NVIDIA L40S-24Q"
    );
    assert_eq!(of(&format!("gpu=l40s {pattern}"), "NVIDIA L40S"), "Product");
    let mut renamed = host("NVIDIA L40S-custom board");
    renamed.devices[0].known_as = Some("l40s".into());
    assert_eq!(verdict_of(&format!("gpu=l40s {pattern}"), &Facts::default(), &renamed), "Product");
    // A name that is in the list has to match itself.
    assert_eq!(
        of("gpu=a100-sxm product_name_regex=80GB", "NVIDIA A100-SXM4-40GB"),
        "its product_name_regex 80GB doesn't match NVIDIA-A100-SXM4-40GB"
    );
    assert_eq!(on_vgpu("gpu=l40s backend=tensorrt-rtx"), "Product");
    assert_eq!(
        on_vgpu("gpu=l4 backend=tensorrt-rtx"),
        "built for l4, but this GPU is a vGPU, NVIDIA L40S-24Q"
    );
    assert_eq!(of("gpu=l40s", "NVIDIA L40S-24Q"), "built for l40s, but this GPU is a vGPU, NVIDIA L40S-24Q");
}

#[test]
fn patterns() {
    check("product_name_regex=^NVIDIA-A10(?!0).*", "a10g", "Product");
    check(
        "product_name_regex=^NVIDIA-A10(?!0).*",
        "a100-sxm",
        "its product_name_regex ^NVIDIA-A10(?!0).* doesn't match NVIDIA-A100-SXM4-80GB",
    );
    let host = Host::stated(["l4"]).unwrap();
    for pattern in ["(", "^(?=(.*)*)(.*)*(.*)*(.*)*(.*)*\\1z$", &"a".repeat(1001)] {
        let text = verdict_of(&format!("product_name_regex={pattern}"), &Facts::default(), &host);
        assert!(text.contains("can't be used"), "{text}");
    }
}

#[test]
fn compute_capabilities() {
    check("compute_capability=8.9", "l4", "ComputeCapability");
    check("compute_capability=8.0+8.9", "l4", "ComputeCapability");
    check("compute_capability=sm_89", "l4", "ComputeCapability");
    check("compute_capability=89", "l4", "ComputeCapability");
    check("gpu=l4 compute_capability=8.9", "l4", "Product");
    let built = "built for compute capability";
    check(
        "backend=tensorrt-rtx compute_capability=8.9",
        "h100-sxm",
        &format!("{built} 8.9, but this GPU has 9.0"),
    );
    check(
        "backend=tensorrt-rtx compute_capability=8.0+8.6",
        "l4",
        &format!("{built} 8.0, 8.6, but this GPU has 8.9"),
    );
    check("backend=tensorrt-rtx compute_capability=12.0", "gb10", "ComputeCapability");
    check(
        "backend=tensorrt compute_capability=12.0",
        "gb10",
        &format!("{built} 12.0, but this GPU has 12.1"),
    );
    check(
        "backend=tensorrt-rtx compute_capability=12.0",
        "b200",
        &format!("{built} 12.0 and later, but this GPU has 10.0"),
    );
    check(
        "compute_capability=x",
        "l4",
        "tag compute_capability=x can't be read: expected values such as 8.9, joined by +",
    );
    // The plan's header counts as well as the tags.
    let header = Facts { plan_capabilities: Some(vec![ComputeCapability::new(8, 6)]), ..Facts::default() };
    let host = Host::stated(["l4"]).unwrap();
    assert_eq!(
        verdict_of("gpu=l4 backend=tensorrt-rtx", &header, &host),
        format!("{built} 8.6, but this GPU has 8.9")
    );
}

#[test]
fn tags_as_nvidia_writes_them() {
    // A PCI id without a vendor is NVIDIA's.
    check("gpu_device=27b8 backend=tensorrt", "l4", "PciId");
    check("gpu=l40s gpu_device=26b9 backend=tensorrt", "l40s", "PciId");
    check("gpu_device=27b8", "t4", "built for PCI id 27b8:10de (l4), but this GPU is t4");
    // `key` is GPU, TensorRT and CUDA, and the precision in some.
    check("key=NVIDIA-L40S_10.3.0_12_FP8", "l40s", "Product");
    check("key=NVIDIA-L40S_10.3.0_12_FP8", "l4", "built for NVIDIA-L40S, but this GPU is l4");
    check("key=onnx type=ONNX", "none", "Generic");
    check(
        "key=NVIDIA-A100-SXM4-80GB_10.3.0_12",
        "a100-sxm/1g.10gb",
        "tuned on a whole GPU, but this is a MIG instance",
    );
    // `type` names the backend.
    check("type=ONNX precision=fp32", "none", "Generic");
    check("type=vlm backend=onnx", "none", "Generic");
    check("type=TensorRT gpu=H100", "h100-nvl", "Product");
    // Plans of one level run on later GPUs.
    check("model_type=tensorrt ampereplus=enabled", "l4", "ComputeCapability");
    check(
        "model_type=tensorrt ampereplus=enabled",
        "rtx-2080-ti",
        "built for compute capability 8.0 and later, but this GPU has 7.5",
    );
    check("model_type=tensorrt gpu=t4 ampereplus=disabled", "t4", "Product");
    // There is no plan yet.
    check("llm_engine=tensorrt_llm trtllm_buildable=true", "a100-sxm/3g.40gb", "Generic");
}

#[test]
fn the_drivers_cuda_is_that_of_the_tags() {
    let mut host = Host::stated(["l4"]).unwrap();
    host.cuda_version = Some("12.6".into());
    let old = "needs a driver for CUDA 13, but this one supports CUDA up to 12.6: update the driver";
    for tags in ["gpu=l4 backend=tensorrt cuda_major_version=13", "key=NVIDIA-L4_10.14.1_13"] {
        assert_eq!(verdict_of(tags, &Facts::default(), &host), old, "{tags}");
    }
    assert_eq!(verdict_of("gpu=l4 backend=vllm cuda_major_version=12", &Facts::default(), &host), "Product");
}

#[test]
fn what_may_not_load_and_what_is_built_first_come_last() {
    let ordered = [
        "llm_engine=vllm precision=bf16",
        "type=ONNX precision=fp16",
        "llm_engine=tensorrt_llm trtllm_buildable=true",
        "model_type=rmir precision=fp16",
        "type=TensorRT precision=fp16",
    ];
    let mut profiles = profiles(&ordered);
    profiles.reverse();
    let host = Host::stated(["h100-pcie"]).unwrap();
    let answers = select(&profiles, &BTreeMap::new(), &TagSelector::default(), Lora::Excluded, &host);
    let fitting = &answers[0].fitting;
    let found: Vec<&str> = fitting.iter().map(|(place, _, _)| profiles[*place].id.as_str()).collect();
    assert_eq!(found, ordered);
    assert!(fitting[2].2[0].contains("built when the container first starts"), "{:?}", fitting[2]);
    assert!(fitting[4].2[0].contains("don't say which GPU"), "{:?}", fitting[4]);
    assert_eq!(profiles[2].readable_name(), "tensorrt_llm-trtllm_buildable");
    assert_eq!(profiles[0].readable_name(), "tensorrt-fp16");
}

#[test]
fn what_runs_where() {
    check("backend=onnx", "none", "Generic");
    check("model_type=onnx", "l4", "Generic");
    check("llm_engine=vllm", "l4", "Generic");
    check("llm_engine=vllm", "none", "needs a GPU, but this host has none");
    check("gpu=l4", "none", "needs a GPU, but this host has none");
    check("gpu=a100-sxm backend=tensorrt-rtx", "a100-sxm/1g.10gb", "Product");
    check(
        "gpu=a100-sxm backend=tensorrt",
        "a100-sxm/1g.10gb",
        "tuned on a whole GPU, but this is a MIG instance",
    );
    check("llm_engine=vllm tp=2", "l4:2", "Generic");
    check("llm_engine=vllm tp=2 pp=2", "l4:3", "needs 4 GPUs of one kind; usable here: 3");
    check("llm_engine=vllm tp=2", "a100-sxm/1g.10gb:2", "needs 2 GPUs of one kind; usable here: 1");
    check("tp=0", "l4", "tag tp=0 is not a number of GPUs");
    check("tp=1000 pp=1000", "l4", "needs 1000000 GPUs of one kind; usable here: 1");
}

#[test]
fn memory() {
    let sized = |gib: u64| Facts { files_size_bytes: Some(gib * GIB), ..Facts::default() };
    let mut host = Host::stated(["l4:2"]).unwrap();
    let of = |size, host: &Host| verdict_of("backend=vllm", &sized(size), host);
    assert_eq!(of(20, &host), "Generic");
    assert_eq!(of(30, &host), "its files alone take 30.0 GiB, and this GPU has 24.0 GiB");
    assert_eq!(verdict_of("backend=vllm tp=2", &sized(30), &host), "Generic");
    host.devices[0].memory_free_bytes = Some(2 * GIB);
    assert_eq!(of(20, &host), "Generic");
    host.devices[1].memory_free_bytes = Some(5 * GIB);
    assert_eq!(of(20, &host), "short: its files alone take 20.0 GiB, and only 5.0 GiB is free");
    assert_eq!(verdict_of("backend=onnx", &sized(200), &host), "Generic");
    // Without a size, a GPU that compute programs use is taken; one that a desktop uses isn't.
    let process = |kind| GpuProcess { pid: 1, name: None, kind, memory_bytes: Some(9 * GIB) };
    let mut host = Host::stated(["l4"]).unwrap();
    host.devices[0].processes = vec![process(ProcessKind::Graphics)];
    assert_eq!(verdict_of("backend=vllm", &Facts::default(), &host), "Generic");
    host.devices[0].processes = vec![process(ProcessKind::Compute)];
    assert_eq!(
        verdict_of("backend=vllm", &Facts::default(), &host),
        "short: compute programs use 1 of 1 GPUs of this kind"
    );
    // Where programs or their memory aren't reported, what is not free counts, less a desktop's share.
    let unknown = GpuProcess { memory_bytes: None, ..process(ProcessKind::Compute) };
    for (processes, display, free_gib, is_used) in [
        (vec![unknown.clone()], false, 20, true),
        (vec![unknown.clone()], true, 20, false),
        (vec![unknown, process(ProcessKind::Graphics)], false, 14, false),
        (Vec::new(), true, 12, true),
        (Vec::new(), false, 23, false),
    ] {
        let device = &mut host.devices[0];
        device.processes = processes;
        device.display_active = Some(display);
        device.memory_free_bytes = Some(free_gib * GIB);
        assert_eq!(is_in_use(&host.slots()[0]), is_used, "{:?}", host.devices[0]);
    }
    let unified = Host::stated(["gb10"]).unwrap();
    assert_eq!(of(1000, &unified), "Generic");
}

#[test]
fn drivers_and_validation() {
    let mut host = Host::stated(["l4"]).unwrap();
    host.cuda_version = Some("11.4".into());
    let old = "needs a driver for CUDA 12, but this one supports CUDA up to 11.4: update the driver";
    assert_eq!(verdict_of("backend=tensorrt-rtx gpu=l4", &Facts::default(), &host), old);
    assert_eq!(verdict_of("backend=tensorrt trt_version=11.4.0 gpu=l4", &Facts::default(), &host), old);
    assert_eq!(verdict_of("backend=tensorrt trt_version=10.3 gpu=l4", &Facts::default(), &host), "Product");
    host.cuda_version = Some("13.0".into());
    assert_eq!(verdict_of("backend=tensorrt-rtx gpu=l4", &Facts::default(), &host), "Product");
    let failed = Facts { validated: Some(false), ..Facts::default() };
    assert_eq!(verdict_of("gpu=l4", &failed, &host), "it failed validation");
}

#[test]
fn the_order() {
    let ordered = [
        "gpu_device=27b8:10de backend=onnx",
        "gpu=l4 backend=tensorrt precision=fp8 v=yes",
        "gpu=l4 backend=tensorrt precision=fp16 v=yes",
        "gpu=l4 backend=tensorrt precision=fp16",
        "gpu=l4 backend=tensorrt precision=fp8 batch_size=64",
        "gpu=l4 backend=tensorrt precision=fp8 batch_size=8",
        "gpu=l4 backend=tensorrt-rtx precision=fp16",
        "gpu=l4 backend=vllm",
        "gpu=l4 backend=onnx",
        "compute_capability=8.9 backend=tensorrt",
        "backend=onnx precision=fp16",
        "backend=onnx precision=fp16 x=1",
    ];
    let reasons = [
        Reason::Rank,
        Reason::LowerPrecision,
        Reason::Validated,
        Reason::HigherPrecision,
        Reason::LargerBatch,
        Reason::Backend,
        Reason::Backend,
        Reason::Backend,
        Reason::Rank,
        Reason::Rank,
        Reason::Id,
    ];
    let mut profiles = profiles(&ordered);
    let validated = Facts { validated: Some(true), ..Facts::default() };
    let facts: BTreeMap<String, Facts> = profiles
        .iter()
        .filter(|profile| profile.tags.contains_key("v"))
        .map(|profile| (profile.id.clone(), validated.clone()))
        .collect();
    let host = Host::stated(["l4"]).unwrap();
    profiles.reverse();
    let answers = select(&profiles, &facts, &TagSelector::default(), Lora::Excluded, &host);
    let found: Vec<&str> =
        answers[0].fitting.iter().map(|(place, _, _)| profiles[*place].id.as_str()).collect();
    assert_eq!(found, ordered);
    let nothing = Facts::default();
    for (pair, expected) in answers[0].fitting.windows(2).zip(reasons) {
        let of = |(place, rank, _): &(usize, Rank, Vec<String>)| {
            let profile = &profiles[*place];
            (profile.clone(), facts.get(&profile.id).unwrap_or(&nothing).clone(), *rank)
        };
        let (a, b) = (of(&pair[0]), of(&pair[1]));
        assert_eq!(
            reason(Lora::Excluded, (&a.0, &a.1, a.2), (&b.0, &b.1, b.2)),
            expected,
            "{} {}",
            a.0.id,
            b.0.id
        );
    }
}

#[test]
fn lora_is_chosen_only_on_request() {
    let texts =
        ["a=1 feat_lora=true tp=2", "b=1 feat_lora=false", "c=1"].map(|text| format!("{text} gpu=l4"));
    let profiles = profiles(&texts.each_ref().map(String::as_str));
    let host = Host::stated(["l4:2"]).unwrap();
    let order = |lora, selector: &str| -> Vec<usize> {
        let answers = select(&profiles, &BTreeMap::new(), &selector.parse().unwrap(), lora, &host);
        answers[0].fitting.iter().map(|(place, _, _)| *place).collect()
    };
    assert_eq!(order(Lora::Excluded, ""), [1, 2]);
    assert_eq!(order(Lora::Allowed, ""), [0, 1, 2]);
    assert_eq!(order(Lora::Preferred, ""), [0, 1, 2]);
    assert_eq!(order(Lora::Allowed, "feat_lora=true"), [0]);
}

/// NIM's documentation: latency before throughput, then more GPUs.
#[test]
fn latency_goes_before_throughput() {
    let ordered = [
        "gpu=l4 precision=fp8 tp=2 profile=latency",
        "gpu=l4 precision=fp8 tp=1 profile=latency",
        "gpu=l4 precision=fp8 tp=2",
        "gpu=l4 precision=fp8 tp=4 profile=throughput",
        "gpu=l4 precision=fp8 tp=1 profile=throughput batch_size=8",
    ];
    let mut profiles = profiles(&ordered);
    profiles.reverse();
    let host = Host::stated(["l4:4"]).unwrap();
    let answers = select(&profiles, &BTreeMap::new(), &TagSelector::default(), Lora::Excluded, &host);
    let found: Vec<&str> =
        answers[0].fitting.iter().map(|(place, _, _)| profiles[*place].id.as_str()).collect();
    assert_eq!(found, ordered);
}

#[test]
fn each_kind_of_gpu_has_its_answer() {
    let profiles = profiles(&["gpu=l4", "gpu=t4", "backend=onnx"]);
    let host = Host::stated(["l4", "t4", "l4", "a100-sxm/1g.10gb"]).unwrap();
    let answers = select(&profiles, &BTreeMap::new(), &TagSelector::default(), Lora::Excluded, &host);
    let shown: Vec<_> = answers
        .iter()
        .map(|answer| (answer.group.name(), answer.group.slots.len(), answer.chosen()))
        .collect();
    assert_eq!(
        shown,
        [
            ("NVIDIA L4".to_owned(), 2, Some(0)),
            ("Tesla T4".to_owned(), 1, Some(1)),
            ("NVIDIA A100-SXM4-80GB MIG 1g.10gb".to_owned(), 1, Some(2)),
        ]
    );
}

#[test]
fn tag_selectors() {
    let selector: TagSelector = "precision=FP16, tp=2".parse().unwrap();
    let profiles = profiles(&["precision=fp16 tp=2 backend=vllm", "precision=fp8 tp=2", "precision=fp16"]);
    let host = Host::stated(["l4:2"]).unwrap();
    let answers = select(&profiles, &BTreeMap::new(), &selector, Lora::Excluded, &host);
    assert_eq!(answers[0].chosen(), Some(0));
    let reasons: Vec<String> =
        answers[0].rejected.iter().map(|(_, rejection)| rejection.to_string()).collect();
    assert_eq!(
        reasons,
        [
            "precision=FP16 was requested, but this profile has precision=fp8",
            "tp=2 was requested, but this profile has no such tag"
        ]
    );
}

#[test]
fn pins() {
    let mut profiles = profiles(&["gpu=l4 backend=tensorrt", "gpu=t4 backend=tensorrt", "backend=onnx tp=1"]);
    for (profile, digit) in profiles.iter_mut().zip(["a", "b", "c"]) {
        profile.id = format!("{}{}", "abcd", digit.repeat(60));
    }
    let id = profiles[0].id.clone();
    let found = |pin: &str| find_pinned(&profiles, pin);
    for pin in
        [&id, &id[..8], "tensorrt-l4", "TENSORRT-L4", &format!("{id} (tensorrt-l4)"), &format!(" '{id}' ")]
    {
        assert_eq!(found(pin), Ok(0), "{pin}");
    }
    assert_eq!(found("ABCDB"), Ok(1));
    profiles[0].tags.insert("gpu_device".into(), "27b8:10de".into());
    profiles[0].tags.insert("number_of_gpus".into(), "1".into());
    profiles[0].tags.insert("nim_workspace_hash_v1".into(), "f00-1".into());
    let found = |pin: &str| find_pinned(&profiles, pin);
    for pin in ["tensorrt-l4-27b8:10de-f00-1-1", "tensorrt-l4-1-27B8:10de", "tensorrt-l4-f00-1"] {
        assert_eq!(found(pin), Ok(0), "{pin}");
    }
    for pin in ["tensorrt-l4-2", "tensorrt-l4-1-1-1-1", "tensorrt-1", "tensorrt-l4-"] {
        assert!(matches!(found(pin), Err(PinError::Unknown { .. })), "{pin}");
    }
    assert!(matches!(found("abcd"), Err(PinError::Ambiguous { candidates, .. }) if candidates.len() == 3));
    assert!(matches!(found("abc"), Err(PinError::Unknown { .. })));
    let Err(PinError::Unknown { nearest, .. }) = found("tensorrt-l40") else { panic!() };
    assert!(nearest[0].contains("(tensorrt-l4)"), "{nearest:?}");
}
