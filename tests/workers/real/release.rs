//! `nimctl release` and `nimctl verify`, with the real `onnxruntime` worker.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nimctl::device::Host;
use nimctl::digest::Sha256;
use nimctl::manifest::Manifest;
use nimctl::ops::select::{SelectOptions, select};
use nimctl::ops::verify::verify;
use nimctl::profile::TagSelector;
use nimctl::selection::Lora;
use serde_json::Value;

use super::towers::{FP16, TEXT, recipe};
use crate::home::{Home, scripted_backends};
use crate::support::real;

/// A home with a recipe of one graph for ONNX Runtime.
fn home() -> Home {
    let home = super::home();
    home.write("r.yaml", recipe(&[TEXT], FP16));
    home
}

const QUICK: [&str; 4] = ["--rounds", "8", "--budget-ms", "100"];

/// Returns the files of a folder, sorted.
fn files(root: &Path) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(|entry| entry.unwrap());
    all.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn a_release_is_published_where_it_was_told() {
    let home = home();
    let release = ["release", "r.yaml", "-o", "out/r1", "--no-bench", "--publish-to", "oci:place"];
    let made: Value = home.set_up(&[&release[..], &["--output", "json"]].concat()).exits(0).json();
    assert_eq!(made["published"]["place"], "oci:place");
    assert_eq!(made["published"]["profiles"].as_object().unwrap().len(), 1);
    home.set_up(&["pull", "oci:place", "--device", "none", "--store", "s", "-o", "pulled"]).exits(0);
    home.set_up(&["verify", "pulled"]).exits(0);
    // Where publishing fails, the release is there, and it is said what to do.
    home.write("file", "x");
    let failed = ["release", "r.yaml", "-o", "out/r2", "--no-bench", "--publish-to", "oci:file/place"];
    home.run(&failed).exits(1).has(&["nimctl publish out/r2 --to oci:file/place"]);
    home.run(&["verify", "out/r2"]).exits(0);
}

#[test]
fn a_release_is_complete_and_checks_out() {
    let home = home();
    let arguments: Vec<&str> = ["release", "r.yaml", "-o", "out/r1"].into_iter().chain(QUICK).collect();
    home.set_up(&arguments).exits(0).has(&[
        "onnx-fp16",
        "executed",
        "passed",
        "measured",
        "packed them as out/r1.tar",
    ]);
    let release = home.path("out/r1");
    let names: Vec<String> = files(&release)
        .iter()
        .map(|path| path.strip_prefix(&release).unwrap().to_string_lossy().into_owned())
        .map(|path| path.split('/').filter(|part| part.len() != 64).collect::<Vec<_>>().join("/"))
        .collect();
    let expected = [
        "SHA256SUMS",
        "model_manifest.yaml",
        "profiles/contents.json",
        "profiles/passport.json",
        "profiles/samples.npz",
        "profiles/text/model.onnx",
        "release-notes.md",
        "report.html",
    ];
    assert_eq!(names, expected);
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(&release);
    home.output(&mut check).exits(0);
    home.run(&["verify", "out/r1"]).exits(0);
    home.run(&["verify", "out/r1.tar"]).exits(0);
    // Its folder of a profile is one that others check, too.
    let id = fs_err::read_dir(release.join("profiles")).unwrap().next().unwrap().unwrap().file_name();
    let id = id.to_str().unwrap();
    home.set_up(&["hash-profile", &format!("out/r1/profiles/{id}")]).exits(0).has(&[id]);

    home.run(&["release", "r.yaml", "-o", "out/r1"]).exits(1);

    // The next one, compared with it.
    let next: Vec<&str> =
        ["release", "r.yaml", "-o", "out/r2", "--baseline", "out/r1"].into_iter().chain(QUICK).collect();
    home.set_up(&next).exits(0);
    let notes = fs_err::read_to_string(home.path("out/r2/release-notes.md")).unwrap();
    assert!(
        notes.contains("## Since 1.0.0")
            && notes.contains("1 of 1 profiles are byte for byte the same as before"),
        "{notes}"
    );
    insta::assert_snapshot!(home.transcript());
}

/// A release on a machine that has none of what it was made with.
#[test]
fn a_release_is_used_where_it_is_unpacked() {
    let home = home();
    // In FP32, which is what it is executed in on any machine.
    home.write("r.yaml", recipe(&[TEXT], &FP16.replace("fp16", "fp32")));
    home.set_up(&["release", "r.yaml", "-o", "r", "--no-bench"]).exits(0);
    fs_err::create_dir(home.path("elsewhere")).unwrap();
    let mut unpack = Command::new("tar");
    home.output(unpack.args(["xf", "../r.tar"]).current_dir(home.path("elsewhere"))).exits(0);
    let folder = fs_err::read_dir(home.path("elsewhere")).unwrap().next().unwrap().unwrap().path();
    fs_err::remove_dir_all(home.path("r")).unwrap();
    fs_err::remove_dir_all(home.path("data/store")).unwrap();

    let manifest = folder.join("model_manifest.yaml");
    let text = fs_err::read_to_string(&manifest).unwrap();
    let document = Manifest::parse(&text, "m").unwrap();
    let [profile] = document.profiles.as_slice() else { panic!("{text}") };
    let contents = format!("file:profiles/{}/contents.json", profile.id);
    assert_eq!(profile.workspace.files["contents.json"].uri.as_deref(), Some(contents.as_str()));
    assert!(!text.contains("store:"), "{text}");

    // From a third folder, and from the release's own: its sizes and its passport are known.
    let known = |manifest: &Path| {
        let options = SelectOptions {
            manifest,
            store: None,
            selector: TagSelector::default(),
            pin: None,
            allow_unsafe: false,
            lora: Lora::Excluded,
        };
        let host = Host::stated(["none"]).unwrap();
        let report = select(&options, &host).unwrap();
        let facts = report.facts.get(&profile.id).cloned().unwrap_or_default();
        (report.chosen(&report.answers[0]), facts.files_size_bytes.is_some(), facts.validated)
    };
    assert_eq!(known(&manifest), (Some(0), true, Some(true)));
    let manifest_name = manifest.to_str().unwrap();
    home.run(&["select", "-m", manifest_name, "--device", "none", "--store", "absent"])
        .exits(0)
        .has(&[&profile.id]);
    home.run(&["manifest", "lint", manifest_name]).exits(0).has(&["0 errors, 0 warnings"]);
    home.run(&["hash-profile", manifest_name, "--explain"]).exits(0).has(&[&profile.id, "nimctl.contents/2"]);
    home.run(&["verify", folder.to_str().unwrap()]).exits(0);
    home.run(&["validate", manifest_name]).exits(1).has(&["nimctl verify"]);

    // A damaged contents.json or a passport of another profile decides nothing.
    let passport = folder.join(format!("profiles/{}/passport.json", profile.id));
    let whole = fs_err::read_to_string(&passport).unwrap();
    fs_err::write(&passport, whole.replace(&profile.id, &"0".repeat(64))).unwrap();
    assert_eq!(known(&manifest), (Some(0), true, None));
    let contents = folder.join(format!("profiles/{}/contents.json", profile.id));
    fs_err::write(&contents, "{}").unwrap();
    assert_eq!(known(&manifest), (Some(0), false, None));
    home.run(&["verify", folder.to_str().unwrap()]).exits(3);
}

/// Every file of a release is where its manifest says; releases of before, whose uris are the store's, are fine.
#[test]
fn verify_checks_the_uris() {
    let home = home();
    home.set_up(&["release", "r.yaml", "-o", "r", "--no-bench"]).exits(0);
    let manifest = home.path("r/model_manifest.yaml");
    let text = fs_err::read_to_string(&manifest).unwrap();
    let uri = text.lines().find(|line| line.contains("model.onnx\n") || line.contains("/text/model.onnx"));
    let uri = uri.unwrap().trim().strip_prefix("uri: ").unwrap();
    let model = home.path("r").join(uri.strip_prefix("file:").unwrap());
    let (sha256, _) = Sha256::of_file(&model).unwrap();
    let findings = |new: &str| {
        fs_err::write(&manifest, text.replace(uri, new)).unwrap();
        let findings = verify(&home.path("r")).unwrap().findings;
        findings.into_iter().map(|finding| finding.problem).filter(|problem| problem.contains("uri")).count()
    };
    assert_eq!(findings(uri), 0);
    assert_eq!(findings(&format!("store:{sha256}")), 0);
    let other = Sha256::of(b"other");
    let elsewhere = uri.replace("text/", "image/");
    for wrong in
        [&format!("store:{other}"), "file:../model.onnx", &elsewhere, "https://example.com/model.onnx"]
    {
        assert_eq!(findings(wrong), 1, "{wrong}");
    }
}

#[test]
fn without_measuring_two_homes_give_the_same_bytes() {
    let tar = || {
        let home = home();
        home.set_up(&["release", "r.yaml", "-o", "r", "--no-bench"]).exits(0).has(&["not measured"]);
        fs_err::read(home.path("r.tar")).unwrap()
    };
    let (a, b) = (tar(), tar());
    assert!(a == b, "{} and {} bytes", a.len(), b.len());
}

/// Draws numbers for the test below.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[test]
fn every_flipped_bit_is_found_and_its_file_named() {
    let home = home();
    let arguments: Vec<&str> = ["release", "r.yaml", "-o", "r"].into_iter().chain(QUICK).collect();
    home.set_up(&arguments).exits(0);
    let root = home.path("r");
    let files = files(&root);
    let sizes: Vec<u64> = files.iter().map(|path| fs_err::metadata(path).unwrap().len()).collect();
    let total: u64 = sizes.iter().sum();
    let mut state = 20;
    for flip in 0..1000 {
        // Half of them anywhere; half in each file as often, or the small ones would never be hit.
        let number = split_mix(&mut state);
        let (index, place) = if flip % 2 == 0 {
            let mut left = number % total;
            let index = sizes
                .iter()
                .position(|&size| {
                    left < size || {
                        left -= size;
                        false
                    }
                })
                .unwrap();
            (index, left)
        } else {
            let index = usize::try_from(number % files.len() as u64).unwrap();
            (index, split_mix(&mut state) % sizes[index])
        };
        let original = fs_err::read(&files[index]).unwrap();
        let mut bytes = original.clone();
        bytes[usize::try_from(place).unwrap()] ^= 1 << (split_mix(&mut state) % 8);
        fs_err::write(&files[index], &bytes).unwrap();
        let findings = verify(&root).unwrap().findings;
        let name = files[index].strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let named = findings.iter().any(|finding| finding.path == name || finding.problem.contains(&name));
        assert!(named, "flip {flip} at {place} of {name}: {findings:?}");
        fs_err::write(&files[index], &original).unwrap();
    }
    assert_eq!(verify(&root).unwrap().findings, []);
}

#[test]
fn files_that_are_gone_or_too_many_are_found() {
    let home = home();
    home.set_up(&["release", "r.yaml", "-o", "r", "--no-bench"]).exits(0);
    home.write("r/profiles/stranger", "x");
    home.run(&["verify", "r"]).exits(3);
    fs_err::remove_file(home.path("r/profiles/stranger")).unwrap();
    fs_err::remove_file(home.path("r/release-notes.md")).unwrap();
    home.run(&["verify", "r"]).exits(3);
    home.run(&["verify", "nowhere"]).exits(1);
    home.run(&["verify", "r.yaml"]).exits(1);
    // Whoever changes a file and its sum is found out by the profile's id.
    let tampered = files(&home.path("r")).into_iter().find(|path| path.ends_with("model.onnx")).unwrap();
    let mut bytes = fs_err::read(&tampered).unwrap();
    bytes[100] ^= 1;
    fs_err::write(&tampered, bytes).unwrap();
    let mut sum = Command::new("sh");
    sum.args(["-c", "find * -type f ! -name SHA256SUMS | LC_ALL=C sort | xargs sha256sum"])
        .current_dir(home.path("r"));
    let sums = home.output(&mut sum).exits(0).stdout.clone();
    home.write("r/SHA256SUMS", sums);
    home.run(&["verify", "r"]).exits(3);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_policy_that_says_no_leaves_nothing_behind() {
    let home = home();
    let policy = |text: &str| home.write("p.yaml", format!("schema: nimctl.release-policy/1\n{text}"));
    let release = ["release", "r.yaml", "-o", "r", "--no-bench", "--policy", "p.yaml"];
    // One that is in the recipe, and can only be built where its GPU is.
    let elsewhere = "  - { backend: tensorrt, precisions: [fp16], targets: { gpus: [gh200] } }\n";
    home.write("r.yaml", recipe(&[TEXT], &format!("{FP16}{elsewhere}")));
    policy("required: ['tensorrt-*']\n");
    home.set_up(&release).exits(3).has(&[
        "the required profile `tensorrt-*` was not built",
        "build it on a host that can",
        "no release was written",
    ]);
    assert_eq!(home.names(), ["data", "p.yaml", "r.yaml"], "a release, or half of one, was left");
    policy("accept: [static]\n");
    home.set_up(&release)
        .exits(3)
        .has(&["onnx-fp16 was validated as `executed`, but the policy accepts only `static`"]);
    policy("required: ['tensorrt-rtx-*']\n");
    home.run(&release).exits(1);
    policy("fail_if: [slow]\n");
    home.run(&release).exits(1);
    assert_eq!(home.names(), ["data", "p.yaml", "r.yaml"], "a release, or half of one, was left");
    // What was refused goes on from what is in the store.
    policy("required: ['onnx-*']\naccept: [executed]\n");
    home.set_up(&release).exits(0).has(&["onnx-fp16"]);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_gate_that_fails_refuses_the_release() {
    let mut home = home();
    misbehave(&mut home);
    let view = proxied(&home, &["release", "r.yaml", "-o", "r", "--no-bench"], "not-finite", 3);
    let reason = view["refusals"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("onnx-fp16 failed validation: finite of text/LOGITS_PER_TEXT"), "{reason}");
    assert_eq!((&view["folder"], home.path("r").exists()), (&Value::Null, false));
}

#[test]
fn a_slow_down_beyond_the_allowed_refuses_the_release() {
    let mut home = home();
    let first: Vec<&str> = ["release", "r.yaml", "-o", "r1"].into_iter().chain(QUICK).collect();
    home.set_up(&first).exits(0);
    home.write("p.yaml", "schema: nimctl.release-policy/1\nfail_if: ['p50 > +50%']\n");
    let next: Vec<&str> = ["release", "r.yaml", "-o", "r2", "--baseline", "r1", "--policy", "p.yaml"]
        .into_iter()
        .chain(QUICK)
        .collect();
    misbehave(&mut home);
    let view = proxied(&home, &next, "slow", 3);
    let reason = view["refusals"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("p50 > +50%: p50 of onnx-fp16 text at batch 1 changed by +"), "{reason}");
    assert!(view["refusals"][0]["remedy"].as_str().unwrap().contains("measure again on an idle machine"));
    assert!(!home.path("r2").exists() && !home.path("r2.tar").exists());
}

/// What a release says that takes over what was done.
const VALIDATED_BEFORE: &str = "validating: onnx-fp16 was executed in an earlier run; nothing has changed";
const MEASURED_BEFORE: &str = "measuring: onnx-fp16 was measured in an earlier run; nothing has changed";

/// A policy that no release of the tests' fulfils, so that everything is done but the release itself.
const NEVER: &str = "schema: nimctl.release-policy/1\naccept: [static]\n";

#[test]
fn a_release_that_was_killed_goes_on_where_it_was() {
    let home = home();
    let long = ["release", "r.yaml", "-o", "r", "--rounds", "50", "--budget-ms", "5000"];
    let mut child = home.command(&long).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().starts_with("measuring: onnx-fp16 text")).unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!home.path("r").exists() && !home.path("r.tar").exists());
    let again: Vec<&str> = ["release", "r.yaml", "-o", "r"].into_iter().chain(QUICK).collect();
    let printed = home.set_up(&again);
    printed.exits(0).has(&[VALIDATED_BEFORE]);
    assert!(!printed.stderr.contains(MEASURED_BEFORE), "it was not finished: {printed}");
    home.run(&["verify", "r"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn what_was_found_is_taken_over_until_something_changes() {
    let home = home();
    home.write("p.yaml", NEVER);
    let recipe = fs_err::read_to_string(home.path("r.yaml")).unwrap();
    let release = |more: &[&str]| {
        let refused = ["release", "r.yaml", "-o", "r", "--policy", "p.yaml"];
        let printed = home.set_up(&[&refused[..], &QUICK, more].concat());
        printed.exits(3).has(&["the policy accepts only `static`"]);
        (printed.stderr.contains(VALIDATED_BEFORE), printed.stderr.contains(MEASURED_BEFORE))
    };
    assert_eq!(release(&[]), (false, false));
    assert_eq!(release(&[]), (true, true));
    assert_eq!(release(&["--fresh"]), (false, false));
    assert_eq!(release(&[]), (true, true));
    // Another way to measure, another bound, other samples.
    assert_eq!(release(&["--threads", "1"]), (true, false));
    home.write("r.yaml", format!("{recipe}validation: {{ thresholds: {{ row_cosine: 0.99 }} }}\n"));
    assert_eq!(release(&["--threads", "1"]), (false, true));
    home.write("r.yaml", recipe.replace("high: 1024", "high: 1000"));
    assert_eq!(release(&["--threads", "1"]), (false, false));
    assert_eq!(release(&["--threads", "1"]), (true, true));
    // Samples that are no longer what was measured.
    let samples = fs_err::read_dir(home.path("data/store/nimctl/bench")).unwrap().next().unwrap().unwrap();
    fs_err::write(samples.path(), "x").unwrap();
    assert_eq!(release(&["--threads", "1"]), (true, false));
    // Files are looked at again, whatever was found of them.
    let blobs = fs_err::read_dir(home.path("data/store/blobs/sha256")).unwrap();
    let mut blobs: Vec<PathBuf> = blobs.map(|entry| entry.unwrap().path()).collect();
    blobs.sort_by_key(|path| fs_err::metadata(path).unwrap().len());
    let model = blobs.pop().unwrap();
    let mut bytes = fs_err::read(&model).unwrap();
    bytes[1000] ^= 1;
    fs_err::write(&model, bytes).unwrap();
    let printed = home.set_up(&["release", "r.yaml", "-o", "r", "--no-bench"]);
    printed.exits(3).has(&["is damaged: its digest should be"]);
    assert!(!printed.stderr.contains(VALIDATED_BEFORE), "{printed}");
}

#[test]
fn the_next_release_does_all_anew() {
    let home = home();
    for folder in ["r1", "r2"] {
        let release: Vec<&str> = ["release", "r.yaml", "-o", folder].into_iter().chain(QUICK).collect();
        let printed = home.set_up(&release);
        printed.exits(0);
        assert!(!printed.stderr.contains("nothing has changed"), "{printed}");
    }
    let passport = files(&home.path("r1")).into_iter().find(|path| path.ends_with("passport.json")).unwrap();
    let text = fs_err::read_to_string(passport).unwrap();
    assert!(!text.contains("made_of"), "what only the store can use is in the release");
}

#[test]
fn several_recipes_of_one_model_give_one_release() {
    let home = home();
    let recipe = fs_err::read_to_string(home.path("r.yaml")).unwrap();
    home.write("fp32.yaml", recipe.replace("[fp16]", "[fp32]"));
    home.write("both.yaml", recipe.replace("[fp16]", "[fp16, fp32]"));
    home.set_up(&["release", "r.yaml", "fp32.yaml", "both.yaml", "-o", "r", "--no-bench"])
        .exits(0)
        .has(&["onnx-fp16", "onnx-fp32"]);
    home.run(&["verify", "r"]).exits(0);
    // What is in the store, and was not asked for, is not in the release.
    home.set_up(&["release", "both.yaml", "-o", "one", "--no-bench", "--only", "onnx-fp32"]).exits(0);
    home.run(&["verify", "one"]).exits(0);
    // One of the recipes may have nothing of what was asked for; not all of them.
    let only = ["release", "r.yaml", "fp32.yaml", "--no-bench", "-o"];
    home.set_up(&[&only[..], &["two", "--only", "onnx-fp32"]].concat()).exits(0);
    home.run(&["verify", "two"]).exits(0);
    home.run(&[&only[..], &["three", "--only", "onnx-bf16"]].concat()).exits(1);

    home.write("other.yaml", recipe.replace("release: 1.0.0", "release: 1.1.0"));
    home.run(&["release", "r.yaml", "other.yaml", "-o", "x", "--no-bench"]).exits(1);
    home.write("seed.yaml", recipe.replace("seed: 20", "seed: 21"));
    home.run(&["release", "r.yaml", "seed.yaml", "-o", "x", "--no-bench"]).exits(1);
    assert!(!home.path("x").exists() && !home.path("x.tar").exists() && !home.path("three").exists());
    insta::assert_snapshot!(home.transcript());
}

/// Puts the misbehaving proxy in the place of the worker.
fn misbehave(home: &mut Home) {
    let folder = home.path("workers");
    fs_err::create_dir_all(&folder).unwrap();
    let proxy = scripted_backends().join("misbehaving_proxy.py");
    fs_err::os::unix::fs::symlink(proxy, folder.join("nimctl-backend-onnxruntime")).unwrap();
    home.set("NIMCTL_BACKENDS", folder);
    home.set("PROXY_WORKER", real("onnxruntime").path);
    home.set("PROXY_BELOW_BYTES", "2200000");
}

/// Runs nimctl with a worker that does this with the small graphs of `onnx-fp16`.
#[track_caller]
fn proxied(home: &Home, arguments: &[&str], fault: &str, code: i32) -> Value {
    let json = [arguments, &["--output", "json", "--quiet"]].concat();
    home.run_with(&[("PROXY_FAULT", fault)], &json).exits(code).json()
}
