//! What goes wrong is told with its executor, and the others go on.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::nvml_stand_in;
use crate::support::{Fleet, wait};

/// Builds, and returns the profiles that have no id, with the reasons.
fn failed(fleet: &Fleet, code: i32) -> Vec<(String, String)> {
    without_id(&fleet.build(&["--output", "json"]).exits(code).json())
}

pub(crate) fn without_id(report: &Value) -> Vec<(String, String)> {
    let profiles = report["profiles"].as_array().unwrap().iter();
    let failed = profiles.filter(|profile| profile["id"].is_null());
    failed
        .map(|profile| {
            (
                profile["name"].as_str().unwrap().to_owned(),
                profile["reason"].as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect()
}

#[track_caller]
pub(crate) fn check(found: &[(String, String)], expected: &[(&str, &str)]) {
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((name, reason), (expected_name, piece)) in found.iter().zip(expected) {
        assert!(name == expected_name && reason.contains(piece), "{name}: {reason}");
    }
}

#[test]
fn a_partition_that_does_not_exist_with_slurm() {
    let fleet = Fleet::new("fp16");
    fleet.write(|name| if name == "ada" { "partition: nosuch".into() } else { String::new() }, "");
    let found = failed(&fleet, 5);
    check(&found, &[("fake-l4-fp16", "executor ada: `sbatch` failed: invalid partition specified: nosuch")]);
    assert_eq!(fleet.built(), ["ampere", "hopper"]);
}

#[test]
fn a_node_with_another_gpu_than_its_label_says_with_slurm() {
    let fleet = Fleet::new("fp16");
    let library = nvml_stand_in::library(fleet.home.folder(), "HOT");
    fleet.write(|_| String::new(), &format!("NIMCTL_NVML_LIB: {}", library.display()));
    let found = failed(&fleet, 3);
    let wrong = |node: &str, gpu: &str| {
        format!(
            "executor {node}: node {node} has NVIDIA L4 (8.9), and this profile is for {gpu}: correct the node's label"
        )
    };
    let (hopper, ampere) =
        (wrong("hopper", "compute capability 9.0"), wrong("ampere", "compute capability 8.0"));
    check(&found, &[("fake-h100-sxm-fp16", &hopper), ("fake-a100-sxm-fp16", &ampere)]);
}

#[test]
fn a_node_without_the_worker_with_slurm() {
    let fleet = Fleet::new("fp16");
    let text = fleet.home.read("fleet.yaml").replacen(
        &crate::home::scripted_backends().display().to_string(),
        "/nowhere",
        1,
    );
    fleet.home.write("fleet.yaml", text);
    let report = fleet.build(&["--output", "json"]).exits(0).json();
    let hopper = &report["profiles"][0];
    let reason = hopper["reason"].as_str().unwrap();
    assert!(
        reason.contains("executor hopper: backend fake cannot be used: no worker for backend `fake`"),
        "{reason}"
    );
    assert_eq!(fleet.built(), ["ada", "ampere"]);
}

#[test]
fn a_job_that_an_administrator_cancels_with_slurm() {
    let fleet = Fleet::new("fp16");
    // What executors are is asked first, and isn't cancelled here.
    fleet.report();
    fleet.home.write("r.yaml", fleet.home.read("r.yaml").replace("max: [8", "max: [16"));
    fleet.write(|_| String::new(), "FAKE_SECONDS: '5'");
    let mut command = fleet.home.command(&Fleet::arguments(&["--output", "json"]));
    let build = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait("every node builds", || fleet.built().len() == 6);
    let running = fleet.cluster.run("squeue", &["--noheader", "--format=%A %N"]);
    let job = running.lines().find(|line| line.ends_with("hopper")).unwrap().split(' ').next().unwrap();
    fleet.cluster.run("scancel", &[job]);
    let printed = fleet.home.printed(&build.wait_with_output().unwrap());
    let found = without_id(&printed.exits(5).json());
    check(&found, &[("fake-h100-sxm-fp16", "was cancelled, and not by this command")]);
}

#[test]
fn a_job_that_waits_too_long_with_slurm() {
    let fleet = Fleet::new("fp16");
    fleet.report();
    fleet.home.write("r.yaml", fleet.home.read("r.yaml").replace("max: [8", "max: [16"));
    // Somebody else has the GPU.
    let other = fleet
        .cluster
        .run("sbatch", &["--parsable", "--gres=gpu:l4:1", "--output=/dev/null", "--wrap=sleep 100"]);
    wait("it runs", || {
        fleet.cluster.jobs().iter().any(|(id, state)| id == other.trim() && state == "RUNNING")
    });
    let keys = |name: &str| if name == "ada" { "max_wait: '00:00:03'".to_owned() } else { String::new() };
    // Another executor than before: what it is, is known for neither.
    fleet.write(keys, "");
    let found = failed(&fleet, 5);
    check(
        &found,
        &[(
            "fake-l4-fp16",
            "waited for a node for 00:00:03 (Slurm's reason: Resources), which is `max_wait`",
        )],
    );
    assert_eq!(fleet.built().len(), 5);
    wait("its job is gone", || fleet.jobs_in_queue() == 1);
    fleet.cluster.run("scancel", &[other.trim()]);
}

#[test]
fn a_job_that_can_never_start_with_slurm() {
    let fleet = Fleet::new("fp16");
    fleet.report();
    fleet.home.write("r.yaml", fleet.home.read("r.yaml").replace("max: [8", "max: [16"));
    // A limit of the partition that a job may ask to exceed, and then waits for ever.
    fleet.cluster.run("scontrol", &["update", "PartitionName=gpu", "MaxTime=10"]);
    fleet.write(|name| if name == "ada" { "time: '00:30:00'".into() } else { String::new() }, "");
    let found = failed(&fleet, 5);
    // `PartitionConfig` or `PartitionTimeLimit`: it depends on who of Slurm looks first.
    check(&found, &[("fake-l4-fp16", "can never start (Slurm's reason: Partition")]);
    fleet.wait_for_an_empty_queue();
}

/// A file system of its own, unmounted when it is dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: std::path::PathBuf) -> Self {
        fs_err::create_dir_all(&path).unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=2m", "none"];
        assert!(Command::new("mount").args(mount).arg(&path).status().unwrap().success());
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_shared_folder_on_a_small_disk_with_slurm() {
    let fleet = Fleet::new("fp16");
    let disk = SmallDisk::mount(fleet.home.path("shared"));
    // What the executors are was asked while there was room.
    fleet.build(&["--dry-run"]).exits(0);
    let filler = disk.0.join("filler");
    let _ = fs_err::write(&filler, vec![0; 3 << 20]);
    let found = failed(&fleet, 5);
    let full = "the request cannot be put in: ";
    check(&found, &[("fake-h100-sxm-fp16", full), ("fake-a100-sxm-fp16", full), ("fake-l4-fp16", full)]);
    assert!(found[0].1.contains("No space left on device"), "{found:#?}");
    fs_err::remove_file(filler).unwrap();
    assert!(failed(&fleet, 0).is_empty());
    assert!(fleet.requests_left().is_empty(), "{:?}", fleet.requests_left());
}
