//! `nimctl doctor` on hosts that a stand-in for NVML plays (`tests/nvml/stand_in.c`), through the real binding.
//!
//! The stand-in is compiled by `cc`, which Rust links with anyway.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nimctl::device::ProblemKind;

use crate::support::{Said, User};

/// Makes a library that plays a host, in the user's home.
fn library(user: &User, host: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nvml/stand_in.c");
    let library = user.path("libnvidia-ml.so.1");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg(format!("-DHOST_{host}"))
        .output()
        .expect("cc is needed: it links Rust programs too");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

fn doctor(user: &User, library: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command = user.command(&[&["doctor"], arguments].concat());
    command.env("NIMCTL_NVML_LIB", library).envs(variables.iter().copied());
    user.said(&command.output().unwrap())
}

/// Leaves out the table of tools: what of them is there depends on the machine.
fn without_tools(text: &str) -> String {
    let sections: Vec<&str> = text.split("\n\n").filter(|section| !section.starts_with("TOOL ")).collect();
    sections.join("\n\n")
}

/// Compares text and JSON of a host with the snapshots, and feeds the JSON back.
#[track_caller]
fn check(host: &str, code: i32) {
    let user = User::new();
    let library = library(&user, host);
    let text = doctor(&user, &library, &[], &[]);
    let json = doctor(&user, &library, &["--output", "json"], &[]);
    assert_eq!((text.code, json.code), (Some(code), Some(code)), "{}", text.text);
    let name = host.to_lowercase();
    insta::assert_snapshot!(format!("{name}_text"), without_tools(&text.text));
    insta::assert_snapshot!(format!("{name}_json"), json.stdout);
    user.write("host.json", &json.stdout);
    let arguments = ["doctor", "--device-file", "host.json", "--output", "json"];
    let again = user.run(&arguments);
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
    for (host, code, pieces) in [
        ("NOT_LOADED", 5, ["the kernel driver is not loaded", "hint: load it with `modprobe nvidia`"]),
        ("MISMATCH", 5, ["of different versions", "hint: the driver was updated while it ran: reboot"]),
        ("SHUT", 5, ["answered: no permission", "hint: this user can't open /dev/nvidiactl"]),
        ("BROKEN", 5, ["answered: an internal error of the driver", "hint: see whether `nvidia-smi` works"]),
        ("NOT_FOUND", 0, ["note: the driver runs, and has no GPU", "no GPUs"]),
    ] {
        let user = User::new();
        doctor(&user, &library(&user, host), &[], &[]).expect(code, &pieces);
    }
}

#[test]
fn libraries_that_are_none() {
    let user = User::new();
    let absent = user.path("absent.so");
    doctor(&user, &absent, &[], &[]).expect(5, &["no GPUs", "there is no NVML library at ~/absent.so"]);
    user.write("text.so", "not a library");
    doctor(&user, &user.path("text.so"), &[], &[])
        .expect(5, &["the NVML library can't be loaded: ~/text.so"]);
    user.write("empty.c", "int nothing;\n");
    let (source, library) = (user.path("empty.c"), user.path("libnvidia-ml.so.1"));
    let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(status.unwrap().success());
    // The folder is as good as the file.
    doctor(&user, user.home.path(), &[], &[])
        .expect(5, &["~/libnvidia-ml.so.1 is no NVML, or one that is too old to start: no such function"]);
}

#[test]
fn a_driver_that_hangs_is_given_up() {
    let user = User::new();
    let library = library(&user, "HANGS");
    let start = Instant::now();
    let host = nimctl::nvml::probe_within(Some(&library), Duration::from_millis(300));
    assert!(start.elapsed() < Duration::from_secs(10));
    let [problem] = host.problems.as_slice() else { panic!("{:?}", host.problems) };
    assert_eq!(problem.kind, ProblemKind::NoDriver);
    assert_eq!(problem.message, "the driver did not answer within 0.3 s");
}

#[test]
fn what_was_answered_before_the_driver_hangs_is_kept() {
    let user = User::new();
    let host = nimctl::nvml::probe_within(Some(&library(&user, "STUCK")), Duration::from_secs(3));
    assert_eq!(host.driver_version.as_deref(), Some("570.124.06"));
    assert_eq!(host.devices.len(), 1);
    assert_eq!(host.problems.len(), 1, "{:?}", host.problems);
}

#[test]
fn variables_hide_gpus() {
    let user = User::new();
    let library = library(&user, "EIGHT");
    let hidden = |variables: &[(&str, &str)]| -> Vec<Option<String>> {
        let said = doctor(&user, &library, &["--output", "json"], variables);
        let host = nimctl::device::Host::read(&said.stdout, "stdout").unwrap();
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
    insta::assert_snapshot!("hidden_text", without_tools(&doctor(&user, &library, &[], &variables).text));
}

/// What was stated or written down is another host: this one's variables and driver have no say.
#[test]
fn gpus_that_are_stated_are_taken_as_they_are() {
    let user = User::new();
    let library = library(&user, "LOST");
    let variables = [("CUDA_VISIBLE_DEVICES", ""), ("NVIDIA_VISIBLE_DEVICES", "none")];
    let said = doctor(&user, &library, &["--device", "l40s,h100-sxm:2,a100-sxm/3g.40gb"], &variables);
    insta::assert_snapshot!("stated_text", said.text);
    doctor(&user, &library, &["--device", "none"], &variables).expect(0, &["no GPUs"]);
}

#[test]
fn wrong_devices_are_refused() {
    let user = User::new();
    user.run(&["doctor", "--device", "l40x"]).expect(1, &["unknown GPU `l40x`", "l40s"]);
    user.run(&["doctor", "--device", "h100"]).expect(1, &["say which"]);
    user.run(&["doctor", "--device-file", "absent.json"]).expect(1, &["absent.json", "No such file"]);
    user.write("f.json", "{\n  \"schema\": \"nimctl.devices/1\",\n  \"origin\": \"guessed\"\n}\n");
    user.run(&["doctor", "--device-file", "f.json"]).expect(1, &["f.json:3:21: unknown variant `guessed`"]);
    user.write("f.json", "{\"schema\": \"nimctl.error/1\"}");
    user.run(&["doctor", "--device-file", "f.json"]).expect(1, &["f.json is of schema \"nimctl.error/1\""]);
    user.run(&["doctor", "--device", "l4", "--device-file", "f.json"]).expect(2, &["cannot be used with"]);
}

/// What nimctl itself needs is listed too, for this host only.
#[test]
fn tools_are_listed() {
    let user = User::new();
    let said = doctor(&user, &library(&user, "NONE"), &[], &[]);
    said.expect(0, &["TOOL ", "onnxruntime ", "backend fake ", "<fake>/nimctl-backend-fake"]);
    assert!(!user.run(&["doctor", "--device", "l4"]).text.contains("TOOL "));
}
