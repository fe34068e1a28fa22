//! `nimctl doctor` on hosts that a stand-in for NVML plays (`tests/nvml/stand_in.c`), through the real binding.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nimctl::device::ProblemKind;

use crate::home::{Home, Printed};
use crate::nvml_stand_in;

/// Makes a library that plays a host, in the home.
fn library(home: &Home, host: &str) -> PathBuf {
    nvml_stand_in::library(home.folder(), host)
}

fn doctor(home: &Home, library: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Printed {
    let mut command = home.command(&[&["doctor"], arguments].concat());
    command.env("NIMCTL_NVML_LIB", library).envs(variables.iter().copied());
    home.output(&mut command)
}

/// Leaves out the table of tools: what of them is there depends on the machine.
fn without_tools(text: &str) -> String {
    let sections: Vec<&str> = text.split("\n\n").filter(|section| !section.starts_with("TOOL ")).collect();
    sections.join("\n\n")
}

/// Compares text and JSON of a host with the snapshots, and feeds the JSON back.
#[track_caller]
fn check(host: &str, code: i32) {
    let home = Home::new();
    let library = library(&home, host);
    let text = doctor(&home, &library, &[], &[]);
    let json = doctor(&home, &library, &["--output", "json"], &[]);
    assert_eq!((text.code, json.code), (Some(code), Some(code)), "{text}");
    let name = host.to_lowercase();
    insta::assert_snapshot!(format!("{name}_text"), without_tools(&text.to_string()));
    insta::assert_snapshot!(format!("{name}_json"), json.stdout);
    home.write("host.json", &json.stdout);
    let arguments = ["doctor", "--device-file", "host.json", "--output", "json"];
    let again = home.run(&arguments);
    assert_eq!(again.stdout, json.stdout);
    assert_eq!(again.code, Some(code));
}

#[test]
fn eight_gpus_of_one_kind() {
    check("EIGHT", 0);
}

#[test]
fn a_gpu_in_parts() {
    check("MIG", 0);
}

#[test]
fn a_desktop_with_a_second_gpu() {
    check("MIXED", 0);
}

#[test]
fn a_driver_that_lacks_functions() {
    check("OLD", 5);
}

/// A container that was started with one GPU of three, and may not see other people's programs.
#[test]
fn a_container_that_may_not_ask() {
    check("FORBIDDEN", 0);
}

#[test]
fn a_gpu_that_may_not_be_asked_anything() {
    check("CLOSED", 5);
}

#[test]
fn gpus_that_are_lost() {
    check("LOST", 5);
}

/// A virtual GPU, one with the CPU's memory and one that nobody knows yet, without CUDA's library.
#[test]
fn unusual_gpus() {
    check("UNUSUAL", 5);
}

#[test]
fn a_driver_without_gpus() {
    check("NONE", 0);
}

#[test]
fn drivers_that_do_not_start() {
    let mut text = String::new();
    for (host, code) in [("NOT_LOADED", 5), ("MISMATCH", 5), ("SHUT", 5), ("BROKEN", 5), ("NOT_FOUND", 0)] {
        let home = Home::new();
        let printed = doctor(&home, &library(&home, host), &[], &[]);
        text.push_str(&format!("# {host}\n{}\n", without_tools(&printed.exits(code).to_string())));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn libraries_that_are_none() {
    let home = Home::new();
    let absent = home.path("absent.so");
    doctor(&home, &absent, &[], &[]).exits(5);
    home.write("text.so", "not a library");
    doctor(&home, &home.path("text.so"), &[], &[]).exits(5);
    home.write("empty.c", "int nothing;\n");
    let (source, library) = (home.path("empty.c"), home.path("libnvidia-ml.so.1"));
    let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(status.unwrap().success());
    // The folder is as good as the file.
    doctor(&home, home.folder(), &[], &[]).exits(5);
    insta::assert_snapshot!(without_tools(&home.transcript()));
}

#[test]
fn a_driver_that_hangs_is_given_up() {
    let home = Home::new();
    let library = library(&home, "HANGS");
    let start = Instant::now();
    let host = nimctl::nvml::probe_within(Some(&library), Duration::from_millis(300));
    assert!(start.elapsed() < Duration::from_secs(10));
    let [problem] = host.problems.as_slice() else { panic!("{:?}", host.problems) };
    assert_eq!(problem.kind, ProblemKind::NoDriver);
    assert_eq!(problem.message, "the driver did not answer within 0.3 s");
}

#[test]
fn what_was_answered_before_the_driver_hangs_is_kept() {
    let home = Home::new();
    let host = nimctl::nvml::probe_within(Some(&library(&home, "STUCK")), Duration::from_secs(3));
    assert_eq!(host.driver_version.as_deref(), Some("570.124.06"));
    assert_eq!(host.devices.len(), 1);
    assert_eq!(host.problems.len(), 1, "{:?}", host.problems);
}

#[test]
fn variables_hide_gpus() {
    let home = Home::new();
    let library = library(&home, "EIGHT");
    let hidden = |variables: &[(&str, &str)]| -> Vec<Option<String>> {
        let printed = doctor(&home, &library, &["--output", "json"], variables);
        let host = nimctl::device::Host::read(&printed.stdout, "stdout").unwrap();
        host.devices.into_iter().map(|device| device.hidden_by).collect()
    };
    let by = |variable: &str| Some(variable.to_owned());
    let (container, cuda) = (by("NVIDIA_VISIBLE_DEVICES"), by("CUDA_VISIBLE_DEVICES"));
    let found = hidden(&[("NVIDIA_VISIBLE_DEVICES", "0,1,2"), ("CUDA_VISIBLE_DEVICES", "2,0")]);
    assert_eq!(found[..3], [None, cuda.clone(), None]);
    assert!(found[3..].iter().all(|hidden| *hidden == container));
    assert!(hidden(&[("CUDA_VISIBLE_DEVICES", "")]).iter().all(|hidden| *hidden == cuda));
    assert!(hidden(&[("NVIDIA_VISIBLE_DEVICES", "all")]).iter().all(Option::is_none));
    let variables = [("CUDA_VISIBLE_DEVICES", "GPU-5e1f0000-0000-4000-8000-000000000007")];
    insta::assert_snapshot!(
        "hidden_text",
        without_tools(&doctor(&home, &library, &[], &variables).to_string())
    );
}

/// A choice that a variable made smaller says what it left out.
#[test]
fn select_names_what_is_hidden() {
    let home = Home::new();
    let library = library(&home, "EIGHT");
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/nvclip-demo/model_manifest.yaml");
    let select = |variables: &[(&str, &str)]| {
        let variables = [&[("NIMCTL_NVML_LIB", library.to_str().unwrap())], variables].concat();
        home.run_with(&variables, &["select", "-m", demo, "--id"])
    };
    let said = select(&[("NVIDIA_VISIBLE_DEVICES", "0,1,2"), ("CUDA_VISIBLE_DEVICES", "2,0")]);
    said.has(&["warning: CUDA_VISIBLE_DEVICES hides NVIDIA", "(1): unset it to use them"]);
    said.has(&[
        "warning: NVIDIA_VISIBLE_DEVICES hides NVIDIA",
        "(3), ",
        "(6) and 1 more: unset it to use them",
    ]);
    select(&[("CUDA_VISIBLE_DEVICES", "-1")])
        .has(&["hides every GPU that the driver lists, NVIDIA", " and 4 more"]);
    let all = select(&[("NVIDIA_VISIBLE_DEVICES", "all")]);
    assert!(!all.stderr.contains(" hides "), "{}", all.stderr);
}

/// What was stated or written down is another host: this one's variables and driver have no say.
#[test]
fn gpus_that_are_stated_are_taken_as_they_are() {
    let home = Home::new();
    let library = library(&home, "LOST");
    let variables = [("CUDA_VISIBLE_DEVICES", ""), ("NVIDIA_VISIBLE_DEVICES", "none")];
    let stated = ["--device", "l40s,h100-sxm:2,a100-sxm/3g.40gb"];
    insta::assert_snapshot!("stated_text", doctor(&home, &library, &stated, &variables));
    doctor(&home, &library, &["--device", "none"], &variables).exits(0).has(&["no GPUs"]);
}

#[test]
fn wrong_devices_are_refused() {
    let home = Home::new();
    home.run(&["doctor", "--device", "l40x"]).exits(1);
    home.run(&["doctor", "--device", "h100"]).exits(1);
    home.run(&["doctor", "--device-file", "absent.json"]).exits(1);
    home.write("f.json", "{\n  \"schema\": \"nimctl.devices/1\",\n  \"origin\": \"guessed\"\n}\n");
    home.run(&["doctor", "--device-file", "f.json"]).exits(1);
    home.write("f.json", "{\"schema\": \"nimctl.error/1\"}");
    home.run(&["doctor", "--device-file", "f.json"]).exits(1);
    home.run(&["doctor", "--device", "l4", "--device-file", "f.json"]).exits(2);
    insta::assert_snapshot!(home.transcript());
}

/// What nimctl itself needs is listed too, for this host only.
#[test]
fn tools_are_listed() {
    let home = Home::new();
    let tools = ["TOOL ", "onnxruntime ", "backend fake ", "<fake>/nimctl-backend-fake"];
    doctor(&home, &library(&home, "NONE"), &[], &[]).exits(0).has(&tools);
    assert!(!home.run(&["doctor", "--device", "l4"]).stdout.contains("TOOL "));
}
