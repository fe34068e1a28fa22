//! `nimctl release` and `nimctl verify`, with the real `onnxruntime` worker.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nimctl::ops::verify::verify;
use serde_json::{Value, json};

use crate::support::{check, real};

/// A home with a recipe of one profile, and one that can't be built here.
struct Home {
    folder: tempfile::TempDir,
    workers: PathBuf,
}

impl Home {
    fn new() -> Option<Self> {
        let workers = real("onnxruntime")?.path.parent().unwrap().to_path_buf();
        let home = Self { folder: tempfile::tempdir().unwrap(), workers };
        let text = "schema: nimctl.recipe/1\nmodel: { name: m, release: 1.0.0 }\ngraphs:\n  text:\n    source: { synth: { \
                    model: nvclip, size: tiny, tower: text, seed: 20 } }\n    shapes:\n      TEXT: { min: [1, 77], opt: \
                    [4, 77], max: [8, 77] }\n    samples: { TEXT: { integers: { low: 0, high: 1024 } } }\nprofiles:\n  - \
                    { backend: onnxruntime, precisions: [fp16], targets: generic }\n";
        home.write("r.yaml", text);
        // Away from the workers that were built beside it, so that a test can give it others.
        let (built, nimctl) = (env!("CARGO_BIN_EXE_nimctl"), home.path("nimctl"));
        fs_err::hard_link(built, &nimctl).or_else(|_| fs_err::copy(built, &nimctl).map(drop)).unwrap();
        Some(home)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs_err::write(self.path(name), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("nimctl"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("NIMCTL_DATA_DIR", self.path("data"))
            .env("NIMCTL_BACKENDS", &self.workers);
        command
    }

    /// Runs nimctl; fails unless the exit code is this one and the output has these pieces.
    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32, pieces: &[&str]) -> String {
        check(&mut self.command(arguments), code, pieces)
    }

    /// Fails unless nothing but these is in the home: no release, and nothing half made.
    #[track_caller]
    fn assert_only(&self, expected: &[&str]) {
        let mut names: Vec<String> = fs_err::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, expected);
    }
}

const QUICK: [&str; 4] = ["--rounds", "8", "--budget-ms", "100"];

/// Returns the files of a folder, sorted.
fn files(root: &Path) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(|entry| entry.unwrap());
    all.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn a_release_is_complete_and_checks_out() {
    let Some(home) = Home::new() else { return };
    let arguments: Vec<&str> = ["release", "r.yaml", "-o", "out/r1"].into_iter().chain(QUICK).collect();
    home.run(&arguments, 0, &["onnx-fp16", "executed", "passed", "measured", "packed in out/r1.tar"]);
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
    check(
        Command::new("sha256sum")
            .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
            .current_dir(&release),
        0,
        &[],
    );
    home.run(&["verify", "out/r1"], 0, &["1 profiles, 8 files", "everything is as it says"]);
    home.run(&["verify", "out/r1.tar"], 0, &["1 profiles, 8 files", "everything is as it says"]);
    // Its folder of a profile is one that others check, too.
    let id = fs_err::read_dir(release.join("profiles")).unwrap().next().unwrap().unwrap().file_name();
    let id = id.to_str().unwrap();
    home.run(&["hash-profile", &format!("out/r1/profiles/{id}")], 0, &[id]);

    home.run(&["release", "r.yaml", "-o", "out/r1"], 1, &["out/r1 is there already"]);

    // The next one, compared with it.
    let next: Vec<&str> =
        ["release", "r.yaml", "-o", "out/r2", "--baseline", "out/r1"].into_iter().chain(QUICK).collect();
    home.run(&next, 0, &[]);
    let notes = fs_err::read_to_string(home.path("out/r2/release-notes.md")).unwrap();
    assert!(
        notes.contains("## Since 1.0.0") && notes.contains("1 of 1 profiles are the same bytes"),
        "{notes}"
    );
}

#[test]
fn without_measuring_two_homes_give_the_same_bytes() {
    let tars: Vec<Vec<u8>> = (0..2)
        .filter_map(|_| {
            let home = Home::new()?;
            home.run(&["release", "r.yaml", "-o", "r", "--no-bench"], 0, &["not measured"]);
            Some(fs_err::read(home.path("r.tar")).unwrap())
        })
        .collect();
    if let [a, b] = tars.as_slice() {
        assert!(a == b, "{} and {} bytes", a.len(), b.len());
    }
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
    let Some(home) = Home::new() else { return };
    let arguments: Vec<&str> = ["release", "r.yaml", "-o", "r"].into_iter().chain(QUICK).collect();
    home.run(&arguments, 0, &[]);
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
    let Some(home) = Home::new() else { return };
    home.run(&["release", "r.yaml", "-o", "r", "--no-bench"], 0, &[]);
    home.write("r/profiles/stranger", "x");
    home.run(
        &["verify", "r"],
        3,
        &["profiles/stranger: no profile of the manifest has it", "SHA256SUMS does not list it"],
    );
    fs_err::remove_file(home.path("r/profiles/stranger")).unwrap();
    fs_err::remove_file(home.path("r/release-notes.md")).unwrap();
    home.run(&["verify", "r"], 3, &["release-notes.md: SHA256SUMS lists it, and it is missing"]);
    home.run(&["verify", "nowhere"], 1, &["cannot read the release nowhere"]);
    home.run(&["verify", "r.yaml"], 1, &["cannot read the release r.yaml"]);
    // Whoever changes a file and its sum is found out by the profile's id.
    let tampered = files(&home.path("r")).into_iter().find(|path| path.ends_with("model.onnx")).unwrap();
    let mut bytes = fs_err::read(&tampered).unwrap();
    bytes[100] ^= 1;
    fs_err::write(&tampered, bytes).unwrap();
    let sums = check(
        Command::new("sh")
            .args(["-c", "find * -type f ! -name SHA256SUMS | LC_ALL=C sort | xargs sha256sum"])
            .current_dir(home.path("r")),
        0,
        &[],
    );
    home.write("r/SHA256SUMS", &sums);
    home.run(
        &["verify", "r"],
        3,
        &["it is not the file that contents.json lists", "model_manifest.yaml says blake3:"],
    );
}

#[test]
fn a_policy_that_says_no_leaves_nothing_behind() {
    let Some(home) = Home::new() else { return };
    let policy = |text: &str| home.write("p.yaml", &format!("schema: nimctl.release-policy/1\n{text}"));
    let release = ["release", "r.yaml", "-o", "r", "--no-bench", "--policy", "p.yaml"];
    policy("required: ['tensorrt-*']\n");
    home.run(
        &release,
        3,
        &[
            "the required profile `tensorrt-*` was not built",
            "build it on a host that can",
            "no release was made",
        ],
    );
    home.assert_only(&["data", "nimctl", "p.yaml", "r.yaml"]);
    policy("accept: [static]\n");
    home.run(&release, 3, &["onnx-fp16 was validated as `executed`, and the policy accepts `static`"]);
    policy("fail_if: [slow]\n");
    home.run(&release, 1, &["p.yaml: `slow` is no gate"]);
    home.assert_only(&["data", "nimctl", "p.yaml", "r.yaml"]);
    // What was refused goes on from what is in the store.
    policy("required: ['onnx-*']\naccept: [executed]\n");
    home.run(&release, 0, &["onnx-fp16"]);
}

#[test]
fn a_gate_that_fails_refuses_the_release() {
    let Some(mut home) = Home::new() else { return };
    home.misbehave();
    let view = home.proxied(&["release", "r.yaml", "-o", "r", "--no-bench"], "not-finite", 3);
    let reason = view["refusals"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("onnx-fp16 failed validation: finite of text/LOGITS_PER_TEXT"), "{reason}");
    assert_eq!((&view["folder"], home.path("r").exists()), (&Value::Null, false));
}

#[test]
fn a_slow_down_beyond_the_allowed_refuses_the_release() {
    let Some(mut home) = Home::new() else { return };
    let first: Vec<&str> = ["release", "r.yaml", "-o", "r1"].into_iter().chain(QUICK).collect();
    home.run(&first, 0, &[]);
    home.write("p.yaml", "schema: nimctl.release-policy/1\nfail_if: ['p50 > +50%']\n");
    let next: Vec<&str> = ["release", "r.yaml", "-o", "r2", "--baseline", "r1", "--policy", "p.yaml"]
        .into_iter()
        .chain(QUICK)
        .collect();
    home.misbehave();
    let view = home.proxied(&next, "slow", 3);
    let reason = view["refusals"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("p50 > +50%: p50 of onnx-fp16 text at batch 1 is +"), "{reason}");
    assert!(view["refusals"][0]["remedy"].as_str().unwrap().contains("measure again on a quiet machine"));
    assert!(!home.path("r2").exists() && !home.path("r2.tar").exists());
}

/// What a release says that takes over what was done.
const VALIDATED_BEFORE: &str = "validating: onnx-fp16 was executed before, and nothing has changed";
const MEASURED_BEFORE: &str = "measuring: onnx-fp16 was measured before, and nothing has changed";

/// A policy that no release of the tests' fulfils, so that everything is done but the release itself.
const NEVER: &str = "schema: nimctl.release-policy/1\nrequired: [never]\n";

#[test]
fn a_release_that_was_killed_goes_on_where_it_was() {
    let Some(home) = Home::new() else { return };
    let long = ["release", "r.yaml", "-o", "r", "--rounds", "50", "--budget-ms", "5000"];
    let mut child = home.command(&long).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().starts_with("measuring: onnx-fp16 text")).unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!home.path("r").exists() && !home.path("r.tar").exists());
    let again: Vec<&str> = ["release", "r.yaml", "-o", "r"].into_iter().chain(QUICK).collect();
    let text = home.run(&again, 0, &[VALIDATED_BEFORE]);
    assert!(!text.contains(MEASURED_BEFORE), "it was not finished: {text}");
    home.run(&["verify", "r"], 0, &["everything is as it says"]);
}

#[test]
fn what_was_found_is_taken_over_until_something_changes() {
    let Some(home) = Home::new() else { return };
    home.write("p.yaml", NEVER);
    let recipe = fs_err::read_to_string(home.path("r.yaml")).unwrap();
    let release = |more: &[&str]| {
        let refused = ["release", "r.yaml", "-o", "r", "--policy", "p.yaml"];
        let text = home.run(&[&refused[..], &QUICK, more].concat(), 3, &["`never` was not built"]);
        (text.contains(VALIDATED_BEFORE), text.contains(MEASURED_BEFORE))
    };
    assert_eq!(release(&[]), (false, false));
    assert_eq!(release(&[]), (true, true));
    assert_eq!(release(&["--fresh"]), (false, false));
    assert_eq!(release(&[]), (true, true));
    // Another way to measure, another bound, other samples.
    assert_eq!(release(&["--threads", "1"]), (true, false));
    home.write("r.yaml", &format!("{recipe}validation: {{ thresholds: {{ row_cosine: 0.99 }} }}\n"));
    assert_eq!(release(&["--threads", "1"]), (false, true));
    home.write("r.yaml", &recipe.replace("high: 1024", "high: 1000"));
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
    let text =
        home.run(&["release", "r.yaml", "-o", "r", "--no-bench"], 3, &["is not what the profile's id names"]);
    assert!(!text.contains(VALIDATED_BEFORE), "{text}");
}

#[test]
fn the_next_release_does_all_anew() {
    let Some(home) = Home::new() else { return };
    for folder in ["r1", "r2"] {
        let release: Vec<&str> = ["release", "r.yaml", "-o", folder].into_iter().chain(QUICK).collect();
        let text = home.run(&release, 0, &[]);
        assert!(!text.contains("nothing has changed"), "{text}");
    }
    let passport = files(&home.path("r1")).into_iter().find(|path| path.ends_with("passport.json")).unwrap();
    let text = fs_err::read_to_string(passport).unwrap();
    assert!(!text.contains("made_of"), "what only the store can use is in the release");
}

#[test]
fn several_recipes_of_one_model_give_one_release() {
    let Some(home) = Home::new() else { return };
    let recipe = fs_err::read_to_string(home.path("r.yaml")).unwrap();
    home.write("fp32.yaml", &recipe.replace("[fp16]", "[fp32]"));
    home.write("both.yaml", &recipe.replace("[fp16]", "[fp16, fp32]"));
    home.run(
        &["release", "r.yaml", "fp32.yaml", "both.yaml", "-o", "r", "--no-bench"],
        0,
        &["onnx-fp16", "onnx-fp32"],
    );
    home.run(&["verify", "r"], 0, &["2 profiles", "everything is as it says"]);
    // What is in the store, and was not asked for, is not in the release.
    home.run(&["release", "both.yaml", "-o", "one", "--no-bench", "--only", "onnx-fp32"], 0, &[]);
    home.run(&["verify", "one"], 0, &["1 profiles"]);
    // One of the recipes may have nothing of what was asked for; not all of them.
    let only = ["release", "r.yaml", "fp32.yaml", "--no-bench", "-o"];
    home.run(&[&only[..], &["two", "--only", "onnx-fp32"]].concat(), 0, &[]);
    home.run(&["verify", "two"], 0, &["1 profiles"]);
    home.run(&[&only[..], &["three", "--only", "onnx-bf16"]].concat(), 1, &["onnx-bf16"]);

    home.write("other.yaml", &recipe.replace("release: 1.0.0", "release: 1.1.0"));
    home.run(
        &["release", "r.yaml", "other.yaml", "-o", "x", "--no-bench"],
        1,
        &["r.yaml is of m 1.0.0, other.yaml of m 1.1.0: a release is of one"],
    );
    home.write("seed.yaml", &recipe.replace("seed: 20", "seed: 21"));
    home.run(
        &["release", "r.yaml", "seed.yaml", "-o", "x", "--no-bench"],
        1,
        &["r.yaml and seed.yaml give different profiles of the name `onnx-fp16`"],
    );
    assert!(!home.path("x").exists() && !home.path("x.tar").exists() && !home.path("three").exists());
}

impl Home {
    /// Puts the misbehaving proxy in the place of the worker.
    fn misbehave(&mut self) {
        let folder = self.path("workers");
        fs_err::create_dir_all(&folder).unwrap();
        let proxy = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers/misbehaving_proxy.py");
        fs_err::os::unix::fs::symlink(proxy, folder.join("nimctl-backend-onnxruntime")).unwrap();
        self.workers = folder;
    }

    /// Runs nimctl with a worker that does this with the small graphs of `onnx-fp16`.
    fn proxied(&self, arguments: &[&str], fault: &str, code: i32) -> Value {
        let worker = real("onnxruntime").unwrap().path;
        let mut command = self.command(arguments);
        command
            .args(["--output", "json", "--quiet"])
            .env("PROXY_WORKER", worker)
            .env("PROXY_BELOW_BYTES", "2200000")
            .env("PROXY_FAULT", fault);
        let text = check(&mut command, code, &[]);
        serde_json::Deserializer::from_str(&text).into_iter().next().unwrap_or(Ok(json!(null))).unwrap()
    }
}
