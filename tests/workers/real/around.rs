//! What goes wrong around a profile ends the command with its own exit code, and the profile keeps the result that it had.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nimctl::worker::npy::Tensor;

use super::towers::{FP32_AND_FP16, TEXT, Tower, recipe};
use crate::home::{Home, scripted_backends};
use crate::support::real;

const SAMPLES: Tower<'_> = Tower { samples: "{ npy: ids.npy }", ..TEXT };
const BENCH: [&str; 8] = ["bench", "r.yaml", "--batch", "1", "--rounds", "1", "--budget-ms", "100"];

/// A home with two profiles that passed, whose worker misbehaves with `onnx-fp16` as `PROXY_FAULT` says.
fn validated() -> Home {
    let mut home = super::home();
    home.write("r.yaml", recipe(&[TEXT], FP32_AND_FP16));
    let folder = home.path("workers");
    fs_err::create_dir_all(&folder).unwrap();
    let place = folder.join("nimctl-backend-onnxruntime");
    fs_err::os::unix::fs::symlink(scripted_backends().join("misbehaving_proxy.py"), place).unwrap();
    home.set("NIMCTL_BACKENDS", folder);
    home.set("PROXY_WORKER", real("onnxruntime").path);
    home.set("PROXY_BELOW_BYTES", "3100000");
    home.set("PROXY_FAULT", "none");
    home.set_up(&["build", "r.yaml"]).exits(0);
    home.set_up(&["validate", "r.yaml"]).exits(0);
    home
}

/// Returns every passport.
fn passports(home: &Home) -> BTreeMap<PathBuf, String> {
    let files = fs_err::read_dir(home.path("data/store/nimctl/passports")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), fs_err::read_to_string(path).unwrap())).collect()
}

#[test]
fn a_worker_that_is_killed_or_lacks_something_fails_no_profile() {
    let home = validated();
    let before = passports(&home);
    let validate = ["validate", "r.yaml"];
    for (command, fault, said) in [
        (&validate[..], "killed-in-run", "signal 9 (SIGKILL"),
        (&validate, "library-in-run", "the library went away"),
        (&BENCH, "killed-in-bench", "signal 9 (SIGKILL"),
        (&BENCH, "memory-in-bench", "the memory went away"),
    ] {
        home.run_with(&[("PROXY_FAULT", fault)], command).exits(5).has(&[said]);
        assert_eq!(passports(&home), before, "{fault}");
    }
    home.set_up(&validate).exits(0);
}

/// Between nimctl's check and the worker's load somebody puts other bytes there: the worker hashes what it loads.
#[test]
fn a_file_that_changes_between_check_and_load_is_not_loaded() {
    let home = validated();
    let before = passports(&home);
    for (command, fault) in
        [(&["validate", "r.yaml"][..], "swap"), (&BENCH, "swap"), (&["validate", "r.yaml"], "overwrite")]
    {
        let printed = home.run_with(&[("PROXY_FAULT", fault)], command);
        printed.exits(3).has(&["model.onnx is not what it must be, and was not loaded", "damaged_file"]);
        assert_eq!(passports(&home), before, "{fault}");
    }
    // In place, that was the store's file too: nothing loads it any more.
    home.run(&["validate", "r.yaml"]).exits(3).has(&["is damaged"]);
}

#[test]
fn an_interruption_fails_no_profile() {
    let home = validated();
    let before = passports(&home);
    let release = ["release", "r.yaml", "-o", "out/rel", "--no-bench", "--fresh"];
    for (command, fault) in
        [(&["validate", "r.yaml"][..], "hang-in-run"), (&BENCH, "hang-in-bench"), (&release, "hang-in-run")]
    {
        let mut command = home.command(command);
        command.env("PROXY_FAULT", fault).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        // Whatever it does by then; at the latest it hangs.
        std::thread::sleep(Duration::from_secs(2));
        let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
        let sent = Instant::now();
        home.printed(&child.wait_with_output().unwrap()).exits(130).has(&["interrupted"]);
        assert!(sent.elapsed() < Duration::from_secs(4));
        assert_eq!(passports(&home), before, "{fault}");
        assert_eq!(fs_err::read_dir(home.path("data/store/tmp")).unwrap().count(), 0);
    }
    assert_eq!(fs_err::read_dir(home.path("out")).unwrap().count(), 0);
}

#[test]
fn bad_samples_and_a_damaged_file_fail_no_profile() {
    let home = validated();
    let ids: Vec<i64> = (0..2 * 77).collect();
    Tensor::new(&[2, 77], &ids).unwrap().write(&home.path("ids.npy")).unwrap();
    home.write("r.yaml", recipe(&[SAMPLES], FP32_AND_FP16));
    home.set_up(&["validate", "r.yaml"]).exits(0);
    let before = passports(&home);
    let beyond: Vec<i64> = ids.iter().map(|id| id + 1_000_000).collect();
    let floats: Vec<f32> = ids.iter().map(|&id| id as f32).collect();
    for (tensor, said) in [
        (Tensor::new(&[2, 77], &floats), "are float32, and the graph takes int64"),
        (Tensor::new(&[77, 2], &ids), "have shape [77, 2]"),
        (Tensor::new(&[2, 77], &beyond), "graph `text`"),
    ] {
        tensor.unwrap().write(&home.path("ids.npy")).unwrap();
        home.set_up(&["validate", "r.yaml"]).exits(1).has(&[said]);
        assert_eq!(passports(&home), before);
    }
    Tensor::new(&[2, 77], &ids).unwrap().write(&home.path("ids.npy")).unwrap();

    let blobs = fs_err::read_dir(home.path("data/store/blobs/sha256")).unwrap();
    let largest = blobs.map(|entry| entry.unwrap().path()).max_by_key(|path| path.metadata().unwrap().len());
    let largest = largest.unwrap();
    let mut bytes = fs_err::read(&largest).unwrap();
    bytes[5000] ^= 1;
    fs_err::write(&largest, bytes).unwrap();
    for command in [&["validate", "r.yaml"][..], &BENCH] {
        home.set_up(command).exits(3).has(&["is damaged: its digest should be", "run `nimctl build` again"]);
        assert_eq!(passports(&home), before);
    }
    // What the message says helps.
    fs_err::remove_file(&largest).unwrap();
    home.set_up(&["build", "r.yaml"]).exits(0);
    home.set_up(&["validate", "r.yaml"]).exits(0);
}
