//! The GPU of this machine, and what its driver says of it.

use std::path::PathBuf;
use std::process::Command;

use nimctl::backend::{Builds, facts_of};
use nimctl::compute_capability::ComputeCapability;
use nimctl::worker::protocol::WorkerDevice;
use serde_json::Value;

use crate::support::{real, start};

/// Returns the first GPU that the workers see.
///
/// # Panics
/// There is none: these tests were asked for.
#[track_caller]
pub(crate) fn first_gpu() -> WorkerDevice {
    let worker = start(&real("tensorrt-rtx"));
    let description = worker.description();
    description.devices.first().cloned().unwrap_or_else(|| {
        panic!("the tests on a GPU were asked for, and there is no GPU: {:?}", description.run)
    })
}

/// Whether TensorRT for RTX knows GPUs like this one.
pub(crate) fn is_known_to_rtx(capability: ComputeCapability) -> bool {
    matches!(facts_of("tensorrt-rtx").builds, Builds::AheadOfTime(known) if known.contains(&capability))
}

/// Whether the user said that something is not there.
pub(crate) fn is_without(what: &str) -> bool {
    std::env::var_os(format!("NIMCTL_TEST_WITHOUT_{what}")).is_some_and(|value| value == "1")
}

/// Returns the `nimctl` to test: cargo's, unless these tests travel without it.
pub(crate) fn nimctl() -> PathBuf {
    std::env::var_os("NIMCTL_TEST_NIMCTL").map_or_else(|| env!("CARGO_BIN_EXE_nimctl").into(), PathBuf::from)
}

/// Returns the folder that `recipes` is in: the repository, unless these tests travel without it.
pub(crate) fn root() -> PathBuf {
    std::env::var_os("NIMCTL_TEST_ROOT").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// The names of products, capabilities and addresses in our data agree with this GPU's.
#[test]
fn doctor_knows_this_gpu() {
    let gpu = first_gpu();
    let output = Command::new(nimctl()).args(["doctor", "--output", "json"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let host: Value = serde_json::from_str(&text).unwrap();
    let devices = host["devices"].as_array().unwrap_or_else(|| panic!("no devices in {text}"));
    let address = gpu.pci_address.unwrap();
    let found = devices
        .iter()
        .find(|device| {
            device["pci_address"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(&address))
        })
        .unwrap_or_else(|| panic!("CUDA sees a GPU at {address}, and NVML tells of none: {text}"));
    assert_eq!(found["product_name"], gpu.name.as_str());
    assert_eq!(found["compute_capability"], gpu.compute_capability.to_string());
    assert!(found["known_as"].is_string(), "{} is missing in src/gpu/known_gpus.yaml", gpu.name);
}

/// Whatever `CUDA_VISIBLE_DEVICES` says, doctor counts the GPUs that CUDA does.
#[test]
fn doctor_hides_what_the_variable_hides() {
    let variable = "CUDA_VISIBLE_DEVICES";
    let doctor = |value: Option<&str>| -> Vec<Value> {
        let mut command = Command::new(nimctl());
        command.args(["doctor", "--output", "json"]).env_remove(variable);
        command.envs(value.map(|value| (variable, value)));
        let host: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        host["devices"].as_array().unwrap().clone()
    };
    let all = doctor(None);
    let uuid = all[0]["uuid"].as_str().unwrap();
    let address = all[0]["pci_address"].as_str().unwrap();
    let (upper, short) = (format!("GPU-{}", uuid[4..].to_uppercase()), &uuid[..12]);
    let old_form = format!("MIG-{uuid}/0/0");
    let values = [
        "",
        "0",
        " 0",
        "-1",
        "99",
        "0,99",
        "99,0",
        "0,0",
        "0x",
        "1",
        "NoDevFiles",
        "none",
        "all",
        "GPU-",
        "MIG-",
        "GPU-deadbeef",
        uuid,
        &upper,
        short,
        address,
        &old_form,
    ];
    for value in values {
        let mut command = real("tensorrt-rtx");
        command.environment.insert(variable.into(), value.into());
        let seen = start(&command).description().devices.len();
        let found = doctor(Some(value)).iter().filter(|device| device["hidden_by"].is_null()).count();
        assert_eq!(found, seen, "{variable}={value}: doctor says {found}, CUDA {seen}");
    }
}
